package report

import (
	"bytes"
	"regexp"
	"strings"

	"postern/tracking/token"
)

// Keys verifies message ids and tokens. *token.Keys implements it.
type Keys interface {
	ParseID(string) (token.ID, error)
	Open(text string, hosts ...string) (token.Token, error)
}

// Finder finds the copy that a report is about. It is safe for concurrent use as
// long as its fields do not change.
type Finder struct {
	Keys   Keys
	Header string   // name of the header field that carries message ids
	Hosts  []string // tracking hosts, in the form of token.Host
}

// Found is the copy that a report is about.
type Found struct {
	ID         token.ID
	By         string // how it was found: verp, header, token or envid
	Recipient  string // sealed in a token of the copy; empty if there is no token
	Subaccount uint32
	Unreported bool // events of the message are not reported
}

// VERPPrefix is what precedes the message id in the local part of a return path.
const VERPPrefix = "bounce+"

// maxCandidates is the most ids, and the most tokens, of one mail that are tried.
const maxCandidates = 64

// Find returns the copy that a report is about. raw is the mail, and recipients are
// those of its envelope. Message ids are looked for in the recipients (VERP), in the
// header field, in tokens and in ENVID, in this order; those that do not verify are
// ignored. A token of the same copy says for whom the copy was.
func (f *Finder) Find(r *Report, raw []byte, recipients []string) (Found, bool) {
	hay := f.hay(r, raw)
	tokens := f.tokens(hay)

	found, ok := f.findID(r, hay, tokens, recipients)
	if !ok {
		return Found{}, false
	}

	for _, t := range tokens {
		if t.MessageID == found.ID {
			found.Recipient = t.Recipient
			found.Subaccount = t.Subaccount
			found.Unreported = t.Unreported

			break
		}
	}

	return found, true
}

// findID returns the message id of the copy, and how it was found.
func (f *Finder) findID(r *Report, hay [][]byte, tokens []token.Token, recipients []string) (Found, bool) {
	if id, ok := f.first(verpIDs(recipients)); ok {
		return Found{ID: id, By: "verp"}, true
	}
	if id, ok := f.first(f.headerIDs(hay)); ok {
		return Found{ID: id, By: "header"}, true
	}
	if len(tokens) > 0 {
		return Found{ID: tokens[0].MessageID, By: "token"}, true
	}
	if id, ok := f.first([]string{r.OriginalEnvelopeID}); ok {
		return Found{ID: id, By: "envid"}, true
	}

	return Found{}, false
}

// first returns the first id that verifies.
func (f *Finder) first(texts []string) (id token.ID, ok bool) {
	for _, text := range texts {
		id, err := f.Keys.ParseID(strings.TrimSpace(text))
		if err == nil {
			return id, true
		}
	}

	return token.ID{}, false
}

// verpIDs returns the texts behind VERPPrefix in recipients.
func verpIDs(recipients []string) (out []string) {
	for _, a := range recipients {
		local, _, _ := strings.Cut(a, "@")
		if len(local) > len(VERPPrefix) && strings.EqualFold(local[:len(VERPPrefix)], VERPPrefix) {
			out = append(out, local[len(VERPPrefix):])
		}
	}

	return out
}

// hay returns all texts that may contain what was put into the message: the mail as
// it is, and the returned message decoded, because quoted-printable can break a
// token over two lines.
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

// headerIDs returns the values of the header field with message ids, folded or not,
// also where a text quotes the header.
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

// maxIDText is the most bytes that continuation lines add to an id.
const maxIDText = 200

// quoteMarks are the characters before the lines of a message that a text quotes.
const quoteMarks = "> \t|"

// cutLine returns the first line without its line end, and the rest.
func cutLine(b []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(b, []byte("\n"))

	return bytes.TrimRight(line, "\r"), rest
}

// fieldValue returns the value of a line that begins with the name of a field.
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
	// tokenIn matches tokens in tracked URLs, mailToken those of the mailbox in
	// List-Unsubscribe.
	tokenIn   = regexp.MustCompile(regexp.QuoteMeta(token.PathPrefix) + `(?:[A-Za-z0-9_.~%-]+/){0,8}([A-Za-z0-9_-]+)`)
	mailToken = regexp.MustCompile(`(?i)` + Unsubscribe + `(?:@[A-Za-z0-9.-]{1,255}\?subject=|\+)([A-Za-z0-9_-]{20,})`)

	// softBreak matches a soft line break (RFC 2045, section 6.7).
	softBreak = regexp.MustCompile(`=\r?\n`)
)

// tokens returns the tokens in a mail that verify, in order.
func (f *Finder) tokens(hay [][]byte) (out []token.Token) {
	tried := map[candidate]bool{}
	for _, b := range hay {
		// Quoted-printable that nobody decoded.
		if bytes.Contains(b, []byte("=\n")) || bytes.Contains(b, []byte("=\r\n")) {
			b = softBreak.ReplaceAll(b, nil)
		}

		for _, c := range candidates(b) {
			if tried[c] {
				continue
			}
			if len(tried) >= maxCandidates {
				return out
			}
			tried[c] = true

			if t, err := f.open(c.text, c.host); err == nil {
				out = append(out, t)
			}
		}
	}

	return out
}

// candidate is what may be a token, and the host whose URL it is in.
type candidate struct {
	text string
	host string
}

// candidates returns what may be tokens in a text: first those in URLs, then those
// in addresses.
func candidates(b []byte) (out []candidate) {
	// No token ends with these, but punctuation behind it may be taken for a part.
	trim := func(text []byte) string { return strings.TrimRight(string(text), "-_") }

	for _, m := range tokenIn.FindAllSubmatchIndex(b, maxCandidates) {
		out = append(out, candidate{text: trim(b[m[2]:m[3]]), host: hostBefore(b[:m[0]])})
	}
	for _, m := range mailToken.FindAllSubmatchIndex(b, maxCandidates) {
		out = append(out, candidate{text: trim(b[m[2]:m[3]]), host: token.Mail})
	}

	return out
}

// open opens a token with the host of its URL, or with any of the Finder's hosts.
func (f *Finder) open(text, host string) (token.Token, error) {
	if host != "" {
		if t, err := f.Keys.Open(text, host); err == nil {
			return t, nil
		}
	}

	return f.Keys.Open(text, f.Hosts...)
}

// maxHostBefore is the most bytes of scheme, host, port and path before the path of
// a token.
const maxHostBefore = 400

// hostBefore returns the host of the URL that b ends with, in the form of
// token.Host, or "".
func hostBefore(b []byte) string {
	b = b[max(0, len(b)-maxHostBefore):]
	i := bytes.LastIndex(b, []byte("://"))
	if i < 0 {
		return ""
	}

	host, _, _ := bytes.Cut(b[i+len("://"):], []byte("/"))

	return token.Host(string(host))
}
