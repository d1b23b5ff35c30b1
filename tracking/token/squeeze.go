package token

import (
	"errors"
	"strings"
)

// Text in tokens is squeezed: what URLs and addresses are often made of costs
// one byte. The codes are 0x01 to 0x1f and 0x7f to 0xfe, printable ASCII stands
// for itself, and any other byte follows an escape, 0xff. 0x00 is no code.
//
// The list is a part of the token's format: links live for a year and more, so
// it must never change. A better list is a new format version.
var common = strings.Fields(`
https://www. https:// http://www. http:// .com/ .com .net/ .net .org/ .org .co.uk/ .co.uk .de/ .fr/ .io/ .html
.php @gmail.com @hotmail.com @yahoo.com @outlook.com @icloud.com @aol.com @live. @hotmail. @yahoo. @gmx.
@web.de @mail. ?utm_source= &utm_source= &utm_medium=email &utm_medium= &utm_campaign= &utm_content=
&utm_term= ?utm_campaign= ?utm_medium= utm_ newsletter facebook.com/ twitter.com/ instagram.com/ linkedin.com/
youtube.com/ google.com/ apple.com/ example.com unsubscribe subscri preferences account product categor order
view/ click index search login/ user token= ?id= &id= id= lang= ref= source= redirect url= email mail news
blog/ shop store sale offer image content page /en/ /en help support about contact privacy terms policy apps
info customer service online collection campaign event/ event download default review password confirm www.
%20 %2F %3D %26 %3A 2026 2025 2024 202 201 200 100 -20 000 tion ing and the ent es/ -and- -the- er on in re an
st en at es or te ar al it is ou co ma to de me ro li ne le se ch ta ca el ra
`)

const escape = 0xff

// codeOf gives the byte of the i-th common text.
func codeOf(i int) byte {
	if i < 0x1f {
		return byte(i + 1)
	}

	return byte(i - 0x1f + 0x7f)
}

// maxCommon is how many codes there are.
const maxCommon = 0x1f + 0x80

// byFirst has the common texts by their first byte, the longest first.
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

// textOf has the common text of each code; empty: the byte is no code.
var textOf = func() (table [256]string) {
	for i, s := range common {
		table[codeOf(i)] = s
	}

	return table
}()

// squeeze appends the short form of s.
func squeeze(dst []byte, s string) []byte {
next:
	for len(s) > 0 {
		for _, i := range byFirst[s[0]] {
			if c := common[i]; len(s) > 1 && c[1] == s[1] && strings.HasPrefix(s, c) { // all have two bytes or more
				dst = append(dst, codeOf(i))
				s = s[len(common[i]):]
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

// squeezedLen is the length of the short form.
func squeezedLen(s string) int {
	var buf [256]byte
	return len(squeeze(buf[:0], s))
}

var errSqueezed = errors.New("not a squeezed text")

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
