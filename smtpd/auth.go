package smtpd

import (
	"slices"

	"github.com/emersion/go-sasl"

	"postern/relay/reply"
	"postern/smtpd/auth"
)

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

	if !slices.Contains(ss.s.c.Auth.Mechanisms(), mech) {
		return nil, refuse(504, 5, 5, 4, "Unsupported authentication mechanism")
	}
	exchange := auth.NewServer(mech, ss.login)
	if exchange == nil {
		return nil, refuse(504, 5, 5, 4, "Unsupported authentication mechanism")
	}

	return saslReplies{exchange}, nil
}

func (ss *session) login(name, password string) error {
	who, err := ss.s.c.Auth.Authenticate(ss.ctx, auth.Credentials{Name: name, Password: password, Source: ss.source()})
	if err != nil {
		ss.loginFailed(name, err)
		return err
	}

	ss.s.logins.WithLabelValues("ok").Inc()
	ss.user = &who.User
	ss.who = who
	ss.bySource = false
	ss.conn.BeginPhase(0)
	ss.conn.MarkAuthenticated()

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
		"user", name[:min(len(name), auth.MaxName)],
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
