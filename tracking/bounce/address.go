package bounce

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLocal and maxDomain bound an address (RFC 5321, section 4.5.3.1), leaving
// room for what VERP and rewriting make of a local part.
const (
	maxLocal  = 256
	maxDomain = 255
)

// cutAddresses takes addresses out of a text, with the angle brackets around
// them.
func cutAddresses(text string) string {
	if !strings.Contains(text, "@") {
		return text
	}

	var out strings.Builder
	done := 0
	for at := 0; at < len(text); at++ {
		if text[at] != '@' {
			continue
		}
		start, end := addressStart(text, done, at), addressEnd(text, at+1)
		out.WriteString(text[done:start])
		out.WriteByte(' ')
		done = end
		at = end - 1
	}
	out.WriteString(text[done:])

	return out.String()
}

// addressStart returns where the address begins whose @ is at a position.
func addressStart(text string, from, at int) int {
	from = max(from, at-maxLocal)
	if at > from && text[at-1] == '"' { // a quoted local part
		if i := strings.LastIndexByte(text[from:at-1], '"'); i >= 0 {
			return from + i
		}
	}

	i := at
	for i > from {
		r, size := utf8.DecodeLastRuneInString(text[from:i])
		if unicode.IsSpace(r) || strings.ContainsRune(`<>()[]{},;:"|\`, r) || ideographic(r) {
			break
		}
		i -= size
	}

	return i
}

func addressEnd(text string, from int) int {
	i := from
	if i < len(text) && text[i] == '[' { // an address literal
		if end := strings.IndexByte(text[i:min(len(text), i+64)], ']'); end > 0 {
			return i + end + 1
		}
	}

	for i < len(text) && i < from+maxDomain {
		r, size := utf8.DecodeRuneInString(text[i:])
		if r != '.' && r != '-' && r != '_' && (!unicode.IsLetter(r) && !unicode.IsDigit(r) || ideographic(r)) {
			break
		}
		i += size
	}
	for i > from && text[i-1] == '.' { // the end of a sentence
		i--
	}

	return i
}

func cutAddress(address string) (local, domain string) {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return "", ""
	}

	return address[:i], address[i+1:]
}
