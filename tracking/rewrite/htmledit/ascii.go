package htmledit

// EqualFold reports whether b equals lower, which is in lower case, when the
// case of ASCII letters in b is ignored. Names in HTML are compared that way.
func EqualFold(b []byte, lower string) bool {
	return len(b) == len(lower) && equalFold(b, lower) // inlined: most lengths differ
}

// equalFold is EqualFold for arguments of the same length.
func equalFold(b []byte, lower string) bool {
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
