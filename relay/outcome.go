package relay

import (
	"errors"

	"postern/relay/queue"
	"postern/relay/reply"
	"postern/relay/upstream"
)

// result names what became of a copy, for the metric.
func (c *copyOf) result() string {
	switch {
	case c.out.Accepted():
		return "accepted"
	case c.queued:
		return "queued"
	case c.out.Permanent():
		return "refused"
	}
	return "deferred"
}

// decision is what a transaction's outcomes come to.
type decision struct {
	reply  reply.Reply
	queue  []*copyOf // to the retry spool
	bounce []*copyOf // to a DSN
}

// decide makes one reply of the copies' outcomes. One recipient: the
// upstream's own words. All accepted: 250. All refused for good: the first
// one's refusal. None accepted and some temporary: 451, nothing is kept and the
// client sends again. Some accepted: 250, the rest goes to the retry spool or
// into a DSN. overdue: the client's patience is over, so what has no answer
// goes to the retry spool, too. A 250 for several copies is ours, with the id
// that leads to them all.
func decide(copies []*copyOf, overdue bool, session string) decision {
	var accepted, refused, deferred []*copyOf
	unanswered := false

	for _, c := range copies {
		switch {
		case c.out.Accepted():
			accepted = append(accepted, c)
		case c.out.Permanent():
			refused = append(refused, c)
		default:
			deferred = append(deferred, c)
			unanswered = unanswered || c.out.Err != nil
		}
	}

	var d decision
	switch {
	case overdue && unanswered:
		d.queue, d.bounce = deferred, refused
		d.reply = queuedAs(session)
	case len(copies) == 1:
		d.reply = copyReply(copies[0])
	case len(accepted) == 0 && len(deferred) > 0:
		r := copyReply(deferred[0])
		d.reply = reply.Reply{Code: 451, Enhanced: r.Enhanced, Text: r.Text}
	case len(accepted) == 0:
		d.reply = copyReply(refused[0])
	default:
		d.reply = queuedAs(session)
		d.queue, d.bounce = deferred, refused
	}
	return d
}

// queuedAs answers a message with the id that its copies are found by: in the
// log, in the retry spool and in the events.
func queuedAs(session string) reply.Reply {
	return reply.Reply{Code: 250, Enhanced: reply.EnhancedCode{2, 0, 0}, Text: "Ok: queued as " + session}
}

// copyReply is a copy's own answer: the upstream's, or what became of the
// connection. What the upstream says of our session with it says nothing of the
// client's: 421 would end that one, and becomes 451.
func copyReply(c *copyOf) reply.Reply {
	return cleanReply(c.out)
}

// cleanReply returns what is passed on of an outcome: to the client, the retry
// spool, events and delivery status notifications.
func cleanReply(o upstream.Outcome) reply.Reply {
	r := o.Reply

	switch {
	case o.Err != nil:
		r = reply.ReplyFor(o.Err)
	case r.Code/100 == 5 && !o.Permanent():
		r = reply.Reply{Code: 451, Enhanced: reply.EnhancedCode{4, 4, 1}, Text: "Upstream does not take mail now, try again later"}
	case r.Code == 421:
		r.Code = 451
	}

	r.Text = reply.CleanText(r.Text)
	return r
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

// outcome names what became of a copy in its client's session.
func (c *copyOf) outcome() string {
	switch {
	case c.out.Accepted():
		return outcomeAccepted
	case c.queued:
		return outcomeQueued
	case c.bounced:
		return outcomeBounced
	case c.out.Permanent():
		return outcomeRefused
	}
	return outcomeDeferred
}

// What the log says became of a copy. Only the first two are the end of it: a
// copy that is queued or deferred has further lines, and one that was refused
// or deferred in its client's session is the client's to send again.
const (
	outcomeAccepted = "accepted" // by the upstream
	outcomeBounced  = "bounced"  // given up; its sender gets a DSN, where one is wanted
	outcomeQueued   = "queued"   // waits in the retry spool
	outcomeRefused  = "refused"  // for good, and the client was told so
	outcomeDeferred = "deferred" // not now
)
