package message

import (
	"bytes"
	"strings"
)

// Field is one header field as it is in a message: Raw holds its bytes with
// continuation lines and line ends. Name is empty for a line that is not a field
// (it is kept where it is).
type Field struct {
	Name string
	Raw  []byte
}

// Split divides a message at the first empty line. Header keeps the CRLF of
// its last field; body begins after the empty line. separated is false where
// there is no empty line: then all is header and body is nil.
func Split(msg []byte) (header, body []byte, separated bool) {
	if bytes.HasPrefix(msg, []byte("\r\n")) {
		return msg[:0], msg[2:], true
	}
	if header, body, found := bytes.Cut(msg, []byte("\r\n\r\n")); found {
		return msg[:len(header)+len("\r\n")], body, true
	}
	return msg, nil, false
}

// Fields lists the fields of a header block in order. A name with white space
// before its colon is still that name (RFC 5322 section 4.5, obs-optional).
func Fields(header []byte) []Field {
	var fields []Field
	for len(header) > 0 {
		n := fieldEnd(header)
		fields = append(fields, Field{Name: fieldName(header[:n]), Raw: header[:n:n]})
		header = header[n:]
	}
	return fields
}

// fieldEnd returns the length of the first field with its continuation lines.
func fieldEnd(h []byte) int {
	end := 0

	for {
		i := bytes.IndexByte(h[end:], '\n')
		if i < 0 {
			return len(h)
		}

		end += i + 1
		if end == len(h) || h[end] != ' ' && h[end] != '\t' {
			return end
		}
	}
}

func fieldName(raw []byte) string {
	name, _, found := bytes.Cut(raw, []byte(":"))
	if !found {
		return ""
	}

	name = bytes.TrimRight(name, " \t")
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return ""
		}
	}

	return string(name)
}

// Is reports whether the field has that name, whatever its case.
func (f Field) Is(name string) bool { return strings.EqualFold(f.Name, name) }

// Value returns the field's text after the colon, without its line ends and
// without white space around it.
func (f Field) Value() string {
	_, value, _ := bytes.Cut(f.Raw, []byte(":"))
	return strings.Trim(unfold.Replace(string(value)), " \t")
}

var unfold = strings.NewReplacer("\r", "", "\n", "")

// First returns the first field of that name.
func First(fields []Field, name string) (Field, bool) {
	for _, f := range fields {
		if f.Is(name) {
			return f, true
		}
	}
	return Field{}, false
}
