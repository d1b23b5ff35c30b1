package smtpd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"postern/relay/reply"
	"postern/smtpd/wire"
)

// protocol is what a connection begins with.
type protocol int

const (
	plainFirst protocol = iota // plain SMTP, and perhaps STARTTLS
	tlsFirst                   // a TLS handshake
)

// countingListener refuses connections above the server's limit, before anything
// is stored for them.
type countingListener struct {
	net.Listener
	srv   *Server
	first protocol
}

// Accept implements net.Listener.
func (l *countingListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.srv.open.Add(1) <= int64(l.srv.cfg.Limits.MaxConnections) {
			return &countedConn{Conn: c, release: func() { l.srv.open.Add(-1) }}, nil
		}

		l.srv.open.Add(-1)
		l.srv.turnAway(c, tooManyConnections, l.first)
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

// mostPerSource returns how many of all connections one source may have: an eighth
// is left for others.
func mostPerSource(all int) int { return max(1, all-max(1, all/8)) }

// listener wraps connections for go-smtp, and refuses those above the limit of
// their source.
type listener struct {
	net.Listener
	srv   *Server
	first protocol
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}

		c := l.srv.newConn(raw, sourceOf(raw.RemoteAddr()), l.first)
		if refusal, ok := l.srv.admit(c); !ok {
			l.srv.turnAway(raw, refusal, l.first)
			continue
		}
		l.srv.metrics.connection("accepted")

		return c, nil
	}
}

// newConn wraps a connection and begins its first phase.
func (s *Server) newConn(raw net.Conn, source netip.Addr, first protocol) *wire.Conn {
	remote := raw.RemoteAddr().String()

	var c *wire.Conn
	c = wire.NewConn(raw, wire.Config{
		Source:      source,
		TLS:         s.cfg.TLS,
		Implicit:    first == tlsFirst,
		Idle:        s.cfg.Timeouts.Idle,
		MaxMessage:  s.cfg.Limits.MaxMessageSize,
		MaxCommands: maxCommands + s.cfg.Limits.MaxRecipients,
		BeforeTLS:   func(ctx context.Context) (func(), error) { return s.slots.acquire(ctx, source) },
		Log:         s.cfg.Log,
		Release:     func() { s.leave(c) },
		OnFail: func(err error) {
			s.metrics.connection("tls_failed")
			s.cfg.Log.Info("TLS handshake failed", "remote", remote, "err", err)
		},
	})
	c.BeginPhase(s.phases.greeting)

	return c
}

// refusalTimeout is for one line to a client that has read nothing yet, whose
// socket has room for it.
const refusalTimeout = time.Second

// turnAway refuses a connection. One that begins with TLS is closed without a
// word: a handshake would cost more than the client is worth.
func (s *Server) turnAway(c net.Conn, refusal reply.Reply, first protocol) {
	s.metrics.connection("refused")
	s.rare.log(slog.LevelWarn, "connection refused", "remote", c.RemoteAddr().String(), "reply", refusal.String())

	if first == plainFirst {
		c.SetDeadline(time.Now().Add(refusalTimeout))
		c.Write([]byte(refusal.String() + "\r\n"))
	}
	c.Close()
}

// sourceOf returns what limits count a client by, or the zero address for a
// network other than TCP.
func sourceOf(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}

	return sourceAddr(t.AddrPort().Addr())
}

// sourceAddr returns an IPv4 address, or the /64 of an IPv6 address.
func sourceAddr(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		p, _ := ip.Prefix(64)
		return p.Addr()
	}

	return ip
}

// admit counts a connection, or returns what it is refused with.
func (s *Server) admit(c *wire.Conn) (refusal reply.Reply, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return shuttingDown, false
	}
	if s.sources[c.Source()] >= s.cfg.Limits.MaxConnectionsPerSource {
		return tooManyOfSource, false
	}

	s.sources[c.Source()]++
	s.conns[c] = struct{}{}

	return reply.Reply{}, true
}

// leave forgets a connection that has ended.
func (s *Server) leave(c *wire.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)

	s.sources[c.Source()]--
	if s.sources[c.Source()] <= 0 {
		delete(s.sources, c.Source())
	}
}
