package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"postern/relay/reply"
)

// Login is a connection on which the upstream took a client's own credentials.
// It carries that client's transactions, one after the other, and is opened
// again with the same credentials where it is lost. Safe for concurrent use.
type Login struct {
	p          *Pool
	user, pass string

	mu     sync.Mutex
	h      *host // whose slot is held; nil: none
	c      *conn
	closed bool
}

// Login asks an upstream, the next one where the first is not reachable, about
// a client's credentials. reply is its answer, 235 where it takes them; the
// error says that none could be asked.
func (p *Pool) Login(ctx context.Context, user, pass string) (l *Login, answer reply.Reply, err error) {
	l = &Login{p: p, user: user, pass: pass}
	answer, err = l.open(ctx)
	if err != nil || answer.Code != 235 {
		return nil, answer, err
	}

	return l, answer, nil
}

// open is called under mu, or before others know of l.
func (l *Login) open(ctx context.Context) (reply.Reply, error) {
	skip := map[*host]bool{}
	last := unreachable(errors.New("no upstream"))
	for {
		lease, err := l.p.acquire(ctx, true, skip)
		if err != nil {
			return reply.Reply{}, err
		}
		if lease.h == nil {
			return reply.Reply{}, last
		}

		var answer reply.Reply
		c, err := l.p.dialFor(ctx, lease.h, func(c *conn) (err error) {
			answer, err = l.p.auth(c, l.user, l.pass)
			if err == nil && refusesAnybody(answer) {
				err = setupError("AUTH", answer)
			}
			return err
		})

		switch {
		case err != nil:
			l.p.release(lease.h, nil)
			l.p.c.Log.Warn("upstream: not usable", "upstream", lease.h.addr, "err", err)
			skip[lease.h], last = true, fmt.Errorf("%s: %w", lease.h.addr, err)
			continue
		case answer.Code != 235:
			c.quit()
			l.p.release(lease.h, nil)
			return answer, nil
		}

		l.h, l.c = lease.h, c
		return answer, nil
	}
}

// refusesAnybody reports whether an answer to AUTH says nothing of the
// credentials: 421 is the end of our connection (RFC 5321 section 3.8).
func refusesAnybody(r reply.Reply) bool {
	return r.Code == 421 || r.Code != 535 && concernsSession(phaseMail, r)
}

// letGo ends the connection and gives its place back. Called under mu.
func (l *Login) letGo() {
	if l.h != nil {
		l.c.quit()
		l.p.release(l.h, nil)
		l.h, l.c = nil, nil
	}
}

// Send hands one transaction over.
func (l *Login) Send(ctx context.Context, t *Transaction) Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()

	for again := false; ; again = true {
		if err := ctx.Err(); err != nil {
			return Outcome{Err: unreachable(err)}
		}
		if l.closed {
			return Outcome{Err: unreachable(errors.New("session is over"))}
		}

		if l.c != nil && (l.c.broken || l.c.messages >= l.p.c.MaxMessages) {
			l.letGo()
		}
		fresh := l.c == nil
		if fresh {
			answer, err := l.open(ctx)
			if err == nil && answer.Code != 235 {
				err = setupError("AUTH", answer)
			}
			if err != nil {
				return Outcome{Err: err}
			}
		}

		out := l.p.transact(ctx, l.h, l.c, t)
		stale, session := errors.Is(out.Err, errStale), errors.Is(out.Err, ErrSession)
		if (stale || session) && !fresh && !again {
			l.letGo()
			continue
		}
		if stale {
			l.letGo()
			out.Err = unreachable(fmt.Errorf("%s: closed before it answered MAIL", out.Upstream))
			return out
		}

		if out.Err == nil {
			l.p.hear(l.h)
		}
		l.p.count(out)
		return out
	}
}

// Close ends the connection.
func (l *Login) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.letGo()
}

// Mechanisms are those of AUTH that an upstream offered last; known is false
// where none has been spoken to.
func (p *Pool) Mechanisms() (mechanisms []string, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Fields(strings.ToUpper(p.mechanisms)), p.spoken
}
