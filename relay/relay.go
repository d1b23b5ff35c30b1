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
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/dkim"
	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/relay/upstream"
	"postern/tracking/event"
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
	DKIMKey     string // names a key that signs in the place of the From domain's; empty: none
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
	Via      Sender // the session's own way upstream; nil: the relay's
}

// Sender hands one copy over; *upstream.Login is one.
type Sender interface {
	Send(context.Context, *upstream.Transaction) upstream.Outcome
}

// Upstream hands one copy over; *upstream.Pool is one.
type Upstream interface {
	Sender
	Ping(context.Context) error
	// TakesEightBit reports whether 8-bit content may wait for it as it is.
	TakesEightBit() bool
}

// Recorder makes events durable before it returns, and holds room for them.
type Recorder interface {
	Record(context.Context, ...*event.Event) error
	// Reserve holds room for encoded events of n bytes until release is called.
	Reserve(n int64) (release func(), err error)
}

// Config holds the settings of a Relay and what it works with.
type Config struct {
	Hostname string // in Received, Message-ID and DSNs
	Headers  Headers
	Routes   Routes
	Signals  Signals
	Tracking TrackingConfig
	Signing  Signing
	Sending  Sending

	Keys     *token.Keys // seal message ids and links
	Upstream Upstream
	Queue    Queue
	Events   Recorder
	IDs      *event.IDs
	Holders  DomainHolders // the domains that users are held to; nil: none is
	Log      *slog.Logger
	Metrics  prometheus.Registerer // nil: not registered
	Now      func() time.Time      // nil: time.Now
}

// Headers are the settings of the header policy.
type Headers struct {
	Names    HeaderNames
	Received string // "full", "anonymous" or "off"
	PowerMTA bool   // the upstream is PowerMTA and removes its own fields
	MsysAPI  bool   // read X-MSYS-API; it is removed in any case
}

// Routes says where mail leaves from, and under which return path.
type Routes struct {
	Pools         []Pool
	VirtualMTAs   []VirtualMTA
	Rewrite       []RewriteRule
	VERPDomain    string // empty: no VERP
	MaxRecipients int    // of a message, those of X-MSYS-API included; 0: no limit
}

// Tracking is what is tracked of a message, and the base URL of its links.
type Tracking struct {
	URL         string
	Open        bool
	InitialOpen bool
	Click       bool
}

// TrackingConfig holds the settings of tracking.
type TrackingConfig struct {
	Default Tracking
	Rules   []TrackingRule
	// ListUnsubscribe adds one-click List-Unsubscribe fields (RFC 8058) to
	// messages without any.
	ListUnsubscribe bool
	// UnsubscribeBy is the mailbox that accepts unsubscribe requests by mail,
	// the token as subject; empty: there is none.
	UnsubscribeBy string
	MaxLinkLength int  // bytes of a wrapped link's URL; 0: no limit
	TextLinks     bool // wrap URLs in text/plain parts
}

// Signing holds the settings of DKIM.
type Signing struct {
	Signer  *dkim.Signer  // nil: nothing is signed
	Require bool          // refuse messages that no key is found for
	Life    time.Duration // of a signature, its x= tag; 0: unlimited
}

// Sending says how copies are handed to the upstream.
type Sending struct {
	QueueAlways  bool          // store and forward
	AnswerWithin time.Duration // bounds the wait for the upstream; 0: 4 minutes
	CopiesAtOnce int           // of one message; 0: 8
	Convert8Bit  bool          // encode 8-bit content, whatever the upstream accepts
}

// Relay submits messages.
type Relay struct {
	cfg     Config
	buffers bufferPool
	notes   notes
	names   notes // that messages use and nobody knows

	unknown  *prometheus.CounterVec
	copies   *prometheus.CounterVec
	skipped  *prometheus.CounterVec
	unsigned prometheus.Counter
	unsaved  prometheus.Counter
}

// New returns a relay.
func New(c Config) *Relay {
	if c.Sending.AnswerWithin == 0 {
		c.Sending.AnswerWithin = 4 * time.Minute
	}
	if c.Sending.CopiesAtOnce == 0 {
		c.Sending.CopiesAtOnce = 8
	}
	if c.Now == nil {
		c.Now = time.Now
	}

	r := &Relay{cfg: c}
	r.copies = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_relay_copies_total",
		Help: "Copies by what became of them.",
	}, []string{"result"})
	r.skipped = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_rewrite_skipped_total",
		Help: "Parts left as they came, by reason.",
	}, []string{"reason"})
	r.unsigned = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postern_dkim_unsigned_total",
		Help: "Messages relayed without a signature, for want of a key for their From domain.",
	})
	r.unsaved = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postern_relay_events_lost_total",
		Help: "Injection events that could not be written after the upstream had taken the copy.",
	})
	r.unknown = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_relay_unknown_names_total",
		Help: "Names in messages that are not known here, by kind: x_msys_api (a key), ip_pool, virtual_mta.",
	}, []string{"kind"})

	for _, kind := range unknownKinds {
		r.unknown.WithLabelValues(string(kind))
	}

	if c.Metrics != nil {
		c.Metrics.MustRegister(r.copies, r.skipped, r.unsigned, r.unsaved, r.unknown)
	}
	return r
}

// Submit hands a message from a client to the upstream and returns the one answer
// for the client, however many recipients there are. Each recipient gets a copy
// with an id and tokens of its own.
func (r *Relay) Submit(ctx context.Context, s *Submission) reply.Reply {
	start := r.cfg.Now()

	m, err := r.prepare(s, start)
	if err != nil {
		return r.refused(ctx, s, err)
	}

	release, err := r.reserve(m)
	if err != nil {
		return r.refused(ctx, s, &reply.Fault{Class: reply.Overloaded, Err: err})
	}
	defer release()

	var answer reply.Reply
	if r.cfg.Sending.QueueAlways {
		answer = r.storeAndForward(ctx, m)
	} else {
		answer = r.passThrough(ctx, m)
	}

	r.log(s, m, answer, r.cfg.Now().Sub(start))
	return answer
}

// reserve holds room for all that a transaction may have to write, before
// anything goes upstream: for each copy an injection event, and a bounce event
// for what a mixed answer leaves over.
func (r *Relay) reserve(m *outgoing) (release func(), err error) {
	injection, bounce, err := r.eventSizes(m)
	if err != nil {
		return nil, err
	}
	m.eventSize = bounce

	perCopy := int64(injection + bounce)
	if !m.report {
		perCopy = 0
	}
	events, err := r.cfg.Events.Reserve(perCopy * int64(len(m.copies)))
	if err != nil {
		return nil, err
	}

	// Each transaction of the retry spool has what its copies share, and a DSN
	// may have the message again.
	transactions := 1 + len(m.copies)/m.copiesAtOnce()
	shared := queue.Escaped(m.s.Message) * (1 + transactions)
	if api := m.policy.api; api != nil {
		shared += escapedTwice * len(api.Metadata) * transactions
	}

	own := len(m.copies) * (4096 + m.plan.OwnSize() + len(m.s.Envelope.From.String()))
	room, err := r.cfg.Queue.Reserve(queue.Room(shared, own))
	if err != nil {
		events()
		return nil, err
	}
	return func() { events(); room() }, nil
}

// escapedTwice is how much longer text can be as JSON in a record of the queue:
// a control character is six bytes there, and its backslash two.
const escapedTwice = 7

// passThrough sends the copies and answers the client with what the upstream said.
func (r *Relay) passThrough(ctx context.Context, m *outgoing) reply.Reply {
	sending, cancel := context.WithTimeout(ctx, r.cfg.Sending.AnswerWithin)
	defer cancel()

	r.sendAll(sending, m)
	overdue := sending.Err() == context.DeadlineExceeded && ctx.Err() == nil

	plan := decide(m.copies, overdue, m.s.Session)
	if len(plan.queue)+len(plan.bounce) > 0 {
		if err := r.queueRemainder(ctx, m, plan); err != nil {
			// Losing a copy is worse than sending another twice.
			r.cfg.Log.Error("copies of a mixed answer could not be queued, the client sends again",
				"session", m.s.Session, "err", err)
			plan.reply = reply.ReplyFor(&reply.Fault{Class: reply.Overloaded})
		}
	}

	r.recordInjections(ctx, m)
	return plan.reply
}

// queueRemainder puts what a mixed answer leaves over where it is safe: the
// temporary failures into the retry spool, the permanent ones into one DSN.
func (r *Relay) queueRemainder(ctx context.Context, m *outgoing, p decision) error {
	if err := r.queueCopies(ctx, m, p.queue); err != nil {
		return err
	}

	d := &dsnReport{
		to:       m.s.Envelope.From,
		params:   m.params,
		original: newOriginal(m.policy.header, m.body, m.whole),
		arrived:  r.cfg.Now(),
		session:  m.s.Session,
		user:     m.s.User.Name,
	}
	for _, c := range p.bounce {
		d.failed = append(d.failed, dsnRecipient{
			messageID: c.id.String(),
			recipient: c.recipient,
			reply:     copyReply(c).String(),
			upstream:  c.out.Upstream,
		})
	}
	if t := r.dsn(d); t != nil {
		if err := r.cfg.Queue.Put(context.WithoutCancel(ctx), t); err != nil {
			return err
		}
		r.logQueuedDSN(t)
	}

	// Only now: what is not on disk is not bounced, and has no event.
	for _, c := range p.bounce {
		c.bounced = true
	}
	return nil
}

// storeAndForward answers once every copy is on disk; the retry spool sends them.
func (r *Relay) storeAndForward(ctx context.Context, m *outgoing) reply.Reply {
	err := r.queueCopies(ctx, m, m.copies)
	r.recordInjections(ctx, m)
	if err != nil {
		r.cfg.Log.Error("message not queued", "session", m.s.Session, "err", err)
		return notQueued(err)
	}
	return queuedAs(m.s.Session)
}

// notQueued returns the answer for a message that could not be put into the retry
// spool: what kept it from being written, such as a signature that failed, else
// that there is no room for it.
func notQueued(err error) reply.Reply {
	var f *reply.Fault
	if errors.As(err, &f) && f.Class == reply.Temporary {
		return reply.ReplyFor(f)
	}
	return reply.ReplyFor(&reply.Fault{Class: reply.Overloaded, Err: err})
}

// maxQueued bounds the bytes of their own that the copies of one transaction of
// the retry spool have: they are in memory at once.
const maxQueued = 16 << 20

// copiesAtOnce is how many of a message's copies one transaction of the retry
// spool may have.
func (m *outgoing) copiesAtOnce() int { return max(1, maxQueued/(1024+m.plan.OwnSize())) }

// queueCopies puts copies into the retry spool, in transactions of a bounded
// size.
func (r *Relay) queueCopies(ctx context.Context, m *outgoing, copies []*copyOf) error {
	if m.eightBit && !r.cfg.Upstream.TakesEightBit() {
		r.makePlan(m, true)
	}

	for part := range slices.Chunk(copies, m.copiesAtOnce()) {
		t, err := r.waiting(m, part)
		if err == nil {
			err = r.cfg.Queue.Put(context.WithoutCancel(ctx), t)
		}
		if err != nil {
			return err
		}

		for _, c := range part {
			c.queued = true
		}
	}
	return nil
}

// Reject records a message that the listener refuses before Submit, and returns
// the answer for the client.
func (r *Relay) Reject(ctx context.Context, s *Submission, err error) reply.Reply {
	return r.refused(ctx, s, err)
}

// refused answers a message that goes nowhere. A refusal for good is an event.
func (r *Relay) refused(ctx context.Context, s *Submission, err error) reply.Reply {
	answer := reply.ReplyFor(err)
	local := refusedMessage(s)

	var ids []string
	if answer.Code/100 == 5 {
		ids = r.recordRejections(ctx, s, local, answer)
	}
	r.copies.WithLabelValues("refused_here").Inc()
	r.logRefused(s, local, ids, answer, err)
	return answer
}

// recordInjections writes the events of the copies that the upstream took, or
// that wait or have failed, in pieces of a bounded size. The copies are gone: a
// failure is told to the operator and not to the client, who would send them
// twice.
func (r *Relay) recordInjections(ctx context.Context, m *outgoing) {
	if !m.report {
		return
	}

	most := max(1, batchSize/m.eventSize)
	var events []*event.Event
	for i, c := range m.copies {
		if c.out.Accepted() || c.queued || c.bounced {
			events = append(events, r.injection(m, c))
		}
		if c.bounced {
			events = append(events, r.bounce(m, c))
		}

		if len(events) >= most || i == len(m.copies)-1 {
			r.record(ctx, m.s.Session, events)
			events = events[:0]
		}
	}
}

// record writes events of copies that are gone.
func (r *Relay) record(ctx context.Context, session string, events []*event.Event) {
	if len(events) == 0 {
		return
	}
	if err := r.cfg.Events.Record(context.WithoutCancel(ctx), events...); err != nil {
		r.unsaved.Add(float64(len(events)))
		r.cfg.Log.Error("injection events lost", "session", session, "events", len(events), "err", err)
	}
}
