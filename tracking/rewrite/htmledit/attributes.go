package htmledit

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
)

// attr is one attribute by its offsets in a tag. A value without quotes spans
// itself, a quoted one what is between the quotes; without a value both ends
// stand behind the name.
type Attribute struct {
	NameStart, NameEnd   int
	ValueStart, ValueEnd int
	End                  int // behind the closing quote
}

// value reads the value that begins at or after i and returns where it ends.
func (a *Attribute) value(tag []byte, i int) int {
	for i < len(tag) && IsSpace(tag[i]) {
		i++
	}

	if i < len(tag) && (tag[i] == '"' || tag[i] == '\'') {
		n := bytes.IndexByte(tag[i+1:], tag[i])
		if n < 0 {
			n = len(tag) - i - 1
		}
		a.ValueStart, a.ValueEnd = i+1, i+1+n
		a.End = min(a.ValueEnd+1, len(tag))

		return a.End
	}

	a.ValueStart = i
	for i < len(tag) && !IsSpace(tag[i]) && tag[i] != '>' {
		i++
	}
	a.ValueEnd, a.End = i, i

	return i
}

// removal is the range that takes an attribute out of its tag: with what
// divides it from the attribute before, which ends at prevEnd, unless that is
// needed to divide its neighbours. In front of a slash white space stays, for
// the slash would become part of an unquoted value.
func (a *Attribute) Removal(tag []byte, prevEnd int) (from, to int) {
	if next := a.End; next < len(tag) && !IsSpace(tag[next]) && tag[next] != '>' {
		return a.NameStart, next
	}

	return prevEnd, a.End
}

// Unescape undoes the character references of an attribute's value by the
// rule for attributes, where &copy=1 stays as it is. The rule is the
// tokenizer's: it is given a tag that holds nothing else.
func Unescape(raw []byte) string {
	if plain, ok := onlyAmp(raw); ok { // as nearly every link that has any
		return plain
	}

	// A quote ends a reference as the ampersand of &quot; does.
	raw = bytes.ReplaceAll(raw, []byte(`"`), []byte("&quot;"))
	z := html.NewTokenizer(strings.NewReader(`<a b="` + string(raw) + `">`))
	z.Next()
	_, v, _ := z.TagAttr()

	return string(v)
}

// onlyAmp undoes the references of a value that has no other than &amp;.
func onlyAmp(raw []byte) (string, bool) {
	const amp = "&amp;"
	if bytes.Count(raw, []byte("&")) != bytes.Count(raw, []byte(amp)) || bytes.IndexByte(raw, '\r') >= 0 {
		return "", false
	}

	return strings.ReplaceAll(string(raw), amp, "&"), true
}
