package message

import (
	"bytes"
	"strings"
)

// Field is one header field as it is in a message.
type Field struct {
	Name string // empty: the line is not a field
	Raw  []byte // with name, continuation lines and line ends
}

// Split divides a message at the first empty line. The header keeps the CRLF of
// its last field; the body begins after the empty line. Without an empty line,
// separated is false, all is header and body is nil.
func Split(msg []byte) (header, body []byte, separated bool) {
	if bytes.HasPrefix(msg, []byte("\r\n")) {
		return msg[:0], msg[2:], true
	}
	if header, body, found := bytes.Cut(msg, []byte("\r\n\r\n")); found {
		return msg[:len(header)+len("\r\n")], body, true
	}
	return msg, nil, false
}

// Fields returns the fields of a header block in order. A name with white space
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

// fieldName returns the name of a field; empty if raw is not one.
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

// First returns the first field of that name; ok reports whether there is one.
func First(fields []Field, name string) (field Field, ok bool) {
	for _, f := range fields {
		if f.Is(name) {
			return f, true
		}
	}

	return Field{}, false
}
