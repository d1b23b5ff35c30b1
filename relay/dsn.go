package relay

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

// dsnReport is what a delivery status notification tells a sender.
type dsnReport struct {
	to       envelope.Address
	params   envelope.MailParams
	original original
	arrived  time.Time
	failed   []dsnRecipient
}

// dsnRecipient is a recipient that a message did not reach.
type dsnRecipient struct {
	messageID string // of the copy, for the log
	recipient envelope.Recipient
	reply     string // the last answer, as envelope.Reply writes it
	upstream  string // host:port; empty: none answered
	expired   bool   // given up after answers that were temporary
}

// original is the message that a notification is about, without the fields that
// nobody gets to see.
type original struct {
	header []byte
	body   []byte
	whole  bool // there is an empty line between the two
}

// full returns the whole message.
func (o original) full() []byte {
	if !o.whole {
		return o.header
	}
	return slices.Concat(o.header, []byte("\r\n"), o.body)
}

// wanted reports whether the sender wants to hear of it: NOTIFY without FAILURE
// asks for silence (RFC 3461 section 4.1).
func (d dsnRecipient) wanted() bool {
	return len(d.recipient.Notify) == 0 || slices.Contains(d.recipient.Notify, "FAILURE")
}

// maxDSNReply bounds what is returned of an answer, in bytes.
const maxDSNReply = 1000

// status returns the enhanced status code (RFC 3463): that of the answer, else
// 5.0.0.
func (d dsnRecipient) status() string {
	if d.expired {
		return "4.4.7"
	}
	if _, status := replyCodes(d.reply); status != "" && status[0] != '2' {
		return status
	}
	return "5.0.0"
}

// cutReply cleans an answer, whatever it went through, and cuts it.
func cutReply(answer string) string {
	answer = reply.CleanText(answer)
	return answer[:min(len(answer), maxDSNReply)]
}

// dsnWriter writes one notification.
type dsnWriter struct {
	*dsnReport
	id       string
	hostname string
	now      time.Time
	eightBit bool // the upstream takes 8-bit content
}

// report writes the notification as multipart/report (RFC 3462), with the whole
// message where RET asks for it. A message with 8-bit content is cut to its
// header where the upstream does not take any: message/rfc822 may not be
// encoded (RFC 2046 section 5.2.1), and the header will do (RFC 3461 section
// 4.3).
func (d *dsnWriter) report() ([]byte, error) {
	var out bytes.Buffer
	if err := d.write(&out); err != nil {
		return nil, err
	}
	return out.Bytes(), message.Check(out.Bytes())
}

func (d *dsnWriter) write(out io.Writer) error {
	w, err := gomessage.CreateWriter(out, d.header())
	if err != nil {
		return err
	}

	charset := "us-ascii"
	if slices.ContainsFunc(d.failed, func(f dsnRecipient) bool { return !f.recipient.Address.IsASCII() }) {
		charset = "utf-8"
	}

	var words, fields bytes.Buffer
	d.words(&words)
	if err := d.fields(&fields); err != nil {
		return err
	}

	kind, returned := "text/rfc822-headers", d.original.header
	if d.params.Return == "FULL" {
		if whole := d.original.full(); d.eightBit || !has8bit(whole) {
			kind, returned = "message/rfc822", whole
		}
	}

	for _, part := range []struct {
		kind string
		body []byte
	}{
		{"text/plain; charset=" + charset, words.Bytes()},
		{"message/delivery-status", fields.Bytes()},
		{kind, returned},
	} {
		if err := d.part(w, part.kind, part.body); err != nil {
			return err
		}
	}
	return w.Close()
}

// header returns the notification's own header.
func (d *dsnWriter) header() gomessage.Header {
	var h gomessage.Header
	h.SetContentType("multipart/report", map[string]string{
		"report-type": "delivery-status",
		"boundary":    "postern-" + d.id,
	})
	h.Set("From", "Mail Delivery System <mailer-daemon@"+d.hostname+">")
	h.Set("To", d.to.String())
	h.Set("Subject", "Undelivered mail: returned to sender")
	h.Set("Date", d.now.Format(time.RFC1123Z))
	h.Set("Message-ID", "<"+d.id+"@"+d.hostname+">")
	h.Set("Auto-Submitted", "auto-replied")
	h.Set("MIME-Version", "1.0")
	return h
}

// part writes one part, encoded where it has to be.
func (d *dsnWriter) part(w *gomessage.Writer, kind string, body []byte) error {
	var h gomessage.Header
	h.Set("Content-Type", kind)

	switch {
	case !has8bit(body):
		h.Set("Content-Transfer-Encoding", "7bit")
	case d.eightBit:
		h.Set("Content-Transfer-Encoding", "8bit")
	default:
		h.Set("Content-Transfer-Encoding", "quoted-printable")
	}

	pw, err := w.CreatePart(h)
	if err != nil {
		return err
	}
	if _, err := pw.Write(body); err != nil {
		return err
	}
	return pw.Close()
}

// plain writes the notification as text alone, of nothing that could keep it
// from being written.
func (d *dsnWriter) plain() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: Mail Delivery System <mailer-daemon@%s>\r\nTo: %s\r\n", oneLine(d.hostname), d.to.String())
	fmt.Fprintf(&b, "Subject: Undelivered mail: returned to sender\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n",
		d.now.Format(time.RFC1123Z), d.id, oneLine(d.hostname))
	b.WriteString("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n")
	b.WriteString("Content-Type: text/plain; charset=us-ascii\r\n\r\n")

	var words bytes.Buffer
	d.words(&words)
	b.Write(asciiOnly(words.Bytes()))
	return b.Bytes()
}

// words writes the text for people.
func (d *dsnWriter) words(w *bytes.Buffer) {
	fmt.Fprintf(w, "This is the mail gateway at %s.\r\n\r\n", oneLine(d.hostname))
	w.WriteString("Your message could not be delivered to:\r\n")

	for _, f := range d.failed {
		fmt.Fprintf(w, "\r\n  %s\r\n", f.recipient.Address)
		for _, line := range strings.Split(f.reply, "\n") {
			fmt.Fprintf(w, "    %s\r\n", line)
		}
	}

	w.WriteString("\r\nIt will not be tried again.\r\n")
}

// fields writes the delivery status (RFC 3464 section 2).
func (d *dsnWriter) fields(w io.Writer) error {
	blocks := [][]dsnField{{
		{"Reporting-MTA", "dns; " + d.hostname},
		{"Original-Envelope-Id", oneLine(d.params.EnvelopeID)},
		{"Arrival-Date", d.arrived.Format(time.RFC1123Z)},
	}}
	for _, f := range d.failed {
		blocks = append(blocks, []dsnField{
			{"Original-Recipient", f.original()},
			{"Final-Recipient", f.recipient.Address.Typed()},
			{"Action", "failed"},
			{"Status", f.status()},
			{"Remote-MTA", f.remote()},
			{"Diagnostic-Code", "smtp; " + oneLine(strings.ReplaceAll(f.reply, "\n", " "))},
		})
	}

	for _, block := range blocks {
		if err := writeBlock(w, block); err != nil {
			return err
		}
	}
	return nil
}

// original returns ORCPT, which may decode to anything.
func (d dsnRecipient) original() string {
	o := d.recipient.Original

	switch {
	case o == "":
		return ""
	case d.recipient.OriginalType == "utf-8":
		return "utf-8;" + envelope.UTF8Xtext(o)
	}
	return oneLine(d.recipient.OriginalType) + ";" + oneLine(o)
}

// remote returns the upstream without its port.
func (d dsnRecipient) remote() string {
	if d.upstream == "" {
		return ""
	}
	host, _, err := net.SplitHostPort(d.upstream)
	if err != nil {
		host = d.upstream
	}
	return "dns; " + oneLine(host)
}

// dsnField is a field of a delivery status; one without a value is left out.
type dsnField struct{ name, value string }

func writeBlock(w io.Writer, fields []dsnField) error {
	var h textproto.Header
	for _, f := range slices.Backward(fields) { // Add puts a field in front
		if f.value != "" {
			h.Add(f.name, f.value)
		}
	}
	return textproto.WriteHeader(w, h)
}

// oneLine makes others' text fit for a field of its own.
func oneLine(s string) string { return reply.CleanLine(s, maxDSNReply) }

// asciiOnly puts a question mark in the place of each byte that is not ASCII.
func asciiOnly(b []byte) []byte {
	out := bytes.Clone(b)
	for i, c := range out {
		if c >= 0x80 {
			out[i] = '?'
		}
	}
	return out
}
