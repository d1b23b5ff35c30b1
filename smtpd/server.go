// Package smtpd implements the submission and report servers on top of go-smtp.
// NewSubmission returns a server that accepts mail from authenticated clients
// and hands it to the relay; NewReports returns one that accepts bounces and
// complaints on port 25. They share one implementation and differ in policy.
//
// Limits that the library does not have are enforced below it: package wire is
// the connection of a client, and listeners count connections and handshakes
// per source. Package auth authenticates.
//
// A Server is safe for concurrent use; a session belongs to its connection.
package smtpd

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"postern/smtpd/wire"
)

// Server accepts mail from SMTP clients by one policy.
type Server struct {
	cfg     Config
	policy  policy
	traits  traits
	phases  phases
	smtp    *smtp.Server
	rare    *rareLog // for messages that clients could repeat at will
	slots   *handshakeSlots
	metrics metrics

	open     atomic.Int64 // connections
	mu       sync.Mutex
	conns    map[*wire.Conn]struct{}
	sessions map[*session]struct{}
	sources  map[netip.Addr]int   // connections
	held     map[netip.Addr]int64 // bytes of the budget
	draining bool
}

func newServer(c Config, p policy, t traits) *Server {
	c = c.withDefaults()
	s := &Server{
		cfg:    c,
		policy: p,
		traits: t,
		phases: phases{
			greeting: greetingTime,
			envelope: envelopeTime,
			message:  wire.MessageTimeout{Base: c.Timeouts.Message, MinRate: t.minRate},
		},
		rare:     newRareLog(c.Log, time.Now),
		slots:    newHandshakeSlots(max(minHandshakes, c.Limits.MaxConnectionsPerSource/4)),
		metrics:  newMetrics(),
		conns:    map[*wire.Conn]struct{}{},
		sessions: map[*session]struct{}{},
		sources:  map[netip.Addr]int{},
		held:     map[netip.Addr]int64{},
	}
	s.registerMetrics(c.Metrics)
	s.smtp = s.newLibraryServer()

	return s
}

// Serve accepts connections on l until ctx ends, then drains: idle sessions
// get 421, those in a transaction may finish within Timeouts.Grace. Clients may
// begin TLS with STARTTLS. The error is that of l, where it failed.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return s.serve(ctx, l, plainFirst) }

// ServeTLS is Serve for connections that begin with TLS (port 465, RFC 8314
// section 3.3).
func (s *Server) ServeTLS(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, tlsFirst)
}

func (s *Server) serve(ctx context.Context, l net.Listener, first protocol) error {
	l = newSteadyListener(l, s.acceptFailed)
	l = &countingListener{Listener: l, srv: s, first: first}
	if len(s.cfg.ProxyFrom) > 0 {
		l = newProxied(l, s.cfg.ProxyFrom, s.cfg.Log)
	}

	served := make(chan error, 1)
	go func() { served <- s.smtp.Serve(&listener{Listener: l, srv: s, first: first}) }()

	select {
	case err := <-served:
		s.drain()
		return err
	case <-ctx.Done():
	}

	l.Close() // go-smtp may not know it yet, and then Shutdown would not close it
	s.drain()
	<-served

	return nil
}
