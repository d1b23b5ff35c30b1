package reply

import (
	"errors"
	"fmt"
	"strings"
)

// Class says what an error means for the message that it happened to. It is set
// where the error arises.
type Class int

const (
	// Unclassified errors become 451: what nobody classified must not make a
	// client drop its mail.
	Unclassified Class = iota
	// Temporary: the same message may go through later.
	Temporary
	// Permanent: the message will never go through as it is.
	Permanent
	// Cut: the client went away before the end of its message. Nobody reads an
	// answer, and the message is never relayed.
	Cut
	// Overloaded: a budget of ours is spent (disk, memory, connections).
	Overloaded
)

// EnhancedCode is an enhanced mail system status code: class, subject and
// detail (RFC 3463). The zero value says that there is none.
type EnhancedCode [3]int

// String returns the code as it is written in a reply, for example "5.1.1".
func (c EnhancedCode) String() string { return fmt.Sprintf("%d.%d.%d", c[0], c[1], c[2]) }

// Reply is an SMTP answer. Text may hold several lines, divided by "\n".
type Reply struct {
	Code     int
	Enhanced EnhancedCode // all zero: none given
	Text     string
}

// Limits on what of another server's text is passed on.
const (
	maxReplyLines  = 10
	maxReplyColumn = 500
)

// CleanText makes another server's text fit to be passed on: printable ASCII
// only, at most 10 lines of 500 bytes.
func CleanText(s string) string {
	lines := strings.SplitN(strings.ReplaceAll(s, "\r\n", "\n"), "\n", maxReplyLines+1)
	lines = lines[:min(len(lines), maxReplyLines)]

	for i, l := range lines {
		lines[i] = CleanLine(l, maxReplyColumn)
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

func (r Reply) String() string {
	if r.Enhanced == (EnhancedCode{}) {
		return fmt.Sprintf("%d %s", r.Code, r.Text)
	}
	return fmt.Sprintf("%d %d.%d.%d %s", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2], r.Text)
}

// Fault is an error with its class and the reply that tells the client of it.
// A zero Reply leaves the words to the class.
type Fault struct {
	Class Class
	Reply Reply
	Err   error // the cause, for the log; may be nil
}

func (f *Fault) Error() string {
	switch {
	case f.Err != nil && f.Reply.Code != 0:
		return fmt.Sprintf("%s (%v)", f.Reply, f.Err)
	case f.Err != nil:
		return f.Err.Error()
	}
	return f.Reply.String()
}

func (f *Fault) Unwrap() error { return f.Err }

// Refuse returns a permanent fault of the client's making.
func Refuse(code int, enhanced EnhancedCode, text string) *Fault {
	return &Fault{Class: Permanent, Reply: Reply{code, enhanced, text}}
}

// Defer returns a temporary fault with its cause for the log.
func Defer(code int, enhanced EnhancedCode, text string, cause error) *Fault {
	return &Fault{Class: Temporary, Reply: Reply{code, enhanced, text}, Err: cause}
}

// ReplyFor returns the reply to an error. That to Cut is for the log: nobody is
// there to read it.
func ReplyFor(err error) Reply {
	var f *Fault
	if !errors.As(err, &f) {
		return Reply{451, EnhancedCode{4, 3, 0}, "Internal error, try again later"}
	}
	if f.Reply.Code != 0 {
		return f.Reply
	}

	switch f.Class {
	case Permanent:
		return Reply{550, EnhancedCode{5, 6, 0}, "Message refused"}
	case Cut:
		return Reply{451, EnhancedCode{4, 4, 2}, "Message cut off"}
	case Overloaded:
		return Reply{452, EnhancedCode{4, 3, 1}, "Insufficient system storage, try again later"}
	}
	return Reply{451, EnhancedCode{4, 3, 0}, "Temporary error, try again later"}
}
