package report

import (
	"bytes"
	"regexp"
	"strings"

	"postern/tracking/token"
)

// Keys tell our ids and tokens from made-up ones; *token.Keys is one.
type Keys interface {
	ParseID(string) (token.ID, error)
	Open(text string, hosts ...string) (token.Token, error)
}

// Finder finds the message that a report is about.
type Finder struct {
	Keys   Keys
	Header string   // the header field that carries message ids
	Hosts  []string // tracking hosts, in the form of token.Host
}

// Found is the copy that a report is about.
type Found struct {
	ID         token.ID
	By         string // verp, header, token or envid
	Recipient  string // of a token; empty: none was found
	Subaccount uint32
	Unreported bool // the message's events are not reported
}

// VERPPrefix stands in front of the message id in a return path of ours.
const VERPPrefix = "bounce+"

// maxCandidates bounds how many tokens of one mail are tried.
const maxCandidates = 64

// Find looks, in this order, at the recipients that the report was sent to
// (VERP), at our header field, a token of ours and ENVID in the returned
// message or the report. What does not verify is passed over. A token of the
// same copy tells more of it, above all for whom it was sealed.
func (f *Finder) Find(r *Report, raw []byte, recipients []string) (Found, bool) {
	hay := f.hay(r, raw)
	tokens := f.tokens(hay)

	id, by := f.first(verpIDs(recipients)), "verp"
	if id == (token.ID{}) {
		id, by = f.first(f.headerIDs(hay)), "header"
	}
	if id == (token.ID{}) && len(tokens) > 0 {
		id, by = tokens[0].MessageID, "token"
	}
	if id == (token.ID{}) {
		id, by = f.first([]string{r.OriginalEnvelopeID}), "envid"
	}
	if id == (token.ID{}) {
		return Found{}, false
	}

	found := Found{ID: id, By: by}
	for _, t := range tokens {
		if t.MessageID == id {
			found.Recipient, found.Subaccount = t.Recipient, t.Subaccount
			found.Unreported = t.Unreported
			break
		}
	}

	return found, true
}

// first is the first id that verifies, or none.
func (f *Finder) first(texts []string) token.ID {
	for _, text := range texts {
		if id, err := f.Keys.ParseID(strings.TrimSpace(text)); err == nil {
			return id
		}
	}

	return token.ID{}
}

// verpIDs returns what stands in the place of an id in return paths of ours.
func verpIDs(recipients []string) (out []string) {
	for _, a := range recipients {
		local, _, _ := strings.Cut(a, "@")
		if len(local) > len(VERPPrefix) && strings.EqualFold(local[:len(VERPPrefix)], VERPPrefix) {
			out = append(out, local[len(VERPPrefix):])
		}
	}

	return out
}

// hay is everything that may hold what we put into the message: the mail as it
// stands and the returned message decoded, quoted-printable being able to part
// a token.
func (f *Finder) hay(r *Report, raw []byte) [][]byte {
	out := [][]byte{r.returned}
	if len(r.returned) > 0 {
		m := readStructure(r.returned)
		for _, p := range m.parts {
			if strings.HasPrefix(p.mediaType, "text/") {
				out = append(out, p.body)
			}
		}
	}

	return append(out, r.text, raw[:min(len(raw), maxLooked)])
}

// headerIDs returns the values of our header field, folded or not, also where a
// text quotes the header.
func (f *Finder) headerIDs(hay [][]byte) (out []string) {
	name := strings.ToLower(f.Header)
	for _, b := range hay {
		for lines := b; len(lines) > 0 && len(out) < maxCandidates; {
			var line []byte
			line, lines = cutLine(lines)
			value, ok := fieldValue(line, name)
			if !ok {
				continue
			}

			for value == "" || len(value) < maxIDText {
				next, rest := cutLine(lines)
				more := bytes.TrimSpace(bytes.TrimLeft(next, quoteMarks))
				if len(more) == 0 || !isFolded(next) {
					break
				}
				value += string(more)
				lines = rest
			}
			out = append(out, value)
		}
	}

	return out
}

// maxIDText bounds in bytes what continuation lines add to an id.
const maxIDText = 200

// quoteMarks stand in front of the lines of a message that a text quotes.
const quoteMarks = "> \t|"

// cutLine returns the first line without its end, and what stands behind it.
func cutLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte("\n"))

	return bytes.TrimRight(line, "\r"), rest
}

// fieldValue returns the value of a line that begins with a field's name.
func fieldValue(line []byte, name string) (string, bool) {
	line = bytes.TrimLeft(line, quoteMarks)
	if len(line) <= len(name) || !strings.EqualFold(string(line[:len(name)]), name) {
		return "", false
	}
	value, ok := bytes.CutPrefix(bytes.TrimLeft(line[len(name):], " \t"), []byte(":"))
	if !ok || len(value) > maxIDText {
		return "", false
	}

	return strings.TrimSpace(string(value)), true
}

// isFolded reports whether a line continues the one before (RFC 5322, section
// 2.2.3), quoted or not.
func isFolded(line []byte) bool {
	line = bytes.TrimLeft(line, ">|")

	return len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
}

var (
	// tokenIn finds tokens in tracked URLs, mailToken those of the mailbox that
	// List-Unsubscribe names.
	tokenIn   = regexp.MustCompile(regexp.QuoteMeta(token.PathPrefix) + `(?:[A-Za-z0-9_.~%-]+/){0,8}([A-Za-z0-9_-]+)`)
	mailToken = regexp.MustCompile(`(?i)` + Unsubscribe + `(?:@[A-Za-z0-9.-]{1,255}\?subject=|\+)([A-Za-z0-9_-]{20,})`)

	softBreak = regexp.MustCompile(`=\r?\n`)
)

// tokens returns the tokens of ours in a mail, in the order in which they stand.
func (f *Finder) tokens(hay [][]byte) (out []token.Token) {
	tried := map[string]bool{}
	for _, b := range hay {
		if bytes.Contains(b, []byte("=\n")) || bytes.Contains(b, []byte("=\r\n")) { // quoted-printable that nobody decoded
			b = softBreak.ReplaceAll(b, nil)
		}

		for _, pattern := range []*regexp.Regexp{tokenIn, mailToken} {
			for _, m := range pattern.FindAllSubmatchIndex(b, maxCandidates) {
				text := strings.TrimRight(string(b[m[2]:m[3]]), "-_") // no token ends so
				host := token.Mail
				if pattern == tokenIn {
					host = hostBefore(b[:m[0]])
				}
				if tried[host+" "+text] {
					continue
				}
				if len(tried) >= maxCandidates {
					return out
				}
				tried[host+" "+text] = true
				if t, err := f.open(text, host); err == nil {
					out = append(out, t)
				}
			}
		}
	}

	return out
}

// open opens a token under the host that it stands behind, or any host of ours.
func (f *Finder) open(text, host string) (token.Token, error) {
	if host != "" {
		if t, err := f.Keys.Open(text, host); err == nil {
			return t, nil
		}
	}

	return f.Keys.Open(text, f.Hosts...)
}

// maxHostBefore bounds the host, port and path in front of a token's path, in
// bytes.
const maxHostBefore = 400

// hostBefore is the host of the URL whose path goes on behind b, in the form of
// token.Host; empty: there is none.
func hostBefore(b []byte) string {
	b = b[max(0, len(b)-maxHostBefore):]
	i := bytes.LastIndex(b, []byte("://"))
	if i < 0 {
		return ""
	}

	host, _, _ := bytes.Cut(b[i+len("://"):], []byte("/"))

	return token.Host(string(host))
}
