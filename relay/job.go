package relay

import (
	"strings"
	"unicode/utf8"
)

// maxJobID bounds a job id, in bytes: PowerMTA accepts as many.
const maxJobID = 512

// JobID returns a name that is safe for X-Job. Printable ASCII is kept, apart from
// space, double quote and backtick; every other code point becomes one
// underscore, and so does a byte that is not UTF-8. The result is cut at 512 bytes
// and may be empty.
func JobID(name string) string {
	out := make([]byte, 0, min(len(name), maxJobID))

	for len(name) > 0 && len(out) < maxJobID {
		r, n := utf8.DecodeRuneInString(name)
		if r > ' ' && r <= '~' && r != '"' && r != '`' {
			out = append(out, byte(r))
		} else {
			out = append(out, '_')
		}
		name = name[n:]
	}

	return string(out)
}

// jobFromHeader returns the JobID of prefix and the unfolded value of a field.
// White space around the value is removed, and encoded words (RFC 2047) are
// decoded if they can be. An empty value has an empty id, whatever the prefix.
func jobFromHeader(value, prefix string) string {
	if decoded, err := lenientWords.DecodeHeader(value); err == nil {
		value = decoded
	}

	value = strings.Trim(value, " \t\r\n")
	if value == "" {
		return ""
	}

	return JobID(prefix + value)
}
