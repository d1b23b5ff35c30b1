package message

import "bytes"

// HasEightBit reports whether b holds a byte that is not ASCII.
func HasEightBit(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}

	return false
}

// ReplaceEightBit returns a copy of b with a question mark in place of each
// byte that is not ASCII.
func ReplaceEightBit(b []byte) []byte {
	out := bytes.Clone(b)
	for i, c := range out {
		if c >= 0x80 {
			out[i] = '?'
		}
	}

	return out
}
