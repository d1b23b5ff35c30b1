package relay

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"postern/relay/dsn"
	"postern/relay/envelope"
	"postern/relay/message"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/tracking/event"
)

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
	shared += escapedTwice * len(m.policy.instructions.Metadata) * transactions

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

// queueRemainder puts what a mixed answer leaves over where it is safe: the
// temporary failures into the retry spool, the permanent ones into one DSN.
func (r *Relay) queueRemainder(ctx context.Context, m *outgoing, p decision) error {
	if err := r.queueCopies(ctx, m, p.queue); err != nil {
		return err
	}

	d := &dsn.Report{
		To:       m.s.Envelope.From,
		Params:   m.params,
		Original: newOriginal(m.policy.header, m.body, m.whole),
		Arrived:  r.cfg.Now(),
	}
	for _, c := range p.bounce {
		d.Failed = append(d.Failed, dsn.Recipient{
			MessageID: c.id.String(),
			Recipient: c.recipient,
			Reply:     copyReply(c).String(),
			Upstream:  c.out.Upstream,
		})
	}
	if t := r.dsnFor(m.s.Session, m.s.User.Name, d); t != nil {
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

// Queue is the retry spool; *queue.Queue is one.
type Queue interface {
	Reserve(n int64) (release func(), err error)
	Put(ctx context.Context, ts ...*queue.Transaction) error
}

// info is what the events of a waiting copy need to know of its message.
type info struct {
	Injected *event.Event `json:"injected"` // the injection event's fields, without id and recipient; nil: not reported
	Session  string       `json:"session"`
	User     string       `json:"user"`
	Job      string       `json:"job,omitempty"`
	DSN      bool         `json:"dsn,omitempty"` // a DSN of ours: no events, no DSN about it
	// About are the message ids that a DSN is about, separated by commas.
	About string `json:"about,omitempty"`
}

// infoOf reads what a transaction's events and log lines need to know. Of one
// that cannot be read nothing is known.
func infoOf(t *queue.Transaction) info {
	var in info
	if json.Unmarshal(t.Info, &in) != nil {
		return info{}
	}
	if in.Injected != nil {
		in.Injected.Local.Session = in.Session
	}
	return in
}

// waiting makes the queue's transaction of some of a message's copies: what
// all have is there once, and each copy's own bytes as they go out. They are
// signed by then.
func (r *Relay) waiting(m *outgoing, copies []*copyOf) (*queue.Transaction, error) {
	raw, err := json.Marshal(r.info(m))
	if err != nil {
		return nil, err
	}

	t := &queue.Transaction{
		ID:       copies[0].id.String(),
		Session:  m.s.Session,
		Created:  r.cfg.Now(),
		From:     m.s.Envelope.From,
		Params:   m.params,
		EightBit: m.eightBit,
		Info:     raw,
	}

	buf := &copyBuffer{}
	for i, c := range copies {
		own := queue.Copy{
			Recipient:  c.recipient,
			MessageID:  c.id.String(),
			EnvelopeID: c.envelopeID(m),
			From:       r.verp(m.from, c.id.String()),
		}
		if c.tried() {
			v := verdict(c.out)
			own.Tried = &v
		}

		signature, err := r.render(m, c, buf)
		if err != nil {
			return nil, err
		}
		c.size, c.at = len(signature)+len(buf.b), t.Created

		head := append(signature, m.head(r, c)...)
		m.plan.Split(r.stamper(m, c), func(b []byte, mine bool) {
			if mine {
				head = append(head, b...)
				return
			}
			own.Own = append(own.Own, head)
			head = nil
			if i == 0 {
				t.Shared = append(t.Shared, b)
			}
		})

		own.Own = append(own.Own, head)
		t.Copies = append(t.Copies, own)
	}
	return t, nil
}

// info is what the retry spool is to know of a message's copies.
func (r *Relay) info(m *outgoing) info {
	in := info{Session: m.s.Session, User: m.s.User.Name, Job: m.policy.job}
	if m.report {
		e := m.event
		e.Timestamp = event.Timestamp{Time: r.cfg.Now()}
		in.Injected = &e
	}
	return in
}

// isDSN reports whether a transaction is a notification of ours.
func isDSN(t *queue.Transaction) bool {
	return infoOf(t).DSN
}

// messageIDs lists the copies that a notification is about, for the log.
func messageIDs(failed []dsn.Recipient) string {
	ids := make([]string, 0, min(len(failed), maxLoggedIDs))
	for _, f := range failed[:min(len(failed), maxLoggedIDs)] {
		ids = append(ids, f.MessageID)
	}
	return strings.Join(ids, ",")
}

// dsnFor returns the transaction of the retry spool that sends a notification,
// or nil if nobody is to get one: the return path is null, or NOTIFY says so.
// A notification that cannot be written in full is written as text.
func (r *Relay) dsnFor(session, user string, report *dsn.Report) *queue.Transaction {
	report.Failed = slices.DeleteFunc(report.Failed, func(f dsn.Recipient) bool { return !f.Wanted() })
	if report.To.IsNull() || len(report.Failed) == 0 {
		return nil
	}

	now := r.cfg.Now()
	id := r.cfg.Keys.NewID(now).String()
	options := dsn.Options{
		ID:       id,
		Hostname: r.cfg.Hostname,
		Date:     now,
		EightBit: r.cfg.Upstream.TakesEightBit(),
	}
	body, err := report.Encode(options)
	if err != nil {
		r.cfg.Log.Warn("DSN is written without the message", "recipient", report.To.String(), "err", err)
		body = report.EncodeText(options)
	}

	raw, _ := json.Marshal(info{
		Session: session,
		User:    user,
		DSN:     true,
		About:   messageIDs(report.Failed),
	})
	return &queue.Transaction{
		ID:       id,
		Created:  now,
		Info:     raw,
		EightBit: message.HasEightBit(body),
		Copies: []queue.Copy{{
			Recipient: envelope.Recipient{Address: report.To},
			MessageID: id,
			Own:       [][]byte{body},
		}},
	}
}

// newOriginal leaves the fields out of a header that never leave.
func newOriginal(header, body []byte, separated bool) dsn.Original {
	o := dsn.Original{Header: make([]byte, 0, len(header)), Body: body, HasBody: separated}
	for _, f := range message.Fields(header) {
		if !slices.ContainsFunc(neverLeave, f.Is) {
			o.Header = append(o.Header, f.Raw...)
		}
	}
	return o
}
