package relay

import (
	"slices"
	"strings"

	"postern/relay/envelope"
	"postern/relay/reply"
)

// maySend holds a message to the domains that its user may send from: MAIL
// FROM (but for the null path), From and Sender. Where one of the two fields is
// not understood, nobody can say what a recipient will see in it.
func (r *Relay) maySend(s *Submission, o originators) error {
	if len(s.User.FromDomains) == 0 {
		return nil
	}

	if from := s.Envelope.From; !from.IsNull() && !s.User.maySendFrom(from.Domain) {
		return refuseOriginator("MAIL FROM", from)
	}
	if o.unquoted {
		return reply.Refuse(550, reply.EnhancedCode{5, 7, 1}, "You may not send as "+refusedText(o.shown)+" ("+o.unclear+
			`): its display name has to be quoted, as in "Example, Inc." <user@domain>`)
	}
	if o.unclear != "" {
		return reply.Refuse(550, reply.EnhancedCode{5, 7, 1}, "You may not send as "+refusedText(o.shown)+" ("+o.unclear+
			"): its addresses cannot be told for certain; write it once, as name <user@domain>")
	}
	if len(o.from) == 0 {
		return reply.Refuse(550, reply.EnhancedCode{5, 7, 1}, "You may not send without a From")
	}

	for _, a := range o.from {
		if !s.User.maySendFrom(a.Domain) {
			return refuseOriginator("From", a)
		}
	}
	for _, a := range o.sender {
		if !s.User.maySendFrom(a.Domain) {
			return refuseOriginator("Sender", a)
		}
	}
	return nil
}

func refuseOriginator(field string, a envelope.Address) error {
	return reply.Refuse(550, reply.EnhancedCode{5, 7, 1}, "You may not send as "+refusedText(a.String())+" ("+field+")")
}

// maxRefusedText bounds what a refusal repeats of a message, in bytes: an
// address of the greatest length (RFC 5321 section 4.5.3.1) fits.
const maxRefusedText = 254 + 64

// refusedText is what a refusal repeats of a message.
func refusedText(s string) string {
	if s == "" {
		return "an empty address"
	}
	return reply.CleanLine(s, maxRefusedText)
}

// DomainHolders reports which domains belong to users that are held to them by
// from_domains; *HeldDomains and *smtpd.Users are some.
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
		return r.cfg.Holders == nil || !r.cfg.Holders.Held(domain)
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
