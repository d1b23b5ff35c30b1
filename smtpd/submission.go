package smtpd

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"postern/relay"
	"postern/relay/envelope"
	"postern/relay/reply"
	"postern/smtpd/auth"
)

// Submitter accepts messages; *relay.Relay is one.
type Submitter interface {
	// Submit disposes of a message and returns its reply.
	Submit(context.Context, *relay.Submission) reply.Reply
	// Reject records that a message is refused with an error, and returns the
	// error's reply.
	Reject(context.Context, *relay.Submission, error) reply.Reply
}

// Submission is the policy of a server for clients that authenticate, or come
// from the networks of source rules (RFC 6409).
type Submission struct {
	RequireTLS bool // before AUTH, and before MAIL unless a source rule matches
	Auth       auth.Authenticator
	Submit     Submitter
	Sources    []SourceRule
	Directory  auth.Directory // the users of source rules; nil: AUTH is always required
}

// NewSubmission returns a server for submissions.
func NewSubmission(c Config, p Submission) *Server {
	return newServer(c, &submission{p}, traits{
		listener:    "submission",
		byteCost:    submissionCost,
		minRate:     minRate,
		reserveSize: true,
	})
}

// submission implements policy.
type submission struct{ Submission }

func (p *submission) sessionBegins(s *session) {
	s.user = p.sourceUser(s.log, s.remote.Addr())
	if s.user == nil {
		return
	}

	s.bySource = true
	s.conn.BeginPhase(0)
	s.conn.Trust()
}

// needsTLS reports whether nothing is allowed before STARTTLS.
func (p *submission) needsTLS(s *session) bool { return p.RequireTLS && !s.conn.Secure() }

func (p *submission) mechanisms(s *session) []string {
	if p.needsTLS(s) {
		return nil
	}

	return p.Auth.Mechanisms()
}

func (p *submission) authenticate(s *session, mechanism string) (sasl.Server, error) {
	if p.needsTLS(s) {
		return nil, errTLSRequired
	}
	if s.mail.begun {
		return nil, errAuthInMail
	}
	if !slices.Contains(p.Auth.Mechanisms(), mechanism) {
		return nil, errMechanism
	}

	exchange := auth.NewServer(mechanism, func(name, password string) error { return s.login(p.Auth, name, password) })
	if exchange == nil {
		return nil, errMechanism
	}

	return saslReplies{exchange}, nil
}

func (p *submission) mayBegin(s *session) error {
	if p.needsTLS(s) && !s.bySource {
		return errTLSRequired
	}
	if s.user == nil {
		return errAuthRequired
	}

	return nil
}

func (p *submission) transactionBegins(s *session) { s.conn.BeginPhase(s.srv.phases.envelope) }

func (p *submission) recipient(
	_ *session, a envelope.Address, o *smtp.RcptOptions,
) (envelope.Recipient, error) {
	r := envelope.Recipient{Address: a, Original: o.OriginalRecipient}
	for _, n := range o.Notify {
		r.Notify = append(r.Notify, string(n))
	}
	if r.Original != "" {
		r.OriginalType = strings.ToLower(string(o.OriginalRecipientType))
	}

	return r, nil
}

func (p *submission) accept(s *session, msg []byte) reply.Reply {
	sub := &relay.Submission{
		Session:  s.id + "." + strconv.Itoa(s.messages),
		User:     *s.user,
		Envelope: s.mail.envelope,
		Message:  msg,
		Remote:   s.remote,
		Helo:     s.smtp.Hostname(),
		Protocol: withProtocol(s),
		TLS:      s.conn.Protection(),
	}
	if s.identity != nil {
		sub.Via = s.identity.Via
	}

	if err := checkMessage(msg); err != nil {
		return p.Submit.Reject(s.ctx, sub, err)
	}

	return p.Submit.Submit(s.ctx, sub)
}

// withProtocol returns the "with" of Received (RFC 3848, RFC 6531 section 4.3).
func withProtocol(s *session) string {
	protocol := "ESMTP"
	if s.mail.envelope.Params.UTF8 {
		protocol = "UTF8SMTP"
	}
	if s.conn.Secure() {
		protocol += "S"
	}
	if !s.bySource {
		protocol += "A"
	}

	return protocol
}

func (p *submission) transactionEnds(s *session) {
	if s.user != nil {
		s.conn.BeginPhase(0)
	}
}
