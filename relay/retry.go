package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/relay/message"
	"postern/relay/queue"
	"postern/relay/upstream"
	"postern/tracking/event"
)

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
	dsn := r.dsn(in.Session, in.User, &dsnReport{
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
