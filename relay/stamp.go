package relay

import (
	"postern/tracking/rewrite"
	"postern/tracking/token"
)

// stamper makes one copy's URLs.
type stamper struct {
	keys *token.Keys
	base string
	t    token.Token
}

func (r *Relay) stamper(m *outgoing, c *copyOf) *stamper {
	return &stamper{
		keys: r.cfg.Keys,
		base: m.tracking.URL,
		t: token.Token{
			Host:       token.HostOf(m.tracking.URL),
			MessageID:  c.as.id,
			Recipient:  c.as.recipient.Address.String(),
			Subaccount: m.policy.subaccount,
			Unreported: !m.report,
		},
	}
}

// Link implements rewrite.Stamper.
func (s *stamper) Link(l rewrite.Link) string {
	t := s.t
	t.Target, t.LinkName = l.Target, l.Name

	switch {
	case l.Unsubscribe:
		t.Kind = token.LinkUnsubscribe
	case l.AMP:
		t.Kind = token.AmpClick
	default:
		t.Kind = token.Click
	}

	return token.SubURL(s.base, l.Sublink, s.keys.Seal(t))
}

// Pixel implements rewrite.Stamper.
func (s *stamper) Pixel(initial, amp bool) string {
	t := s.t

	switch {
	case initial && amp:
		t.Kind = token.AmpInitialOpen
	case initial:
		t.Kind = token.InitialOpen
	case amp:
		t.Kind = token.AmpOpen
	default:
		t.Kind = token.Open
	}

	return token.URL(s.base, s.keys.Seal(t))
}

// unsubscribe is the value of List-Unsubscribe (RFC 2369, RFC 8058): by HTTPS,
// and by mail where mailbox is not empty.
func (s *stamper) unsubscribe(mailbox string) string {
	t := s.t
	t.Kind = token.ListUnsubscribe

	value := "<" + token.URL(s.base, s.keys.Seal(t)) + ">"
	if mailbox != "" {
		t.Host = token.Mail
		value += ",\r\n <mailto:" + mailbox + "?subject=" + s.keys.Seal(t) + ">"
	}
	return value
}

// maxURL bounds a link's URL over all copies, so that one plan fits them all.
func (m *outgoing) maxURL(l rewrite.Link) int {
	return token.MaxURL(m.tracking.URL, m.longest, l.Target, l.Name, l.Sublink)
}
