package htmledit

import (
	"bytes"
)

// Kind is the kind of a Token.
type Kind byte

// The kinds of tokens. Text is what lies between two tokens.
const (
	StartTag Kind = iota
	EndTag
	Comment // also a doctype, a processing instruction, a CDATA section
)

// Token is a tag or a comment, as offsets into the document. A comment has no
// name.
type Token struct {
	Kind               Kind
	Start, End         int
	NameStart, NameEnd int
}

// Name returns the name of a tag as it is written in doc, which is the document
// that was scanned.
func (t *Token) Name(doc []byte) []byte { return doc[t.NameStart:t.NameEnd] }

// Scanner finds the tags and comments of an HTML document. It allocates nothing
// per token. It is not safe for concurrent use.
//
// Tests compare its tokens with those of golang.org/x/net/html, over a corpus
// of mail and by fuzzing.
type Scanner struct {
	data []byte
	pos  int
	raw  string // the name of the element whose raw text comes next; empty: none

	lastStart int // of the last start tag
	cut       int // where the unfinished construct begins; negative: none
}

// NewScanner returns a Scanner that reads data from offset pos on. Offsets of
// its tokens are relative to data.
func NewScanner(data []byte, pos int) *Scanner {
	return &Scanner{
		data: data,
		pos:  pos,
		cut:  -1,
	}
}

// RawText returns the lower-case name of the element whose raw text follows the
// tag that Next returned last, such as "style". It is empty if ordinary content
// follows.
func (z *Scanner) RawText() string { return z.raw }

// CutOff returns the offset of the tag, comment or element with raw text that
// the document ends in, once Next has returned false. Whatever is appended to
// the document, or inserted behind that offset, would become a part of it. ok is
// false if the document ends outside of such constructs.
func (z *Scanner) CutOff() (at int, ok bool) { return z.cut, z.cut >= 0 }

// Next returns the next tag or comment; ok is false at the end of the document.
// A tag that the document ends in is not returned, a comment is.
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
		if t.Start+1 >= len(d) { // whatever follows could turn it into a tag
			z.endIn(t.Start)
			return t, false
		}

		switch c := d[t.Start+1]; {
		case isLetter(c):
			t.Kind = StartTag
			t.NameStart = t.Start + 1
			if !z.tag(&t) {
				return t, false
			}

			z.lastStart = t.Start
			z.raw = rawTextElement(t.Name(d))

			return t, true

		case c == '/':
			if t.Start+2 >= len(d) {
				z.endIn(t.Start)
				return t, false
			}

			if isLetter(d[t.Start+2]) {
				t.Kind = EndTag
				t.NameStart = t.Start + 2
				return t, z.tag(&t)
			}

			return z.bogusComment(t, t.Start+2), true

		case c == '!':
			return z.declaration(t), true

		case c == '?':
			return z.bogusComment(t, t.Start+1), true

		default:
			z.pos = t.Start + 1
		}
	}
}

// declaration returns t, which begins with <!, as a comment. Anything but <!-- is a
// bogus comment to a Scanner, a doctype too.
func (z *Scanner) declaration(t Token) Token {
	text := t.Start + len("<!")
	if !bytes.HasPrefix(z.data[text:], []byte("--")) {
		return z.bogusComment(t, text)
	}

	end, closed := commentEnd(z.data, text+len("--"))

	return z.comment(t, end, closed)
}

// comment returns t as a comment that ends at an offset. If it is not closed,
// the document ends in it, whatever the last character is.
func (z *Scanner) comment(t Token, end int, closed bool) Token {
	t.Kind = Comment
	t.End = end
	z.pos = end
	if !closed {
		z.cut = t.Start
	}

	return t
}

// bogusComment returns t as a bogus comment, which ends at the next >.
func (z *Scanner) bogusComment(t Token, from int) Token {
	if i := bytes.IndexByte(z.data[from:], '>'); i >= 0 {
		return z.comment(t, from+i+1, true)
	}

	return z.comment(t, len(z.data), false)
}

// commentEnd returns the end of a comment whose text begins at i (HTML standard,
// sections 13.2.5.43 to 13.2.5.52). closed is false if the document ends first.
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
		if bytes.HasPrefix(d[i:], []byte("!-")) { // the dash may be the first of the end
			i++
		}
	}
}

// tag completes t, whose name begins at t.NameStart, and reports whether the
// document holds all of the tag.
func (z *Scanner) tag(t *Token) bool {
	d := z.data
	i := t.NameStart
	for i < len(d) && !IsSpace(d[i]) && d[i] != '/' && d[i] != '>' {
		i++
	}
	t.NameEnd = i

	end, ok := walkAttributes(d, i, nil)
	t.End = end
	z.pos = end
	if !ok {
		z.cut = t.Start
	}

	return ok
}

// rawTextElements are the elements whose content is text to the tokenizer.
// noscript is not among them: mail programs run no scripts, and so they parse
// its content.
var rawTextElements = []string{
	"style", "title", "script", "textarea", "xmp", "iframe", "noembed", "noframes", "plaintext",
}

// rawTextElement returns the lower-case form of name if it is that of an element
// with raw text, and an empty string otherwise.
func rawTextElement(name []byte) string {
	for _, n := range rawTextElements {
		if EqualFold(name, n) {
			return n
		}
	}

	return ""
}

// skipRaw advances to the end tag of the element whose raw text comes next, or
// to the end of the document.
func (z *Scanner) skipRaw() {
	name := z.raw
	z.raw = ""
	d := z.data

	switch name {
	case "plaintext":
		z.endIn(z.lastStart)
		return
	case "script": // has tokenizer states of its own
		z.pos += scriptLength(d[z.pos:])
		if z.pos == len(d) {
			z.endIn(z.lastStart)
		}
		return
	}

	for {
		i := bytes.Index(d[z.pos:], []byte("</"))
		if i < 0 {
			z.endIn(z.lastStart)
			return
		}

		z.pos += i
		rest := d[z.pos+2:]
		if len(rest) <= len(name) { // too short for an end tag
			z.endIn(z.lastStart)
			return
		}

		if c := rest[len(name)]; EqualFold(rest[:len(name)], name) && (IsSpace(c) || c == '/' || c == '>') {
			return
		}
		z.pos += 2
	}
}

// endIn records that the document ends in the construct that begins at start.
func (z *Scanner) endIn(start int) {
	z.pos = len(z.data)
	z.cut = start
}

// scriptState is a group of the tokenizer's states for scripts (HTML standard,
// sections 13.2.5.4 and 13.2.5.15 to 13.2.5.31).
type scriptState byte

const (
	scriptData    scriptState = iota
	scriptEscaped             // after <!--
	scriptDouble              // after <script in that: the next end tag does not end the element
)

// scriptLength returns the length of the text of a script; d begins behind its
// start tag.
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

// hasTag reports whether d begins with tag, given as its opening characters and
// its name in lower case.
func hasTag(d []byte, tag string) bool {
	if len(d) <= len(tag) || !EqualFold(d[:len(tag)], tag) {
		return false
	}

	c := d[len(tag)]
	return IsSpace(c) || c == '/' || c == '>'
}
