package config

import (
	"net"
	"net/netip"
	"strings"
)

// listener is an address that the configuration has the gateway listen on.
type listener struct {
	key  string
	addr string
	acme bool // for ACME's challenges, which may share an address with the tracker
}

// listeners returns every address that a role listens on.
func (c *Config) listeners(role Role) []listener {
	var out []listener
	add := func(key string, addrs []Addr) {
		for i, a := range addrs {
			out = append(out, listener{key: keyOf(key, i), addr: string(a)})
		}
	}

	if role == All {
		add("submission.listen", c.Submission.Listen)
		add("submission.listen_tls", c.Submission.ListenTLS)
		if c.Reports.On() {
			add("reports.listen", c.Reports.Listen)
		}
	}
	add("tracking.web.listen", c.Tracking.Web.Listen)
	if c.Admin.Listen != "" {
		out = append(out, listener{key: "admin.listen", addr: string(c.Admin.Listen)})
	}
	if c.Certs.Mode == "acme" {
		if a := c.Certs.ACMEHTTPListen; a != "" {
			out = append(out, listener{key: "certs.acme_http_listen", addr: string(a), acme: true})
		}
		if a := c.Certs.ACMETLSListen; a != "" {
			out = append(out, listener{key: "certs.acme_tls_listen", addr: string(a), acme: true})
		}
	}

	return out
}

// checkListeners refuses two listeners on one address, and an upstream that is one of
// the listeners.
func (b *binder) checkListeners(c *Config, role Role) {
	list := c.listeners(role)
	for i, l := range list {
		for _, before := range list[:i] {
			shared := l.acme && strings.HasPrefix(before.key, "tracking.web.listen") && l.addr == before.addr
			if !shared && sameAddr(before.addr, l.addr) {
				b.problem(l.key, "%s cannot be opened: %s listens on %s already", l.addr, before.key, before.addr)
				break
			}
		}
	}

	if role == All {
		b.checkUpstreams(c, list)
	}
}

// checkUpstreams refuses upstreams that lead to one of the listeners, that are named
// twice, or that have port 0.
func (b *binder) checkUpstreams(c *Config, listeners []listener) {
	for i, u := range c.Relay.Upstream {
		key := keyOf("relay.upstream", i)
		for _, l := range listeners {
			if leadsTo(string(u), l.addr, string(c.Hostname)) {
				b.problem(key, "%s is this gateway's own %s: mail would go round in a loop", u, l.key)
				break
			}
		}

		for j, before := range c.Relay.Upstream[:i] {
			if strings.EqualFold(string(before), string(u)) {
				b.problem(key, "%s is named already, by %s", u, keyOf("relay.upstream", j))
				break
			}
		}

		_, port, _ := net.SplitHostPort(string(u))
		if isZero(port) {
			b.problem(key, "nothing can be reached at port 0; PowerMTA's smtp-listener has a port such as 2525")
		}
	}
}

// isZero reports whether a port is 0, however it is written.
func isZero(port string) bool { return strings.Trim(port, "0") == "" }

// sameAddr reports whether two listeners cannot both be opened. Port 0 is any free
// port.
func sameAddr(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	if portA != portB || isZero(portA) {
		return false
	}
	if strings.EqualFold(hostA, hostB) {
		return true
	}

	ipA, ipB := hostIP(hostA), hostIP(hostB)
	switch {
	case !ipA.IsValid() || !ipB.IsValid():
		return false
	case ipA.IsUnspecified() && ipB.IsUnspecified():
		return ipA.Is4() == ipB.Is4() // both families are opened side by side
	case ipA.IsUnspecified():
		return ipA.Is6() || ipB.Is4()
	case ipB.IsUnspecified():
		return ipB.Is6() || ipA.Is4()
	}

	return ipA == ipB
}

// hostIP returns the address of a listener's host, the zero Addr if it is a name. An
// empty host is every address.
func hostIP(host string) netip.Addr {
	switch strings.ToLower(host) {
	case "":
		return netip.IPv6Unspecified()
	case "localhost":
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}

	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}

	return ip.Unmap()
}

// leadsTo reports whether a connection to addr certainly reaches the listener.
func leadsTo(addr, listener, hostname string) bool {
	host, port, _ := net.SplitHostPort(addr)
	at, listenPort, _ := net.SplitHostPort(listener)
	if port != listenPort || isZero(port) {
		return false
	}
	if strings.EqualFold(host, at) {
		return true
	}

	to, on := hostIP(host), hostIP(at)
	switch {
	case on.IsValid() && on.IsUnspecified():
		return strings.EqualFold(host, hostname) || to.IsValid() && (to.IsLoopback() || to.IsUnspecified())
	case to.IsValid() && on.IsValid():
		return to == on
	}

	return false
}

// isLoopback reports whether a listener can be reached from this machine only.
func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := hostIP(host)

	return ip.IsValid() && ip.IsLoopback()
}

// checkAccess warns of listeners that can be used by more clients than is safe.
func (b *binder) checkAccess(c *Config, role Role) {
	if a := string(c.Admin.Listen); a != "" && !isLoopback(a) {
		b.warn("admin.listen", "%s is reached from other machines, and metrics and health ask for no password: "+
			`listen on "127.0.0.1:8025", or let a firewall decide who reaches it`, a)
	}
	if role != All {
		return
	}

	for i, s := range c.Submission.Sources {
		n := netip.Prefix(s.Network)
		if !n.IsValid() || s.RequireAuth || n.Addr().IsPrivate() || n.Addr().IsLoopback() || !isWide(n) {
			continue
		}

		who := "all of " + n.String()
		if n.Bits() == 0 {
			who = "anybody on the Internet"
		}
		b.warn(keyOf("submission.source", i)+".network",
			"an open relay: %s may send mail to everybody without a password", who)
	}

	if !c.Submission.RequireTLS {
		for _, a := range c.Submission.Listen {
			if !isLoopback(string(a)) {
				b.warn("submission.require_tls",
					"false: passwords and mail may cross the network to %s in plain text", a)
				break
			}
		}
	}
}

// isWide reports whether a network is larger than one organisation's.
func isWide(n netip.Prefix) bool {
	if n.Addr().Is4() {
		return n.Bits() < 16
	}

	return n.Bits() < 32
}
