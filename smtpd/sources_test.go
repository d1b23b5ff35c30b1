package smtpd

import (
	"net"
	"net/netip"
	"testing"

	"postern/relay"
)

// TestSourceRulesHoldForAddressesWithScopeOrMapped: a network is one, however
// the kernel writes the address of a client.
func TestSourceRulesHoldForAddressesWithScopeOrMapped(t *testing.T) {
	t.Parallel()
	network := netip.MustParsePrefix
	rules := &submission{Submission{
		Directory: directoryOf("local"),
		Sources: []SourceRule{
			{Network: network("fe80::/64"), User: "local"},
			{Network: network("10.0.0.0/8"), User: "local"},
		},
	}}
	p := &proxied{from: []netip.Prefix{network("fe80::/64"), network("10.0.0.0/8")}}

	for addr, want := range map[string]bool{
		"10.1.2.3":         true,
		"::ffff:10.1.2.3":  true,
		"fe80::1":          true,
		"fe80::1%lo":       true,
		"192.0.2.1":        false,
		"::ffff:192.0.2.1": false,
		"fe80:0:0:1::1%lo": false,
		"2001:db8::1":      false,
	} {
		ip := netip.MustParseAddr(addr)
		if got := rules.sourceUser(quiet, ip) != nil; got != want {
			t.Errorf("source rule for %s: %v, want %v", addr, got, want)
		}
		if got := p.trusted(net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 1))); got != want {
			t.Errorf("proxy at %s is trusted: %v, want %v", addr, got, want)
		}
	}
}

// directoryOf is a Directory of one user.
type directoryOf string

func (d directoryOf) Lookup(name string) (relay.User, bool) {
	return relay.User{Name: name}, name == string(d)
}
