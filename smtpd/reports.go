package smtpd

import (
	"context"
	"fmt"
	"time"

	"postern/relay/envelope"
	"postern/relay/reply"
)

// ReportTaker makes a server one for port 25: anybody may send, to a few
// domains alone, and nothing that comes in leaves again.
type ReportTaker interface {
	// Takes reports whether mail for a domain is accepted here.
	Takes(domain string) bool
	// Take accepts one message. An error means that the client has to try later.
	Take(ctx context.Context, recipients []string, msg []byte) error
}

// refuseRelaying is PowerMTA's answer, to the letter.
func (ss *session) refuseRelaying(a envelope.Address) error {
	r := reply.Reply{
		Code:     550,
		Enhanced: reply.EnhancedCode{5, 7, 1},
		Text:     fmt.Sprintf("relaying denied for recipient in \"RCPT TO:%s\"", a.Path()),
	}
	ss.logRefused("recipient", reply.CleanLine(a.String(), maxRefusedAddress), r)

	return smtpError(r)
}

// takeReport hands a message on. Nobody is told what it was taken for.
func (ss *session) takeReport(msg []byte, start time.Time) error {
	recipients := make([]string, len(ss.env.Recipients))
	for i, r := range ss.env.Recipients {
		recipients[i] = r.Address.String()
	}

	answer := reply.Reply{Code: 250, Enhanced: reply.EnhancedCode{2, 0, 0}, Text: "Ok"}
	if err := ss.s.c.Reports.Take(ss.ctx, recipients, msg); err != nil {
		answer = reply.Reply{Code: 452, Enhanced: reply.EnhancedCode{4, 3, 1}, Text: "Cannot take mail now, try again later"}
	}

	ss.s.c.Log.Info("mail for reports",
		"session", ss.id,
		"remote", ss.remote.String(),
		"helo", ss.c.Hostname(),
		"tls", ss.conn.Protection(),
		"from", ss.env.From.String(),
		"recipients", len(recipients),
		"recipient", recipients[0],
		"size", len(msg),
		"reply", answer.String(),
		tookSeconds(start))

	return ss.answer(answer)
}
