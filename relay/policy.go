package relay

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"net/mail"
	"strings"
	"time"

	"postern/relay/envelope"
)

// HeaderNames are the names of the fields that talk to PowerMTA; each has a
// key in the configuration.
type HeaderNames struct {
	MessageID  string
	Job        string
	VirtualMTA string
	Subaccount string
}

// neverLeave are the fields that no recipient and no upstream gets to see.
var neverLeave = []string{"X-MSYS-API", "X-DKIM-Key", "X-DKIM-Options", "Bcc", "Resent-Bcc", "Return-Path"}

// policy is what the header policy made of a message's header block.
type policy struct {
	header     []byte // the new block, but for what differs between copies
	names      []string
	from       envelope.Address // the first From address
	sender     string           // the sending domain: Sender, else From
	subject    string
	job        string
	virtualMTA string
	hasDate    bool
	hasMsgID   bool
}

// applyPolicy walks over the header once: each field stays as it is, but for
// those that the gateway removes or changes. X-Job: the first counts, the
// others go.
func (r *Relay) applyPolicy(header []byte, u User) policy {
	p := policy{header: make([]byte, 0, len(header)+256)}
	var sender, from string
	jobSeen := false
	for _, f := range envelope.Fields(header) {
		switch {
		case f.Name == "":
		case r.goes(f):
			continue
		case f.Is(r.c.Headers.Job):
			if !jobSeen {
				jobSeen = true
				p.job = jobFromHeader(f.Value(), u.JobPrefix)
				p.appendJob(r, f, u)
			}
			continue
		case f.Is(r.c.Headers.VirtualMTA) && p.virtualMTA == "":
			p.virtualMTA = f.Value()
		case f.Is("From") && from == "":
			from = f.Value()
		case f.Is("Sender") && sender == "":
			sender = f.Value()
		case f.Is("Subject") && p.subject == "":
			p.subject = f.Value()
		case f.Is("Date"):
			p.hasDate = true
		case f.Is("Message-ID"):
			p.hasMsgID = true
		}
		p.header = append(p.header, f.Raw...)
		if f.Name != "" {
			p.names = append(p.names, f.Name)
		}
	}
	if !jobSeen && u.Job != "" {
		if p.job = jobFromHeader(u.Job, u.JobPrefix); p.job != "" && r.c.PowerMTA {
			p.add(r.c.Headers.Job, p.job)
		}
	}
	if p.virtualMTA == "" && u.VirtualMTA != "" {
		p.virtualMTA = u.VirtualMTA
		if r.c.PowerMTA {
			p.add(r.c.Headers.VirtualMTA, p.virtualMTA)
		}
	}
	p.from = firstAddress(from)
	p.sender = strings.ToLower(p.from.Domain)
	if a := firstAddress(sender); !a.IsNull() {
		p.sender = strings.ToLower(a.Domain)
	}
	return p
}

// goes tells whether a field is taken out: what never leaves, what the gateway
// alone may say, and what only PowerMTA would take off again where the
// upstream is none.
func (r *Relay) goes(f envelope.Field) bool {
	for _, n := range neverLeave {
		if f.Is(n) {
			return true
		}
	}
	if f.Is(r.c.Headers.MessageID) {
		return true
	}
	if r.c.PowerMTA {
		return false
	}
	return f.Is(r.c.Headers.VirtualMTA) || f.Is("X-Envid") || len(f.Name) > 5 && strings.EqualFold(f.Name[:5], "X-Sp-")
}

// appendJob puts the safe X-Job where the message had its own: the very bytes
// that came where they are safe already.
func (p *policy) appendJob(r *Relay, f envelope.Field, u User) {
	if p.job == "" || !r.c.PowerMTA {
		return
	}
	raw := string(f.Raw)
	if name, value, ok := strings.Cut(raw, ":"); ok && name == f.Name && strings.TrimSuffix(strings.TrimPrefix(value, " "), "\r\n") == p.job {
		p.header = append(p.header, f.Raw...)
		p.names = append(p.names, f.Name)
		return
	}
	p.add(f.Name, p.job)
}

// add appends a field; value is printable ASCII by then.
func (p *policy) add(name, value string) {
	if n := len(p.header); n > 0 && !bytes.HasSuffix(p.header, []byte("\r\n")) {
		p.header = append(p.header, "\r\n"...)
	}
	p.header = append(p.header, name+": "+value+"\r\n"...)
	p.names = append(p.names, name)
}

// complete adds what a submission server adds where it is missing (RFC 6409
// sections 8.2 and 8.3).
func (p *policy) complete(hostname string, now time.Time) {
	if !p.hasDate {
		p.add("Date", now.Format(time.RFC1123Z))
	}
	if !p.hasMsgID {
		var b [16]byte
		rand.Read(b[:])
		p.add("Message-ID", "<"+hex.EncodeToString(b[:])+"@"+hostname+">")
	}
}

// maxAddressField bounds what is given to the address parser.
const maxAddressField = 16 << 10

// firstAddress is the first mailbox of an address list. A list that the parser
// does not read is looked at leniently, as mail programs do: what stands in
// angle brackets, else the first word with an @.
func firstAddress(list string) envelope.Address {
	if list == "" {
		return envelope.Address{}
	}
	if len(list) <= maxAddressField {
		if as, err := (&mail.AddressParser{WordDecoder: lenientWords}).ParseList(list); err == nil && len(as) > 0 {
			if a, err := envelope.FromUnquoted(as[0].Address); err == nil {
				return a
			}
		}
	}
	if i := strings.LastIndexByte(list, '<'); i >= 0 {
		in, _, _ := strings.Cut(list[i+1:], ">")
		if a, err := envelope.Parse(strings.TrimSpace(in)); err == nil {
			return a
		}
	}
	for _, w := range strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
		if a, err := envelope.Parse(strings.Trim(w, "<>\"")); err == nil {
			return a
		}
	}
	return envelope.Address{}
}
