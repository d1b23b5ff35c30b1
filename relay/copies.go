package relay

import (
	"slices"
	"strings"
	"time"

	"postern/dkim"
	"postern/relay/envelope"
	"postern/relay/message"
	"postern/relay/reply"
	"postern/relay/upstream"
	"postern/tracking/event"
	"postern/tracking/rewrite"
	"postern/tracking/token"
)

// outgoing is a message on its way.
type outgoing struct {
	s        *Submission
	policy   policy
	body     []byte
	whole    bool // there is an empty line between header and body
	plan     *rewrite.Plan
	report   bool // its events are reported
	tracking Tracking
	keys     []dkim.Key
	signing  sharedHeader
	received []byte
	at       time.Time // of the signatures
	from     envelope.Address
	eightBit bool
	params   envelope.MailParams
	copies   []*copyOf
	longest  int // recipient, as bytes of a token

	event     event.Event // what the copies' events have in common
	eventSize int         // bounds an encoded event
}

// copyOf is one recipient's copy.
type copyOf struct {
	id        token.ID
	recipient envelope.Recipient
	as        *copyOf // whose links and pixels it carries: its own, or an archive copy the first recipient's
	size      int     // as it went out, in bytes
	at        time.Time
	out       upstream.Outcome
	took      time.Duration // until the upstream had answered
	queued    bool          // in the retry spool
	bounced   bool          // its sender gets a DSN
}

// tried reports whether the copy was handed to an upstream, or would have been.
func (c *copyOf) tried() bool { return c.out.Err != nil || c.out.Reply.Code != 0 }

func (c *copyOf) envelopeID(m *outgoing) string {
	if m.params.EnvelopeID != "" {
		return m.params.EnvelopeID
	}
	return c.id.String()
}

// prepare runs all that is the same for every copy: header policy, then the
// rewrite plan. Nothing has gone upstream yet.
func (r *Relay) prepare(s *Submission, now time.Time) (*outgoing, error) {
	header, body, separated := message.Split(s.Message)
	p, err := r.applyPolicy(header, s.User)
	if err != nil {
		return nil, err
	}
	if err := r.maySend(s, p.origin); err != nil {
		return nil, err
	}

	m := &outgoing{
		s:      s,
		at:     now,
		policy: p,
		body:   body,
		whole:  separated,
		params: s.Envelope.Params,
	}
	r.noteUnknown(s, &m.policy)
	m.report, m.policy.subaccount = r.reporting(s.User, &m.policy)
	m.policy.complete(r.cfg.Hostname, now)
	if m.params.EnvelopeID == "" && isPrintable(m.policy.envid) {
		m.params.EnvelopeID = m.policy.envid
	}
	m.from = r.returnPath(s.Envelope.From)
	m.tracking = r.trackingFor(s.User, &m.policy)

	if err := r.addCopies(m, now); err != nil {
		return nil, err
	}
	if err := r.chooseKeys(m); err != nil {
		return nil, err
	}

	m.event = r.template(m)
	m.received = r.receivedField(s, now)
	m.eightBit = message.HasEightBit(s.Message)
	m.params.NeedsUTF8 = m.params.UTF8 && message.HasEightBit(header)

	r.makePlan(m, r.cfg.Sending.Convert8Bit)
	if m.plan.Changed() && r.dropBroken(m) {
		r.makePlan(m, r.cfg.Sending.Convert8Bit)
	}

	for _, reason := range m.plan.Skipped {
		r.skipped.WithLabelValues(string(reason)).Inc()
		r.cfg.Log.Debug("rewrite: left alone", "session", s.Session, "reason", string(reason))
	}
	return m, nil
}

// makePlan parses the message. sevenBit encodes its 8-bit content, for an
// upstream that takes none.
func (r *Relay) makePlan(m *outgoing, sevenBit bool) {
	m.plan = rewrite.Parse(m.policy.header, m.body, m.whole, rewrite.Options{
		Open:          m.tracking.Open,
		InitialOpen:   m.tracking.InitialOpen,
		Click:         m.tracking.Click,
		Tracker:       m.tracking.URL,
		MaxURL:        m.maxURL,
		MaxLinkLength: r.cfg.Tracking.MaxLinkLength,
		TextLinks:     r.cfg.Tracking.TextLinks,
		SevenBit:      sevenBit,
	})
	if sevenBit {
		m.eightBit = m.plan.EightBit()
	}
}

// addCopies gives each recipient one copy, however often they are named, and
// adds those of X-MSYS-API.
func (r *Relay) addCopies(m *outgoing, now time.Time) error {
	seen := map[envelope.Address]bool{}

	add := func(rcpt envelope.Recipient, as *copyOf) {
		key := envelope.Address{Local: rcpt.Address.Local, Domain: strings.ToLower(rcpt.Address.Domain)}
		if seen[key] {
			return
		}
		seen[key] = true

		c := &copyOf{id: r.cfg.Keys.NewID(now), recipient: rcpt, as: as}
		if as == nil {
			c.as = c
		}

		m.longest = max(m.longest, token.Squeezed(c.as.recipient.Address.String()))
		m.copies = append(m.copies, c)
	}

	for _, rcpt := range m.s.Envelope.Recipients {
		add(rcpt, nil)
	}
	if len(m.copies) == 0 {
		return reply.Refuse(554, reply.EnhancedCode{5, 5, 1}, "No valid recipients")
	}

	instructions := &m.policy.instructions
	for _, a := range slices.Concat(instructions.CC, instructions.BCC) {
		add(envelope.Recipient{Address: a}, nil)
	}
	for _, a := range instructions.Archive {
		add(envelope.Recipient{Address: a}, m.copies[0])
	}

	if r.cfg.Routes.MaxRecipients > 0 && len(m.copies) > r.cfg.Routes.MaxRecipients {
		return reply.Refuse(550, reply.EnhancedCode{5, 5, 3}, "Too many recipients with those of X-MSYS-API")
	}
	return nil
}

// isPrintable reports whether s may be an ENVID (RFC 3461 section 4.4).
func isPrintable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= 100
}

// head returns a copy's first fields, before those that all copies have.
func (m *outgoing) head(r *Relay, c *copyOf) []byte {
	b := append(make([]byte, 0, len(m.received)+512), m.received...)

	if r.cfg.Headers.PowerMTA {
		b = append(b, r.cfg.Headers.Names.MessageID+": "+c.id.String()+"\r\n"...)
	}
	if r.cfg.Tracking.ListUnsubscribe && !m.policy.hasUnsub {
		b = append(b, "List-Unsubscribe: "+r.stamper(m, c).unsubscribe(r.cfg.Tracking.UnsubscribeBy)+"\r\n"...)
		b = append(b, "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"...)
	}

	return b
}
