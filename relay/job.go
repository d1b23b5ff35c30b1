package relay

import (
	"strings"
	"unicode/utf8"
)

// maxJobID is where a job id is cut, in bytes: the length PowerMTA takes.
const maxJobID = 512

// JobID makes a name safe for X-Job: printable ASCII without space, double quote
// and backtick stays, every other code point becomes one underscore, and a byte
// that is not UTF-8 counts as a code point. The result is cut at 512 bytes and may be empty.
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

// jobFromHeader is JobID for a header's unfolded value: white space around it
// goes, encoded words (RFC 2047) are decoded; one that cannot be is taken as it
// stands. An empty name stays empty, whatever the prefix.
func jobFromHeader(value, prefix string) string {
	if s, err := lenientWords.DecodeHeader(value); err == nil {
		value = s
	}

	value = strings.Trim(value, " \t\r\n")
	if value == "" {
		return ""
	}
	return JobID(prefix + value)
}
