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

// Queue is the retry spool; *queue.Queue is one.
type Queue interface {
	// Reserve holds room for records of n bytes until release is called.
	Reserve(n int64) (release func(), err error)
	// Put returns once the transactions are on disk.
	Put(ctx context.Context, ts ...*queue.Transaction) error
}

const (
	// maxQueued bounds the bytes that are not shared of the copies of one
	// transaction of the retry spool: they are in memory at the same time.
	maxQueued = 16 << 20
	// copyOverhead is what a record has for each copy besides its own bytes.
	copyOverhead = 4096
	// escapedTwice is how much longer text can be as JSON in a record of the
	// queue: a control character is six bytes there, and its backslash two.
	escapedTwice = 7
)

// reservation is the room that is held for what a message may have to write.
type reservation struct {
	release   func()
	eventSize int // bounds an encoded event of the message, in bytes
}

// reserve holds room for all that a message may have to write, before anything
// goes upstream: for each copy an injection event, and a bounce event in case a
// mixed answer leaves it refused.
func (r *Relay) reserve(m *outgoing) (reservation, error) {
	injection, bounce, err := r.eventSizes(m)
	if err != nil {
		return reservation{}, err
	}

	perCopy := int64(injection + bounce)
	if !m.route.report {
		perCopy = 0
	}
	releaseEvents, err := r.cfg.Events.Reserve(perCopy * int64(len(m.copies)))
	if err != nil {
		return reservation{}, err
	}

	releaseQueue, err := r.cfg.Queue.Reserve(m.queueRoom())
	if err != nil {
		releaseEvents()
		return reservation{}, err
	}

	release := func() {
		releaseEvents()
		releaseQueue()
	}
	return reservation{release: release, eventSize: bounce}, nil
}

// queueRoom bounds the bytes that a message can take in the retry spool. Each
// transaction there has what its copies share, and a DSN may have the message
// again.
func (m *outgoing) queueRoom() int64 {
	transactions := 1 + len(m.copies)/m.copiesPerTransaction()
	shared := queue.Escaped(m.s.Message) * (1 + transactions)
	shared += escapedTwice * len(m.headers.instructions.Metadata) * transactions

	own := copyOverhead + m.content.plan.OwnSize() + len(m.s.Envelope.From.String())
	return queue.Room(shared, own*len(m.copies))
}

// copiesPerTransaction returns how many of a message's copies one transaction of
// the retry spool may have.
func (m *outgoing) copiesPerTransaction() int {
	return max(1, maxQueued/(1024+m.content.plan.OwnSize()))
}

// queueRemainder makes safe what a mixed answer leaves over: temporary failures
// go to the retry spool, permanent ones into one DSN.
func (r *Relay) queueRemainder(ctx context.Context, m *outgoing, d decision) error {
	if err := r.queueCopies(ctx, m, d.queue); err != nil {
		return err
	}

	report := &dsn.Report{
		To:       m.s.Envelope.From,
		Params:   m.route.params,
		Original: originalFor(m.content.header, m.body, m.hasSeparator),
		Arrived:  r.cfg.Now(),
	}
	for _, c := range d.bounce {
		report.Failed = append(report.Failed, dsn.Recipient{
			MessageID: c.id.String(),
			Recipient: c.recipient,
			Reply:     cleanReply(c.out).String(),
			Upstream:  c.out.Upstream,
		})
	}

	if t := r.dsnFor(m.s.Session, m.s.User.Name, report); t != nil {
		if err := r.cfg.Queue.Put(context.WithoutCancel(ctx), t); err != nil {
			return err
		}
		r.logQueuedDSN(t)
	}

	// Only now: a copy whose DSN is not on disk is not bounced, and has no event.
	for _, c := range d.bounce {
		c.bounced = true
	}
	return nil
}

// notQueued returns the reply for a message that could not be put into the retry
// spool: what kept it from being written, such as a signature that failed, else
// that there is no room for it.
func notQueued(err error) reply.Reply {
	var f *reply.Fault
	if errors.As(err, &f) && f.Class == reply.Temporary {
		return reply.For(f)
	}

	return reply.For(&reply.Fault{Class: reply.Overloaded, Err: err})
}

// queueCopies puts copies into the retry spool, in transactions of a bounded
// size.
func (r *Relay) queueCopies(ctx context.Context, m *outgoing, copies []*recipientCopy) error {
	if m.content.eightBit && !r.cfg.Upstream.TakesEightBit() {
		m.content = r.sevenBitContent(m)
	}

	for part := range slices.Chunk(copies, m.copiesPerTransaction()) {
		t, err := r.newTransaction(m, part)
		if err != nil {
			return err
		}
		if err := r.cfg.Queue.Put(context.WithoutCancel(ctx), t); err != nil {
			return err
		}

		for _, c := range part {
			c.queued = true
		}
	}

	return nil
}

// newTransaction returns the transaction of the retry spool with some of a
// message's copies. What all of them share is there once, and the own bytes of
// each copy, which is signed by then.
func (r *Relay) newTransaction(m *outgoing, copies []*recipientCopy) (*queue.Transaction, error) {
	raw, err := json.Marshal(r.info(m))
	if err != nil {
		return nil, err
	}

	t := &queue.Transaction{
		ID:       copies[0].id.String(),
		Session:  m.s.Session,
		Created:  r.cfg.Now(),
		From:     m.s.Envelope.From,
		Params:   m.route.params,
		EightBit: m.content.eightBit,
		Info:     raw,
	}

	buf := &copyBuffer{}
	for _, c := range copies {
		signature, err := r.render(m, c, buf)
		if err != nil {
			return nil, err
		}

		r.appendCopy(t, m, c, signature)
		c.size = len(signature) + len(buf.b)
		c.at = t.Created
	}

	return t, nil
}

// appendCopy adds a copy to a transaction and, with the first one, what all
// copies share. The signature and the copy's own fields are part of its own
// bytes.
func (r *Relay) appendCopy(t *queue.Transaction, m *outgoing, c *recipientCopy, signature []byte) {
	q := queue.Copy{
		Recipient:  c.recipient,
		MessageID:  c.id.String(),
		EnvelopeID: c.envelopeID(m),
		From:       r.verp(m.route.returnPath, c.id.String()),
	}
	if c.tried() {
		v := verdict(c.out)
		q.Tried = &v
	}

	first := len(t.Copies) == 0
	own := append(signature, r.ownFields(m, c)...)
	m.content.plan.Split(r.stamper(m, c), func(b []byte, mine bool) {
		if mine {
			own = append(own, b...)
			return
		}

		q.Own = append(q.Own, own)
		own = nil
		if first {
			t.Shared = append(t.Shared, b)
		}
	})

	q.Own = append(q.Own, own)
	t.Copies = append(t.Copies, q)
}

// info is what log lines and events of a transaction of the retry spool need to
// know of its message.
type info struct {
	// Injected holds the injection event without id and recipient; nil: the
	// events are not reported.
	Injected *event.Event `json:"injected"`
	Session  string       `json:"session"`
	User     string       `json:"user"`
	Job      string       `json:"job,omitempty"`
	// DSN says that this is a DSN, which has neither events nor a DSN.
	DSN bool `json:"dsn,omitempty"`
	// About are the message ids that a DSN is about, separated by commas.
	About string `json:"about,omitempty"`
}

// info returns what the retry spool is to know of a message.
func (r *Relay) info(m *outgoing) info {
	in := info{
		Session: m.s.Session,
		User:    m.s.User.Name,
		Job:     m.headers.job,
	}
	if m.route.report {
		e := m.template
		e.Timestamp = event.Timestamp{Time: r.cfg.Now()}
		in.Injected = &e
	}

	return in
}

// infoOf reads the info of a transaction. It is empty if it cannot be read.
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

// originalFor returns a message as a DSN may show it.
func originalFor(header, body []byte, separated bool) dsn.Original {
	return dsn.Original{
		Header:  withoutStripped(header),
		Body:    body,
		HasBody: separated,
	}
}

// messageIDs lists the copies that a DSN is about, for the log.
func messageIDs(failed []dsn.Recipient) string {
	failed = failed[:min(len(failed), maxLoggedIDs)]

	ids := make([]string, len(failed))
	for i, f := range failed {
		ids[i] = f.MessageID
	}
	return strings.Join(ids, ",")
}

// dsnFor returns the transaction of the retry spool that sends a DSN, or nil if
// nobody is to get one: the return path is null, or NOTIFY says so. A DSN that
// cannot be written in full is written as text.
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
