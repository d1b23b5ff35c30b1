// Package smtpd is what faces SMTP clients, on emersion/go-smtp: the
// submission listener takes mail from who may submit and hands it to the
// relay; the one for reports takes mail for bounce and feedback domains. It is
// one implementation with two policies. Where the library's limits do not reach (deadlines of a phase, plain
// text after STARTTLS, connections per source, guesses), a listener and a
// connection of our own stand under it.
//
// A Server is safe for concurrent use; each session belongs to its connection.
package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"postern/relay"
	"postern/relay/envelope"
)

// Submitter takes a message; *relay.Relay is one.
type Submitter interface {
	Submit(context.Context, *relay.Submission) envelope.Reply
	// Reject tells of a message that the listener refuses; the reply is err's.
	Reject(context.Context, *relay.Submission, error) envelope.Reply
}

// Config is what a server needs: one for submissions, or, with Reports, one
// for bounces and complaints. Zero limits get the defaults that
// the configuration file documents.
type Config struct {
	Hostname                string
	TLS                     *tls.Config
	RequireTLS              bool
	Auth                    Authenticator
	Submit                  Submitter
	Reports                 ReportTaker // in the place of Auth, Submit and Sources
	Sources                 []SourceRule
	Directory               Directory      // for the users of source rules
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
	writeTimeout = time.Minute
	// maxCommands is how many commands a client that is not authenticated may
	// give for each message, beside its recipients.
	maxCommands = 200
)

// phases are how long a client may take for what, all in all.
type phases struct {
	greeting time.Duration // from the connection to AUTH's success
	envelope time.Duration // from MAIL to DATA; on port 25 from one message to the next
	message  time.Duration // for a message, and its size at minRate beside
	minRate  int64         // bytes a second; 0: no time for the size
}

// Default times. A message of port 25 gets messageTime, however large.
const (
	greetingTime = 2 * time.Minute
	envelopeTime = 10 * time.Minute
	messageTime  = 10 * time.Minute
	minRate      = 16 << 10
)

func (c *Config) defaultPhases() phases {
	p := phases{greeting: greetingTime, envelope: envelopeTime, message: messageTime}
	if c.Reports != nil {
		return p
	}

	p.minRate = minRate
	if c.MessageTimeout > 0 {
		p.message = c.MessageTimeout
	}

	return p
}

// Server listens for submissions, or for reports.
type Server struct {
	c     Config
	smtp  *smtp.Server
	cost  int64 // of a byte of a message
	share int64 // of the budget, for one source; 0: no bound

	mu       sync.Mutex
	sessions map[*session]struct{}
	sources  map[netip.Addr]int
	held     map[netip.Addr]int64 // of the budget, where share bounds it
	open     int
	draining bool

	connections *prometheus.CounterVec
	messages    *prometheus.CounterVec
	logins      *prometheus.CounterVec
}

// New makes a server.
func New(c Config) *Server {
	if c.MaxConnections == 0 {
		c.MaxConnections = 10000
	}
	if c.MaxConnectionsPerSource == 0 {
		c.MaxConnectionsPerSource = 200
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 5 * time.Minute
	}
	if c.phases == (phases{}) {
		c.phases = c.defaultPhases()
	}
	if c.Budget == nil {
		c.Budget = NewBudget(0)
	}
	s := &Server{
		c:           c,
		cost:        submissionCost,
		sessions:    map[*session]struct{}{},
		sources:     map[netip.Addr]int{},
		held:        map[netip.Addr]int64{},
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_smtpd_connections_total", Help: "Connections by what became of them at the door."}, []string{"result"}),
		messages:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_smtpd_messages_total", Help: "Messages by class of the answer."}, []string{"class"}),
		logins:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_smtpd_logins_total", Help: "AUTH attempts by result."}, []string{"result"}),
	}
	if c.Reports != nil {
		s.cost = reportCost
		s.share = c.Budget.limit / sourceShare
	}
	if c.Metrics != nil {
		name := "submission"
		if c.Reports != nil {
			name = "reports"
		}
		prometheus.WrapRegistererWith(prometheus.Labels{"listener": name}, c.Metrics).MustRegister(s.connections, s.messages, s.logins, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "postern_smtpd_open_connections", Help: "Connections of clients now open."}, func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(s.open)
		}))
	}
	s.smtp = smtp.NewServer(smtp.BackendFunc(s.newSession))
	s.smtp.Domain = c.Hostname
	s.smtp.AllowInsecureAuth = true // TLS ends in conn: the session decides
	s.smtp.MaxRecipients = c.MaxRecipients
	s.smtp.MaxMessageBytes = c.MaxMessageSize
	s.smtp.MaxLineLength = maxCommandLine
	s.smtp.ReadTimeout = c.IdleTimeout
	s.smtp.EnableDSN = true
	s.smtp.EnableSMTPUTF8 = true
	s.smtp.ErrorLog = libraryLog{c.Log}
	return s
}

// libraryLog takes what the library has to say, which is about clients that
// went away.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(format string, v ...any) { l.log.Debug("smtp: "+format, "args", v) }
func (l libraryLog) Println(v ...any)               { l.log.Debug("smtp", "args", v) }

// Serve accepts connections on l until ctx ends, then drains: idle sessions
// get 421, those in a transaction may finish within Grace. implicit says that
// TLS begins with the connection (port 465).
func (s *Server) Serve(ctx context.Context, l net.Listener, implicit bool) error {
	if len(s.c.ProxyFrom) > 0 {
		l = newProxied(l, s.c.ProxyFrom, s.c.Log)
	}
	served := make(chan error, 1)
	go func() { served <- s.smtp.Serve(&listener{Listener: l, s: s, implicit: implicit}) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	s.drain()
	<-served
	return nil
}

// drain ends the sessions, politely as long as Grace lasts.
func (s *Server) drain() {
	s.mu.Lock()
	first := !s.draining
	s.draining = true
	var idle []*session
	for ss := range s.sessions {
		if ss.endWhenIdle() {
			idle = append(idle, ss)
		}
	}
	s.mu.Unlock()
	if !first {
		return
	}
	for _, ss := range idle {
		go ss.sayGoodbye()
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.c.Grace)
	defer cancel()
	if err := s.smtp.Shutdown(ctx); err != nil && !errors.Is(err, smtp.ErrServerClosed) {
		s.c.Log.Warn("sessions cut off at the end of shutdown_grace", "err", err)
	}
	s.mu.Lock()
	left := make([]*session, 0, len(s.sessions))
	for ss := range s.sessions {
		left = append(left, ss)
	}
	s.mu.Unlock()
	for _, ss := range left {
		ss.c.Conn().Close()
	}
}

// listener counts connections per source and turns away who is too many.
type listener struct {
	net.Listener
	s        *Server
	implicit bool
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := sourceOf(raw.RemoteAddr())
		if reason := l.s.admit(source); reason != "" {
			l.s.connections.WithLabelValues("refused").Inc()
			l.s.c.Log.Warn("connection refused", "remote", raw.RemoteAddr().String(), "reason", reason)
			go turnAway(raw, reason, l.implicit)
			continue
		}
		l.s.connections.WithLabelValues("accepted").Inc()
		remote := raw.RemoteAddr().String()
		c := newConn(raw, connConfig{
			tls:         l.s.c.TLS,
			implicit:    l.implicit,
			idle:        l.s.c.IdleTimeout,
			maxMessage:  l.s.c.MaxMessageSize,
			maxCommands: maxCommands + l.s.c.MaxRecipients,
			release:     func() { l.s.leave(source) },
			onFail: func(err error) {
				l.s.connections.WithLabelValues("tls_failed").Inc()
				l.s.c.Log.Info("TLS handshake failed", "remote", remote, "err", err)
			},
		})
		c.phase(l.s.c.phases.greeting)
		return c, nil
	}
}

func turnAway(c net.Conn, reason string, implicit bool) {
	if !implicit {
		c.SetDeadline(time.Now().Add(5 * time.Second))
		c.Write([]byte("421 4.7.0 " + reason + ", try again later\r\n"))
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

func (s *Server) admit(source netip.Addr) (refusal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.open >= s.c.MaxConnections:
		return "Too many connections"
	case s.sources[source] >= s.c.MaxConnectionsPerSource:
		return "Too many connections from your address"
	}
	s.open++
	s.sources[source]++
	return ""
}

func (s *Server) leave(source netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.sources[source]--; s.sources[source] <= 0 {
		delete(s.sources, source)
	}
}
