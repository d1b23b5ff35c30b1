package report

import (
	"bytes"
	"errors"
	"io"
	"net/mail"
	"strings"
	"time"

	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // text in other charsets becomes UTF-8
	"golang.org/x/net/html"

	"postern/tracking/event"
)

// structure is a mail as far as it can be read.
type structure struct {
	header message.Header
	parts  []part // leaves of the tree of parts, in order
	broken bool   // the MIME structure could not be read to its end
	raw    []byte // the body as it is
	left   int64  // bytes of parts that may still be read
}

// part is a part of a mail that has no parts itself.
type part struct {
	mediaType string // in lower case
	body      []byte // decoded; text in UTF-8
}

// is reports whether the part has one of several media types.
func (p part) is(types ...string) bool {
	for _, t := range types {
		if p.mediaType == t {
			return true
		}
	}

	return false
}

// isReturned reports whether the part is the returned message or its header.
func (p part) isReturned() bool {
	return p.is("message/rfc822", "text/rfc822-headers", "message/rfc822-headers", "text/rfc822-header",
		"message/global", "message/global-headers", "message/partial")
}

// isStatus reports whether the part is a delivery status (RFC 3464, RFC 6533).
func (p part) isStatus() bool {
	return p.is("message/delivery-status", "message/global-delivery-status", "message/x-delivery-status")
}

// isDisposition reports whether the part is a message disposition (RFC 8098, RFC
// 6533).
func (p part) isDisposition() bool {
	return p.is("message/disposition-notification", "message/global-disposition-notification")
}

// readStructure parses a mail with go-message. Header lines that the package would
// refuse are removed first. A body that it cannot parse is read as one text.
func readStructure(msg []byte) *structure {
	head, body := splitMessage(msg)
	m := &structure{raw: body[:min(len(body), maxLooked)], left: maxLooked}
	body = m.raw

	e, err := message.Read(io.MultiReader(bytes.NewReader(cleanHeader(head)), bytes.NewReader(body)))
	if e == nil {
		m.broken = err != nil
		m.parts = []part{{mediaType: "text/plain", body: body}}

		return m
	}

	m.header = e.Header
	m.walk(e, 0)
	if len(m.parts) == 0 {
		m.broken = true
		m.parts = []part{{mediaType: "text/plain", body: body}}
	}

	return m
}

// splitMessage splits a message into header and body. A first line of the mbox
// format is removed.
func splitMessage(msg []byte) (head, body []byte) {
	if bytes.HasPrefix(msg, []byte("From ")) {
		if i := bytes.IndexByte(msg, '\n'); i >= 0 {
			msg = msg[i+1:]
		}
	}

	for at := 0; ; {
		end := bytes.IndexByte(msg[at:], '\n')
		if end < 0 {
			return msg, nil
		}
		if len(bytes.TrimRight(msg[at:at+end], "\r")) == 0 {
			return msg[:at], msg[at+end+1:]
		}
		at += end + 1
	}
}

// cleanHeader returns the fields of a header and their continuations, without other
// lines and with an empty line at the end.
func cleanHeader(head []byte) []byte {
	var out bytes.Buffer
	kept := false
	for line := range bytes.Lines(head) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			if kept && len(bytes.TrimSpace(line)) > 0 {
				out.Write(line)
				out.WriteString("\r\n")
			}

			continue
		}

		name, _, ok := bytes.Cut(line, []byte(":"))
		name = bytes.TrimRight(name, " \t")
		kept = ok && len(name) > 0
		if kept {
			for _, c := range name {
				kept = kept && c > ' ' && c < 127
			}
		}

		if kept {
			out.Write(name)
			out.Write(line[bytes.IndexByte(line, ':'):])
			out.WriteString("\r\n")
		}
	}
	out.WriteString("\r\n")

	return out.Bytes()
}

// walk adds the leaves of an entity to parts.
func (m *structure) walk(e *message.Entity, depth int) {
	if len(m.parts) >= maxParts || depth > maxDepth {
		m.broken = true
		return
	}

	if mr := e.MultipartReader(); mr != nil {
		for {
			p, err := mr.NextPart()
			if p == nil || (err != nil && !message.IsUnknownCharset(err) && !message.IsUnknownEncoding(err)) {
				m.broken = m.broken || !errors.Is(err, io.EOF)
				return
			}

			m.walk(p, depth+1)
			if len(m.parts) >= maxParts {
				return
			}
		}
	}

	t, _, err := e.Header.ContentType()
	if err != nil || t == "" || strings.HasPrefix(t, "multipart/") {
		t = "text/plain"
	}

	b, err := io.ReadAll(io.LimitReader(e.Body, m.left))
	m.left -= int64(len(b))
	m.broken = m.broken || err != nil
	m.parts = append(m.parts, part{mediaType: strings.ToLower(t), body: b})
}

// get returns the value of a header field, decoded if possible.
func (m *structure) get(name string) string {
	v, _ := m.header.Text(name) // with an error, the value as it is

	return strings.TrimSpace(v)
}

// date returns the date of the mail, or the zero time.
func (m *structure) date() time.Time {
	t, _ := mail.ParseDate(m.header.Get("Date"))

	return t
}

// returned returns the first returned message or header, or nil.
func (m *structure) returned() []byte {
	for _, p := range m.parts {
		if p.isReturned() {
			return p.body
		}
	}

	return nil
}

// text returns what a reader of the mail sees, without the returned message.
func (m *structure) text() string {
	var plain, rich strings.Builder
	for _, p := range m.parts {
		switch {
		case p.is("text/html"):
			rich.WriteString(htmlText(p.body))
			rich.WriteByte('\n')
		case strings.HasPrefix(p.mediaType, "text/") && !p.isReturned():
			plain.Write(p.body)
			plain.WriteByte('\n')
		}

		if p.isReturned() && plain.Len()+rich.Len() > 0 {
			break // most parts that follow belong to it
		}
	}

	s := plain.String()
	if strings.TrimSpace(s) == "" {
		s = rich.String()
	}
	if m.broken {
		s += "\n" + string(m.raw)
	}

	return event.Clip(strings.ReplaceAll(s, "\r\n", "\n"), maxNotice)
}

// allText returns all text parts, concatenated.
func (m *structure) allText() []byte {
	var b bytes.Buffer
	for _, p := range m.parts {
		if strings.HasPrefix(p.mediaType, "text/") && b.Len() < maxText {
			b.Write(p.body)
			b.WriteByte('\n')
		}
	}

	return b.Bytes()
}

// htmlText returns the text of HTML, with a line for each block.
func htmlText(body []byte) string {
	var out strings.Builder
	z := html.NewTokenizer(bytes.NewReader(body))

	hidden := 0
	for {
		switch z.Next() {
		case html.ErrorToken:
			return out.String()
		case html.TextToken:
			if hidden == 0 {
				out.WriteString(strings.Join(strings.Fields(string(z.Text())), " ") + " ")
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, _ := z.TagName()
			switch string(name) {
			case "style", "script", "title":
				hidden++
			case "br", "p", "div", "tr", "li", "table", "h1", "h2", "h3", "td", "pre", "blockquote":
				out.WriteByte('\n')
			}
		case html.EndTagToken:
			name, _ := z.TagName()
			switch string(name) {
			case "style", "script", "title":
				hidden = max(0, hidden-1)
			case "p", "div", "tr", "li", "td":
				out.WriteByte('\n')
			}
		}
	}
}
