// Package upstream is the SMTP client towards PowerMTA: connections that are
// kept and reused, MAIL, RCPT and DATA in one flight where the upstream offers
// PIPELINING, and an outcome that says how sure the upstream's answer is.
//
// A Pool is safe for concurrent use.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/relay/reply"
)

// Pool keeps connections to the upstreams.
type Pool struct {
	c        Config
	sessions tls.ClientSessionCache
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)

	mu      sync.Mutex
	hosts   []*host
	wake    chan struct{} // closed and replaced when a connection or a slot comes free
	closed  bool
	retired bool // keeps no connection

	mechanisms string // of AUTH, as offered last
	spoken     bool   // an upstream has been

	dials, replies *prometheus.CounterVec
	durations      *prometheus.HistogramVec
}

// host is one upstream. Its fields belong to Pool.mu.
type host struct {
	addr      string
	idle      []*conn
	open      int  // connections, idle ones too
	busy      int  // transactions under way
	failures  int  // dials in a row that failed
	spoken    bool // it has been reached, and sevenBit is what it said last
	sevenBit  bool // it does not offer 8BITMIME
	notBefore time.Time
	heard     time.Time // when it last answered as it should
}

// New returns a pool. It opens nothing yet.
func New(c Config) *Pool {
	c.setDefaults()
	p := &Pool{
		c:        c,
		sessions: tls.NewLRUClientSessionCache(64),
		dial:     (&net.Dialer{Timeout: c.Timeouts.Connect}).DialContext,
		wake:     make(chan struct{}),
	}
	for _, a := range c.Addrs {
		p.hosts = append(p.hosts, &host{addr: a})
	}
	p.register()

	return p
}

// register makes the metrics, and shows them where the configuration says so.
func (p *Pool) register() {
	p.dials = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_upstream_connections_total",
		Help: "Connections opened to an upstream, by result.",
	}, []string{"upstream", "result"})
	p.replies = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_upstream_replies_total",
		Help: "Outcomes of transactions, by class of the final reply, " +
			"\"session\" where it refused us and not the message, " +
			"\"lost\" where none came, or \"doubtful\" where none came after the whole message.",
	}, []string{"upstream", "class"})
	p.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "postern_upstream_duration_seconds",
		Help:    "From MAIL to the upstream's reply to the final dot.",
		Buckets: p.c.DurationBuckets,
	}, []string{"upstream"})
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postern_upstream_open_connections",
		Help: "Connections to upstreams now open.",
	}, p.openConnections)

	if p.c.Metrics != nil {
		p.c.Metrics.MustRegister(p.dials, p.replies, p.durations, open)
	}
}

func (p *Pool) openConnections() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, h := range p.hosts {
		n += h.open
	}

	return float64(n)
}

// Retire ends the idle connections; those in use end when they are given back.
// Transactions that still come in are served, on connections of their own.
func (p *Pool) Retire() {
	p.mu.Lock()
	p.retired = true
	p.endIdle()
}

// Close is Retire, and refuses further transactions.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed, p.retired = true, true
	p.endIdle()
}

// endIdle is called under mu, which it gives back.
func (p *Pool) endIdle() {
	var idle []*conn
	for _, h := range p.hosts {
		idle = append(idle, h.idle...)
		h.open -= len(h.idle)
		h.idle = nil
	}
	p.mu.Unlock()

	for _, c := range idle {
		c.quit()
	}
}

// lease is a connection, or leave to open one, on a host.
type lease struct {
	h *host
	c *conn // nil: dial
}

// acquire takes a connection of the healthy upstream with the fewest
// transactions, or leave to open one there. It waits up to Wait for either.
// fresh asks for leave to dial whatever idles; skip are hosts not to try.
func (p *Pool) acquire(ctx context.Context, fresh bool, skip map[*host]bool) (lease, error) {
	over := time.After(p.c.Wait)
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return lease{}, reply.Defer(451, reply.EnhancedCode{4, 3, 2}, "Shutting down, try again later",
				errors.New("upstream: pool closed"))
		}
		l, left := p.pick(fresh, skip, time.Now())
		wake := p.wake
		p.mu.Unlock()

		if l.h != nil {
			return l, nil
		}
		if !left {
			return lease{}, nil
		}

		select {
		case <-wake:
		case <-over:
			return lease{}, reply.Defer(451, reply.EnhancedCode{4, 3, 2},
				"All connections to the upstream are busy, try again later", errors.New("upstream: no free connection"))
		case <-ctx.Done():
			return lease{}, unreachable(ctx.Err())
		}
	}
}

// pick chooses a host under p.mu. left is false where no host is left to try.
func (p *Pool) pick(fresh bool, skip map[*host]bool, now time.Time) (l lease, left bool) {
	healthier := func(a, b *host) bool {
		if ah, bh := !now.Before(a.notBefore), !now.Before(b.notBefore); ah != bh {
			return ah
		}
		return a.busy < b.busy
	}

	var best *host
	for _, h := range p.hosts {
		if skip[h] {
			continue
		}
		left = true
		if len(h.idle) == 0 && h.open >= p.c.MaxConnections {
			continue
		}
		if best == nil || healthier(h, best) {
			best = h
		}
	}
	if best == nil {
		return lease{}, left
	}

	best.busy++
	for len(best.idle) > 0 {
		c := best.idle[len(best.idle)-1]
		best.idle = best.idle[:len(best.idle)-1]
		if !fresh && now.Sub(c.idle) < p.c.MaxIdle && now.Sub(c.born) < p.c.MaxAge {
			return lease{best, c}, true
		}
		best.open--
		go c.quit()
	}
	best.open++

	return lease{h: best}, true
}

// release gives a connection back, or its slot where c is nil or used up.
func (p *Pool) release(h *host, c *conn) {
	keep := c != nil && !c.broken && c.messages < p.c.MaxMessages && time.Since(c.born) < p.c.MaxAge

	p.mu.Lock()
	h.busy--
	if c != nil && !c.broken {
		h.heard = time.Now()
	}
	keep = keep && !p.retired
	if keep {
		c.idle = time.Now()
		h.idle = append(h.idle, c)
	} else {
		h.open--
	}
	close(p.wake)
	p.wake = make(chan struct{})
	p.mu.Unlock()

	if c != nil && !keep {
		c.quit()
	}
}

// TakesEightBit reports whether a message with 8-bit content may wait as it is:
// an upstream has been spoken to, and none that has been lacks 8BITMIME.
func (p *Pool) TakesEightBit() bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	spoken := false
	for _, h := range p.hosts {
		if h.sevenBit {
			return false
		}
		spoken = spoken || h.spoken
	}

	return spoken
}
