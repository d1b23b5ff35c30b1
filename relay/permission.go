package relay

import (
	"slices"
	"strings"

	"postern/relay/envelope"
	"postern/relay/reply"
)

// DomainHolders reports which domains belong to users that are held to them by
// from_domains; *HeldDomains and *smtpd.Users are some.
type DomainHolders interface {
	// Held reports whether a domain belongs to a user that is held to it.
	Held(domain string) bool
}

// HeldDomains are the domains that users are held to by their from_domains, and
// the domains below them. They are immutable.
type HeldDomains struct {
	// names holds domains in their ASCII form: true if the domain itself is
	// held, false if only the domains below it are.
	names map[string]bool
}

// NewHeldDomains collects patterns in the form of envelope.MatchDomain. "*"
// holds nobody to anything, and is ignored.
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

// mayUse reports whether a user may use what belongs to a domain: a key, a
// tracking host, a subaccount. A user that is held to domains may if one of them
// is that domain, a parent or a child of it; any other user may if nobody is
// held to it.
func (r *Relay) mayUse(u User, domain string) bool {
	if len(u.FromDomains) == 0 {
		return r.cfg.Holders == nil || !r.cfg.Holders.Held(domain)
	}

	return slices.ContainsFunc(u.FromDomains, func(pattern string) bool { return isRelated(pattern, domain) })
}

// isRelated reports whether a pattern matches a domain, or a parent or a child
// of it.
func isRelated(pattern, domain string) bool {
	base := envelope.ASCIIDomain(strings.TrimPrefix(pattern, "*."))
	if base == "*" {
		return true
	}

	domain = envelope.ASCIIDomain(domain)
	return base == domain || strings.HasSuffix(domain, "."+base) || strings.HasSuffix(base, "."+domain)
}

// maySendFrom reports whether a user may send as a domain.
func (u User) maySendFrom(domain string) bool {
	if len(u.FromDomains) == 0 {
		return true
	}

	return slices.ContainsFunc(u.FromDomains, func(p string) bool { return envelope.MatchDomain(p, domain) })
}

// checkOriginators holds a message to the domains that its user may send from:
// in MAIL FROM, unless that is the null path, in From and in Sender. A field
// that was not understood is refused, for nobody can say what a recipient would
// see in it.
func checkOriginators(s *Submission, o *originators) error {
	if len(s.User.FromDomains) == 0 {
		return nil
	}

	if from := s.Envelope.From; !from.IsNull() && !s.User.maySendFrom(from.Domain) {
		return refuseOriginator("MAIL FROM", from)
	}
	if o.unclear != "" {
		return refuseUnclear(o)
	}
	if len(o.from) == 0 {
		return notPermitted("You may not send without a From")
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

// notPermitted refuses what a user may not do.
func notPermitted(text string) error {
	return reply.Refuse(550, reply.EnhancedCode{5, 7, 1}, text)
}

func refuseOriginator(field string, a envelope.Address) error {
	return notPermitted("You may not send as " + refusedText(a.String()) + " (" + field + ")")
}

// refuseUnclear refuses a field that was not understood, and says how to write
// it.
func refuseUnclear(o *originators) error {
	advice := `: its addresses cannot be told for certain; write it once, as name <user@domain>`
	if o.unquoted {
		advice = `: its display name has to be quoted, as in "Example, Inc." <user@domain>`
	}

	return notPermitted("You may not send as " + refusedText(o.shown) + " (" + o.unclear + ")" + advice)
}

// maxRefusedText bounds what a refusal repeats of a message, in bytes. An
// address of the greatest length (RFC 5321 section 4.5.3.1) fits.
const maxRefusedText = 254 + 64

// refusedText returns what a refusal repeats of a message.
func refusedText(s string) string {
	if s == "" {
		return "an empty address"
	}
	return reply.CleanLine(s, maxRefusedText)
}
