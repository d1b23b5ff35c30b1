package relay

import (
	"postern/tracking/rewrite"
	"postern/tracking/token"
)

// stamper makes the URLs of one copy; it implements rewrite.Stamper.
type stamper struct {
	keys *token.Keys
	base string
	t    token.Token // what the tokens of the copy have in common
}

func (r *Relay) stamper(m *outgoing, c *recipientCopy) *stamper {
	base := m.route.tracking.URL

	return &stamper{
		keys: r.cfg.Keys,
		base: base,
		t: token.Token{
			Host:       token.HostOf(base),
			MessageID:  c.linksOf.id,
			Recipient:  c.linksOf.recipient.Address.String(),
			Subaccount: m.route.subaccount,
			Unreported: !m.route.report,
		},
	}
}

// Link implements rewrite.Stamper.
func (s *stamper) Link(l rewrite.Link) string {
	t := s.t
	t.Target = l.Target
	t.LinkName = l.Name

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

// unsubscribe returns the value of List-Unsubscribe (RFC 2369, RFC 8058): by
// HTTPS and, if mailbox is not empty, by mail.
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

// maxURL bounds the URL of a link over all copies, so that one plan fits them
// all.
func (m *outgoing) maxURL(l rewrite.Link) int {
	return token.MaxURL(m.route.tracking.URL, m.longest, l.Target, l.Name, l.Sublink)
}
