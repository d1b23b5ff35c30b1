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
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"postern/relay"

	"postern/relay/reply"
	"postern/smtpd/auth"
	"postern/smtpd/wire"
)

// Submitter takes a message; *relay.Relay is one.
type Submitter interface {
	Submit(context.Context, *relay.Submission) reply.Reply
	// Reject tells of a message that the listener refuses; the reply is err's.
	Reject(context.Context, *relay.Submission, error) reply.Reply
}

// Config is what a server needs: one for submissions, or, with Reports, one
// for bounces and complaints. Zero limits get the defaults that
// the configuration file documents.
type Config struct {
	Hostname                string
	TLS                     *tls.Config
	RequireTLS              bool
	Auth                    auth.Authenticator
	Submit                  Submitter
	Reports                 ReportTaker // instead of Auth, Submit and Sources
	Sources                 []SourceRule
	Directory               auth.Directory // for the users of source rules
	ProxyFrom               []netip.Prefix // whose PROXY header is believed, and wanted
	Budget                  *Budget        // of bytes in flight; one source of port 25 gets a quarter; nil: no limit
	MaxMessageSize          int64          // bytes
	MaxRecipients           int
	MaxConnections          int
	MaxConnectionsPerSource int
	IdleTimeout             time.Duration
	MessageTimeout          time.Duration // for a submission, beside its size at 16 KiB/s
	NormaliseLF             bool
	Grace                   time.Duration // for sessions in a transaction, at the end
	Log                     *slog.Logger
	Metrics                 prometheus.Registerer

	phases phases // zero: the default; tests have less time
}

const (
	// maxCommands is how many commands a client that is not authenticated may
	// give for each message, beside its recipients.
	maxCommands = 200
	// reportRecipients is how many recipients a report may have: as many as
	// every server has to take (RFC 5321 section 4.5.3.1.8).
	reportRecipients = 100
)

// phases are how long a client may take for what, all in all.
type phases struct {
	greeting time.Duration // from the connection to AUTH's success
	envelope time.Duration // from MAIL to DATA; on port 25 from one message to the next
	message  wire.MessageTimeout
}

// Default times. A message of port 25 gets messageTime, however large.
const (
	greetingTime = 2 * time.Minute
	envelopeTime = 10 * time.Minute
	messageTime  = 10 * time.Minute
	minRate      = 16 << 10
)

func (c *Config) defaultPhases() phases {
	p := phases{
		greeting: greetingTime,
		envelope: envelopeTime,
		message:  wire.MessageTimeout{Base: messageTime},
	}
	if c.Reports != nil {
		return p
	}

	p.message.MinRate = minRate
	if c.MessageTimeout > 0 {
		p.message.Base = c.MessageTimeout
	}

	return p
}

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

func (c *Config) setDefaults() {
	if c.Reports != nil {
		c.MaxRecipients = reportRecipients
	}

	if c.MaxConnections == 0 {
		c.MaxConnections = 10000
	}
	if c.MaxConnectionsPerSource == 0 {
		c.MaxConnectionsPerSource = 200
	}
	c.MaxConnectionsPerSource = min(c.MaxConnectionsPerSource, mostPerSource(c.MaxConnections))

	if c.IdleTimeout == 0 {
		c.IdleTimeout = 5 * time.Minute
	}
	if c.phases == (phases{}) {
		c.phases = c.defaultPhases()
	}
	if c.Budget == nil {
		c.Budget = NewBudget(0)
	}
}

// newMetrics makes the metrics, and registers them where there is a registry.
func (s *Server) newMetrics() {
	counter := func(name, label, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	s.connections = counter("postern_smtpd_connections_total", "result",
		"Connections by what became of them: accepted, refused, tls_failed, accept_failed.")
	s.messages = counter("postern_smtpd_messages_total", "class", "Messages by class of the answer.")
	s.logins = counter("postern_smtpd_logins_total", "result", "AUTH attempts by result.")
	if s.c.Metrics == nil {
		return
	}

	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postern_smtpd_open_connections",
		Help: "Connections of clients now open.",
	}, func() float64 { return float64(s.open.Load()) })
	name := "submission"
	if s.c.Reports != nil {
		name = "reports"
	}
	labelled := prometheus.WrapRegistererWith(prometheus.Labels{"listener": name}, s.c.Metrics)
	labelled.MustRegister(s.connections, s.messages, s.logins, open)
}

func (s *Server) newLibraryServer() *smtp.Server {
	l := smtp.NewServer(smtp.BackendFunc(s.newSession))
	l.Domain = s.c.Hostname
	l.AllowInsecureAuth = true // TLS ends in conn: the session decides
	l.MaxRecipients = s.c.MaxRecipients
	l.MaxMessageBytes = s.c.MaxMessageSize
	l.MaxLineLength = wire.MaxLine
	l.ReadTimeout = s.c.IdleTimeout
	l.EnableDSN = true
	l.EnableSMTPUTF8 = true
	l.ErrorLog = libraryLog{s.c.Log}

	return l
}

// libraryLog takes what the library has to say, which is about clients that
// went away, and about panics of ours.
type libraryLog struct{ log *slog.Logger }

// libraryPanic begins the format of the library's line about a panic.
const libraryPanic = "panic serving"

// Printf implements smtp.Logger.
func (l libraryLog) Printf(format string, v ...any) {
	level := slog.LevelDebug
	if strings.HasPrefix(format, libraryPanic) {
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, "go-smtp", "text", fmt.Sprintf(format, v...))
}

// Println implements smtp.Logger.
func (l libraryLog) Println(v ...any) {
	l.log.Debug("go-smtp", "text", strings.TrimSuffix(fmt.Sprintln(v...), "\n"))
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

var shuttingDown = reply.Reply{
	Code:     421,
	Enhanced: reply.EnhancedCode{4, 3, 2},
	Text:     "Shutting down, try again later",
}

// drain ends the connections: idle ones and those without a session at once,
// the others politely as long as Grace lasts, and then all that are left.
func (s *Server) drain() {
	s.mu.Lock()
	first := !s.draining
	s.draining = true

	busy := map[*wire.Conn]bool{}
	for ss := range s.sessions {
		busy[ss.conn] = !ss.endWhenIdle()
	}
	var idle []*wire.Conn
	for c := range s.conns {
		if !busy[c] {
			idle = append(idle, c)
		}
	}
	s.mu.Unlock()
	if !first {
		return
	}

	for _, c := range idle {
		go c.Goodbye(shuttingDown)
	}

	ctx, cancel := context.WithTimeout(context.Background(), s.c.Grace)
	defer cancel()
	if err := s.smtp.Shutdown(ctx); err != nil {
		s.c.Log.Warn("sessions cut off at the end of shutdown_grace", "err", err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Abort()
	}
}
