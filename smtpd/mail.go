package smtpd

import (
	"log/slog"

	"github.com/emersion/go-smtp"

	"postern/relay/envelope"
	"postern/relay/reply"
)

// Mail implements smtp.Session.
func (s *session) Mail(from string, o *smtp.MailOptions) error {
	if err := s.policy.mayBegin(s); err != nil {
		return err
	}
	if s.mail.begun {
		return errSenderGiven
	}

	sender, err := envelope.FromUnquoted(from)
	if err != nil {
		return s.refuseAddress("from", from, badSender)
	}
	if !sender.IsASCII() && !o.UTF8 {
		return s.refuseAddress("from", from, badSenderUTF8)
	}

	if !s.beginTransaction() {
		s.conn.CloseAfterReply()
		return smtpError(shuttingDown)
	}

	s.conn.BeginTransaction()
	s.policy.transactionBegins(s)
	s.mail.begun = true
	s.mail.envelope = envelope.Envelope{
		From: sender,
		Params: envelope.MailParams{
			Size:       o.Size,
			UTF8:       o.UTF8,
			Return:     string(o.Return),
			EnvelopeID: o.EnvelopeID,
		},
	}

	return nil
}

// Rcpt implements smtp.Session.
func (s *session) Rcpt(to string, o *smtp.RcptOptions) error {
	address, err := envelope.FromUnquoted(to)
	if err != nil || address.IsNull() {
		return s.refuseAddress("recipient", to, badRecipient)
	}
	if !address.IsASCII() && !s.mail.envelope.Params.UTF8 {
		return s.refuseAddress("recipient", to, badRecipientUTF8)
	}

	r, err := s.policy.recipient(s, address, o)
	if err != nil {
		return err
	}
	s.mail.envelope.Recipients = append(s.mail.envelope.Recipients, r)

	return nil
}

// maxRefusedAddress bounds what a refusal repeats of an address, in bytes.
const maxRefusedAddress = 254 + 64

// refuseAddress refuses an address of MAIL or RCPT, and names it in the reply
// and in the log, there under key.
func (s *session) refuseAddress(key, address string, r reply.Reply) error {
	address = reply.CleanLine(address, maxRefusedAddress)
	r.Text += ": <" + address + ">"
	s.logRefused(key, address, r)

	return smtpError(r)
}

// logRefused logs that an address of MAIL or RCPT was refused. For clients that
// have not authenticated there is one line a minute.
func (s *session) logRefused(key, address string, r reply.Reply) {
	args := []any{
		"session", s.id,
		"user", s.userName(),
		"remote", s.remote.String(),
		key, address,
		"reply", r.String(),
	}
	if s.user == nil {
		s.srv.rare.log(slog.LevelInfo, "address refused", args...)
		return
	}

	s.log.Warn("address refused", args...)
}
