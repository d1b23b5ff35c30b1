package relay

import (
	"slices"
	"strings"

	"postern/relay/envelope"
)

// DomainHolders reports which domains belong to users that are held to them by
// from_domains; *HeldDomains and *auth.Users are some.
type DomainHolders interface {
	// Held reports whether a domain belongs to a user that is held to it.
	Held(domain string) bool
}

// HeldDomains are the domains that users are held to by their from_domains, and
// what is below them. They are immutable.
type HeldDomains struct {
	// names holds domains in their ASCII form: true where the domain itself is
	// held, false where only what is below it is.
	names map[string]bool
}

// NewHeldDomains collects patterns as envelope.MatchDomain knows them. "*"
// holds nobody to anything, and counts for nothing.
func NewHeldDomains(patterns []string) *HeldDomains {
	h := &HeldDomains{names: map[string]bool{}}

	for _, p := range patterns {
		base, below := strings.CutPrefix(p, "*.")
		base = envelope.ASCIIDomain(base)
		if base == "" || base == "*" {
			continue
		}
		h.names[base] = h.names[base] || !below
	}
	return h
}

// Held implements DomainHolders.
func (h *HeldDomains) Held(domain string) bool {
	domain = envelope.ASCIIDomain(domain)

	for name := domain; name != ""; {
		if self, ok := h.names[name]; ok && (self || name != domain) {
			return true
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return false
}

// mayUse reports whether what belongs to a domain (a key, a tracking host, a
// subaccount) is for a user: where it is held to domains, one of them has to be
// that domain, a parent or a child of it; else no other user may be held to it.
func (r *Relay) mayUse(u User, domain string) bool {
	if len(u.FromDomains) == 0 {
		return r.c.Holders == nil || !r.c.Holders.Held(domain)
	}
	return slices.ContainsFunc(u.FromDomains, func(pattern string) bool { return akin(pattern, domain) })
}

// akin reports whether a domain is one that the pattern stands for, or a parent
// or a child of such a one.
func akin(pattern, domain string) bool {
	base := envelope.ASCIIDomain(strings.TrimPrefix(pattern, "*."))
	domain = envelope.ASCIIDomain(domain)
	if base == "*" {
		return true
	}
	return base == domain || strings.HasSuffix(domain, "."+base) || strings.HasSuffix(base, "."+domain)
}

// maySendFrom reports whether a user may send as a domain.
func (u User) maySendFrom(domain string) bool {
	return len(u.FromDomains) == 0 ||
		slices.ContainsFunc(u.FromDomains, func(pattern string) bool { return envelope.MatchDomain(pattern, domain) })
}
