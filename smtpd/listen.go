package smtpd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"postern/smtpd/wire"
)

// Pauses between attempts to accept a connection while that fails.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// steadyListener goes on after errors of Accept that pass: too many open files,
// a connection that was gone before it was accepted, no memory.
type steadyListener struct {
	net.Listener
	failed   func(error) // told of each
	stop     chan struct{}
	once     sync.Once
	closeErr error
}

func newSteadyListener(l net.Listener, failed func(error)) *steadyListener {
	return &steadyListener{Listener: l, failed: failed, stop: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *steadyListener) Accept() (net.Conn, error) {
	for pause := minAcceptPause; ; pause = min(2*pause, maxAcceptPause) {
		c, err := l.Listener.Accept()
		if err == nil || !passes(err) {
			return c, err
		}
		l.failed(err)

		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-l.stop:
			t.Stop()
			return nil, net.ErrClosed
		}
	}
}

// Close implements net.Listener. It may be called again.
func (l *steadyListener) Close() error {
	l.once.Do(func() {
		close(l.stop)
		l.closeErr = l.Listener.Close()
	})

	return l.closeErr
}

// passingErrors are those of accept(2) that say nothing of the listener.
var passingErrors = []error{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR, syscall.EAGAIN,
	syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPERM, syscall.EPROTO, syscall.ENOPROTOOPT, syscall.EOPNOTSUPP,
	syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ETIMEDOUT,
}

func passes(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	var t interface{ Temporary() bool }
	if errors.As(err, &t) && t.Temporary() {
		return true
	}
	for _, e := range passingErrors {
		if errors.Is(err, e) {
			return true
		}
	}

	return false
}

func (s *Server) acceptFailed(err error) {
	s.connections.WithLabelValues("accept_failed").Inc()
	s.rare.log(slog.LevelError, "cannot accept connections", "err", err)
}

// countingListener refuses connections above the limit of the process, before
// anything is kept of them.
type countingListener struct {
	net.Listener
	s        *Server
	implicit bool
}

// Accept implements net.Listener.
func (l *countingListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.s.open.Add(1) <= int64(l.s.c.MaxConnections) {
			return &countedConn{Conn: c, release: func() { l.s.open.Add(-1) }}, nil
		}

		l.s.open.Add(-1)
		l.s.turnAway(c, "421 4.3.2 Too many connections, try again later", l.implicit)
	}
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	release func()
	once    sync.Once
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)

	return err
}

// mostPerSource is how many connections one source may have of all: a few are
// left for others.
func mostPerSource(all int) int { return max(1, all-max(1, all/8)) }

// listener counts connections per source and refuses those above its limit.
type listener struct {
	net.Listener
	s        *Server
	implicit bool
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}

		c := l.s.newConn(raw, sourceOf(raw.RemoteAddr()), l.implicit)
		if refusal := l.s.admit(c); refusal != "" {
			l.s.turnAway(raw, refusal, l.implicit)
			continue
		}
		l.s.connections.WithLabelValues("accepted").Inc()

		return c, nil
	}
}

func (s *Server) newConn(raw net.Conn, source netip.Addr, implicit bool) *wire.Conn {
	remote := raw.RemoteAddr().String()
	var c *wire.Conn
	c = wire.NewConn(raw, wire.Config{
		Source:      source,
		TLS:         s.c.TLS,
		Implicit:    implicit,
		Idle:        s.c.IdleTimeout,
		MaxMessage:  s.c.MaxMessageSize,
		MaxCommands: maxCommands + s.c.MaxRecipients,
		BeforeTLS:   func(ctx context.Context) (func(), error) { return s.slots.acquire(ctx, source) },
		Log:         s.c.Log,
		Release:     func() { s.leave(c) },
		OnFail: func(err error) {
			s.connections.WithLabelValues("tls_failed").Inc()
			s.c.Log.Info("TLS handshake failed", "remote", remote, "err", err)
		},
	})
	c.BeginPhase(s.c.phases.greeting)

	return c
}

// refusalTimeout is for one line to a client that has read nothing yet: it
// never waits.
const refusalTimeout = time.Second

func (s *Server) turnAway(c net.Conn, reply string, implicit bool) {
	s.connections.WithLabelValues("refused").Inc()
	s.rare.log(slog.LevelWarn, "connection refused", "remote", c.RemoteAddr().String(), "reply", reply)

	if !implicit {
		c.SetDeadline(time.Now().Add(refusalTimeout))
		c.Write([]byte(reply + "\r\n"))
	}
	c.Close()
}

// sourceOf is what limits count by: an IPv4 address, or an IPv6 /64.
func sourceOf(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}

	return sourceAddr(t.AddrPort().Addr())
}

func sourceAddr(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		p, _ := ip.Prefix(64)
		return p.Addr()
	}

	return ip
}

// admit counts a connection, or returns what it is refused with.
func (s *Server) admit(c *wire.Conn) (refusal string) {
	s.mu.Lock()
	defer s.mu.Unlock()

	switch {
	case s.draining:
		return shuttingDown.String()
	case s.sources[c.Source()] >= s.c.MaxConnectionsPerSource:
		return "421 4.7.0 Too many connections from your address, try again later"
	}

	s.sources[c.Source()]++
	s.conns[c] = struct{}{}

	return ""
}

func (s *Server) leave(c *wire.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)

	s.sources[c.Source()]--
	if s.sources[c.Source()] <= 0 {
		delete(s.sources, c.Source())
	}
}

// minHandshakes is how many TLS handshakes of one source may be under way, at
// the least.
const minHandshakes = 16

// handshakeSlots bounds the TLS handshakes of each source that are under way at
// once: others need not wait until all that one source begins are done.
type handshakeSlots struct {
	most int

	mu     sync.Mutex
	queues map[netip.Addr]*handshakeQueue
}

type handshakeQueue struct {
	places chan struct{}
	users  int // under way and waiting
}

func newHandshakeSlots(most int) *handshakeSlots {
	return &handshakeSlots{most: most, queues: map[netip.Addr]*handshakeQueue{}}
}

// acquire waits for a place, which the function that it returns gives back.
func (h *handshakeSlots) acquire(ctx context.Context, source netip.Addr) (func(), error) {
	h.mu.Lock()
	q := h.queues[source]
	if q == nil {
		q = &handshakeQueue{places: make(chan struct{}, h.most)}
		h.queues[source] = q
	}
	q.users++
	h.mu.Unlock()

	select {
	case q.places <- struct{}{}:
		return func() { <-q.places; h.leave(source, q) }, nil
	case <-ctx.Done():
		h.leave(source, q)
		return nil, ctx.Err()
	}
}

func (h *handshakeSlots) leave(source netip.Addr, q *handshakeQueue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q.users--
	if q.users == 0 {
		delete(h.queues, source)
	}
}

// rareEvery is how often a rareLog says the same.
const rareEvery = time.Minute

// rareLog writes each message once a minute, with how many it kept back.
type rareLog struct {
	out *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	said map[string]*saying
}

type saying struct {
	last time.Time
	kept int
}

func newRareLog(out *slog.Logger, now func() time.Time) *rareLog {
	return &rareLog{out: out, now: now, said: map[string]*saying{}}
}

// log writes a message, which is one of a few: it is remembered.
func (r *rareLog) log(level slog.Level, msg string, args ...any) {
	r.mu.Lock()
	s := r.said[msg]
	now := r.now()
	if s != nil && now.Sub(s.last) < rareEvery {
		s.kept++
		r.mu.Unlock()
		return
	}
	if s == nil {
		s = &saying{}
		r.said[msg] = s
	}
	kept := s.kept
	*s = saying{last: now}
	r.mu.Unlock()

	if kept > 0 {
		args = append(args, "more_since_last_line", kept)
	}
	r.out.Log(context.Background(), level, msg, args...)
}
