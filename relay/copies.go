package relay

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
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
	m.eightBit = has8bit(s.Message)
	m.params.NeedsUTF8 = m.params.UTF8 && has8bit(header)

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

// dropBroken removes signatures that the rewriting breaks, where they are of a
// domain that we sign for and that is the user's to sign for; signatures of
// other domains are kept.
func (r *Relay) dropBroken(m *outgoing) (dropped bool) {
	if r.cfg.Signing.Signer == nil {
		return false
	}

	out := make([]byte, 0, len(m.policy.header))
	for _, f := range message.Fields(m.policy.header) {
		if f.Is("DKIM-Signature") && r.signsFor(m.s.User, dkim.SigningDomain(f.Value())) {
			dropped = true
			continue
		}
		out = append(out, f.Raw...)
	}

	m.policy.header = out
	return dropped
}

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

	if api := m.policy.api; api != nil {
		for _, list := range [][]msysAddress{api.CC, api.BCC} {
			for _, a := range list {
				add(envelope.Recipient{Address: a.Address}, nil)
			}
		}
		for _, a := range api.Archive {
			add(envelope.Recipient{Address: a.Address}, m.copies[0])
		}
	}

	if r.cfg.Routes.MaxRecipients > 0 && len(m.copies) > r.cfg.Routes.MaxRecipients {
		return reply.Refuse(550, reply.EnhancedCode{5, 5, 3}, "Too many recipients with those of X-MSYS-API")
	}
	return nil
}

func has8bit(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
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

// sendAll sends the copies, several at once. Where it turns out that the
// upstream takes no 8-bit content, the message is encoded and sent again to
// those who did not get it.
func (r *Relay) sendAll(ctx context.Context, m *outgoing) {
	r.sendEach(ctx, m, m.copies)

	var again []*copyOf
	for _, c := range m.copies {
		if errors.Is(c.out.Err, upstream.ErrEightBit) {
			again = append(again, c)
		}
	}

	if len(again) > 0 {
		r.makePlan(m, true)
		r.sendEach(ctx, m, again)
	}
}

func (r *Relay) sendEach(ctx context.Context, m *outgoing, copies []*copyOf) {
	if len(copies) == 1 {
		r.send(ctx, m, copies[0])
		return
	}

	next := make(chan *copyOf)
	var wg sync.WaitGroup
	for range copiesInFlight(r.cfg.Sending.CopiesAtOnce, len(copies), m.plan.Size()) {
		wg.Go(func() {
			for c := range next {
				r.send(ctx, m, c)
			}
		})
	}

	for _, c := range copies {
		next <- c
	}
	close(next)
	wg.Wait()
}

const (
	maxKeptBuffer = 1 << 20  // the largest buffer that waits for the next copy
	maxCopyBytes  = 64 << 20 // of one transaction's copies at once
)

// copiesInFlight returns how many of n copies of size bytes are sent at once: as
// many as the configuration allows and memory has room for, and one at least.
func copiesInFlight(allowed, n, size int) int {
	return min(allowed, n, 1+maxCopyBytes/(1+size))
}

// copyBuffer collects a rendered copy.
type copyBuffer struct{ b []byte }

func (c *copyBuffer) Write(p []byte) (int, error) {
	c.b = append(c.b, p...)
	return len(p), nil
}

// bufferPool holds buffers for the next copies, none of them large. The zero
// value is ready to use.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get() *copyBuffer {
	if buf, ok := p.pool.Get().(*copyBuffer); ok {
		return buf
	}
	return new(copyBuffer)
}

func (p *bufferPool) put(buf *copyBuffer) {
	if cap(buf.b) <= maxKeptBuffer {
		p.pool.Put(buf)
	}
}

// send renders a copy, signs it and hands it over. A copy whose time is over is
// left as one that could not be handed over.
func (r *Relay) send(ctx context.Context, m *outgoing, c *copyOf) {
	if err := ctx.Err(); err != nil {
		overdue := reply.Defer(451, reply.EnhancedCode{4, 4, 1}, "Upstream did not answer in time, try again later", err)
		c.out = upstream.Outcome{Err: overdue}
		return
	}

	buf := r.buffers.get()
	defer r.buffers.put(buf)

	signature, err := r.render(m, c, buf)
	if err != nil {
		c.out = upstream.Outcome{Err: err}
		return
	}

	t := &upstream.Transaction{
		From:      r.verp(m.from, c.id.String()),
		Recipient: c.recipient,
		Params:    m.params,
		Message:   [][]byte{signature, buf.b},
		EightBit:  m.eightBit,
		Session:   m.s.Session,
		MessageID: c.id.String(),
	}
	t.Params.EnvelopeID = c.envelopeID(m)

	via := m.s.Via
	if via == nil {
		via = r.cfg.Upstream
	}

	c.size, c.at = len(signature)+len(buf.b), r.cfg.Now()
	c.out = via.Send(ctx, t)
	c.took += r.cfg.Now().Sub(c.at)
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

// render writes a copy into buf and returns its signature, which goes before it.
// The same copy has the same bytes each time.
func (r *Relay) render(m *outgoing, c *copyOf, buf *copyBuffer) (signature []byte, err error) {
	head := m.head(r, c)

	buf.b = append(slices.Grow(buf.b[:0], m.plan.Size()+len(head)), head...)
	if err := m.plan.Render(buf, r.stamper(m, c)); err != nil {
		return nil, err
	}

	if len(m.keys) == 0 {
		return nil, nil
	}

	header, body, _ := message.Split(buf.b)
	shared := m.signing.prepare(header[len(head):])
	signature, err = shared.Sign(m.keys, head, body, dkim.Times{Signed: m.at, Expire: r.cfg.Signing.Life})
	if err != nil {
		return nil, reply.Defer(451, reply.EnhancedCode{4, 7, 0}, "Message could not be signed, try again later", err)
	}
	return signature, nil
}

// sharedHeader is the header that the copies of a message have in common, prepared
// for their signatures once. It is safe for concurrent use.
type sharedHeader struct {
	mu       sync.Mutex
	header   []byte
	prepared *dkim.Header
}

// prepare returns the prepared form of a copy's header without its own fields.
// Another header than the last one is prepared anew.
func (s *sharedHeader) prepare(header []byte) *dkim.Header {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.prepared == nil || !bytes.Equal(s.header, header) {
		s.header = bytes.Clone(header)
		s.prepared = dkim.NewHeader(header)
	}
	return s.prepared
}

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
