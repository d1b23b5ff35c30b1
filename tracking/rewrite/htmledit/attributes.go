package htmledit

import (
	"bytes"
)

// Attribute is an attribute of a tag, as offsets into the document. A quoted
// value is what is between the quotes. Where there is no value, it is empty and
// begins where the name ends.
type Attribute struct {
	NameStart, NameEnd   int
	ValueStart, ValueEnd int
	End                  int // of the value, with its closing quote
}

// Name returns the name of the attribute as it is written in doc.
func (a *Attribute) Name(doc []byte) []byte { return doc[a.NameStart:a.NameEnd] }

// Value returns the value of the attribute as it is written in doc, with its
// character references (see Unescape).
func (a *Attribute) Value(doc []byte) []byte { return doc[a.ValueStart:a.ValueEnd] }

// readValue reads the value that begins at or behind i and returns its end.
func (a *Attribute) readValue(tag []byte, i int) int {
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

// Removal returns the range of tag to delete in order to remove the attribute.
// prevEnd is the end of the previous attribute, or of the tag's name. The white
// space in front of the attribute is deleted as well, unless it has to keep the
// neighbours apart: a slash that follows would become part of an unquoted value.
func (a *Attribute) Removal(tag []byte, prevEnd int) (from, to int) {
	if next := a.End; next < len(tag) && !IsSpace(tag[next]) && tag[next] != '>' {
		return a.NameStart, next
	}

	return prevEnd, a.End
}

// MaxAttributes bounds the attributes of one tag that are worth an edit. No tag
// that people write has as many.
const MaxAttributes = 500

// AppendAttributes appends the attributes of a tag to list and returns it. The
// tag ends with doc, and its name at offset nameEnd (Token.NameEnd). At most
// MaxAttributes+1 attributes are appended, so that the caller notices a tag that
// has more than MaxAttributes.
func AppendAttributes(list []Attribute, doc []byte, nameEnd int) []Attribute {
	walkAttributes(doc, nameEnd, &list)
	return list
}

// walkAttributes reads the attributes of a tag from i, behind its name, and
// returns the end of the tag; ok is false if the document ends first. The
// attributes are appended to list unless it is nil (see AppendAttributes).
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
			i = a.readValue(d, j+1)
		}

		if list != nil && len(*list) <= MaxAttributes {
			*list = append(*list, a)
		}
	}
}
