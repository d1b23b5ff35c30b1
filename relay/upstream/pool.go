// Package upstream is the SMTP client towards PowerMTA: connections that are
// kept and reused, MAIL, RCPT and DATA in one flight where the upstream offers
// PIPELINING, and an outcome that says how sure the upstream's answer is.
//
// A Pool is safe for concurrent use.
package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/relay/reply"
)

// TLSMode says when STARTTLS is used.
type TLSMode string

// The modes of relay.tls.
const (
	TLSOff           TLSMode = "off"
	TLSOpportunistic TLSMode = "opportunistic"
	TLSRequired      TLSMode = "required"
)

// Config describes the upstreams. Zero values get the defaults named.
type Config struct {
	Hostname       string // for EHLO
	Addrs          []string
	TLS            TLSMode
	RootCAs        *x509.CertPool // nil: the system's
	Username       string
	Password       string
	MaxConnections int           // for each upstream: 64
	MaxMessages    int           // on one connection: 1000
	MaxIdle        time.Duration // how long an unused connection is kept: 30 s
	MaxAge         time.Duration // of a connection: 10 min
	Wait           time.Duration // for a free connection: 30 s
	Timeouts       Timeouts
	Log            *slog.Logger
	Metrics        prometheus.Registerer

	DurationBuckets []float64 // of the histogram, in seconds; nil: prometheus.DefBuckets
}

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

func (c *Config) setDefaults() {
	if c.MaxConnections == 0 {
		c.MaxConnections = 64
	}
	if c.MaxMessages == 0 {
		c.MaxMessages = 1000
	}
	if c.MaxIdle == 0 {
		c.MaxIdle = 30 * time.Second
	}
	if c.MaxAge == 0 {
		c.MaxAge = 10 * time.Minute
	}
	if c.Wait == 0 {
		c.Wait = 30 * time.Second
	}
	c.Timeouts = c.Timeouts.withDefaults()
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

// quit is polite and does not wait.
func (c *conn) quit() {
	if !c.broken {
		c.raw.SetDeadline(time.Now().Add(time.Second))
		c.said.command("QUIT")
		c.w.WriteString("QUIT\r\n")
		c.w.Flush()
	}
	c.raw.Close()
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

// dialFor opens a connection on a host and notes how that went.
func (p *Pool) dialFor(ctx context.Context, h *host, login func(*conn) error) (*conn, error) {
	start := time.Now()
	c, err := p.dialAs(ctx, h.addr, login)

	result := dialOK
	switch {
	case err == nil:
	case ctx.Err() != nil && time.Since(start) < p.c.Timeouts.Connect:
		result = dialGivenUp // by the caller, before the host had its time
	default:
		result = dialFailed
	}
	p.dialled(h, c, result)

	return c, err
}

// dialResult is how a dial went, as the metric counts it.
type dialResult string

const (
	dialOK      dialResult = "ok"
	dialFailed  dialResult = "failed"
	dialGivenUp dialResult = "given_up"
)

// dialled notes how a dial went: a host that failed is tried after the others
// until its pause is over.
func (p *Pool) dialled(h *host, c *conn, result dialResult) {
	p.mu.Lock()
	switch result {
	case dialOK:
		h.failures, h.notBefore = 0, time.Time{}
		h.heard = time.Now()
		h.spoken, h.sevenBit = true, !c.ext.Has("8BITMIME")
	case dialFailed:
		h.failures++
		h.notBefore = time.Now().Add(min(time.Second<<min(h.failures-1, 5), 30*time.Second))
	}
	p.mu.Unlock()

	p.dials.WithLabelValues(h.addr, string(result)).Inc()
}

// Check dials upstreams that failed last and whose pause is over, so that no
// mail has to find out whether they are back.
func (p *Pool) Check(ctx context.Context) {
	p.mu.Lock()
	var ill []*host
	for _, h := range p.hosts {
		if h.failures > 0 && !time.Now().Before(h.notBefore) && h.open < p.c.MaxConnections && !p.retired {
			h.open++
			h.busy++
			ill = append(ill, h)
		}
	}
	p.mu.Unlock()

	for _, h := range ill {
		c, _ := p.dialFor(ctx, h, p.login)
		p.release(h, c)
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

// Ping asks any upstream whether it takes mail: over a kept connection that
// still answers, else over a new one, which is then kept. Where all connections
// are busy, an upstream that answered lately is well, and one that did not is
// asked over a connection beyond the limit: a probe must not wait behind mail.
func (p *Pool) Ping(ctx context.Context) error {
	if h := p.saturated(); h != nil {
		return p.pingBusy(ctx, h)
	}

	for fresh := false; ; fresh = true {
		l, err := p.acquire(ctx, fresh, nil)
		if err != nil {
			return err
		}

		c := l.c
		if c == nil {
			c, err = p.dialFor(ctx, l.h, p.login)
			p.release(l.h, c)
			return err
		}

		r, err := c.command("NOOP")
		if err == nil && r.Code == 421 {
			c.broken, err = true, errStale
		}
		p.release(l.h, c)
		if err == nil || fresh {
			return err
		}
	}
}

// hear notes that a host answered as it should.
func (p *Pool) hear(h *host) {
	p.mu.Lock()
	h.heard = time.Now()
	p.mu.Unlock()
}

// saturated returns the host that was heard last where each connection of all
// hosts is in use; nil where one is free.
func (p *Pool) saturated() *host {
	p.mu.Lock()
	defer p.mu.Unlock()

	var last *host
	for _, h := range p.hosts {
		if len(h.idle) > 0 || h.open < p.c.MaxConnections || p.closed {
			return nil
		}
		if last == nil || h.heard.After(last.heard) {
			last = h
		}
	}

	return last
}

// pingBusy asks a host of which all connections are in use.
func (p *Pool) pingBusy(ctx context.Context, h *host) error {
	p.mu.Lock()
	heard := h.heard
	p.mu.Unlock()
	if time.Since(heard) < p.c.Wait {
		return nil
	}

	c, err := p.dialFor(ctx, h, p.login)
	if err == nil {
		c.quit()
	}

	return err
}
