package htmledit

import (
	"bytes"
)

// Kind says what a token of HTML is. Text is what lies between tokens.
type Kind byte

const (
	StartTag Kind = iota
	EndTag
	Comment // and doctypes, processing instructions, bogus comments
)

// Token is a tag or a comment by its offsets.
type Token struct {
	Kind               Kind
	Start, End         int
	NameStart, NameEnd int
}

// Scanner finds the tags and comments of an HTML document as the HTML
// standard's tokenizer does, and no more than that: it makes no copies and no
// names. Its tokens are compared with those of golang.org/x/net/html over the
// corpus and by fuzzing (scan_test.go).
type Scanner struct {
	data []byte
	pos  int
	raw  string // the name of the element whose raw text comes next; empty: none

	lastStart int // of the tag that was given last
	cut       int // see cutOff; negative: none
}

func NewScanner(data []byte, pos int) *Scanner { return &Scanner{data: data, pos: pos, cut: -1} }

// rawText returns the name of the element, in lower case, whose raw text
// follows the tag that next returned last; it is empty where none does.
func (z *Scanner) RawText() string { return z.raw }

// cutOff returns where the tag, the comment or the element with raw text begins
// that the end of the document cuts off. What is put behind it would be inside
// it. ok is false where there is none.
func (z *Scanner) CutOff() (at int, ok bool) { return z.cut, z.cut >= 0 }

// next returns the next tag or comment; ok is false at the end. A tag that the
// end of the document cuts off is none.
func (z *Scanner) Next() (t Token, ok bool) {
	if z.raw != "" {
		z.skipRaw()
	}

	d := z.data
	for {
		i := bytes.IndexByte(d[z.pos:], '<')
		if i < 0 {
			z.pos = len(d)
			return t, false
		}

		t.Start = z.pos + i
		if t.Start+1 >= len(d) { // what follows could make a tag of it
			z.pos, z.cut = len(d), t.Start
			return t, false
		}

		switch c := d[t.Start+1]; {
		case isLetter(c):
			t.Kind, t.NameStart = StartTag, t.Start+1
			if !z.tag(&t) {
				return t, false
			}

			z.lastStart = t.Start
			z.raw = rawName(d[t.NameStart:t.NameEnd])

			return t, true

		case c == '/':
			if t.Start+2 >= len(d) {
				z.pos, z.cut = len(d), t.Start
				return t, false
			}
			if isLetter(d[t.Start+2]) {
				t.Kind, t.NameStart = EndTag, t.Start+2
				return t, z.tag(&t)
			}

			return z.bogusComment(t, t.Start+2), true

		case c == '!':
			if !bytes.HasPrefix(d[t.Start+2:], []byte("--")) {
				return z.bogusComment(t, t.Start+2), true
			}
			end, closed := commentEnd(d, t.Start+4)

			return z.comment(t, end, closed), true

		case c == '?':
			return z.bogusComment(t, t.Start+1), true
		default:
			z.pos = t.Start + 1
		}
	}
}

// comment returns a comment that ends at an offset. One that is not closed ends
// with the document, whatever its last character is.
func (z *Scanner) comment(t Token, end int, closed bool) Token {
	t.Kind = Comment
	t.End = end
	z.pos = end
	if !closed {
		z.cut = t.Start
	}

	return t
}

// bogusComment returns what a browser takes for a comment up to the next >.
func (z *Scanner) bogusComment(t Token, from int) Token {
	if i := bytes.IndexByte(z.data[from:], '>'); i >= 0 {
		return z.comment(t, from+i+1, true)
	}

	return z.comment(t, len(z.data), false)
}

// commentEnd finds the end of a comment whose text begins at i (HTML standard,
// section 13.2.5.43 and on). closed is false where the document ends first.
func commentEnd(d []byte, i int) (end int, closed bool) {
	if bytes.HasPrefix(d[i:], []byte(">")) {
		return i + 1, true
	}
	if bytes.HasPrefix(d[i:], []byte("->")) {
		return i + 2, true
	}

	for {
		n := bytes.Index(d[i:], []byte("--"))
		if n < 0 {
			return len(d), false
		}

		i += n + 2
		for i < len(d) && d[i] == '-' {
			i++
		}

		if i < len(d) && d[i] == '>' {
			return i + 1, true
		}
		if bytes.HasPrefix(d[i:], []byte("!>")) {
			return i + 2, true
		}
		if bytes.HasPrefix(d[i:], []byte("!-")) { // one dash counts already
			i++
		}
	}
}

// tag finds the ends of a tag's name and of the tag.
func (z *Scanner) tag(t *Token) bool {
	d, i := z.data, t.NameStart
	for i < len(d) && !IsSpace(d[i]) && d[i] != '/' && d[i] != '>' {
		i++
	}
	t.NameEnd = i

	end, ok := walkAttributes(d, i, nil)
	z.pos, t.End = end, end
	if !ok {
		z.cut = t.Start
	}

	return ok
}

// maxAttributes is how many attributes of a tag are looked at: a tag with more
// is left alone.
const MaxAttributes = 500

// appendAttributes appends the attributes of a tag that ends with d, by their
// offsets in d, to list. nameEnd is where the tag's name ends. Of more than
// maxAttributes, one more is appended.
func AppendAttributes(list []Attribute, d []byte, nameEnd int) []Attribute {
	walkAttributes(d, nameEnd, &list)
	return list
}

// walkAttributes goes over a tag's attributes from i on, behind its name, and
// returns where the tag ends; ok is false where the document ends first. It
// appends the attributes to list, where that is not nil, by offsets into d, and
// stops appending behind maxAttributes.
func walkAttributes(d []byte, i int, list *[]Attribute) (end int, ok bool) {
	for {
		for i < len(d) && (IsSpace(d[i]) || d[i] == '/') {
			i++
		}
		if i >= len(d) {
			return len(d), false
		}
		if d[i] == '>' {
			return i + 1, true
		}

		a := Attribute{NameStart: i}
		if d[i] == '=' { // a name may begin with one
			i++
		}
		for i < len(d) && !IsSpace(d[i]) && d[i] != '/' && d[i] != '>' && d[i] != '=' {
			i++
		}
		a.NameEnd, a.End = i, i
		a.ValueStart, a.ValueEnd = i, i

		j := i
		for j < len(d) && IsSpace(d[j]) {
			j++
		}
		if j < len(d) && d[j] == '=' {
			i = a.value(d, j+1)
		}

		if list != nil && len(*list) <= MaxAttributes {
			*list = append(*list, a)
		}
	}
}

// rawNames are the elements whose content is text to the tokenizer. The content
// of noscript is not: mail programs run no scripts and show it.
var rawNames = []string{
	"style", "title", "script", "textarea", "xmp", "iframe", "noembed", "noframes", "plaintext",
}

func rawName(name []byte) string {
	for _, n := range rawNames {
		if EqualFold(name, n) {
			return n
		}
	}

	return ""
}

// skipRaw goes to the end tag of an element with raw text, or to the end.
func (z *Scanner) skipRaw() {
	name := z.raw
	z.raw = ""
	d := z.data

	switch name {
	case "plaintext":
		z.rawToEnd()
		return
	case "script": // it has states of its own
		z.pos += scriptLength(d[z.pos:])
		if z.pos == len(d) {
			z.rawToEnd()
		}
		return
	}

	for {
		i := bytes.Index(d[z.pos:], []byte("</"))
		if i < 0 {
			z.rawToEnd()
			return
		}

		z.pos += i
		rest := d[z.pos+2:]
		if len(rest) <= len(name) { // no end tag fits any more
			z.rawToEnd()
			return
		}

		if c := rest[len(name)]; EqualFold(rest[:len(name)], name) && (IsSpace(c) || c == '/' || c == '>') {
			return
		}
		z.pos += 2
	}
}

func (z *Scanner) rawToEnd() { z.pos, z.cut = len(z.data), z.lastStart }

// scriptState is a group of the tokenizer's states for scripts (HTML standard,
// sections 13.2.5.4 and 13.2.5.15 to 13.2.5.31).
type scriptState byte

const (
	scriptData    scriptState = iota
	scriptEscaped             // behind <!--
	scriptDouble              // behind <script in that, where an end tag ends that alone
)

// scriptLength is how long the text of a script is whose start tag is just
// over.
func scriptLength(d []byte) int {
	state := scriptData
	dashes := 0
	for i := 0; i < len(d); i++ {
		if state == scriptData {
			next := bytes.IndexByte(d[i:], '<')
			if next < 0 {
				return len(d)
			}
			i += next
		}

		switch c := d[i]; {
		case c == '-':
			dashes++
			continue
		case c == '>' && dashes >= 2:
			state = scriptData
		case c != '<':
		case state == scriptData && bytes.HasPrefix(d[i:], []byte("<!--")):
			state = scriptEscaped
			dashes = 2
			i += len("<!--") - 1
			continue
		case state != scriptDouble && hasTag(d[i:], "</script"):
			return i
		case state == scriptEscaped && hasTag(d[i:], "<script"):
			state = scriptDouble
		case state == scriptDouble && hasTag(d[i:], "</script"):
			state = scriptEscaped
		}
		dashes = 0
	}

	return len(d)
}

// hasTag reports whether d begins with a tag of that name.
func hasTag(d []byte, tag string) bool {
	if len(d) <= len(tag) || !EqualFold(d[:len(tag)], tag) {
		return false
	}

	c := d[len(tag)]
	return IsSpace(c) || c == '/' || c == '>'
}
