// Package upstream is the SMTP client that hands mail to PowerMTA. Connections
// are kept and reused, and MAIL, RCPT and DATA are pipelined (RFC 2920) where
// the upstream offers it. The Outcome of a transaction says how certain it is
// that the upstream has, or has not, accepted the message.
//
// A Pool serves all mail with one login. A Login carries the transactions of one
// client, whose credentials the upstream has verified. Both are safe for
// concurrent use.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/relay/reply"
)

// Pool keeps connections to the upstreams.
type Pool struct {
	cfg      Config
	sessions tls.ClientSessionCache
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)

	mu      sync.Mutex
	hosts   []*host
	wake    chan struct{} // closed and replaced when a connection or a slot is free
	closed  bool
	retired bool // keeps no idle connections

	mechanisms      string // of AUTH, as an upstream offered them last
	mechanismsKnown bool   // an upstream has been reached

	dials     *prometheus.CounterVec
	replies   *prometheus.CounterVec
	durations *prometheus.HistogramVec
}

// host is one upstream. Its fields are guarded by Pool.mu.
type host struct {
	addr        string
	idle        []*conn
	open        int       // connections, including idle ones and those being dialled
	busy        int       // transactions in progress
	failures    int       // consecutive dials that failed
	notBefore   time.Time // until then the host is tried after the others
	lastHealthy time.Time // when a session or transaction succeeded last
	reached     bool      // the host has been reached, and sevenBit is known
	sevenBit    bool      // it did not offer 8BITMIME when it was reached last
}

// New returns a pool. No connection is opened before the first transaction.
func New(c Config) *Pool {
	c.setDefaults()
	p := &Pool{
		cfg:      c,
		sessions: tls.NewLRUClientSessionCache(64),
		dial:     (&net.Dialer{Timeout: c.Timeouts.Connect}).DialContext,
		wake:     make(chan struct{}),
	}

	for _, a := range c.Addrs {
		p.hosts = append(p.hosts, &host{addr: a})
	}
	p.makeMetrics()

	return p
}

// makeMetrics creates the metrics and registers them if the configuration has a
// registry.
func (p *Pool) makeMetrics() {
	p.dials = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_upstream_connections_total",
		Help: "Connections opened to an upstream, by result.",
	}, []string{"upstream", "result"})

	p.replies = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_upstream_replies_total",
		Help: "Transactions by class of the final reply: \"session\" if the upstream refused the session " +
			"and not the message, \"lost\" if there was no reply, " +
			"\"doubtful\" if there was none after the whole message.",
	}, []string{"upstream", "class"})

	p.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "postern_upstream_duration_seconds",
		Help:    "Time from MAIL to the upstream's reply to the final dot.",
		Buckets: p.cfg.DurationBuckets,
	}, []string{"upstream"})

	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postern_upstream_open_connections",
		Help: "Connections to upstreams that are open.",
	}, p.openConnections)

	if p.cfg.Metrics != nil {
		p.cfg.Metrics.MustRegister(p.dials, p.replies, p.durations, open)
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

// Retire closes the idle connections; those in use are closed when they are
// released. Later transactions are served, each over a new connection.
func (p *Pool) Retire() {
	p.mu.Lock()
	p.retired = true
	idle := p.takeIdle()
	p.mu.Unlock()

	quitAll(idle)
}

// Close retires the pool and refuses further transactions.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	p.retired = true
	idle := p.takeIdle()
	p.mu.Unlock()

	quitAll(idle)
}

// takeIdle removes all idle connections from the pool. p.mu must be held.
func (p *Pool) takeIdle() []*conn {
	var idle []*conn
	for _, h := range p.hosts {
		idle = append(idle, h.idle...)
		h.open -= len(h.idle)
		h.idle = nil
	}

	return idle
}

func quitAll(conns []*conn) {
	for _, c := range conns {
		c.quit()
	}
}

// lease is the right to use one connection to a host.
type lease struct {
	h *host // nil: there was no host left to try
	c *conn // nil: a connection is to be opened
}

// reuse says whether a lease may be for a connection that was used before.
type reuse int

const (
	reuseIdle reuse = iota
	dialNew
)

// acquire leases a connection to the healthy upstream with the fewest
// transactions, and waits for one up to Config.Wait. Hosts in skip are not used;
// if no host is left, the lease has none.
func (p *Pool) acquire(ctx context.Context, from reuse, skip map[*host]bool) (lease, error) {
	timeout := time.After(p.cfg.Wait)
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return lease{}, reply.Defer(451, reply.EnhancedCode{4, 3, 2}, "Shutting down, try again later",
				errors.New("upstream: pool is closed"))
		}
		l, left := p.pick(from, skip, time.Now())
		wake := p.wake
		p.mu.Unlock()

		if l.h != nil || !left {
			return l, nil
		}

		select {
		case <-wake:
		case <-timeout:
			return lease{}, reply.Defer(451, reply.EnhancedCode{4, 3, 2},
				"All connections to the upstream are busy, try again later",
				errors.New("upstream: no free connection"))
		case <-ctx.Done():
			return lease{}, unreachable(ctx.Err())
		}
	}
}

// pick leases a connection, if one is free. left reports whether there is a host
// that skip does not have. p.mu must be held.
func (p *Pool) pick(from reuse, skip map[*host]bool, now time.Time) (l lease, left bool) {
	best, left := p.bestHost(skip, now)
	if best == nil {
		return lease{}, left
	}

	best.busy++
	for len(best.idle) > 0 {
		last := len(best.idle) - 1
		c := best.idle[last]
		best.idle = best.idle[:last]

		usable := now.Sub(c.idle) < p.cfg.MaxIdle && now.Sub(c.born) < p.cfg.MaxAge
		if from == reuseIdle && usable {
			return lease{h: best, c: c}, true
		}

		best.open--
		go c.quit()
	}
	best.open++

	return lease{h: best}, true
}

// bestHost returns the host that the next transaction should use, or nil if all
// are busy: one that is not paused before one that is, then the one with fewer
// transactions. left is as for pick. p.mu must be held.
func (p *Pool) bestHost(skip map[*host]bool, now time.Time) (best *host, left bool) {
	better := func(a, b *host) bool {
		aPaused, bPaused := now.Before(a.notBefore), now.Before(b.notBefore)
		if aPaused != bPaused {
			return bPaused
		}
		return a.busy < b.busy
	}

	for _, h := range p.hosts {
		if skip[h] {
			continue
		}
		left = true

		full := len(h.idle) == 0 && h.open >= p.cfg.MaxConnections
		if !full && (best == nil || better(h, best)) {
			best = h
		}
	}

	return best, left
}

// release ends a lease. The connection is kept unless it is nil, broken, used up
// or too old.
func (p *Pool) release(h *host, c *conn) {
	keep := c != nil && !c.broken && c.messages < p.cfg.MaxMessages && time.Since(c.born) < p.cfg.MaxAge

	p.mu.Lock()
	h.busy--
	if c != nil && !c.broken {
		h.lastHealthy = time.Now()
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

// markHealthy records that a host did what was asked of it.
func (p *Pool) markHealthy(h *host) {
	p.mu.Lock()
	h.lastHealthy = time.Now()
	p.mu.Unlock()
}

// TakesEightBit reports whether a message with 8-bit content can be queued
// unchanged: at least one upstream has been reached, and all that have been
// reached offered 8BITMIME (RFC 6152).
func (p *Pool) TakesEightBit() bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	reached := false
	for _, h := range p.hosts {
		if h.sevenBit {
			return false
		}
		reached = reached || h.reached
	}

	return reached
}

// Mechanisms returns the mechanisms of AUTH that an upstream offered last, in
// upper case. known is false if no upstream has been reached yet.
func (p *Pool) Mechanisms() (mechanisms []string, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()

	return strings.Fields(strings.ToUpper(p.mechanisms)), p.mechanismsKnown
}
