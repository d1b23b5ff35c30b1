package relay

import (
	"errors"

	"postern/relay/queue"
	"postern/relay/reply"
	"postern/relay/upstream"
)

// What became of a copy, as the log says it. Only the first two are final: a
// copy that is queued or deferred has further lines, and one that was refused or
// deferred in its client's session is the client's to send again.
const (
	outcomeAccepted = "accepted" // by the upstream
	outcomeBounced  = "bounced"  // given up; its sender gets a DSN, unless it wants none
	outcomeQueued   = "queued"   // in the retry spool
	outcomeRefused  = "refused"  // permanently, and the client was told so
	outcomeDeferred = "deferred" // refused temporarily
)

// outcome returns what became of a copy in its client's session.
func (c *recipientCopy) outcome() string {
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

// result returns what became of a copy as the metric says it, which counts a
// bounced copy as refused.
func (c *recipientCopy) result() string {
	if outcome := c.outcome(); outcome != outcomeBounced {
		return outcome
	}
	return outcomeRefused
}

// decision is what the outcomes of a transaction come to.
type decision struct {
	reply  reply.Reply
	queue  []*recipientCopy // to the retry spool
	bounce []*recipientCopy // to a DSN
}

// decide makes one reply of the copies' outcomes:
//
//   - One recipient: the upstream's own reply.
//   - All accepted: 250.
//   - All refused permanently: the first refusal.
//   - None accepted and some refused temporarily: 451. Nothing is kept, the
//     client sends again.
//   - Some accepted: 250. The temporary failures go to the retry spool, the
//     permanent ones into a DSN.
//   - The time to answer is over and some copies have no reply: as if some had
//     been accepted.
//
// A 250 for several copies names the id that all of them are found by.
func decide(copies []*recipientCopy, overdue bool, session string) decision {
	var accepted, refused, deferred []*recipientCopy
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

	switch {
	case overdue && unanswered:
		return decision{reply: queuedAs(session), queue: deferred, bounce: refused}
	case len(copies) == 1:
		return decision{reply: cleanReply(copies[0].out)}
	case len(accepted) > 0:
		return decision{reply: queuedAs(session), queue: deferred, bounce: refused}
	case len(deferred) > 0:
		first := cleanReply(deferred[0].out)
		first.Code = 451
		return decision{reply: first}
	}
	return decision{reply: cleanReply(refused[0].out)}
}

// queuedAs returns the reply with the id that a message's copies are found by:
// in the log, in the retry spool and in the events.
func queuedAs(session string) reply.Reply {
	return reply.Reply{
		Code:     250,
		Enhanced: reply.EnhancedCode{2, 0, 0},
		Text:     "Ok: queued as " + session,
	}
}

// cleanReply returns the reply of an outcome as it is passed on: to the client,
// the retry spool, events and DSNs. What the upstream says of our session says
// nothing of the client's; in particular 421, which would end that one, becomes
// 451.
func cleanReply(o upstream.Outcome) reply.Reply {
	r := o.Reply

	switch {
	case o.Err != nil:
		r = reply.For(o.Err)
	case r.Code/100 == 5 && !o.Permanent():
		r = reply.Reply{
			Code:     451,
			Enhanced: reply.EnhancedCode{4, 4, 1},
			Text:     "Upstream does not take mail now, try again later",
		}
	case r.Code == 421:
		r.Code = 451
	}

	r.Text = reply.CleanText(r.Text)
	return r
}

// verdict returns an outcome as the retry spool needs it.
func verdict(o upstream.Outcome) queue.Verdict {
	return queue.Verdict{
		Done:     o.Accepted(),
		Upstream: o.Upstream,
		Reply:    cleanReply(o).String(),
		// Another upstream may accept 8-bit content, or this one once it is
		// configured to.
		Failed: o.Permanent() && !errors.Is(o.Err, upstream.ErrEightBit),
		Away:   isAway(o),
	}
}

// isAway reports whether an outcome means that the upstream cannot be reached.
// One that refuses our session is reachable: its copies wait for their time, not
// for the upstream.
func isAway(o upstream.Outcome) bool {
	if o.Err == nil || errors.Is(o.Err, upstream.ErrSession) {
		return false
	}
	if o.Upstream == "" {
		return true
	}

	var f *reply.Fault
	return errors.As(o.Err, &f) && f.Reply.Enhanced == reply.EnhancedCode{4, 4, 1}
}
