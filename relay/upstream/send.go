package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// errStale is the error of a kept connection that was closed before the
	// upstream replied to anything of the transaction.
	errStale = errors.New("kept connection was closed")

	// errDial is the error of a connection that could not be opened.
	errDial = errors.New("cannot connect")
)

// Send hands one transaction to an upstream. If that one is not reachable,
// refuses the session or lacks an extension that the transaction needs, Send
// tries the next; since nothing of the transaction has been accepted by then,
// the message is not duplicated. If ctx has ended, no connection is used.
func (p *Pool) Send(ctx context.Context, t *Transaction) Outcome {
	skip := map[*host]bool{}
	last := Outcome{Err: unreachable(errors.New("no upstream"))}
	lacking := false // last is from an upstream that lacks an extension
	from := reuseIdle

	for {
		if err := ctx.Err(); err != nil {
			return Outcome{Err: unreachable(err)}
		}

		l, err := p.acquire(ctx, from, skip)
		if err != nil {
			return Outcome{Err: err}
		}
		if l.h == nil {
			return last
		}

		reused := l.c != nil
		out := p.sendOver(ctx, l, t)
		stale, refused := errors.Is(out.Err, errStale), errors.Is(out.Err, ErrSession)
		switch {
		case reused && (stale || refused):
			from = dialNew // the host may accept it over a new connection
			continue
		case errors.Is(out.Err, ErrEightBit), errors.Is(out.Err, errUTF8):
			skip[l.h] = true
			lacking = true
			last = out
			continue
		case stale:
			out = Outcome{Err: closedBeforeMail(l.h.addr)}
		case refused:
			p.count(out)
		case errors.Is(out.Err, errDial):
		default:
			p.count(out)
			return out
		}

		p.cfg.Log.Warn("upstream unusable", "upstream", l.h.addr, "err", out.Err)
		skip[l.h] = true
		if !lacking {
			last = out
		}
	}
}

// sendOver runs a transaction over a leased connection, which it opens if the
// lease has none, and ends the lease.
func (p *Pool) sendOver(ctx context.Context, l lease, t *Transaction) Outcome {
	c := l.c
	if c == nil {
		var err error
		c, err = p.dialHost(ctx, l.h, p.login)
		if err != nil {
			p.release(l.h, nil)
			return Outcome{Err: fmt.Errorf("%w: %s: %w", errDial, l.h.addr, err)}
		}
	}

	out := p.transact(ctx, l.h, c, t)
	p.release(l.h, c)

	return out
}

// transact runs a transaction over a connection to a host and measures it.
func (p *Pool) transact(ctx context.Context, h *host, c *conn, t *Transaction) Outcome {
	start := time.Now()
	out := c.transaction(ctx, t)
	out.Upstream = h.addr

	if out.answered {
		p.durations.WithLabelValues(h.addr).Observe(time.Since(start).Seconds())
	}

	return out
}

// count counts an outcome by its class.
func (p *Pool) count(o Outcome) {
	class := "lost"
	switch {
	case o.Doubtful:
		class = "doubtful"
	case errors.Is(o.Err, ErrSession):
		class = "session"
	case o.Err == nil:
		class = fmt.Sprintf("%dxx", o.Reply.Code/100)
	}

	p.replies.WithLabelValues(o.Upstream, class).Inc()
}

func closedBeforeMail(addr string) error {
	return unreachable(fmt.Errorf("%s: connection closed before the reply to MAIL", addr))
}
