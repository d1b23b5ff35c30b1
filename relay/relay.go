// Package relay takes an envelope and a message and hands them to PowerMTA:
// header policy, tracking, signature, one copy per recipient, and one answer
// for the client.
//
// A Relay is safe for concurrent use.
package relay

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/dkim"
	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/relay/upstream"
	"postern/tracking/event"
	"postern/tracking/rewrite"
	"postern/tracking/token"
)

// User holds the settings of who submits.
type User struct {
	Name        string
	VirtualMTA  string // where the message names none
	Job         string // where the message has none
	JobPrefix   string
	Subaccount  uint32
	FromDomains []string // patterns; empty: any
	Tracking    bool
}

// Submission is a message with its envelope, as the client handed it over.
// Message is the relay's from then on.
type Submission struct {
	Session  string // id for the log
	User     User
	Envelope envelope.Envelope
	Message  []byte
	Remote   netip.AddrPort
	Helo     string
	Protocol string // for Received: ESMTPSA, ESMTPS, ESMTPA, ESMTP
	TLS      string // version and suite for Received; empty: plain
}

// Upstream hands one copy over; *upstream.Pool is one.
type Upstream interface {
	Send(context.Context, *upstream.Transaction) upstream.Outcome
	Ping(context.Context) error
}

// Recorder makes events durable before it returns, and holds room for them.
type Recorder interface {
	Record(context.Context, ...*event.Event) error
	// Reserve holds room for n events until release is called.
	Reserve(n int) (release func(), err error)
}

// Tracking says what a message gets, where nothing more specific speaks.
type Tracking struct {
	URL         string
	Open        bool
	InitialOpen bool
	Click       bool
}

// Config is what a Relay needs.
type Config struct {
	Hostname     string
	Headers      HeaderNames
	Received     string // "full", "anonymous" or "off"
	PowerMTA     bool   // the upstream takes its own header fields off again
	Tracking     Tracking
	Keys         *token.Keys
	Signer       *dkim.Signer
	Upstream     Upstream
	Events       Recorder
	IDs          *event.IDs
	Queue        Queue
	QueueAlways  bool          // store and forward
	AnswerWithin time.Duration // 4 min
	CopiesAtOnce int           // of one transaction: 8
	Log          *slog.Logger
	Metrics      prometheus.Registerer
	Now          func() time.Time
}

// Relay submits messages.
type Relay struct {
	c       Config
	buffers sync.Pool

	copies   *prometheus.CounterVec
	skipped  *prometheus.CounterVec
	unsigned prometheus.Counter
	unsaved  prometheus.Counter
}

// New makes a relay.
func New(c Config) *Relay {
	if c.AnswerWithin == 0 {
		c.AnswerWithin = 4 * time.Minute
	}
	if c.CopiesAtOnce == 0 {
		c.CopiesAtOnce = 8
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	r := &Relay{c: c, buffers: sync.Pool{New: func() any { return new(copyBuffer) }},
		copies:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_relay_copies_total", Help: "Copies by what became of them."}, []string{"result"}),
		skipped:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_rewrite_skipped_total", Help: "Parts left as they came, by reason."}, []string{"reason"}),
		unsigned: prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_dkim_unsigned_total", Help: "Messages relayed without a signature, for want of a key for their From domain."}),
		unsaved:  prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_relay_events_lost_total", Help: "Injection events that could not be written after the upstream had taken the copy."}),
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(r.copies, r.skipped, r.unsigned, r.unsaved)
	}
	return r
}

// Submit takes a message from the client to the upstream and returns the one
// answer for the client (house, section 4: many recipients, one answer). Each
// recipient gets a copy, an id and tokens of its own.
func (r *Relay) Submit(ctx context.Context, s *Submission) envelope.Reply {
	start := r.c.Now()
	m, err := r.prepare(s, start)
	if err != nil {
		return r.refused(s, err)
	}
	release, err := r.reserve(m)
	if err != nil {
		return r.refused(s, &envelope.Fault{Class: envelope.Overloaded, Err: err})
	}
	defer release()
	var reply envelope.Reply
	if r.c.QueueAlways {
		reply = r.storeAndForward(ctx, m)
	} else {
		reply = r.passThrough(ctx, m)
	}
	r.log(s, m, reply, r.c.Now().Sub(start))
	return reply
}

// reserve holds room for all that a transaction may have to write, before
// anything goes upstream.
func (r *Relay) reserve(m *message) (release func(), err error) {
	events, err := r.c.Events.Reserve(2 * len(m.copies)) // injection, and a bounce for what a mixed answer leaves over
	if err != nil {
		return nil, err
	}
	shared := len(m.s.Message)
	own := len(m.copies) * (4096 + m.plan.OwnSize() + len(m.s.Envelope.From.String()))
	room, err := r.c.Queue.Reserve(queue.Room(2*shared, own)) // a DSN may carry the message again
	if err != nil {
		events()
		return nil, err
	}
	return func() { events(); room() }, nil
}

// passThrough: the upstream's answer is the client's.
func (r *Relay) passThrough(ctx context.Context, m *message) envelope.Reply {
	sending, cancel := context.WithTimeout(ctx, r.c.AnswerWithin)
	defer cancel()
	r.sendAll(sending, m)
	overdue := sending.Err() == context.DeadlineExceeded && ctx.Err() == nil
	plan := decide(m.copies, overdue)
	if len(plan.queue)+len(plan.bounce) > 0 {
		if err := r.leaveOver(ctx, m, plan); err != nil {
			// Losing a copy is worse than sending another twice.
			r.c.Log.Error("copies of a mixed answer could not be queued, the client sends again", "session", m.s.Session, "err", err)
			plan.reply = envelope.ReplyFor(&envelope.Fault{Class: envelope.Overloaded})
		}
	}
	r.recordInjections(ctx, m)
	return plan.reply
}

// leaveOver puts what a mixed answer leaves over where it is safe: the
// temporary failures into the retry spool, the permanent ones into one DSN.
func (r *Relay) leaveOver(ctx context.Context, m *message, p decision) error {
	var ts []*queue.Transaction
	if len(p.queue) > 0 {
		// One transaction for each way the first attempt went, for each has a
		// time of its own for the next.
		byReply := map[string][]*copyOf{}
		for _, c := range p.queue {
			key := verdict(c.out).Reply
			byReply[key] = append(byReply[key], c)
		}
		for _, copies := range byReply {
			t, err := r.waiting(m, copies)
			if err != nil {
				return err
			}
			v := verdict(copies[0].out)
			t.Tried = &v
			ts = append(ts, t)
			for _, c := range copies {
				c.queued = true
			}
		}
	}
	if len(p.bounce) > 0 {
		d := &dsnReport{to: m.s.Envelope.From, params: m.params, original: m.s.Message, arrived: r.c.Now()}
		for _, c := range p.bounce {
			d.failed = append(d.failed, dsnRecipient{c.recipient, copyReply(c).String(), c.out.Upstream, false})
		}
		if t := r.dsn(d); t != nil {
			ts = append(ts, t)
		}
	}
	if len(ts) > 0 {
		if err := r.c.Queue.Put(context.WithoutCancel(ctx), ts...); err != nil {
			return err
		}
	}
	for _, c := range p.bounce {
		c.bounced = true
	}
	return nil
}

// storeAndForward: 250 once every copy is on disk; the retry spool sends them.
func (r *Relay) storeAndForward(ctx context.Context, m *message) envelope.Reply {
	t, err := r.waiting(m, m.copies)
	if err == nil {
		err = r.c.Queue.Put(context.WithoutCancel(ctx), t)
	}
	if err != nil {
		r.c.Log.Error("message not queued", "session", m.s.Session, "err", err)
		return envelope.ReplyFor(&envelope.Fault{Class: envelope.Overloaded, Err: err})
	}
	for _, c := range m.copies {
		c.queued, c.at = true, r.c.Now()
	}
	r.recordInjections(ctx, m)
	return envelope.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: "Ok: queued as " + m.s.Session}
}

func (r *Relay) refused(s *Submission, err error) envelope.Reply {
	reply := envelope.ReplyFor(err)
	r.copies.WithLabelValues("refused_here").Inc()
	r.c.Log.Warn("message refused", "session", s.Session, "user", s.User.Name, "remote", s.Remote.Addr().String(),
		"from", s.Envelope.From.String(), "recipients", len(s.Envelope.Recipients), "reply", reply.String(), "err", err)
	return reply
}

// message is a submission on its way.
type message struct {
	s        *Submission
	policy   policy
	plan     *rewrite.Plan
	tracking Tracking
	keys     []dkim.Key
	received []byte
	at       time.Time // of the signatures
	eightBit bool
	params   envelope.MailParams
	copies   []*copyOf
	longest  int // recipient, in bytes
}

// copyOf is one recipient's copy.
type copyOf struct {
	id        token.ID
	recipient envelope.Recipient
	size      int // as it went out, in bytes
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
	m := &message{s: s, at: now, policy: r.applyPolicy(header, s.User), params: s.Envelope.Params}
	if len(m.policy.header) > 0 && separated {
		m.policy.complete(r.c.Hostname, now)
	}
	m.tracking = r.trackingFor(s.User)
	if err := r.addCopies(m, now); err != nil {
		return nil, err
	}
	m.plan = rewrite.Parse(m.policy.header, body, separated, rewrite.Options{
		Open: m.tracking.Open, InitialOpen: m.tracking.InitialOpen, Click: m.tracking.Click,
		Tracker: m.tracking.URL, MaxURL: m.maxURL,
	})
	for _, reason := range m.plan.Skipped {
		r.skipped.WithLabelValues(string(reason)).Inc()
		r.c.Log.Debug("rewrite: left alone", "session", s.Session, "reason", string(reason))
	}
	if r.c.Signer != nil {
		m.keys = r.c.Signer.KeysFor(m.policy.from.Domain)
	}
	if len(m.keys) == 0 {
		r.unsigned.Inc()
	}
	m.received = r.receivedField(s, now)
	m.eightBit = has8bit(s.Message)
	m.params.NeedsUTF8 = m.params.UTF8 && has8bit(header)
	return m, nil
}

// addCopies gives each recipient one copy, however often the client named it.
func (r *Relay) addCopies(m *message, now time.Time) error {
	seen := map[envelope.Address]bool{}
	for _, rcpt := range m.s.Envelope.Recipients {
		key := envelope.Address{Local: rcpt.Address.Local, Domain: strings.ToLower(rcpt.Address.Domain)}
		if seen[key] {
			continue
		}
		seen[key] = true
		m.longest = max(m.longest, len(rcpt.Address.String()))
		m.copies = append(m.copies, &copyOf{id: r.c.Keys.NewID(now), recipient: rcpt})
	}
	if len(m.copies) == 0 {
		return envelope.Refuse(554, [3]int{5, 5, 1}, "No valid recipients")
	}
	return nil
}

// trackingFor: the user's own "no" speaks first.
func (r *Relay) trackingFor(u User) Tracking {
	t := r.c.Tracking
	if !u.Tracking {
		t.Open, t.InitialOpen, t.Click = false, false, false
	}
	return t
}

func has8bit(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// sendAll sends the copies, several at once.
func (r *Relay) sendAll(ctx context.Context, m *message) {
	if len(m.copies) == 1 {
		r.send(ctx, m, m.copies[0])
		return
	}
	next := make(chan *copyOf)
	var wg sync.WaitGroup
	for range min(r.c.CopiesAtOnce, len(m.copies)) {
		wg.Go(func() {
			for c := range next {
				r.send(ctx, m, c)
			}
		})
	}
	for _, c := range m.copies {
		next <- c
	}
	close(next)
	wg.Wait()
}

// maxKeptBuffer is the largest buffer that waits for the next copy.
const maxKeptBuffer = 1 << 20

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
	t := &upstream.Transaction{From: m.s.Envelope.From, Recipient: c.recipient, Params: m.params,
		Message: [][]byte{signature, buf.b}, EightBit: m.eightBit}
	t.Params.EnvelopeID = c.envelopeID(m)
	c.size, c.at = len(signature)+len(buf.b), r.c.Now()
	c.out = r.c.Upstream.Send(ctx, t)
}

// head are a copy's first fields, before those that all copies have.
func (m *message) head(r *Relay, c *copyOf) []byte {
	b := append(make([]byte, 0, len(m.received)+64), m.received...)
	if r.c.PowerMTA {
		b = append(b, r.c.Headers.MessageID+": "+c.id.String()+"\r\n"...)
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
	signature, err = dkim.Sign(m.keys, header, body, dkim.Times{Signed: m.at})
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
		t: token.Token{MessageID: c.id, Recipient: c.recipient.Address.String(), Subaccount: m.s.User.Subaccount}}
}

// Link implements rewrite.Stamper.
func (s *stamper) Link(l rewrite.Link) string {
	t := s.t
	t.Kind, t.Target, t.LinkName = token.Click, l.Target, l.Name
	if l.Unsubscribe {
		t.Kind = token.LinkUnsubscribe
	}
	return token.URL(s.base, s.keys.Seal(t))
}

// Pixel implements rewrite.Stamper.
func (s *stamper) Pixel(initial bool) string {
	t := s.t
	if t.Kind = token.Open; initial {
		t.Kind = token.InitialOpen
	}
	return token.URL(s.base, s.keys.Seal(t))
}

// maxURL bounds a link's URL over all copies, so that one plan fits them all.
func (m *message) maxURL(l rewrite.Link) int {
	return token.MaxURL(m.tracking.URL, m.longest, len(l.Target), len(l.Name))
}

// recordInjections writes the event of each copy that the upstream took, in
// one go. The copies are gone: a failure is told to the operator and not to
// the client, who would send them twice.
func (r *Relay) recordInjections(ctx context.Context, m *message) {
	var events []*event.Event
	for _, c := range m.copies {
		if c.out.Accepted() || c.queued {
			events = append(events, r.injection(m, c))
		}
		if c.bounced {
			events = append(events, r.injection(m, c), r.bounce(m, c))
		}
	}
	if len(events) == 0 {
		return
	}
	if err := r.c.Events.Record(context.WithoutCancel(ctx), events...); err != nil {
		r.unsaved.Add(float64(len(events)))
		r.c.Log.Error("injection events lost", "session", m.s.Session, "events", len(events), "err", err)
	}
}

// log writes the one line of a message.
func (r *Relay) log(s *Submission, m *message, reply envelope.Reply, took time.Duration) {
	ids := make([]string, 0, min(len(m.copies), maxLoggedIDs))
	ups := map[string]bool{}
	var causes []error
	for i, c := range m.copies {
		if i < maxLoggedIDs {
			ids = append(ids, c.id.String())
			if c.out.Err != nil {
				causes = append(causes, c.out.Err)
			}
		}
		r.copies.WithLabelValues(c.result()).Inc()
		ups[c.out.Upstream] = true
	}
	level := slog.LevelInfo
	if reply.Code/100 != 2 {
		level = slog.LevelWarn
	}
	up := ""
	if len(ups) == 1 {
		up = m.copies[0].out.Upstream
	}
	attrs := []any{"session", s.Session, "user", s.User.Name, "remote", s.Remote.Addr().String(), "tls", s.TLS,
		"from", s.Envelope.From.String(), "to", s.Envelope.Recipients[0].Address.String(), "recipients", len(m.copies),
		"size", len(s.Message), "message_id", strings.Join(ids, ","), "job", m.policy.job,
		"upstream", up, "reply", reply.String(), "took", took.Round(time.Microsecond)}
	if len(causes) > 0 {
		attrs = append(attrs, "err", errors.Join(causes...))
	}
	r.c.Log.Log(context.Background(), level, "message", attrs...)
}

// maxLoggedIDs bounds a log line.
const maxLoggedIDs = 10
