package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"postern/relay/reply"
)

// Login is a connection on which the upstream accepted a client's credentials.
// It carries that client's transactions, one after the other. A connection that
// is lost is replaced by one with the same credentials. A Login is safe for
// concurrent use.
type Login struct {
	p    *Pool
	user string
	pass string

	mu     sync.Mutex
	h      *host // whose slot is held; nil: none
	c      *conn
	closed bool
}

// Login presents a client's credentials to an upstream, and to the next if that
// one cannot be used. answer is the upstream's reply; the login is nil unless
// that is 235. The error is not nil if no upstream could be asked.
func (p *Pool) Login(ctx context.Context, user, pass string) (l *Login, answer reply.Reply, err error) {
	l = &Login{p: p, user: user, pass: pass}
	answer, err = l.open(ctx)
	if err != nil || answer.Code != 235 {
		return nil, answer, err
	}

	return l, answer, nil
}

// open opens the connection and returns the upstream's reply to AUTH. l.mu must
// be held once others know of l.
func (l *Login) open(ctx context.Context) (reply.Reply, error) {
	skip := map[*host]bool{}
	last := unreachable(errors.New("no upstream"))
	for {
		lease, err := l.p.acquire(ctx, dialNew, skip)
		if err != nil {
			return reply.Reply{}, err
		}
		if lease.h == nil {
			return reply.Reply{}, last
		}

		c, answer, err := l.dial(ctx, lease.h)
		if err != nil {
			l.p.release(lease.h, nil)
			l.p.cfg.Log.Warn("upstream unusable", "upstream", lease.h.addr, "err", err)
			skip[lease.h] = true
			last = fmt.Errorf("%s: %w", lease.h.addr, err)
			continue
		}

		if answer.Code != 235 {
			c.quit()
			l.p.release(lease.h, nil)
			return answer, nil
		}

		l.h = lease.h
		l.c = c

		return answer, nil
	}
}

// dial opens a connection to a host and returns the reply to AUTH, if that is
// about the credentials.
func (l *Login) dial(ctx context.Context, h *host) (*conn, reply.Reply, error) {
	var answer reply.Reply
	c, err := l.p.dialHost(ctx, h, func(c *conn) (err error) {
		answer, err = l.p.auth(c, l.user, l.pass)
		if err == nil && refusesAnybody(answer) {
			err = unexpected("AUTH", answer)
		}
		return err
	})

	return c, answer, err
}

// refusesAnybody reports whether a reply to AUTH does not concern the
// credentials: the end of the connection (421, RFC 5321 section 3.8), or a
// refusal of the session.
func refusesAnybody(r reply.Reply) bool {
	return r.Code == 421 || r.Code != 535 && concernsSession(phaseMail, r)
}

// disconnect closes the connection and releases its slot. l.mu must be held.
func (l *Login) disconnect() {
	if l.h == nil {
		return
	}

	l.c.quit()
	l.p.release(l.h, nil)
	l.h = nil
	l.c = nil
}

// Send hands one transaction to the upstream. If a connection from before turns
// out closed or no longer logged in, it is replaced once.
func (l *Login) Send(ctx context.Context, t *Transaction) Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()

	for again := false; ; again = true {
		if err := ctx.Err(); err != nil {
			return Outcome{Err: unreachable(err)}
		}
		if l.closed {
			return Outcome{Err: unreachable(errors.New("session has ended"))}
		}

		reused, err := l.connect(ctx)
		if err != nil {
			return Outcome{Err: err}
		}

		out := l.p.transact(ctx, l.h, l.c, t)
		stale := errors.Is(out.Err, errStale)
		if reused && !again && (stale || errors.Is(out.Err, ErrSession)) {
			l.disconnect()
			continue
		}
		if stale {
			l.disconnect()
			out.Err = closedBeforeMail(out.Upstream)
			return out
		}

		if out.Err == nil {
			l.p.markHealthy(l.h)
		}
		l.p.count(out)

		return out
	}
}

// connect makes sure that there is a connection, and reports whether it was used
// before. l.mu must be held.
func (l *Login) connect(ctx context.Context) (reused bool, err error) {
	if l.c != nil && (l.c.broken || l.c.messages >= l.p.cfg.MaxMessages) {
		l.disconnect()
	}
	if l.c != nil {
		return true, nil
	}

	answer, err := l.open(ctx)
	if err != nil {
		return false, err
	}
	if answer.Code != 235 {
		return false, unexpected("AUTH", answer)
	}

	return false, nil
}

// Close closes the connection. Later transactions fail.
func (l *Login) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.closed = true
	l.disconnect()
}
