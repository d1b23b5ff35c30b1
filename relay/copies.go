package relay

import (
	"slices"
	"strings"
	"time"

	"postern/relay/dialect"
	"postern/relay/envelope"
	"postern/relay/reply"
	"postern/tracking/rewrite"
	"postern/tracking/token"
)

// recipientCopy is the copy of one recipient.
type recipientCopy struct {
	id        token.ID
	recipient envelope.Recipient
	linksOf   *recipientCopy // whose links and pixels it carries: its own; an archive copy the first recipient's

	attempt // what sending it came to

	queued  bool // it is in the retry spool
	bounced bool // its sender gets a DSN
}

// envelopeID returns the copy's ENVID: that of the message, else its id.
func (c *recipientCopy) envelopeID(m *outgoing) string {
	if id := m.route.params.EnvelopeID; id != "" {
		return id
	}
	return c.id.String()
}

// makeCopies returns one copy for each recipient, however often one is named,
// and for those of the sender's instructions.
func (r *Relay) makeCopies(s *Submission, in *dialect.Instructions, now time.Time) ([]*recipientCopy, error) {
	var copies []*recipientCopy
	seen := map[envelope.Address]bool{}

	add := func(rcpt envelope.Recipient, linksOf *recipientCopy) {
		key := envelope.Address{Local: rcpt.Address.Local, Domain: strings.ToLower(rcpt.Address.Domain)}
		if seen[key] {
			return
		}
		seen[key] = true

		c := &recipientCopy{id: r.cfg.Keys.NewID(now), recipient: rcpt, linksOf: linksOf}
		if linksOf == nil {
			c.linksOf = c
		}
		copies = append(copies, c)
	}

	for _, rcpt := range s.Envelope.Recipients {
		add(rcpt, nil)
	}
	if len(copies) == 0 {
		return nil, reply.Refuse(554, reply.EnhancedCode{5, 5, 1}, "No valid recipients")
	}

	for _, a := range in.CC {
		add(envelope.Recipient{Address: a}, nil)
	}
	for _, a := range in.BCC {
		add(envelope.Recipient{Address: a}, nil)
	}
	for _, a := range in.Archive {
		add(envelope.Recipient{Address: a}, copies[0])
	}

	if most := r.cfg.Routes.MaxRecipients; most > 0 && len(copies) > most {
		return nil, reply.Refuse(550, reply.EnhancedCode{5, 5, 3}, "Too many recipients with those of X-MSYS-API")
	}
	return copies, nil
}

// longestRecipient returns the length of the longest recipient in a token.
func longestRecipient(copies []*recipientCopy) int {
	longest := 0
	for _, c := range copies {
		longest = max(longest, token.Squeezed(c.linksOf.recipient.Address.String()))
	}

	return longest
}

// content is a message as rewriting left it, to be rendered for each copy.
type content struct {
	header   []byte // without the fields of each copy
	plan     *rewrite.Plan
	eightBit bool // it goes out with 8-bit content
}

// contentFor rewrites a message, and once more without the signatures that the
// rewriting breaks.
func (r *Relay) contentFor(m *outgoing) content {
	sevenBit := r.cfg.Sending.Convert8Bit

	c := r.rewrite(m, m.headers.block, sevenBit)
	if c.plan.Changed() {
		if header, dropped := r.withoutBroken(m.s.User, c.header); dropped {
			c = r.rewrite(m, header, sevenBit)
		}
	}

	for _, reason := range c.plan.Skipped {
		r.skipped.WithLabelValues(string(reason)).Inc()
		r.cfg.Log.Debug("message part not rewritten", "session", m.s.Session, "reason", string(reason))
	}
	return c
}

// sevenBitContent rewrites a message for an upstream that does not accept 8-bit
// content.
func (r *Relay) sevenBitContent(m *outgoing) content {
	return r.rewrite(m, m.content.header, true)
}

// rewrite parses a message with this header. With sevenBit, its 8-bit content
// is encoded.
func (r *Relay) rewrite(m *outgoing, header []byte, sevenBit bool) content {
	t := &m.route.tracking
	plan := rewrite.Parse(header, m.body, m.hasSeparator, rewrite.Options{
		Open:          t.Open,
		InitialOpen:   t.InitialOpen,
		Click:         t.Click,
		Tracker:       t.URL,
		MaxURL:        m.maxURL,
		MaxLinkLength: r.cfg.Tracking.MaxLinkLength,
		TextLinks:     r.cfg.Tracking.TextLinks,
		SevenBit:      sevenBit,
	})

	c := content{header: header, plan: plan, eightBit: m.eightBit}
	if sevenBit {
		c.eightBit = plan.EightBit()
	}
	return c
}

// ownFields returns the first fields of a copy, which the others do not share.
func (r *Relay) ownFields(m *outgoing, c *recipientCopy) []byte {
	b := append(make([]byte, 0, len(m.received)+512), m.received...)

	if r.cfg.Headers.PowerMTA {
		b = append(b, r.cfg.Headers.Names.MessageID+": "+c.id.String()+"\r\n"...)
	}
	if r.cfg.Tracking.ListUnsubscribe && !m.headers.hasListUnsubscribe {
		b = append(b, "List-Unsubscribe: "+r.stamper(m, c).unsubscribe(r.cfg.Tracking.UnsubscribeBy)+"\r\n"...)
		b = append(b, "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"...)
	}

	return b
}

// render writes a copy into buf and returns its signature, which goes in front
// of it. The same copy has the same bytes each time.
func (r *Relay) render(m *outgoing, c *recipientCopy, buf *copyBuffer) (signature []byte, err error) {
	own := r.ownFields(m, c)

	buf.b = append(slices.Grow(buf.b[:0], m.content.plan.Size()+len(own)), own...)
	if err := m.content.plan.Render(buf, r.stamper(m, c)); err != nil {
		return nil, err
	}

	return r.sign(m, own, buf.b)
}
