package upstream

import (
	"errors"
	"fmt"

	"postern/relay/reply"
)

// ErrSession says that an upstream refused the session (no login, no TLS, an
// unknown command) and not the message. The message was not accepted.
var ErrSession = errors.New("upstream refuses the session")

// phase is the part of a session that a reply belongs to.
type phase string

const (
	phaseMail     phase = "MAIL"
	phaseRcpt     phase = "RCPT"
	phaseData     phase = "DATA"
	phaseMessage  phase = "message"
	phaseFinalDot phase = "final dot"
)

// refusal is a reply that refuses a transaction.
type refusal struct {
	phase phase
	reply reply.Reply
}

// outcome returns the outcome of a refused transaction: the reply itself, or a
// temporary error if it concerns the session.
func (r refusal) outcome() Outcome {
	if concernsSession(r.phase, r.reply) {
		f := unexpected(r.phase, r.reply)
		f.Err = fmt.Errorf("%w: %w", ErrSession, f.Err)
		return Outcome{Err: f}
	}

	// Too many recipients means 452, also where it is said with 552 (RFC 5321
	// section 4.5.3.1.10).
	tooMany := r.reply.Code == 552 && r.reply.Enhanced == reply.EnhancedCode{5, 5, 3}
	if r.phase == phaseRcpt && tooMany {
		r.reply.Code = 452
		r.reply.Enhanced = reply.EnhancedCode{4, 5, 3}
	}

	return Outcome{Reply: r.reply}
}

// outcomeOf returns the outcome of a refused transaction. A connection on which
// the upstream refused the session is not used again.
func (c *conn) outcomeOf(r *refusal) Outcome {
	out := r.outcome()
	if errors.Is(out.Err, ErrSession) {
		c.broken = true
	}

	return out
}

// concernsSession reports whether a refusal concerns the session: the codes of
// authentication and encryption (RFC 4954 section 6), and those of syntax and
// sequence (RFC 5321 section 4.2.2), unless the subject of the enhanced code
// (RFC 3463 section 3) is an address, a mailbox or the content.
func concernsSession(p phase, r reply.Reply) bool {
	switch r.Code {
	case 530, 534, 535, 538:
		return true
	case 500, 502, 503, 504:
	default:
		return false
	}

	switch subject := r.Enhanced[1]; subject {
	case 1, 2, 6:
		return false
	case 7: // security or policy: of the message, once it has been seen
		return p != phaseFinalDot
	}

	return true
}
