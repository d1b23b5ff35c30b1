package rewrite

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
)

// attr is one attribute by its offsets in a tag. A value without quotes spans
// itself, a quoted one what is between the quotes; without a value both ends
// stand behind the name.
type attr struct {
	nameStart, nameEnd int
	valStart, valEnd   int
	end                int // behind the closing quote
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f'
}

// value reads the value that begins at or after i and returns where it ends.
func (a *attr) value(tag []byte, i int) int {
	for i < len(tag) && isSpace(tag[i]) {
		i++
	}
	if i < len(tag) && (tag[i] == '"' || tag[i] == '\'') {
		n := bytes.IndexByte(tag[i+1:], tag[i])
		if n < 0 {
			n = len(tag) - i - 1
		}
		a.valStart, a.valEnd = i+1, i+1+n
		a.end = min(a.valEnd+1, len(tag))
		return a.end
	}
	a.valStart = i
	for i < len(tag) && !isSpace(tag[i]) && tag[i] != '>' {
		i++
	}
	a.valEnd, a.end = i, i
	return i
}

// removal is the range that takes an attribute out of its tag: with the white
// space before it, unless that is all that divides its neighbours.
func (a *attr) removal(tag []byte) (from, to int) {
	from, to = a.nameStart, a.end
	if to < len(tag) && !isSpace(tag[to]) && tag[to] != '>' && tag[to] != '/' {
		return from, to
	}
	for from > 0 && isSpace(tag[from-1]) {
		from--
	}
	return from, to
}

// attrValue undoes the character references of an attribute's value by the
// rule for attributes, where &copy=1 stays as it is. The rule is the
// tokenizer's: it is given a tag that holds nothing else.
func attrValue(raw []byte) string {
	if bytes.IndexByte(raw, '&') < 0 && bytes.IndexByte(raw, '\r') < 0 {
		return string(raw)
	}
	if plain, ok := onlyAmp(raw); ok { // as nearly every link that has any
		return plain
	}
	quote := `"`
	if bytes.IndexByte(raw, '"') >= 0 {
		if bytes.IndexByte(raw, '\'') >= 0 {
			return html.UnescapeString(string(raw)) // unquoted, with both: no URL has that
		}
		quote = "'"
	}
	z := html.NewTokenizer(strings.NewReader("<a b=" + quote + string(raw) + quote + ">"))
	z.Next()
	_, _ = z.TagName()
	_, v, _ := z.TagAttr()
	return string(v)
}

// onlyAmp undoes the references of a value that has no other than &amp;.
func onlyAmp(raw []byte) (string, bool) {
	const amp = "&amp;"
	if bytes.Count(raw, []byte("&")) != bytes.Count(raw, []byte(amp)) || bytes.IndexByte(raw, '\r') >= 0 {
		return "", false
	}
	var b strings.Builder
	b.Grow(len(raw))
	for {
		i := bytes.Index(raw, []byte(amp))
		if i < 0 {
			b.Write(raw)
			return b.String(), true
		}
		b.Write(raw[:i+1])
		raw = raw[i+len(amp):]
	}
}
