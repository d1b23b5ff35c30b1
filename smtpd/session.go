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
	"postern/relay/reply"
	"postern/smtpd/auth"
	"postern/smtpd/wire"
)

// session is one client between EHLO and the end of its connection.
type session struct {
	s      *Server
	c      *smtp.Conn
	conn   *wire.Conn
	id     string
	remote netip.AddrPort
	ctx    context.Context
	cancel context.CancelFunc
	start  time.Time
	user   *relay.User    // nil: not authenticated
	who    *auth.Identity // of AUTH; nil: none
	sent   int

	bySource bool // user is that of a source rule: nobody authenticated

	env     envelope.Envelope
	hasFrom bool
	whole   bool  // the message of this transaction arrived whole
	held    int64 // bytes of the memory budget

	mu   sync.Mutex // the fields below are drain's too
	busy bool       // in a transaction
	end  bool       // say goodbye once idle
}

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw := c.Conn().(*wire.Conn)
	if s.draining {
		raw.CloseAfterReply()
		return nil, smtpError(shuttingDown)
	}

	ss := &session{
		s:     s,
		c:     c,
		conn:  raw,
		id:    raw.SessionID(),
		start: time.Now(),
	}
	if t, ok := c.Conn().RemoteAddr().(*net.TCPAddr); ok {
		ss.remote = netip.AddrPortFrom(t.AddrPort().Addr().Unmap(), t.AddrPort().Port())
	}
	ss.ctx, ss.cancel = context.WithCancel(context.Background())

	ss.user = s.sourceUser(ss.remote.Addr())
	ss.bySource = ss.user != nil
	switch {
	case ss.reports():
		ss.conn.BeginPhase(s.c.phases.envelope)
	case ss.bySource:
		ss.conn.BeginPhase(0)
		ss.conn.Trust()
	}
	s.sessions[ss] = struct{}{}

	return ss, nil
}

// Reset implements smtp.Session.
func (ss *session) Reset() {
	ss.env, ss.hasFrom = envelope.Envelope{}, false
	ss.conn.EndTransaction()
	ss.releaseBudget()

	switch {
	case ss.reports() && ss.whole: // a stranger's time begins anew with a message, not with RSET
		ss.conn.BeginPhase(ss.s.c.phases.envelope)
	case ss.user != nil:
		ss.conn.BeginPhase(0)
	}
	ss.whole = false

	ss.mu.Lock()
	ss.busy = false
	end := ss.end
	ss.mu.Unlock()
	if end {
		ss.conn.CloseAfterReply()
	}
}

// Logout implements smtp.Session.
func (ss *session) Logout() error {
	ss.cancel()
	ss.releaseBudget()

	if ss.who != nil && ss.who.Close != nil {
		ss.who.Close()
	}

	ss.s.mu.Lock()
	delete(ss.s.sessions, ss)
	ss.s.mu.Unlock()

	ss.s.c.Log.Info("session",
		"session", ss.id,
		"user", ss.userName(),
		"remote", ss.remote.String(),
		"helo", ss.c.Hostname(),
		"tls", ss.conn.Protection(),
		"messages", ss.sent,
		tookSeconds(ss.start))

	return nil
}

// tookSeconds says in the log how long something has taken since start.
func tookSeconds(start time.Time) slog.Attr {
	return slog.Float64("took_seconds", time.Since(start).Round(time.Microsecond).Seconds())
}

// userName is for the log; empty: nobody authenticated.
func (ss *session) userName() string {
	if ss.user == nil {
		return ""
	}

	return ss.user.Name
}

// endWhenIdle reports whether the session is idle now; a busy one ends with its
// transaction.
func (ss *session) endWhenIdle() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.end = true

	return !ss.busy
}

// reports reports whether the session is one of port 25.
func (ss *session) reports() bool { return ss.s.c.Reports != nil }

// source is what limits count the client by.
func (ss *session) source() netip.Addr { return sourceAddr(ss.remote.Addr()) }

func (ss *session) secure() bool { return ss.conn.Secure() }

// Refusals of addresses; refuseAddress puts the address behind the text.
var (
	badSender = reply.Reply{
		Code:     553,
		Enhanced: reply.EnhancedCode{5, 1, 7},
		Text:     "Bad sender address",
	}
	badSenderUTF8 = reply.Reply{
		Code:     553,
		Enhanced: reply.EnhancedCode{5, 6, 7},
		Text:     "International sender address without SMTPUTF8",
	}
	badRecipient = reply.Reply{
		Code:     553,
		Enhanced: reply.EnhancedCode{5, 1, 3},
		Text:     "Bad recipient address",
	}
	badRecipientUTF8 = reply.Reply{
		Code:     553,
		Enhanced: reply.EnhancedCode{5, 6, 7},
		Text:     "International recipient address without SMTPUTF8",
	}
)
