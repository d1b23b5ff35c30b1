package relay

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/dkim"
	"postern/relay/envelope"
	"postern/relay/upstream"
	"postern/tracking/rewrite"
	"postern/tracking/token"
)

// message is a submission on its way.
type message struct {
	s        *Submission
	policy   policy
	body     []byte
	whole    bool // there is an empty line between header and body
	plan     *rewrite.Plan
	report   bool // its events are reported
	tracking Tracking
	keys     []dkim.Key
	received []byte
	at       time.Time // of the signatures
	from     envelope.Address
	eightBit bool
	params   envelope.MailParams
	copies   []*copyOf
	longest  int // recipient, as bytes of a token
}

// copyOf is one recipient's copy.
type copyOf struct {
	id        token.ID
	recipient envelope.Recipient
	as        *copyOf // whose links and pixels it carries: its own, or an archive copy the first recipient's
	size      int     // as it went out, in bytes
	at        time.Time
	out       upstream.Outcome
	queued    bool // in the retry spool
	bounced   bool // its sender gets a DSN
}

func (c *copyOf) envelopeID(m *message) string {
	if m.params.EnvelopeID != "" {
		return m.params.EnvelopeID
	}
	return c.id.String()
}

// prepare runs all that is the same for every copy: header policy, then the
// rewrite plan. Nothing has gone upstream yet.
func (r *Relay) prepare(s *Submission, now time.Time) (*message, error) {
	header, body, separated := envelope.Split(s.Message)
	m := &message{s: s, at: now, body: body, whole: separated, params: s.Envelope.Params}
	var err error
	if m.policy, err = r.applyPolicy(header, s.User); err != nil {
		return nil, err
	}
	if err := r.maySend(s, &m.policy, header); err != nil {
		return nil, err
	}
	m.report, m.policy.subaccount = r.reporting(m.policy.virtualMTA, m.policy.sender, m.policy.subaccount)
	if separated {
		m.policy.complete(r.c.Hostname, now)
	}
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
	m.received = r.receivedField(s, now)
	m.eightBit = has8bit(s.Message)
	m.params.NeedsUTF8 = m.params.UTF8 && has8bit(header)
	r.makePlan(m, r.c.Convert8Bit)
	if m.plan.Changed() && r.dropBroken(m) {
		r.makePlan(m, r.c.Convert8Bit)
	}
	for _, reason := range m.plan.Skipped {
		r.skipped.WithLabelValues(string(reason)).Inc()
		r.c.Log.Debug("rewrite: left alone", "session", s.Session, "reason", string(reason))
	}
	return m, nil
}

// makePlan parses the message. sevenBit encodes its 8-bit content, for an
// upstream that takes none.
func (r *Relay) makePlan(m *message, sevenBit bool) {
	m.plan = rewrite.Parse(m.policy.header, m.body, m.whole, rewrite.Options{
		Open: m.tracking.Open, InitialOpen: m.tracking.InitialOpen, Click: m.tracking.Click,
		Tracker: m.tracking.URL, MaxURL: m.maxURL, MaxLinkLength: r.c.MaxLinkLength, TextLinks: r.c.TextLinks, SevenBit: sevenBit,
	})
	if sevenBit {
		m.eightBit = m.plan.EightBit()
	}
}

// dropBroken removes signatures that the rewriting breaks, where they are of a
// domain that we sign for; others' stay, for they tell of others.
func (r *Relay) dropBroken(m *message) (dropped bool) {
	if r.c.Signer == nil {
		return false
	}
	out := make([]byte, 0, len(m.policy.header))
	for _, f := range envelope.Fields(m.policy.header) {
		if f.Is("DKIM-Signature") && r.c.Signer.Has(dkim.SigningDomain(f.Value())) {
			dropped = true
			continue
		}
		out = append(out, f.Raw...)
	}
	if dropped {
		m.policy.header = out
	}
	return dropped
}

// maySend holds a message to the domains that its user may send from: MAIL
// FROM (but for the null path), From and Sender.
func (r *Relay) maySend(s *Submission, p *policy, header []byte) error {
	if len(s.User.FromDomains) == 0 {
		return nil
	}
	allowed := func(domain string) bool {
		return slices.ContainsFunc(s.User.FromDomains, func(pattern string) bool { return envelope.MatchDomain(pattern, domain) })
	}
	refuse := func(what string) error {
		return envelope.Refuse(550, [3]int{5, 7, 1}, "You may not send as this "+what)
	}
	if from := s.Envelope.From; !from.IsNull() && !allowed(from.Domain) {
		return refuse("MAIL FROM")
	}
	for _, f := range envelope.Fields(header) {
		for _, name := range []string{"From", "Sender"} {
			if !f.Is(name) {
				continue
			}
			domains := addressDomains(f.Value())
			if len(domains) == 0 {
				return refuse(name)
			}
			for _, d := range domains {
				if !allowed(d) {
					return refuse(name)
				}
			}
		}
	}
	return nil
}

// addCopies gives each recipient one copy, however often they are named, and
// adds those of X-MSYS-API.
func (r *Relay) addCopies(m *message, now time.Time) error {
	seen := map[envelope.Address]bool{}
	add := func(rcpt envelope.Recipient, as *copyOf) {
		key := envelope.Address{Local: rcpt.Address.Local, Domain: strings.ToLower(rcpt.Address.Domain)}
		if seen[key] {
			return
		}
		seen[key] = true
		c := &copyOf{id: r.c.Keys.NewID(now), recipient: rcpt, as: as}
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
		return envelope.Refuse(554, [3]int{5, 5, 1}, "No valid recipients")
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
	if r.c.MaxRecipients > 0 && len(m.copies) > r.c.MaxRecipients {
		return envelope.Refuse(550, [3]int{5, 5, 3}, "Too many recipients with those of X-MSYS-API")
	}
	return nil
}

// chooseKeys finds the keys that sign: those of the From domain, or the one
// that X-MSYS-API asks for, where it is of a domain that the user may use.
func (r *Relay) chooseKeys(m *message) error {
	if r.c.Signer == nil {
		return nil
	}
	m.keys = r.c.Signer.KeysFor(envelope.ASCIIDomain(m.policy.from.Domain), m.at)
	if name := m.s.User.DKIMKey; name != "" {
		if k, ok := r.c.Signer.Named(name, m.at); ok {
			m.keys = []dkim.Key{k}
		} else {
			r.c.Log.Error("the user's dkim_key is not there; the From domain's signs", "user", m.s.User.Name, "dkim_key", name)
		}
	}
	if api := m.policy.api; api != nil && api.Options.DKIMKey != "" {
		k, ok := r.c.Signer.Named(api.Options.DKIMKey, m.at)
		domains := m.s.User.FromDomains
		allowed := len(domains) == 0 || slices.ContainsFunc(domains, func(p string) bool { return envelope.MatchDomain(p, k.Domain) })
		if !ok || !allowed {
			return msysRefusal("no such dkim_key for you")
		}
		m.keys = []dkim.Key{k}
	}
	if len(m.keys) == 0 {
		if r.c.RequireSignature {
			return envelope.Refuse(550, [3]int{5, 7, 20}, "No DKIM key for the domain of From")
		}
		r.unsigned.Inc()
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

// isPrintable: what ENVID may hold (RFC 3461 section 4.4), and not nothing.
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
func (r *Relay) sendAll(ctx context.Context, m *message) {
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

func (r *Relay) sendEach(ctx context.Context, m *message, copies []*copyOf) {
	if len(copies) == 1 {
		r.send(ctx, m, copies[0])
		return
	}
	next := make(chan *copyOf)
	var wg sync.WaitGroup
	for range min(r.c.CopiesAtOnce, len(copies), 1+maxCopyBytes/(1+m.plan.Size())) {
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

// copyBuffer collects a rendered copy.
type copyBuffer struct{ b []byte }

func (c *copyBuffer) Write(p []byte) (int, error) {
	c.b = append(c.b, p...)
	return len(p), nil
}

// send renders a copy, signs it and hands it over.
func (r *Relay) send(ctx context.Context, m *message, c *copyOf) {
	buf := r.buffers.Get().(*copyBuffer)
	defer func() {
		if cap(buf.b) <= maxKeptBuffer {
			r.buffers.Put(buf)
		}
	}()
	signature, err := r.render(m, c, buf)
	if err != nil {
		c.out = upstream.Outcome{Err: err}
		return
	}
	t := &upstream.Transaction{From: r.verp(m.from, c.id.String()), Recipient: c.recipient, Params: m.params,
		Message: [][]byte{signature, buf.b}, EightBit: m.eightBit}
	t.Params.EnvelopeID = c.envelopeID(m)
	c.size, c.at = len(signature)+len(buf.b), r.c.Now()
	via := m.s.Via
	if via == nil {
		via = r.c.Upstream
	}
	c.out = via.Send(ctx, t)
}

// head are a copy's first fields, before those that all copies have.
func (m *message) head(r *Relay, c *copyOf) []byte {
	b := append(make([]byte, 0, len(m.received)+512), m.received...)
	if r.c.PowerMTA {
		b = append(b, r.c.Headers.MessageID+": "+c.id.String()+"\r\n"...)
	}
	if r.c.ListUnsubscribe && !m.policy.hasUnsub {
		b = append(b, "List-Unsubscribe: "+r.stamper(m, c).unsubscribe(r.c.UnsubscribeBy)+"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"...)
	}
	return b
}

// render writes a copy into buf and gives its signature, which stands before
// it. The same copy makes the same bytes each time.
func (r *Relay) render(m *message, c *copyOf, buf *copyBuffer) (signature []byte, err error) {
	head := m.head(r, c)
	if need := m.plan.Size() + len(head); cap(buf.b) < need {
		buf.b = make([]byte, 0, need)
	}
	buf.b = append(buf.b[:0], head...)
	if err := m.plan.Render(buf, r.stamper(m, c)); err != nil {
		return nil, err
	}
	if len(m.keys) == 0 {
		return nil, nil
	}
	header, body, _ := envelope.Split(buf.b)
	signature, err = dkim.Sign(m.keys, header, body, dkim.Times{Signed: m.at, Expire: r.c.SignatureLife})
	if err != nil {
		return nil, envelope.Defer(451, [3]int{4, 7, 0}, "Message could not be signed, try again later", err)
	}
	return signature, nil
}

// stamper makes one copy's URLs.
type stamper struct {
	keys *token.Keys
	base string
	t    token.Token
}

func (r *Relay) stamper(m *message, c *copyOf) *stamper {
	return &stamper{keys: r.c.Keys, base: m.tracking.URL,
		t: token.Token{
			Host:       token.HostOf(m.tracking.URL),
			MessageID:  c.as.id,
			Recipient:  c.as.recipient.Address.String(),
			Subaccount: m.policy.subaccount,
			Unreported: !m.report,
		}}
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
func (m *message) maxURL(l rewrite.Link) int {
	return token.MaxURL(m.tracking.URL, m.longest, l.Target, l.Name, l.Sublink)
}
