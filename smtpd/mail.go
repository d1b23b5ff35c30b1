package smtpd

import (
	"log/slog"
	"strings"

	"github.com/emersion/go-smtp"

	"postern/relay/envelope"
	"postern/relay/reply"
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
