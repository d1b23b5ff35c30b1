package smtpd

import (
	"github.com/emersion/go-sasl"

	"postern/relay/reply"
	"postern/smtpd/auth"
)

// AuthMechanisms implements smtp.AuthSession.
func (s *session) AuthMechanisms() []string { return s.policy.mechanisms(s) }

// Auth implements smtp.AuthSession.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	return s.policy.authenticate(s, mechanism)
}

// login authenticates a client that has said its name and password.
func (s *session) login(a auth.Authenticator, name, password string) error {
	identity, err := a.Authenticate(s.ctx, auth.Credentials{
		Name:     name,
		Password: password,
		Source:   s.source(),
	})
	if err != nil {
		s.loginFailed(name, err)
		return err
	}

	s.srv.metrics.login("ok")
	s.user = &identity.User
	s.identity = identity
	s.bySource = false
	s.conn.BeginPhase(0)
	s.conn.MarkAuthenticated()

	return nil
}

// loginFailed counts and logs an attempt that failed.
func (s *session) loginFailed(name string, err error) {
	result := "failed"
	if reply.For(err).Code/100 == 4 {
		result = "deferred"
	}
	s.srv.metrics.login(result)

	s.log.Warn("login refused",
		"session", s.id,
		"user", name[:min(len(name), auth.MaxName)],
		"remote", s.remote.String(),
		"err", err)
}

// saslReplies makes the errors of an exchange replies of go-smtp's.
type saslReplies struct{ sasl.Server }

// Next implements sasl.Server.
func (s saslReplies) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = s.Server.Next(response)
	if err != nil {
		err = smtpError(reply.For(err))
	}

	return challenge, done, err
}
