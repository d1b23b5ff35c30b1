package smtpd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"postern/relay"
	"postern/relay/envelope"
	"postern/smtpd/auth"
	"postern/smtpd/wire"
)

// session is one client between EHLO and the end of its connection. It
// implements smtp.Session and smtp.AuthSession.
type session struct {
	srv    *Server
	policy policy
	smtp   *smtp.Conn
	conn   *wire.Conn
	log    *slog.Logger
	id     string
	remote netip.AddrPort
	start  time.Time
	ctx    context.Context
	cancel context.CancelFunc

	user     *relay.User    // nil: not authenticated, and of no source rule
	identity *auth.Identity // of AUTH; nil: none
	bySource bool           // user is that of a source rule: nobody authenticated
	messages int

	mail transaction
	held int64 // bytes of the budget

	mu   sync.Mutex // guards what drain uses, too
	busy bool       // in a transaction
	end  bool       // close once idle
}

// transaction is what MAIL, RCPT and DATA say.
type transaction struct {
	begun    bool // MAIL was accepted
	envelope envelope.Envelope
	complete bool // the message arrived whole
}

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn := c.Conn().(*wire.Conn)
	if s.draining {
		conn.CloseAfterReply()
		return nil, smtpError(shuttingDown)
	}

	ss := &session{
		srv:    s,
		policy: s.policy,
		smtp:   c,
		conn:   conn,
		log:    s.cfg.Log,
		id:     conn.SessionID(),
		start:  time.Now(),
	}
	if t, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		ss.remote = netip.AddrPortFrom(t.AddrPort().Addr().Unmap(), t.AddrPort().Port())
	}
	ss.ctx, ss.cancel = context.WithCancel(context.Background())

	s.policy.sessionBegins(ss)
	s.sessions[ss] = struct{}{}

	return ss, nil
}

// Reset implements smtp.Session. go-smtp calls it at the end of each
// transaction, too.
func (s *session) Reset() {
	s.conn.EndTransaction()
	s.releaseBudget()
	s.policy.transactionEnds(s)
	s.mail = transaction{}

	s.mu.Lock()
	s.busy = false
	end := s.end
	s.mu.Unlock()
	if end {
		s.conn.CloseAfterReply()
	}
}

// Logout implements smtp.Session. go-smtp calls it at the end of the connection.
func (s *session) Logout() error {
	s.cancel()
	s.releaseBudget()

	if s.identity != nil && s.identity.Close != nil {
		s.identity.Close()
	}
	s.srv.forget(s)

	s.log.Info("session",
		"session", s.id,
		"user", s.userName(),
		"remote", s.remote.String(),
		"helo", s.smtp.Hostname(),
		"tls", s.conn.Protection(),
		"messages", s.messages,
		tookSeconds(s.start))

	return nil
}

func (s *Server) forget(ss *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, ss)
}

// tookSeconds returns the log's attribute for the time since start.
func tookSeconds(start time.Time) slog.Attr {
	return slog.Float64("took_seconds", time.Since(start).Round(time.Microsecond).Seconds())
}

// userName returns the user's name for the log, or "".
func (s *session) userName() string {
	if s.user == nil {
		return ""
	}

	return s.user.Name
}

// endWhenIdle reports whether the session is idle. One that is not ends with
// its transaction.
func (s *session) endWhenIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = true

	return !s.busy
}

// beginTransaction marks the session as busy, unless it is to end.
func (s *session) beginTransaction() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end {
		return false
	}
	s.busy = true

	return true
}

// source returns what limits count the client by.
func (s *session) source() netip.Addr { return sourceAddr(s.remote.Addr()) }
