package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errStale marks a kept connection that turned out dead before the upstream
// had seen anything of the transaction.
var errStale = errors.New("upstream: kept connection was closed")

// Send hands one transaction to an upstream, another one where the first is
// not reachable, does not want us or does not take 8-bit content. Nothing of
// the transaction has been accepted by the one that is left, so nothing is
// doubled. A transaction whose ctx is over takes no connection.
func (p *Pool) Send(ctx context.Context, t *Transaction) Outcome {
	skip := map[*host]bool{}
	last := Outcome{Err: unreachable(errors.New("no upstream"))}
	lacking := false // last is of one that could be reached and lacks an extension
	fresh := false

	for {
		if err := ctx.Err(); err != nil {
			return Outcome{Err: unreachable(err)}
		}
		l, err := p.acquire(ctx, fresh, skip)
		if err != nil {
			return Outcome{Err: err}
		}
		if l.h == nil {
			return last
		}

		reused := l.c != nil
		out := p.sendOver(ctx, l, t)
		switch {
		case reused && (errors.Is(out.Err, errStale) || errors.Is(out.Err, ErrSession)):
			fresh = true // the host may well take it over a new connection
			continue
		case errors.Is(out.Err, errStale):
			out = Outcome{Err: unreachable(fmt.Errorf("%s: closed before it answered MAIL", l.h.addr))}
		case errors.Is(out.Err, ErrEightBit), errors.Is(out.Err, errUTF8): // another may offer it
			skip[l.h], lacking = true, true
			last = out
			continue
		case errors.Is(out.Err, ErrSession):
			p.count(out)
		case errors.Is(out.Err, errDial):
		default:
			p.count(out)
			return out
		}

		p.c.Log.Warn("upstream: not usable", "upstream", l.h.addr, "err", out.Err)
		skip[l.h] = true
		if !lacking {
			last = out
		}
	}
}

// sendOver runs a transaction over a lease's connection, or over a new one.
func (p *Pool) sendOver(ctx context.Context, l lease, t *Transaction) Outcome {
	c := l.c
	if c == nil {
		var err error
		if c, err = p.dialFor(ctx, l.h, p.login); err != nil {
			p.release(l.h, nil)
			return Outcome{Err: fmt.Errorf("%w: %s: %w", errDial, l.h.addr, err)}
		}
	}

	out := p.transact(ctx, l.h, c, t)
	p.release(l.h, c)

	return out
}

// transact runs a transaction over a connection to a host, and measures it.
func (p *Pool) transact(ctx context.Context, h *host, c *conn, t *Transaction) Outcome {
	begin := time.Now()
	out := c.transaction(ctx, t)
	out.Upstream = h.addr

	if out.answered {
		p.durations.WithLabelValues(h.addr).Observe(time.Since(begin).Seconds())
	}

	return out
}

// errDial marks a connection that could not be opened.
var errDial = errors.New("not dialled")

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
