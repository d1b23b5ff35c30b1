// Package relay takes an envelope and a message and hands them to PowerMTA:
// header policy, tracking, signature, one copy per recipient, and one answer
// for the client.
//
// A Relay is safe for concurrent use.
package relay

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/dkim"
	"postern/relay/envelope"
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
