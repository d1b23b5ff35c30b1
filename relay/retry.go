package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"postern/relay/message"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/relay/upstream"
	"postern/tracking/event"
)

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

// verdict is what the queue hears of an outcome.
func verdict(o upstream.Outcome) queue.Verdict {
	v := queue.Verdict{
		Done:     o.Accepted(),
		Upstream: o.Upstream,
		Reply:    cleanReply(o).String(),
		// Another upstream may take 8-bit content, or this one when it is set up so.
		Failed: o.Permanent() && !errors.Is(o.Err, upstream.ErrEightBit),
	}

	// An upstream that refuses our session is reachable: its copies wait for
	// their time, not for the upstream.
	if o.Err != nil && !errors.Is(o.Err, upstream.ErrSession) {
		var f *reply.Fault
		v.Away = o.Upstream == "" || errors.As(o.Err, &f) && f.Reply.Enhanced == (reply.EnhancedCode{4, 4, 1})
	}
	return v
}

// Deliver implements queue.Deliverer.
func (r *Relay) Deliver(ctx context.Context, t *queue.Transaction, i int, tries int) queue.Verdict {
	c := t.Copies[i]
	tr := &upstream.Transaction{
		From:      c.From,
		Recipient: c.Recipient,
		Params:    t.Params,
		Message:   t.Parts(i),
		EightBit:  t.EightBit,
		Session:   t.Session,
		MessageID: c.MessageID,
	}
	tr.Params.EnvelopeID = c.EnvelopeID

	if t.Recovered && tries == 0 {
		r.recordOwed(ctx, t, i)
	}

	start := r.cfg.Now()
	out := r.cfg.Upstream.Send(ctx, tr)
	if errors.Is(out.Err, upstream.ErrEightBit) && isDSN(t) {
		// Nobody would hear of one that waits until it is given up.
		tr.Message, tr.EightBit = [][]byte{asciiOnly(t.Message(i))}, false
		out = r.cfg.Upstream.Send(ctx, tr)
	}

	v := verdict(out)
	r.logAttempt(t, i, tries+1, out, v, r.cfg.Now().Sub(start))
	if !v.Done && !v.Failed && ctx.Err() == nil {
		r.recordFailure(ctx, event.Delay, t, i, tries+1, v)
	}
	return v
}

// recordOwed writes the injection event of a copy that a previous run put into
// the retry spool, and may not have written the event of any more. Its id is
// that of the copy: where it was written, it is the same event.
func (r *Relay) recordOwed(ctx context.Context, t *queue.Transaction, i int) {
	in := infoOf(t)
	if in.Injected == nil {
		return
	}

	e, c := *in.Injected, t.Copies[i]
	e.MessageID = c.MessageID
	e.ID = event.StableID(string(e.Type), e.MessageID)
	e.RcptTo, e.RoutingDomain = c.Recipient.Address.String(), routingDomain(c.Recipient.Address)
	e.MsgSize = strconv.Itoa(len(t.Message(i)))
	r.record(ctx, in.Session, []*event.Event{&e})
}

// isDSN reports whether a transaction is a notification of ours.
func isDSN(t *queue.Transaction) bool {
	return infoOf(t).DSN
}

// Reachable implements queue.Deliverer.
func (r *Relay) Reachable(ctx context.Context) error { return r.cfg.Upstream.Ping(ctx) }

// GiveUp implements queue.Deliverer: a bounce event, and a DSN to the sender.
func (r *Relay) GiveUp(
	ctx context.Context, t *queue.Transaction, i int, tries int, v queue.Verdict,
) []*queue.Transaction {
	if !v.Failed {
		waited := r.cfg.Now().Sub(t.Created)
		v.Reply = fmt.Sprintf("4.4.7 not delivered in %s, last answer: %s", waited.Round(time.Minute), v.Reply)
		r.logExpired(t, i, tries, v, waited)
	}

	r.recordFailure(ctx, event.Bounce, t, i, tries, v)
	if isDSN(t) {
		return nil
	}

	c := t.Copies[i]
	in := infoOf(t)
	dsn := r.dsn(&dsnReport{
		session:  in.Session,
		user:     in.User,
		to:       t.From,
		params:   t.Params,
		original: newOriginal(message.Split(t.Message(i))),
		arrived:  t.Created,
		failed: []dsnRecipient{{
			messageID: c.MessageID,
			recipient: c.Recipient,
			reply:     v.Reply,
			upstream:  v.Upstream,
			expired:   !v.Failed,
		}},
	})
	if dsn == nil {
		return nil
	}

	r.logQueuedDSN(dsn)
	return []*queue.Transaction{dsn}
}

// recordFailure writes the event of a copy that the retry spool could not
// hand over. Its id is that of the attempt: where a crash, or a DSN that could
// not be queued, has the attempt's end come again, it is the same event.
func (r *Relay) recordFailure(
	ctx context.Context, typ event.Type, t *queue.Transaction, i, tries int, v queue.Verdict,
) {
	in := infoOf(t)
	if in.Injected == nil {
		return
	}

	e, c := *in.Injected, t.Copies[i]
	e.Type, e.MessageID = typ, c.MessageID
	e.RcptTo, e.RoutingDomain = c.Recipient.Address.String(), routingDomain(c.Recipient.Address)
	if typ == event.Bounce { // there is one end
		e.ID = event.StableID(string(typ), e.MessageID)
	} else {
		e.ID = event.StableID(string(typ), e.MessageID, strconv.Itoa(tries))
	}

	now := r.cfg.Now()
	e.Timestamp = event.Timestamp{Time: now}
	e.DelvMethod, e.NumRetries = "esmtp", strconv.Itoa(max(0, tries-1))
	e.QueueTime = strconv.FormatInt(max(0, now.Sub(t.Created).Milliseconds()), 10)
	setFailure(&e, v.Reply)

	if err := r.cfg.Events.Record(context.WithoutCancel(ctx), &e); err != nil {
		r.unsaved.Inc()
		r.cfg.Log.Error("event lost", "type", typ.PublicName(), "message_id", e.MessageID, "err", err)
	}
}

// setFailure fills in what an SMTP answer says: CODE, an enhanced status code
// where there is one, and words.
func setFailure(e *event.Event, answer string) {
	answer = event.Clip(answer, maxReason)
	e.RawReason, e.Reason = answer, answer

	code, status := replyCodes(answer)
	e.ErrorCode = code
	e.BounceClass = strconv.Itoa(event.BounceClass("", status, answer, nil))
}
