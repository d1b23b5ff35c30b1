package smtpd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"postern/relay"
	"postern/relay/envelope"
	"postern/relay/message"
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

// smtpError gives a reply to the library, which knows no other kind.
func smtpError(r reply.Reply) *smtp.SMTPError {
	e := &smtp.SMTPError{Code: r.Code, EnhancedCode: smtp.EnhancedCode(r.Enhanced), Message: r.Text}
	if r.Enhanced == (reply.EnhancedCode{}) {
		e.EnhancedCode = smtp.NoEnhancedCode
	}

	return e
}

func refuse(code int, a, b, c int, text string) error {
	return smtpError(reply.Reply{Code: code, Enhanced: reply.EnhancedCode{a, b, c}, Text: text})
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

// maxRefusedAddress bounds what a refusal repeats of an address, in bytes.
const maxRefusedAddress = 254 + 64

// refuseAddress refuses an address of MAIL or RCPT, and names it in the reply
// and in the log, where key is what it is there. Strangers on port 25 get one
// line a minute.
func (ss *session) refuseAddress(key, address string, r reply.Reply) error {
	address = reply.CleanLine(address, maxRefusedAddress)
	r.Text += ": <" + address + ">"
	ss.logRefused(key, address, r)

	return smtpError(r)
}

// logRefused writes that an address of MAIL or RCPT was refused.
func (ss *session) logRefused(key, address string, r reply.Reply) {
	args := []any{
		"session", ss.id,
		"user", ss.userName(),
		"remote", ss.remote.String(),
		key, address,
		"reply", r.String(),
	}
	if ss.user == nil {
		ss.s.rare.log(slog.LevelInfo, "address refused", args...)
		return
	}

	ss.s.c.Log.Warn("address refused", args...)
}

// Mail implements smtp.Session.
func (ss *session) Mail(from string, o *smtp.MailOptions) error {
	reports := ss.reports()
	switch {
	case ss.s.c.RequireTLS && !ss.secure() && !ss.bySource && !reports:
		return refuse(530, 5, 7, 0, "Must issue a STARTTLS command first")
	case ss.user == nil && !reports:
		return refuse(530, 5, 7, 0, "Authentication required")
	case ss.hasFrom:
		return refuse(503, 5, 5, 1, "Sender already given")
	}

	a, err := envelope.FromUnquoted(from)
	if err != nil {
		return ss.refuseAddress("from", from, badSender)
	}
	if !a.IsASCII() && !o.UTF8 {
		return ss.refuseAddress("from", from, badSenderUTF8)
	}

	ss.mu.Lock()
	ending := ss.end
	ss.busy = !ending
	ss.mu.Unlock()
	if ending {
		ss.conn.CloseAfterReply()
		return smtpError(shuttingDown)
	}

	ss.hasFrom = true
	ss.conn.BeginTransaction()
	if !reports {
		ss.conn.BeginPhase(ss.s.c.phases.envelope)
	}
	ss.env = envelope.Envelope{From: a, Params: envelope.MailParams{
		Size:       o.Size,
		UTF8:       o.UTF8,
		Return:     string(o.Return),
		EnvelopeID: o.EnvelopeID,
	}}

	return nil
}

// Rcpt implements smtp.Session.
func (ss *session) Rcpt(to string, o *smtp.RcptOptions) error {
	a, err := envelope.FromUnquoted(to)
	if err != nil || a.IsNull() {
		return ss.refuseAddress("recipient", to, badRecipient)
	}
	if !a.IsASCII() && !ss.env.Params.UTF8 {
		return ss.refuseAddress("recipient", to, badRecipientUTF8)
	}

	if r := ss.s.c.Reports; r != nil {
		if !r.Takes(a.Domain) {
			return ss.refuseRelaying(a)
		}
		ss.env.Recipients = append(ss.env.Recipients, envelope.Recipient{Address: a}) // and nothing that is long

		return nil
	}

	r := envelope.Recipient{Address: a, Original: o.OriginalRecipient}
	for _, n := range o.Notify {
		r.Notify = append(r.Notify, string(n))
	}
	if r.Original != "" {
		r.OriginalType = strings.ToLower(string(o.OriginalRecipientType))
	}
	ss.env.Recipients = append(ss.env.Recipients, r)

	return nil
}

// readMessage reads a message from the connection, which finds its end itself.
// Memory for a declared SIZE is reserved before the 354, for clients that may
// submit, and for nobody else: theirs is reserved as it arrives, as that of a
// message in chunks, of which the first has arrived when its size is known.
func (ss *session) readMessage(chunked bool) ([]byte, error) {
	arrival := ss.conn.OpenMessage(ss.s.c.phases.message)
	var hint int64
	if !chunked && !ss.reports() {
		hint = ss.env.Params.Size
		if err := ss.reserveBudget(message.FirstBuffer(hint)); err != nil {
			ss.conn.RefuseData()
			return nil, err
		}
	}
	ss.conn.GoAhead()

	return message.ReadMessage(arrival, message.ReadConfig{
		MaxBytes:    ss.s.c.MaxMessageSize,
		NormaliseLF: ss.s.c.NormaliseLF,
		SizeHint:    hint,
		Grow:        ss.reserveBudget,
	})
}

// Data implements smtp.Session, for DATA and BDAT: the connection gives the
// library the one for the other. It does not read the library's reader.
func (ss *session) Data(io.Reader) error {
	chunked := ss.conn.Chunked()
	msg, err := ss.readMessage(chunked)
	if err != nil {
		return ss.dataError(err, chunked)
	}

	ss.conn.BeginPhase(0) // the upstream's time is not the client's
	ss.conn.LogMessage(len(msg))
	ss.whole = true
	ss.sent++
	if ss.reports() {
		return ss.takeReport(msg, time.Now())
	}

	sub := &relay.Submission{
		Session:  ss.id + "." + strconv.Itoa(ss.sent),
		User:     *ss.user,
		Envelope: ss.env,
		Message:  msg,
		Remote:   ss.remote,
		Helo:     ss.c.Hostname(),
		Protocol: ss.protocol(),
		TLS:      ss.conn.Protection(),
	}
	if ss.who != nil {
		sub.Via = ss.who.Via
	}
	if err := checkMessage(msg); err != nil {
		return ss.answer(ss.s.c.Submit.Reject(ss.ctx, sub, err))
	}

	return ss.answer(ss.s.c.Submit.Submit(ss.ctx, sub))
}

func (ss *session) answer(r reply.Reply) error {
	if r.Code/100 == 2 {
		ss.conn.ForgetErrors()
	}
	ss.s.messages.WithLabelValues(strconv.Itoa(r.Code/100) + "xx").Inc()

	return smtpError(r)
}

// protocol is the "with" of Received (RFC 3848).
func (ss *session) protocol() string {
	p := "ESMTP"
	if ss.env.Params.UTF8 {
		p = "UTF8SMTP" // RFC 6531 section 4.3
	}
	if ss.secure() {
		p += "S"
	}
	if !ss.bySource {
		p += "A"
	}

	return p
}

// dataError answers a message that could not be read whole. What it held is
// released before the rest of it is passed over. After a bare CR in DATA the
// connection closes: two readers may not agree where such a message ends.
func (ss *session) dataError(err error, chunked bool) error {
	ss.releaseBudget()
	if errors.Is(err, wire.ErrAborted) {
		return smtpError(reply.ReplyFor(err)) // which the connection omits
	}

	cut := errors.Is(err, message.ErrCut)
	ss.s.c.Log.Warn("message not read",
		"session", ss.id,
		"user", ss.userName(),
		"remote", ss.remote.String(),
		"cut", cut,
		"err", err)

	switch {
	case cut && wire.IsTimeout(err):
		ss.conn.CloseAfterRefusal()
		return ss.answer(reply.Reply{
			Code:     421,
			Enhanced: reply.EnhancedCode{4, 4, 2},
			Text:     "Timeout, closing connection",
		})
	case cut:
		ss.conn.Drop()
	case !chunked && errors.Is(err, message.ErrBareCR):
		ss.conn.CloseAfterRefusal()
	}

	return ss.answer(reply.ReplyFor(err))
}
