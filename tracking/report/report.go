// Package report parses mail that comes back: delivery status notifications (RFC
// 3464) and the older formats of many mail systems, feedback reports (ARF, RFC
// 5965), and what looks like them, which is automatic replies and plain mail.
//
// Parse reads one mail. Its rules are about formats, not about single messages of
// one provider. What the structure of a mail does not say is read leniently from
// its text, but only if the mail was written by a mail system.
//
// A Finder finds the copy that a report is about. It trusts only message ids and
// tokens that verify. An Intake records what reports say as events.
//
// All of them are safe for concurrent use.
package report

import (
	"strings"
	"time"
)

// Kind is what a report, or a recipient of it, is about.
type Kind string

// Kinds of reports.
const (
	Bounce    Kind = "bounce"     // delivery failed for good
	Delay     Kind = "delay"      // delivery will be retried
	Delivered Kind = "delivered"  // delivered, relayed or expanded
	Complaint Kind = "complaint"  // feedback report
	AutoReply Kind = "auto-reply" // vacation notice, challenge, acknowledgement, receipt
	Other     Kind = "other"      // anything else
)

// Limits on what is read of one mail.
const (
	maxDepth      = 10        // nesting of parts
	maxParts      = 500       // parts
	maxText       = 256 << 10 // bytes of text that are searched for ids and tokens
	maxNotice     = 128 << 10 // bytes of the text of a notice
	maxLooked     = 8 << 20   // bytes of the body, and of its parts when decoded
	maxRecipients = 1000      // recipients
	maxReason     = 1000      // bytes of a reason
)

// Report is what one mail says.
type Report struct {
	Kind       Kind
	Recipients []Recipient
	Date       time.Time // of its header; zero if there is no valid one

	OriginalEnvelopeID string // ENVID (RFC 3461)

	// Fields of a feedback report (RFC 5965).
	FeedbackType string
	UserAgent    string
	ReportingMTA string
	SourceIP     string
	ReportedTo   string // Reported-Domain, or the recipient of the report

	unnamed Recipient // of a notice that does not name a recipient
	subject string
	text    []byte // all text parts, which may include the returned message

	returned        []byte // the message or header that the report is about
	returnedSubject string // its subject, decoded
}

// Recipient is what a report says of one recipient.
type Recipient struct {
	Kind       Kind
	Original   string // Original-Recipient
	Final      string // Final-Recipient, or as the text names it
	Status     string // enhanced status code (RFC 3463), or empty
	ReplyCode  string // SMTP reply code, or empty
	Diagnostic string // what the report says, on one line
	Class      int    // SparkPost's bounce class
	Hard       bool   // the address or its domain does not exist any more

	isContext bool // Diagnostic is the whole notice, not the words of a server
	doubted   bool // its words would mean a hard bounce elsewhere
}

// Address returns the address to which the sender wrote, as far as it is known: the
// original one, or else the final one.
func (c Recipient) Address() string {
	if c.Original != "" {
		return c.Original
	}

	return c.Final
}

// Nameless returns what a report without recipients says, which is at least its
// kind.
func (r *Report) Nameless() Recipient {
	c := r.unnamed
	c.Kind = r.Kind

	return c
}

// Parse parses a mail. It never fails: a mail that it does not understand is of
// kind Other.
func Parse(msg []byte) *Report {
	m := readStructure(msg)
	r := &Report{
		Kind:    Other,
		Date:    m.date(),
		subject: m.get("Subject"),
		text:    m.allText(),
	}
	r.setReturned(m.returned())

	// Each of these sets the kind and the recipients if it understands the mail.
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

// setReturned sets the message that the report is about.
func (r *Report) setReturned(message []byte) {
	r.returned = dedent(message)
	r.returnedSubject = returnedSubject(r.returned)
}

// setKind sets the kind of the report to that of its recipients. If they are of
// several, a bounce counts more than a delay, and that more than a delivery.
func (r *Report) setKind() {
	for _, k := range []Kind{Bounce, Delay, Delivered} {
		for _, c := range r.Recipients {
			if c.Kind == k {
				r.Kind = k
				return
			}
		}
	}
}

// add adds a recipient unless there are too many.
func (r *Report) add(c Recipient) {
	if len(r.Recipients) < maxRecipients {
		r.Recipients = append(r.Recipients, c)
	}
}

// Addressees returns the addresses of the header fields Delivered-To, X-Original-To
// and To of a mail, for callers that do not have its envelope.
func Addressees(msg []byte) []string {
	head, _ := splitMessage(msg)
	h := returnedHeader(head)

	return addressIn.FindAllString(h["delivered-to"]+" "+h["x-original-to"]+" "+h["to"], 16)
}

// oneLine joins lines, and replaces bytes that are not UTF-8.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(s, "\uFFFD")), " ")
}
