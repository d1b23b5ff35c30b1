// Package smtpd implements the submission and report servers on top of go-smtp:
// the one takes mail from authenticated clients and hands it to the relay, the
// other takes mail for bounce and feedback domains. It is one implementation
// with two policies. Where the library's limits do not reach (the time of a
// phase, plain text after STARTTLS, chunks, connections and memory per source,
// guesses), a listener and a connection of our own are under it.
//
// A Server is safe for concurrent use; each session belongs to its connection.
package smtpd

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"postern/relay"
	"postern/relay/reply"
	"postern/smtpd/wire"
)

// Submitter takes a message; *relay.Relay is one.
type Submitter interface {
	Submit(context.Context, *relay.Submission) reply.Reply
	// Reject tells of a message that the listener refuses; the reply is err's.
	Reject(context.Context, *relay.Submission, error) reply.Reply
}

const (
	// maxCommands is how many commands a client that is not authenticated may
	// give for each message, beside its recipients.
	maxCommands = 200
	// reportRecipients is how many recipients a report may have: as many as
	// every server has to take (RFC 5321 section 4.5.3.1.8).
	reportRecipients = 100
)

// Default times. A message of port 25 gets messageTime, however large.
const (
	greetingTime = 2 * time.Minute
	envelopeTime = 10 * time.Minute
	messageTime  = 10 * time.Minute
	minRate      = 16 << 10
)

// Server listens for submissions, or for reports.
type Server struct {
	c     Config
	smtp  *smtp.Server
	cost  int64    // of a byte of a message
	share int64    // of the budget, for one source; 0: no bound
	rare  *rareLog // what may be said too often
	slots *handshakeSlots

	open     atomic.Int64 // connections
	mu       sync.Mutex
	conns    map[*wire.Conn]struct{}
	sessions map[*session]struct{}
	sources  map[netip.Addr]int
	held     map[netip.Addr]int64 // of the budget
	draining bool

	connections *prometheus.CounterVec
	messages    *prometheus.CounterVec
	logins      *prometheus.CounterVec
}

// New returns a server.
func New(c Config) *Server {
	c.setDefaults()
	s := &Server{
		c:        c,
		cost:     submissionCost,
		rare:     newRareLog(c.Log, time.Now),
		slots:    newHandshakeSlots(max(minHandshakes, c.MaxConnectionsPerSource/4)),
		conns:    map[*wire.Conn]struct{}{},
		sessions: map[*session]struct{}{},
		sources:  map[netip.Addr]int{},
		held:     map[netip.Addr]int64{},
	}
	if c.Reports != nil {
		s.cost = reportCost
		s.share = c.Budget.limit / sourceShare
	}
	s.newMetrics()
	s.smtp = s.newLibraryServer()

	return s
}

// Serve accepts connections on l until ctx ends, then drains: idle sessions
// get 421, those in a transaction may finish within Grace. Clients may begin
// TLS with STARTTLS.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return s.serve(ctx, l, false) }

// ServeTLS is Serve for connections that begin with TLS (port 465, RFC 8314
// section 3.3).
func (s *Server) ServeTLS(ctx context.Context, l net.Listener) error { return s.serve(ctx, l, true) }

func (s *Server) serve(ctx context.Context, l net.Listener, implicit bool) error {
	l = newSteadyListener(l, s.acceptFailed)
	l = &countingListener{Listener: l, s: s, implicit: implicit}
	if len(s.c.ProxyFrom) > 0 {
		l = newProxied(l, s.c.ProxyFrom, s.c.Log)
	}

	served := make(chan error, 1)
	go func() { served <- s.smtp.Serve(&listener{Listener: l, s: s, implicit: implicit}) }()

	select {
	case err := <-served:
		s.drain()
		return err
	case <-ctx.Done():
	}

	l.Close() // drain does not know one that go-smtp has not begun to serve yet
	s.drain()
	<-served

	return nil
}
