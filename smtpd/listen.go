package smtpd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"postern/smtpd/wire"
)

// Pauses between attempts to accept a connection while that fails.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

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
