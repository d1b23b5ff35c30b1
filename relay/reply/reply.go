package reply

import (
	"errors"
	"fmt"
	"strings"
)

// Class is what an error means for the message that it happened to. It is set
// where the error arises.
type Class int

// Classes of errors.
const (
	// Unclassified is for errors that nobody classified. They become 451, for
	// they must not make a client drop its mail.
	Unclassified Class = iota
	// Temporary is for errors after which the same message may be accepted
	// later.
	Temporary
	// Permanent is for messages that will never be accepted as they are.
	Permanent
	// Cut is for messages whose client went away before their end. Nobody reads
	// the reply, and the message is never relayed.
	Cut
	// Overloaded is for errors after which a budget of ours is spent: disk,
	// memory or connections.
	Overloaded
)

// EnhancedCode is an enhanced mail system status code: class, subject and
// detail (RFC 3463). The zero value says that there is none.
type EnhancedCode [3]int

// String returns the code as it is written in a reply, for example "5.1.1".
func (c EnhancedCode) String() string { return fmt.Sprintf("%d.%d.%d", c[0], c[1], c[2]) }

// Reply is an SMTP reply.
type Reply struct {
	Code     int
	Enhanced EnhancedCode // zero: none
	Text     string       // lines are separated by "\n"
}

// String returns the reply on one line, but for the line ends of Text.
func (r Reply) String() string {
	if r.Enhanced == (EnhancedCode{}) {
		return fmt.Sprintf("%d %s", r.Code, r.Text)
	}
	return fmt.Sprintf("%d %d.%d.%d %s", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2], r.Text)
}

// Limits on the text of another server that is passed on.
const (
	maxLines  = 10
	maxColumn = 500 // bytes of a line
)

// CleanText returns another server's text as it may be passed on: printable
// ASCII only, at most 10 lines of 500 bytes.
func CleanText(s string) string {
	lines := strings.SplitN(strings.ReplaceAll(s, "\r\n", "\n"), "\n", maxLines+1)
	lines = lines[:min(len(lines), maxLines)]

	for i, l := range lines {
		lines[i] = CleanLine(l, maxColumn)
	}
	return strings.Join(lines, "\n")
}

// CleanLine returns the first n bytes of a text, with a question mark for each
// byte that is not printable ASCII, line ends included.
func CleanLine(s string, n int) string {
	b := []byte(s[:min(len(s), n)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}

	return string(b)
}

// Fault is an error with its class and the reply that the client gets for it.
type Fault struct {
	Class Class
	Reply Reply // zero: that of the class
	Err   error // the cause, for the log; may be nil
}

// Error returns the reply with the cause behind it.
func (f *Fault) Error() string {
	switch {
	case f.Err != nil && f.Reply.Code != 0:
		return fmt.Sprintf("%s (%v)", f.Reply, f.Err)
	case f.Err != nil:
		return f.Err.Error()
	}
	return f.Reply.String()
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// Refuse returns a permanent fault that the client has caused.
func Refuse(code int, enhanced EnhancedCode, text string) *Fault {
	return &Fault{
		Class: Permanent,
		Reply: Reply{Code: code, Enhanced: enhanced, Text: text},
	}
}

// Defer returns a temporary fault with its cause for the log.
func Defer(code int, enhanced EnhancedCode, text string, cause error) *Fault {
	return &Fault{
		Class: Temporary,
		Reply: Reply{Code: code, Enhanced: enhanced, Text: text},
		Err:   cause,
	}
}

// Replies to errors that have none of their own.
var (
	replyInternal    = Reply{451, EnhancedCode{4, 3, 0}, "Internal error, try again later"}
	replyTemporary   = Reply{451, EnhancedCode{4, 3, 0}, "Temporary error, try again later"}
	replyRefused     = Reply{550, EnhancedCode{5, 6, 0}, "Message refused"}
	replyCut         = Reply{451, EnhancedCode{4, 4, 2}, "Message cut off"}
	replyFullStorage = Reply{452, EnhancedCode{4, 3, 1}, "Insufficient system storage, try again later"}
)

// For returns the reply to an error: that of its Fault, else that of the
// class. The reply to Cut is for the log only.
func For(err error) Reply {
	var f *Fault
	if !errors.As(err, &f) {
		return replyInternal
	}
	if f.Reply.Code != 0 {
		return f.Reply
	}

	switch f.Class {
	case Permanent:
		return replyRefused
	case Cut:
		return replyCut
	case Overloaded:
		return replyFullStorage
	}
	return replyTemporary
}
