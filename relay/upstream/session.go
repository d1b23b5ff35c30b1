package upstream

import (
	"errors"
	"fmt"

	"postern/relay/reply"
)

// ErrSession says that an upstream refused what we are to it (no login, no TLS,
// a command that it does not know), which says nothing of the message. The
// message was not taken.
var ErrSession = errors.New("upstream refuses the session")

// phase is the part of a transaction that a reply answers.
type phase string

const (
	phaseMail     phase = "MAIL"
	phaseRcpt     phase = "RCPT"
	phaseData     phase = "DATA"
	phaseMessage  phase = "message"
	phaseFinalDot phase = "final dot"
)

// refused makes an outcome of a reply that refuses a transaction: the reply
// itself, or a temporary error where it is between the upstream and us.
func refused(p phase, r reply.Reply) Outcome {
	switch {
	case concernsSession(p, r):
		f := setupError(string(p), r)
		f.Err = fmt.Errorf("%w: %w", ErrSession, f.Err)
		return Outcome{Err: f}
	case p == phaseRcpt && r.Code == 552 && r.Enhanced == (reply.EnhancedCode{5, 5, 3}):
		// Too many recipients: meant as 452 (RFC 5321 section 4.5.3.1.10).
		r.Code, r.Enhanced = 452, reply.EnhancedCode{4, 5, 3}
	}

	return Outcome{Reply: r}
}

// concernsSession reports whether a refusal is about how we speak or log in.
// That are the codes of authentication and encryption (RFC 4954 section 6), and
// those of syntax and sequence (RFC 5321 section 4.2.2), unless the enhanced
// code says that they are about an address, a mailbox or the content.
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
	case 7:
		return p != phaseFinalDot
	}

	return true
}
