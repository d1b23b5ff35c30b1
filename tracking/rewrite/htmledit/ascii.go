package htmledit

// EqualFold reports whether b equals lower, which is in lower case, when the
// case of ASCII letters in b is ignored. Names in HTML are compared that way.
func EqualFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}

	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}

	return true
}

// IsSpace reports whether c is ASCII whitespace as the HTML standard has it.
func IsSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
