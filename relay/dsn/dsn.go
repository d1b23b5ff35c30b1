package dsn

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	gomessage "github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"

	"postern/relay/envelope"
	"postern/relay/message"
	"postern/relay/reply"
)

// Report says which recipients a message did not reach, and why.
type Report struct {
	To       envelope.Address // the sender of the message
	Params   envelope.MailParams
	Original Original
	Arrived  time.Time
	Failed   []Recipient
}

// Recipient is a recipient that a message did not reach.
type Recipient struct {
	MessageID string // of the copy; not part of the notification
	Recipient envelope.Recipient
	Reply     string // the last reply, as reply.Reply writes it
	Upstream  string // host:port; empty: none answered
	Expired   bool   // given up after temporary failures
}

// Original is the message that a notification is about. It must not hold
// fields that the sender is not to see, such as Bcc.
type Original struct {
	Header  []byte
	Body    []byte
	HasBody bool // an empty line separates header and body
}

// full returns the whole message.
func (o Original) full() []byte {
	if !o.HasBody {
		return o.Header
	}
	return slices.Concat(o.Header, []byte("\r\n"), o.Body)
}

// Options are what a notification has of its own.
type Options struct {
	ID       string // in Message-ID and the MIME boundary
	Hostname string // the Reporting-MTA
	Date     time.Time
	EightBit bool // the upstream accepts 8-bit content
}

// maxReply bounds what is quoted of a reply, in bytes.
const maxReply = 1000

// cutReply cleans a reply and cuts it at maxReply.
func cutReply(text string) string {
	text = reply.CleanText(text)
	return text[:min(len(text), maxReply)]
}

// oneLine makes text of others fit for a header field.
func oneLine(s string) string { return reply.CleanLine(s, maxReply) }

// Wanted reports whether the sender wants to hear of the failure. NOTIFY
// without FAILURE asks for silence (RFC 3461 section 4.1).
func (r Recipient) Wanted() bool {
	return len(r.Recipient.Notify) == 0 || slices.Contains(r.Recipient.Notify, "FAILURE")
}

// status returns the enhanced status code (RFC 3463) of the failure: that of
// the reply, else 5.0.0.
func (r Recipient) status() string {
	if r.Expired {
		return "4.4.7"
	}

	if _, status := reply.ParseCodes(r.Reply); status != "" && status[0] != '2' {
		return status
	}
	return "5.0.0"
}

// original returns ORCPT, which may decode to anything (RFC 3464 section
// 2.3.1).
func (r Recipient) original() string {
	o := r.Recipient.Original

	switch {
	case o == "":
		return ""
	case r.Recipient.OriginalType == "utf-8":
		return "utf-8;" + envelope.UTF8Xtext(o)
	}
	return oneLine(r.Recipient.OriginalType) + ";" + oneLine(o)
}

// remote returns the upstream without its port.
func (r Recipient) remote() string {
	if r.Upstream == "" {
		return ""
	}

	host, _, err := net.SplitHostPort(r.Upstream)
	if err != nil {
		host = r.Upstream
	}
	return "dns; " + oneLine(host)
}

// Encode returns the notification as multipart/report. It holds the whole
// message if RET asked for that, else its header. Only the header is returned
// of a message with 8-bit content when the upstream does not accept any:
// message/rfc822 may not be encoded (RFC 2046 section 5.2.1), and the header
// is enough (RFC 3461 section 4.3).
//
// Encode fails if the notification could not be sent, for example because the
// message holds a bare CR; EncodeText never does.
func (r *Report) Encode(o Options) ([]byte, error) {
	var out bytes.Buffer
	w := newWriter(r, o)
	if err := w.write(&out); err != nil {
		return nil, fmt.Errorf("dsn: %w", err)
	}

	if err := message.Check(out.Bytes()); err != nil {
		return nil, fmt.Errorf("dsn: %w", err)
	}
	return out.Bytes(), nil
}

// EncodeText returns the notification as plain text, without the message.
func (r *Report) EncodeText(o Options) []byte {
	return newWriter(r, o).text()
}

// writer writes one notification.
type writer struct {
	Report
	Options
}

func newWriter(r *Report, o Options) *writer {
	w := &writer{Report: *r, Options: o}

	w.Failed = slices.Clone(w.Failed)
	for i := range w.Failed {
		w.Failed[i].Reply = cutReply(w.Failed[i].Reply)
	}

	return w
}

// write writes the notification as multipart/report.
func (w *writer) write(out io.Writer) error {
	mw, err := gomessage.CreateWriter(out, w.header())
	if err != nil {
		return err
	}

	charset := "us-ascii"
	if slices.ContainsFunc(w.Failed, func(r Recipient) bool { return !r.Recipient.Address.IsASCII() }) {
		charset = "utf-8"
	}
	if err := w.writePart(mw, "text/plain; charset="+charset, w.explanation()); err != nil {
		return err
	}

	var status bytes.Buffer
	if err := w.writeStatus(&status); err != nil {
		return err
	}
	if err := w.writePart(mw, "message/delivery-status", status.Bytes()); err != nil {
		return err
	}

	kind, returned := w.returned()
	if err := w.writePart(mw, kind, returned); err != nil {
		return err
	}
	return mw.Close()
}

// returned returns what is sent back of the message, and its media type.
func (w *writer) returned() (kind string, content []byte) {
	if w.Params.Return == "FULL" {
		if full := w.Original.full(); w.EightBit || !message.HasEightBit(full) {
			return "message/rfc822", full
		}
	}

	return "text/rfc822-headers", w.Original.Header
}

// header returns the notification's own header.
func (w *writer) header() gomessage.Header {
	var h gomessage.Header
	h.SetContentType("multipart/report", map[string]string{
		"report-type": "delivery-status",
		"boundary":    "postern-" + w.ID,
	})
	h.Set("From", "Mail Delivery System <mailer-daemon@"+w.Hostname+">")
	h.Set("To", w.To.String())
	h.Set("Subject", "Undelivered mail: returned to sender")
	h.Set("Date", w.Date.Format(time.RFC1123Z))
	h.Set("Message-ID", "<"+w.ID+"@"+w.Hostname+">")
	h.Set("Auto-Submitted", "auto-replied")
	h.Set("MIME-Version", "1.0")

	return h
}

// writePart writes one part, encoded if the upstream requires it.
func (w *writer) writePart(mw *gomessage.Writer, kind string, body []byte) error {
	encoding := "quoted-printable"
	switch {
	case !message.HasEightBit(body):
		encoding = "7bit"
	case w.EightBit:
		encoding = "8bit"
	}

	var h gomessage.Header
	h.Set("Content-Type", kind)
	h.Set("Content-Transfer-Encoding", encoding)

	pw, err := mw.CreatePart(h)
	if err != nil {
		return err
	}
	if _, err := pw.Write(body); err != nil {
		return err
	}
	return pw.Close()
}

// text returns the notification as plain ASCII text, of nothing that could keep
// it from being sent.
func (w *writer) text() []byte {
	hostname := oneLine(w.Hostname)

	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Mail Delivery System <mailer-daemon@%s>\r\n", hostname)
	fmt.Fprintf(&b, "To: %s\r\n", w.To)
	b.WriteString("Subject: Undelivered mail: returned to sender\r\n")
	fmt.Fprintf(&b, "Date: %s\r\n", w.Date.Format(time.RFC1123Z))
	fmt.Fprintf(&b, "Message-ID: <%s@%s>\r\n", w.ID, hostname)
	b.WriteString("Auto-Submitted: auto-replied\r\n")
	b.WriteString("MIME-Version: 1.0\r\n")
	b.WriteString("Content-Type: text/plain; charset=us-ascii\r\n\r\n")
	b.Write(message.ReplaceEightBit(w.explanation()))

	return b.Bytes()
}

// explanation returns the text for people.
func (w *writer) explanation() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "This is the mail gateway at %s.\r\n\r\n", oneLine(w.Hostname))
	b.WriteString("Your message could not be delivered to:\r\n")

	for _, r := range w.Failed {
		fmt.Fprintf(&b, "\r\n  %s\r\n", r.Recipient.Address)
		for line := range strings.SplitSeq(r.Reply, "\n") {
			fmt.Fprintf(&b, "    %s\r\n", line)
		}
	}

	b.WriteString("\r\nIt will not be tried again.\r\n")
	return b.Bytes()
}

// writeStatus writes the delivery status (RFC 3464 section 2): the fields of
// the message, then those of each recipient.
func (w *writer) writeStatus(out io.Writer) error {
	err := writeBlock(out, []field{
		{"Reporting-MTA", "dns; " + w.Hostname},
		{"Original-Envelope-Id", oneLine(w.Params.EnvelopeID)},
		{"Arrival-Date", w.Arrived.Format(time.RFC1123Z)},
	})
	if err != nil {
		return err
	}

	for _, r := range w.Failed {
		err := writeBlock(out, []field{
			{"Original-Recipient", r.original()},
			{"Final-Recipient", r.Recipient.Address.Typed()},
			{"Action", "failed"},
			{"Status", r.status()},
			{"Remote-MTA", r.remote()},
			{"Diagnostic-Code", "smtp; " + oneLine(strings.ReplaceAll(r.Reply, "\n", " "))},
		})
		if err != nil {
			return err
		}
	}

	return nil
}

// field is a field of a delivery status.
type field struct{ name, value string }

// writeBlock writes fields and the empty line after them. A field without a
// value is left out.
func writeBlock(out io.Writer, fields []field) error {
	var h textproto.Header
	for _, f := range slices.Backward(fields) { // Add puts a field in front
		if f.value != "" {
			h.Add(f.name, f.value)
		}
	}

	return textproto.WriteHeader(out, h)
}
