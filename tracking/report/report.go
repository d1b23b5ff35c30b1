// Package report reads what comes back by mail: delivery status notifications
// (RFC 3464) and the older formats of many mail systems, feedback reports (ARF,
// RFC 5965), and what merely looks like them: automatic replies and plain mail.
//
// Parse looks at one message and remembers nothing: safe for concurrent use.
// Rules are about formats, never about one provider's single message; what the
// structure does not tell is read from the text, leniently, and only where the
// mail comes from a mail system. A Finder, beside it, finds the message that a
// report is about; only ids and tokens that verify under our keys count.
package report

import (
	"strings"
	"time"
)

// Kind is what a report, or a recipient of it, is about.
type Kind string

// The kinds, as `postern report` prints them.
const (
	Bounce    Kind = "bounce"     // given up
	Delay     Kind = "delay"      // tried again later
	Delivered Kind = "delivered"  // delivered, relayed or expanded
	Complaint Kind = "complaint"  // a feedback report
	AutoReply Kind = "auto-reply" // vacation, challenge, acknowledgement
	Other     Kind = "other"
)

// Limits on what one mail can cost.
const (
	maxDepth      = 10
	maxParts      = 500
	maxText       = 256 << 10 // bytes of text in which ids and tokens are looked for
	maxNotice     = 128 << 10 // bytes of a notice that are read
	maxLooked     = 8 << 20   // bytes of a mail, and of what its parts decode to
	maxRecipients = 1000
	maxReason     = 1000 // bytes of a reason
)

// Report is what one mail says.
type Report struct {
	Kind       Kind
	Recipients []Recipient
	Date       time.Time // of its header; zero: none that can be read

	OriginalEnvelopeID string

	// Of a feedback report (RFC 5965).
	FeedbackType string
	UserAgent    string
	ReportingMTA string
	SourceIP     string
	ReportedTo   string // Reported-Domain, or whom the report was sent to

	unnamed  Recipient // what a notice says that names nobody
	subject  string
	returned []byte // the message, or its header, that the report is about
	text     []byte // all text parts, where the returned message may be too

	returnedSubject string // of returned, decoded
}

// Recipient is what a report says of one recipient.
type Recipient struct {
	Kind       Kind
	Original   string // Original-Recipient
	Final      string // Final-Recipient, or as the text names it
	Status     string // enhanced status code (RFC 3463); empty: none is told
	ReplyCode  string
	Diagnostic string // as the report has it, on one line
	Class      int    // SparkPost's bounce class
	Hard       bool   // the address or its domain is gone

	isContext bool // Diagnostic is the notice as a whole, not a server's words
	doubted   bool // its words would be hard elsewhere
}

// Address is the recipient as the sender knew it: the original where it is told.
func (r Recipient) Address() string {
	if r.Original != "" {
		return r.Original
	}

	return r.Final
}

// Nameless is what a report says that names nobody: at least its kind.
func (r *Report) Nameless() Recipient {
	c := r.unnamed
	c.Kind = r.Kind

	return c
}

// Parse reads a mail. It never fails: what it does not understand is Other.
func Parse(msg []byte) *Report {
	m := readStructure(msg)
	r := &Report{Kind: Other, Date: m.date(), subject: m.get("Subject"), text: m.allText()}
	r.setReturned(m.returned())

	switch {
	case m.isReceipt():
		r.Kind = AutoReply
	case r.feedback(m):
	case r.statusParts(m):
	case r.sesNotification(m):
	case r.refusal(m):
	case isAutoReply(m):
		r.Kind = AutoReply
	case r.statusInText(m):
	case r.notice(m):
	}
	r.judge(m)

	return r
}

// setReturned sets what the report is about.
func (r *Report) setReturned(message []byte) {
	message = dedent(message)
	r.returned, r.returnedSubject = message, returnedSubject(message)
}

// setKind: the gravest recipient decides for the whole.
func (r *Report) setKind() {
	order := []Kind{Bounce, Delay, Delivered}
	for _, k := range order {
		for _, c := range r.Recipients {
			if c.Kind == k {
				r.Kind = k
				return
			}
		}
	}
}

func (r *Report) add(c Recipient) {
	if len(r.Recipients) < maxRecipients {
		r.Recipients = append(r.Recipients, c)
	}
}

// Addressees are those of a mail's own header (To, Delivered-To), for whom its
// envelope is gone.
func Addressees(msg []byte) []string {
	head, _ := splitMessage(msg)
	h := returnedHeader(head)

	return addressIn.FindAllString(h["delivered-to"]+" "+h["x-original-to"]+" "+h["to"], 16)
}

// oneLine joins lines, and puts a mark where bytes are no text.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
}
