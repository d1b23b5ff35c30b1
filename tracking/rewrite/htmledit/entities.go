package htmledit

import (
	"bytes"
	"strings"

	"golang.org/x/net/html"
)

// Unescape decodes the character references in the raw value of an attribute.
// In attributes some references need their semicolon: &copy=1 stays as it is
// (HTML standard, section 13.2.5.73). golang.org/x/net/html has that rule in its
// tokenizer alone, which therefore gets a tag made of the value.
func Unescape(raw []byte) string {
	if plain, ok := onlyAmp(raw); ok { // nearly every link
		return plain
	}

	// A quote ends a reference just as the ampersand of &quot; does.
	raw = bytes.ReplaceAll(raw, []byte(`"`), []byte("&quot;"))
	z := html.NewTokenizer(strings.NewReader(`<a b="` + string(raw) + `">`))
	z.Next()
	_, value, _ := z.TagAttr()

	return string(value)
}

// onlyAmp decodes a value whose only references are &amp;. ok is false for
// others, and for values with a CR, which the tokenizer normalizes.
func onlyAmp(raw []byte) (value string, ok bool) {
	const amp = "&amp;"
	if bytes.Count(raw, []byte("&")) != bytes.Count(raw, []byte(amp)) || bytes.IndexByte(raw, '\r') >= 0 {
		return "", false
	}

	var b strings.Builder
	b.Grow(len(raw)) // strings.ReplaceAll would have to copy raw first
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
