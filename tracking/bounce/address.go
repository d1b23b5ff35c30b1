package bounce

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits on the parts of an address in bytes (RFC 5321, section 4.5.3.1), with room
// for what VERP and rewriting add to a local part.
const (
	maxLocal  = 256
	maxDomain = 255
)

// cutAddresses replaces the addresses in a text with spaces.
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

		start := addressStart(text, done, at)
		end := addressEnd(text, at+1)
		out.WriteString(text[done:start])
		out.WriteByte(' ')
		done = end
		at = end - 1
	}
	out.WriteString(text[done:])

	return out.String()
}

// addressStart returns where the address with its @ at a position begins, which is
// not before from.
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

// addressEnd returns where the address ends whose domain begins at from.
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
	for i > from && text[i-1] == '.' { // full stop of the sentence
		i--
	}

	return i
}

// cutAddress splits an address at its last @. Without one both parts are empty.
func cutAddress(address string) (local, domain string) {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return "", ""
	}

	return address[:i], address[i+1:]
}
