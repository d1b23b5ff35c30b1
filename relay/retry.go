package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/relay/dsn"
	"postern/relay/message"
	"postern/relay/queue"
	"postern/relay/upstream"
	"postern/tracking/event"
)

// Deliver implements queue.Deliverer: it hands a copy to the upstream.
func (r *Relay) Deliver(ctx context.Context, t *queue.Transaction, i int, tries int) queue.Verdict {
	if t.Recovered && tries == 0 {
		r.recordOwed(ctx, t, i)
	}

	c := &t.Copies[i]
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

	start := r.cfg.Now()
	out := r.cfg.Upstream.Send(ctx, tr)
	if errors.Is(out.Err, upstream.ErrEightBit) && infoOf(t).DSN {
		// Nobody would hear of a DSN that waits until it is given up.
		tr.Message = [][]byte{message.ReplaceEightBit(t.Message(i))}
		tr.EightBit = false
		out = r.cfg.Upstream.Send(ctx, tr)
	}

	v := verdict(out)
	r.logAttempt(t, i, retryLine{
		attempt: tries + 1,
		verdict: v,
		took:    r.cfg.Now().Sub(start),
		err:     out.Err,
	})
	if !v.Done && !v.Failed && ctx.Err() == nil {
		r.recordFailure(ctx, event.Delay, t, i, tries+1, v)
	}
	return v
}

// Reachable implements queue.Deliverer.
func (r *Relay) Reachable(ctx context.Context) error { return r.cfg.Upstream.Ping(ctx) }

// GiveUp implements queue.Deliverer: it records a bounce event and returns a DSN
// to the sender.
func (r *Relay) GiveUp(
	ctx context.Context, t *queue.Transaction, i int, tries int, v queue.Verdict,
) []*queue.Transaction {
	expired := !v.Failed
	if expired {
		waited := r.cfg.Now().Sub(t.Created)
		v.Reply = fmt.Sprintf("4.4.7 not delivered in %s, last answer: %s", waited.Round(time.Minute), v.Reply)
		r.logExpired(t, i, tries, v, waited)
	}

	r.recordFailure(ctx, event.Bounce, t, i, tries, v)
	in := infoOf(t)
	if in.DSN {
		return nil
	}

	c := &t.Copies[i]
	notification := r.dsnFor(in.Session, in.User, &dsn.Report{
		To:       t.From,
		Params:   t.Params,
		Original: originalFor(message.Split(t.Message(i))),
		Arrived:  t.Created,
		Failed: []dsn.Recipient{{
			MessageID: c.MessageID,
			Recipient: c.Recipient,
			Reply:     v.Reply,
			Upstream:  v.Upstream,
			Expired:   expired,
		}},
	})
	if notification == nil {
		return nil
	}

	r.logQueuedDSN(notification)
	return []*queue.Transaction{notification}
}
