package accounting

import (
	"strings"
)

// diagnostic returns the text of a Diagnostic-Code without its type (RFC 3464
// section 2.3.6): of `smtp;550 no` that is `550 no`. A type is one word.
func diagnostic(diag string) string {
	kind, text, ok := strings.Cut(diag, ";")
	if !ok || !isAtom(strings.TrimSpace(kind)) {
		return diag
	}

	return strings.TrimSpace(text)
}

// isAtom reports whether s is a letter followed by letters, digits and hyphens.
func isAtom(s string) bool {
	for i, r := range s {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r != '-' && (r < '0' || r > '9')) {
			return false
		}
	}

	return s != ""
}

// replyCode returns the three digits that an SMTP reply begins with (RFC 5321
// section 4.2), "" if there are none.
func replyCode(text string) string {
	digit := func(i int, from, to byte) bool { return from <= text[i] && text[i] <= to }
	if len(text) < 3 || !digit(0, '2', '5') || !digit(1, '0', '9') || !digit(2, '0', '9') {
		return ""
	}
	if len(text) > 3 && text[3] != ' ' && text[3] != '-' {
		return ""
	}

	return text[:3]
}
