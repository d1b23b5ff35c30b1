package relay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	gomessage "github.com/emersion/go-message"
	"github.com/emersion/go-message/textproto"

	"postern/relay/envelope"
	"postern/relay/queue"
)

// dsnReport is what a delivery status notification tells a sender.
type dsnReport struct {
	to       envelope.Address
	params   envelope.MailParams
	original []byte
	arrived  time.Time
	failed   []dsnRecipient
}

type dsnRecipient struct {
	recipient envelope.Recipient
	reply     string
	upstream  string
	expired   bool
}

// wanted: NOTIFY without FAILURE asks for silence (RFC 3461 section 4.1).
func (d dsnRecipient) wanted() bool {
	return len(d.recipient.Notify) == 0 || slices.Contains(d.recipient.Notify, "FAILURE")
}

// status is the enhanced status code in a reply, else X.0.0.
func (d dsnRecipient) status() string {
	for _, w := range strings.Fields(d.reply) {
		if len(w) >= 5 && (w[0] == '5' || w[0] == '4') && strings.Count(w, ".") == 2 && strings.Trim(w, "0123456789.") == "" {
			if d.expired {
				return "4.4.7"
			}
			return w
		}
	}
	return "5.0.0"
}

// dsn writes a DSN (RFC 3464) as a transaction of its own; nil where nobody is
// to get one: the null path, or NOTIFY.
func (r *Relay) dsn(d *dsnReport) *queue.Transaction {
	d.failed = slices.DeleteFunc(d.failed, func(f dsnRecipient) bool { return !f.wanted() })
	if d.to.IsNull() || len(d.failed) == 0 {
		return nil
	}
	now := r.c.Now()
	id := r.c.Keys.NewID(now).String()
	body, err := r.dsnBytes(d, id, now)
	if err != nil {
		r.c.Log.Error("DSN not written", "to", d.to.String(), "err", err)
		return nil
	}
	raw, _ := json.Marshal(info{DSN: true})
	return &queue.Transaction{ID: id, Created: now, Info: raw, EightBit: has8bit(body),
		Copies: []queue.Copy{{Recipient: envelope.Recipient{Address: d.to}, MessageID: id, Own: [][]byte{body}}}}
}

func (r *Relay) dsnBytes(d *dsnReport, id string, now time.Time) ([]byte, error) {
	var h gomessage.Header
	h.SetContentType("multipart/report", map[string]string{"report-type": "delivery-status", "boundary": "postern-" + id})
	h.Set("From", "Mail Delivery System <mailer-daemon@"+r.c.Hostname+">")
	h.Set("To", d.to.String())
	h.Set("Subject", "Undelivered mail: returned to sender")
	h.Set("Date", now.Format(time.RFC1123Z))
	h.Set("Message-ID", "<"+id+"@"+r.c.Hostname+">")
	h.Set("Auto-Submitted", "auto-replied")
	h.Set("MIME-Version", "1.0")
	var out bytes.Buffer
	w, err := gomessage.CreateWriter(&out, h)
	if err != nil {
		return nil, err
	}
	part := func(kind, encoding string, write func(io.Writer) error) error {
		var ph gomessage.Header
		ph.Set("Content-Type", kind)
		if encoding != "" {
			ph.Set("Content-Transfer-Encoding", encoding)
		}
		pw, err := w.CreatePart(ph)
		if err != nil {
			return err
		}
		if err := write(pw); err != nil {
			return err
		}
		return pw.Close()
	}
	charset, words := "us-ascii", ""
	if slices.ContainsFunc(d.failed, func(f dsnRecipient) bool { return !f.recipient.Address.IsASCII() }) {
		charset, words = "utf-8", "8bit"
	}
	if err := part("text/plain; charset="+charset, words, func(w io.Writer) error { return d.words(w, r.c.Hostname) }); err != nil {
		return nil, err
	}
	if err := part("message/delivery-status", "", func(w io.Writer) error { return d.fields(w, r.c.Hostname) }); err != nil {
		return nil, err
	}
	kind, original := "text/rfc822-headers", d.original
	if header, _, ok := envelope.Split(d.original); d.params.Return == "FULL" {
		kind = "message/rfc822"
	} else if ok {
		original = header
	}
	encoding := "7bit"
	if has8bit(original) {
		encoding = "8bit"
	}
	if err := part(kind, encoding, func(w io.Writer) error { _, err := w.Write(original); return err }); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// words are for people.
func (d *dsnReport) words(w io.Writer, hostname string) error {
	fmt.Fprintf(w, "This is the mail gateway at %s.\r\n\r\nYour message could not be delivered to:\r\n", hostname)
	for _, f := range d.failed {
		fmt.Fprintf(w, "\r\n  %s\r\n", f.recipient.Address)
		for _, line := range strings.Split(f.reply, "\n") {
			fmt.Fprintf(w, "    %s\r\n", line)
		}
	}
	_, err := fmt.Fprint(w, "\r\nIt will not be tried again.\r\n")
	return err
}

// fields are RFC 3464 section 2.
func (d *dsnReport) fields(w io.Writer, hostname string) error {
	block := func(fields ...[2]string) error {
		var h textproto.Header
		for _, f := range slices.Backward(fields) { // Add puts a field in front
			if f[1] != "" {
				h.Add(f[0], f[1])
			}
		}
		return textproto.WriteHeader(w, h)
	}
	if err := block([2]string{"Reporting-MTA", "dns; " + hostname}, [2]string{"Original-Envelope-Id", d.params.EnvelopeID},
		[2]string{"Arrival-Date", d.arrived.Format(time.RFC1123Z)}); err != nil {
		return err
	}
	for _, f := range d.failed {
		original := ""
		if f.recipient.Original != "" {
			original = f.recipient.OriginalType + ";" + f.recipient.Original
			if f.recipient.OriginalType == "utf-8" {
				original = "utf-8;" + envelope.UTF8Xtext(f.recipient.Original)
			}
		}
		remote := ""
		if f.upstream != "" {
			host, _, _ := strings.Cut(f.upstream, ":")
			remote = "dns; " + host
		}
		if err := block([2]string{"Original-Recipient", original}, [2]string{"Final-Recipient", f.recipient.Address.Typed()},
			[2]string{"Action", "failed"}, [2]string{"Status", f.status()}, [2]string{"Remote-MTA", remote},
			[2]string{"Diagnostic-Code", "smtp; " + strings.ReplaceAll(f.reply, "\n", " ")}); err != nil {
			return err
		}
	}
	return nil
}
