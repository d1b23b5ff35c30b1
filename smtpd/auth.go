package smtpd

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/emersion/go-sasl"

	"postern/relay"

	"postern/relay/reply"
)

// Login is one attempt to authenticate.
type Login struct {
	Name     string
	Password string
	Source   netip.Addr
}

// Identity is who logged in.
type Identity struct {
	User  relay.User
	Via   relay.Sender // the session's own way upstream; nil: the relay's
	Close func()       // at the session's end; may be nil
}

// Authenticator authenticates clients for submission. Its errors are *envelope.Fault: 535
// 5.7.8 for a wrong name or password, 454 4.7.0 for "not now".
type Authenticator interface {
	// Mechanisms are those of AUTH that are on offer, of PLAIN and LOGIN.
	Mechanisms() []string
	Authenticate(context.Context, Login) (*Identity, error)
}

var errFailed = reply.Refuse(535, reply.EnhancedCode{5, 7, 8}, "Authentication credentials invalid")

// AuthMechanisms implements smtp.AuthSession.
func (ss *session) AuthMechanisms() []string {
	if ss.s.c.Reports != nil || ss.s.c.RequireTLS && !ss.secure() {
		return nil
	}

	return ss.s.c.Auth.Mechanisms()
}

// Auth implements smtp.AuthSession.
func (ss *session) Auth(mech string) (sasl.Server, error) {
	switch {
	case ss.s.c.Reports != nil:
		return nil, refuse(502, 5, 5, 1, "Authentication not supported here")
	case ss.s.c.RequireTLS && !ss.secure():
		return nil, refuse(530, 5, 7, 0, "Must issue a STARTTLS command first")
	case ss.hasFrom:
		return nil, refuse(503, 5, 5, 1, "AUTH not allowed during a mail transaction")
	}

	offered := slices.Contains(ss.s.c.Auth.Mechanisms(), mech)
	switch {
	case offered && mech == sasl.Plain:
		return saslReplies{&plainServer{login: ss.login}}, nil
	case offered && mech == sasl.Login:
		return saslReplies{&loginServer{login: ss.login}}, nil
	}

	return nil, refuse(504, 5, 5, 4, "Unsupported authentication mechanism")
}

func (ss *session) login(name, password string) error {
	who, err := ss.s.c.Auth.Authenticate(ss.ctx, Login{Name: name, Password: password, Source: ss.source()})
	if err != nil {
		ss.loginFailed(name, err)
		return err
	}

	ss.s.logins.WithLabelValues("ok").Inc()
	ss.user = &who.User
	ss.who = who
	ss.bySource = false
	ss.conn.authed = true
	ss.conn.phase(0)
	ss.conn.trust()

	return nil
}

// loginFailed counts and logs an attempt that failed.
func (ss *session) loginFailed(name string, err error) {
	result := "failed"
	if reply.ReplyFor(err).Code/100 == 4 {
		result = "deferred"
	}
	ss.s.logins.WithLabelValues(result).Inc()

	ss.s.c.Log.Warn("login refused",
		"session", ss.id,
		"user", name[:min(len(name), maxLoginName)],
		"remote", ss.remote.String(),
		"err", err)
}

// saslReplies is an exchange whose errors are replies that go-smtp knows.
type saslReplies struct{ sasl.Server }

// Next implements sasl.Server.
func (s saslReplies) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = s.Server.Next(response)
	if err != nil {
		err = smtpError(reply.ReplyFor(err))
	}

	return challenge, done, err
}

var errSASL = reply.Refuse(501, reply.EnhancedCode{5, 5, 2}, "Malformed authentication response")

// plainServer is PLAIN (RFC 4616). An authorization identity other than the
// user's own name is refused.
type plainServer struct {
	login func(name, password string) error
	asked bool
}

func (p *plainServer) Next(response []byte) ([]byte, bool, error) {
	if response == nil && !p.asked {
		p.asked = true
		return nil, false, nil
	}

	parts := bytes.SplitN(response, []byte{0}, 3) // a NUL in the password is the Authenticator's to refuse
	if len(parts) != 3 || len(parts[1]) == 0 {
		return nil, false, errSASL
	}
	if len(parts[0]) > 0 && FoldName(string(parts[0])) != FoldName(string(parts[1])) {
		return nil, false, errFailed
	}

	return nil, true, p.login(string(parts[1]), string(parts[2]))
}

// loginServer is LOGIN, which go-sasl has only the client of: two prompts, or
// the name as initial response.
type loginServer struct {
	login func(name, password string) error
	name  *string
	asked bool
}

func (l *loginServer) Next(response []byte) ([]byte, bool, error) {
	switch {
	case response == nil && !l.asked:
		l.asked = true
		return []byte("Username:"), false, nil
	case l.name == nil:
		if len(response) == 0 {
			return nil, false, errSASL
		}
		name := string(response)
		l.name = &name
		return []byte("Password:"), false, nil
	}

	return nil, true, l.login(*l.name, string(response))
}

// errNotBegun answers an attempt that was not looked at.
func errNotBegun(err error) error {
	if errors.Is(err, errLocked) {
		return errNotNow("Too many failed logins, try again later", err)
	}

	return errNotNow("Temporary authentication failure", err)
}

// errNotNow is 454 while a source or user is locked, or the server is busy.
func errNotNow(text string, cause error) error {
	return reply.Defer(454, reply.EnhancedCode{4, 7, 0}, text, cause)
}

var errLocked = errors.New("too many failed logins")
