// Package relay is the journey of a message: it takes an envelope and a message
// from a client, hands a copy for each recipient to PowerMTA, and returns the
// one reply for the client.
//
// The stages are in files of their own, in the order of the journey: headers
// (which fields stay, are removed and added), job (X-Job), route (return path,
// tracking, reporting), copies (an id and tokens for each recipient), sign
// (DKIM), send (to the upstream), outcome (what became of each copy), settle
// (the retry spool and DSNs for what is left over) and events. A stage returns a
// value; an outgoing holds the values of those before sending.
//
// A Relay is safe for concurrent use.
package relay

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"postern/dkim"
	"postern/relay/envelope"
	"postern/relay/message"
	"postern/relay/reply"
	"postern/tracking/event"
)

// User holds the settings of the user that submits a message.
type User struct {
	Name        string
	VirtualMTA  string // of messages that name none
	Job         string // of messages that have none
	JobPrefix   string
	Subaccount  uint32
	FromDomains []string // patterns of domains to send from; empty: any
	Tracking    bool
	DKIMKey     string // names a key that signs instead of the From domain's; empty: none
}

// Submission is a message with its envelope, as the client handed it over. The
// relay owns Message from then on.
type Submission struct {
	Session  string // id for the log
	User     User
	Envelope envelope.Envelope
	Message  []byte
	Remote   netip.AddrPort
	Helo     string
	Protocol string // for Received: ESMTPSA, ESMTPS, ESMTPA, ESMTP
	TLS      string // version and suite for Received; empty: no TLS
	Via      Sender // the session's own login at the upstream; nil: the relay's
}

// outgoing is a message on its way: what is the same for all its copies, and
// the copies.
type outgoing struct {
	s       *Submission
	at      time.Time // of its signatures
	headers headers
	route   route
	keys    []dkim.Key
	copies  []*recipientCopy
	longest int // recipient, as bytes of a token

	body         []byte
	hasSeparator bool // an empty line is between header and body
	eightBit     bool // it came with 8-bit content
	received     []byte
	content      content
	signed       sharedHeader
	template     event.Event // what the events of the copies have in common
}

// Relay submits messages.
type Relay struct {
	cfg     Config
	buffers bufferPool
	notes   notes
	names   notes // of names in messages that nobody knows
	metrics
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

	return &Relay{cfg: c, metrics: newMetrics(c.Metrics)}
}

// Submit hands a message to the upstream and returns the one reply for the
// client, however many recipients there are. Each recipient gets a copy with its
// own id and tokens.
func (r *Relay) Submit(ctx context.Context, s *Submission) reply.Reply {
	start := r.cfg.Now()

	m, err := r.prepare(s, start)
	if err != nil {
		return r.refused(ctx, s, err)
	}

	reserved, err := r.reserve(m)
	if err != nil {
		return r.refused(ctx, s, &reply.Fault{Class: reply.Overloaded, Err: err})
	}
	defer reserved.release()

	var answer reply.Reply
	if r.cfg.Sending.QueueAlways {
		answer = r.storeAndForward(ctx, m)
	} else {
		answer = r.passThrough(ctx, m)
	}

	r.recordInjections(ctx, m, reserved.eventSize)
	r.logMessage(m, answer, r.cfg.Now().Sub(start))
	return answer
}

// Reject records a message that the listener refuses before Submit, and returns
// the reply for the client.
func (r *Relay) Reject(ctx context.Context, s *Submission, err error) reply.Reply {
	return r.refused(ctx, s, err)
}

// prepare runs the stages before sending. Nothing has gone upstream yet.
func (r *Relay) prepare(s *Submission, now time.Time) (*outgoing, error) {
	header, body, separated := message.Split(s.Message)

	h, err := r.applyPolicy(header, s.User)
	if err != nil {
		return nil, err
	}
	if err := checkOriginators(s, &h.origin); err != nil {
		return nil, err
	}
	r.noteUnknown(s, &h)
	h.complete(r.cfg.Hostname, now)

	copies, err := r.makeCopies(s, &h.instructions, now)
	if err != nil {
		return nil, err
	}
	keys, err := r.chooseKeys(s, &h, now)
	if err != nil {
		return nil, err
	}

	m := &outgoing{
		s:            s,
		at:           now,
		headers:      h,
		route:        r.routeFor(s, &h),
		keys:         keys,
		copies:       copies,
		longest:      longestRecipient(copies),
		body:         body,
		hasSeparator: separated,
		eightBit:     message.HasEightBit(s.Message),
		received:     r.receivedField(s, now),
	}
	m.template = r.eventTemplate(m)
	m.content = r.contentFor(m)

	return m, nil
}

// passThrough sends the copies and returns what the upstream said.
func (r *Relay) passThrough(ctx context.Context, m *outgoing) reply.Reply {
	sending, cancel := context.WithTimeout(ctx, r.cfg.Sending.AnswerWithin)
	defer cancel()

	r.sendAll(sending, m)
	overdue := errors.Is(sending.Err(), context.DeadlineExceeded) && ctx.Err() == nil

	d := decide(m.copies, overdue, m.s.Session)
	if len(d.queue)+len(d.bounce) == 0 {
		return d.reply
	}

	if err := r.queueRemainder(ctx, m, d); err != nil {
		// Losing a copy is worse than sending another twice.
		r.cfg.Log.Error("copies of a mixed answer could not be queued, the client sends again",
			"session", m.s.Session, "err", err)
		return reply.For(&reply.Fault{Class: reply.Overloaded})
	}
	return d.reply
}

// storeAndForward puts all copies into the retry spool, which sends them.
func (r *Relay) storeAndForward(ctx context.Context, m *outgoing) reply.Reply {
	if err := r.queueCopies(ctx, m, m.copies); err != nil {
		r.cfg.Log.Error("message not queued", "session", m.s.Session, "err", err)
		return notQueued(err)
	}

	return queuedAs(m.s.Session)
}

// refused records a message that is not relayed. A permanent refusal is an
// event.
func (r *Relay) refused(ctx context.Context, s *Submission, err error) reply.Reply {
	answer := reply.For(err)
	local := localFacts(s)

	var ids []string
	if answer.Code/100 == 5 {
		ids = r.recordRejections(ctx, s, local, answer)
	}

	r.copiesTotal.WithLabelValues("refused_here").Inc()
	r.logRefused(s, local, ids, answer, err)
	return answer
}
