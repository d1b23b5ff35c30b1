package smtpd

import (
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"postern/relay/envelope"
	"postern/relay/reply"
)

// policy is what distinguishes the servers: who may do what, and what becomes
// of a message. Everything else is the same for all of them. Its methods are
// called by the goroutine of the session that they get.
type policy interface {
	// sessionBegins is called before a session's first command.
	sessionBegins(*session)
	// mechanisms returns the mechanisms of AUTH that are offered now.
	mechanisms(*session) []string
	// authenticate begins an exchange of AUTH.
	authenticate(s *session, mechanism string) (sasl.Server, error)
	// mayBegin returns an error unless the session may begin a transaction.
	mayBegin(*session) error
	// transactionBegins is called when MAIL was accepted.
	transactionBegins(*session)
	// recipient returns what is kept of a recipient, or what RCPT is refused
	// with.
	recipient(*session, envelope.Address, *smtp.RcptOptions) (envelope.Recipient, error)
	// accept disposes of a message that arrived whole, and returns its answer.
	accept(s *session, msg []byte) reply.Reply
	// transactionEnds is called when a transaction is over, or reset.
	transactionEnds(*session)
}

// traits are the figures of a policy.
type traits struct {
	listener    string // the label in metrics
	byteCost    int64  // of the budget, for a byte of a message
	sourceShare int64  // one source may hold this part of the budget, as 1/sourceShare; 0: all of it
	minRate     int64  // a message may take the time for its size at so many bytes per second; 0: no more time
	reserveSize bool   // memory for a declared SIZE is reserved before the message is asked for
}
