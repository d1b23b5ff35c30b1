package smtpd

import (
	"log/slog"
	"net/netip"

	"postern/relay"
)

// SourceRule says which clients need not authenticate, by network. The first
// rule that matches counts; where none does, AUTH is required.
type SourceRule struct {
	Network     netip.Prefix
	RequireAuth bool
	User        string // whose settings apply
}

// sourceUser returns the user whose settings apply to a client that comes from
// an address without authenticating, or nil where it has to authenticate.
func (p *submission) sourceUser(log *slog.Logger, ip netip.Addr) *relay.User {
	rule, ok := p.ruleFor(ip.Unmap().WithZone(""))
	if !ok || rule.RequireAuth || p.Directory == nil {
		return nil
	}

	u, ok := p.Directory.Lookup(rule.User)
	if !ok {
		log.Error("source rule names an unknown user", "user", rule.User)
		return nil
	}

	return &u
}

// ruleFor returns the first rule that matches an address.
func (p *submission) ruleFor(ip netip.Addr) (SourceRule, bool) {
	for _, r := range p.Sources {
		if r.Network.Contains(ip) {
			return r, true
		}
	}

	return SourceRule{}, false
}
