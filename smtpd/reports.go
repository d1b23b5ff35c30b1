package smtpd

import (
	"context"
	"fmt"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"postern/relay/envelope"
	"postern/relay/reply"
)

// ReportTaker accepts bounces, complaints and other mail that is about copies
// sent before.
type ReportTaker interface {
	// Takes reports whether mail for a domain is accepted here.
	Takes(domain string) bool
	// Take accepts one message. An error means that the client has to try later.
	Take(ctx context.Context, recipients []string, msg []byte) error
}

// reportRecipients is how many recipients a report may have: as many as every
// server has to accept (RFC 5321 section 4.5.3.1.8).
const reportRecipients = 100

// NewReports returns a server for port 25: anybody may send to the domains that
// t takes, and nothing that comes in is relayed. It has its own limit of
// recipients and time for a message.
func NewReports(c Config, t ReportTaker) *Server {
	c.Limits.MaxRecipients = reportRecipients
	c.Timeouts.Message = messageTime

	return newServer(c, &reports{t}, traits{
		listener:    "reports",
		byteCost:    reportCost,
		sourceShare: sourceShare,
	})
}

// reports implements policy.
type reports struct{ taker ReportTaker }

func (p *reports) sessionBegins(s *session) { s.conn.BeginPhase(s.srv.phases.envelope) }

func (p *reports) mechanisms(*session) []string { return nil }

func (p *reports) authenticate(*session, string) (sasl.Server, error) { return nil, errNoAuth }

func (p *reports) mayBegin(*session) error { return nil }

func (p *reports) transactionBegins(*session) {}

// recipient keeps nothing but the address: parameters may be long.
func (p *reports) recipient(
	s *session, a envelope.Address, _ *smtp.RcptOptions,
) (envelope.Recipient, error) {
	if !p.taker.Takes(a.Domain) {
		return envelope.Recipient{}, refuseRelaying(s, a)
	}

	return envelope.Recipient{Address: a}, nil
}

// refuseRelaying gives PowerMTA's reply, word for word.
func refuseRelaying(s *session, a envelope.Address) error {
	r := reply.Reply{
		Code:     550,
		Enhanced: reply.EnhancedCode{5, 7, 1},
		Text:     fmt.Sprintf("relaying denied for recipient in \"RCPT TO:%s\"", a.Path()),
	}
	s.logRefused("recipient", reply.CleanLine(a.String(), maxRefusedAddress), r)

	return smtpError(r)
}

// accept hands a message on. The client does not learn what it was taken for.
func (p *reports) accept(s *session, msg []byte) reply.Reply {
	start := time.Now()
	recipients := make([]string, len(s.mail.envelope.Recipients))
	for i, r := range s.mail.envelope.Recipients {
		recipients[i] = r.Address.String()
	}

	answer := reportAccepted
	if err := p.taker.Take(s.ctx, recipients, msg); err != nil {
		answer = reportDeferred
	}

	s.log.Info("mail for reports",
		"session", s.id,
		"remote", s.remote.String(),
		"helo", s.smtp.Hostname(),
		"tls", s.conn.Protection(),
		"from", s.mail.envelope.From.String(),
		"recipients", len(recipients),
		"recipient", recipients[0],
		"size", len(msg),
		"reply", answer.String(),
		tookSeconds(start))

	return answer
}

// transactionEnds begins the time of the next transaction after a message. RSET
// gives a client no more time.
func (p *reports) transactionEnds(s *session) {
	if s.mail.complete {
		s.conn.BeginPhase(s.srv.phases.envelope)
	}
}
