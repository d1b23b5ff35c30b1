package relay

import (
	"fmt"

	"postern/relay/envelope"
)

// result names what became of a copy, for the metric.
func (c *copyOf) result() string {
	switch {
	case c.out.Accepted():
		return "accepted"
	case c.out.Permanent():
		return "refused"
	}
	return "deferred"
}

// answer makes one reply of the copies' outcomes. One recipient: the
// upstream's own words. All accepted: 250. All refused for good: the first
// one's refusal. Anything temporary: 451, and the client sends again; as long
// as there is no retry spool, a copy that was accepted beside a temporary
// refusal is then sent twice, for losing one would be worse.
func answer(copies []*copyOf) envelope.Reply {
	if len(copies) == 1 {
		return copyReply(copies[0])
	}
	accepted, refused := 0, 0
	var firstRefusal, firstDeferral *copyOf
	for _, c := range copies {
		switch {
		case c.out.Accepted():
			accepted++
		case c.out.Permanent():
			if refused++; firstRefusal == nil {
				firstRefusal = c
			}
		case firstDeferral == nil:
			firstDeferral = c
		}
	}
	switch {
	case firstDeferral != nil:
		r := copyReply(firstDeferral)
		return envelope.Reply{Code: 451, Enhanced: r.Enhanced, Text: r.Text}
	case accepted == 0:
		return copyReply(firstRefusal)
	case refused == 0:
		return copyReply(copies[0])
	}
	r := copyReply(firstRefusal)
	return envelope.Reply{Code: 250, Enhanced: [3]int{2, 0, 0},
		Text: fmt.Sprintf("Accepted for %d of %d recipients; %s was refused: %d %s", accepted, len(copies), firstRefusal.recipient.Address, r.Code, envelope.CleanText(r.Text))}
}

// copyReply is a copy's own answer: the upstream's, cleaned, or what became of
// the connection. 421 would end the client's session, which the upstream does
// not know: it becomes 451.
func copyReply(c *copyOf) envelope.Reply {
	if c.out.Err != nil {
		return envelope.ReplyFor(c.out.Err)
	}
	r := c.out.Reply
	r.Text = envelope.CleanText(r.Text)
	if r.Code == 421 {
		r.Code = 451
	}
	return r
}
