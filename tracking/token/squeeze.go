package token

import (
	_ "embed"
	"errors"
	"strings"
)

//go:embed common.txt
var commonList string

// common are the texts of common.txt, which occur often in URLs and addresses. Texts
// in tokens are squeezed: each of these takes up one byte, a code of 0x01 to 0x1f or
// 0x7f to 0xfe. Printable ASCII characters represent themselves, and any other byte
// follows an escape, 0xff. 0x00 is not used.
//
// The list is part of the format of tokens, which are in links that are valid for
// years: it must never change. A better list needs a new format.
var common = strings.Fields(commonList)

// escape precedes bytes other than printable ASCII.
const escape = 0xff

// codeOf returns the code of the i-th common text.
func codeOf(i int) byte {
	if i < 0x1f {
		return byte(i + 1)
	}

	return byte(i - 0x1f + 0x7f)
}

// maxCommon is the number of codes.
const maxCommon = 0x1f + 0x80

// byFirst has the indices of the common texts by their first byte, the longest text
// first.
var byFirst = func() (table [256][]int) {
	for i, s := range common {
		l := table[s[0]]
		at := len(l)
		for at > 0 && len(common[l[at-1]]) < len(s) {
			at--
		}
		table[s[0]] = append(l[:at], append([]int{i}, l[at:]...)...)
	}

	return table
}()

// textOf has the common text of each code; it is empty for other bytes.
var textOf = func() (table [256]string) {
	for i, s := range common {
		table[codeOf(i)] = s
	}

	return table
}()

// squeeze appends the squeezed form of s to dst.
func squeeze(dst []byte, s string) []byte {
next:
	for len(s) > 0 {
		for _, i := range byFirst[s[0]] {
			c := common[i] // of two bytes or more
			if len(s) > 1 && c[1] == s[1] && strings.HasPrefix(s, c) {
				dst = append(dst, codeOf(i))
				s = s[len(c):]
				continue next
			}
		}

		if s[0] < ' ' || s[0] > '~' {
			dst = append(dst, escape)
		}
		dst = append(dst, s[0])
		s = s[1:]
	}

	return dst
}

// squeezedLen returns the length of the squeezed form of s.
func squeezedLen(s string) int {
	var buf [256]byte

	return len(squeeze(buf[:0], s))
}

var errSqueezed = errors.New("not a squeezed text")

// unsqueeze is the inverse of squeeze.
func unsqueeze(b []byte) (string, error) {
	out := make([]byte, 0, 2*len(b))
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c >= ' ' && c <= '~':
			out = append(out, c)
		case c == escape:
			if i++; i == len(b) {
				return "", errSqueezed
			}
			out = append(out, b[i])
		case textOf[c] == "":
			return "", errSqueezed
		default:
			out = append(out, textOf[c]...)
		}
	}

	return string(out), nil
}
