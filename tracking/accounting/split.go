package accounting

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxRecord is how long a record may be, in bytes, and so how far an open quote may
// reach.
const maxRecord = 64 << 10

// Errors of malformed lines.
var (
	errQuote    = errors.New("a quote is open, or characters follow a closing one")
	errBare     = errors.New("a quote within a field that is not quoted")
	errNUL      = errors.New("a NUL byte")
	errLong     = fmt.Errorf("a record longer than %d bytes", maxRecord)
	errCut      = errors.New("the file ends within a record")
	errNoHeader = errors.New("no header line before it")
)

// errOpen reports that data ends within a record.
var errOpen = errors.New("the end of the record is to come")

var bom = []byte("\ufeff")

// splitter finds and parses the record that data begins with (RFC 4180, with CRLF
// or LF at the end of lines). It belongs to one goroutine.
type splitter struct {
	width int // columns of the header line; 0 before it

	// other reports whether the columns of a record are known that does not fit the
	// header line; it may be nil.
	other func(fields []string) bool

	fields []string // of the record
	ends   []int    // of the fields, in text
	text   []byte   // of a record with quotes
}

// token is a record, an empty line, or a line that is malformed.
type token struct {
	fields []string // of a record; valid until the next call
	n      int      // bytes with the line end
	err    error    // why it is malformed
	blank  bool     // nothing to read: an empty line, or more of a line that is too long
	skip   bool     // the line is too long and continues; the rest of it is to be skipped
}

// next returns what data begins with. ok is false if its end may still follow;
// if last is set, nothing follows. A malformed record is one line long, however far
// its quotes seem to reach, so that the lines behind it are read.
func (s *splitter) next(data []byte, last bool) (t token, ok bool) {
	if len(data) == 0 {
		return token{}, false
	}

	if len(data) > maxRecord+1 {
		data = data[:maxRecord+1]
		last = false
	}

	if n := leadingNULs(data); n > 0 {
		hasEnd := n < len(data) || data[n-1] == '\n'
		return token{n: n, err: errNUL}, hasEnd || last || len(data) > maxRecord
	}

	n, err := s.parse(data)
	if last && errors.Is(err, errOpen) {
		n, err = s.parseLastLine(data)
	}

	first := lineLen(data)
	hasEnd := data[first-1] == '\n'
	if last && !hasEnd && (err != nil || !isHeader(s.fields) && !s.fits()) {
		return token{n: first, err: errCut}, true
	}

	switch {
	case errors.Is(err, errOpen):
		return s.open(data, last)
	case err != nil:
		return token{n: first, err: err}, true
	case n > maxRecord:
		return token{n: first, err: errLong}, true
	}

	return s.classify(n, first), true
}

// parseLastLine is parse for data whose last line may have no end.
func (s *splitter) parseLastLine(data []byte) (int, error) {
	n, err := s.parse(append(slices.Clip(data), '\n'))

	return min(n, len(data)), err
}

// classify returns the token of the fields that were parsed from n bytes, the
// first line of which is first bytes long. A header line sets the width.
func (s *splitter) classify(n, first int) token {
	switch {
	case len(s.fields) == 0:
		return token{n: n, blank: true}
	case isHeader(s.fields):
		s.width = len(s.fields)
	case !s.fits() && !s.hasOwnColumns():
		err := fmt.Errorf("%w: %d fields for %d columns", ErrNoColumns, len(s.fields), s.width)
		return token{n: first, err: err}
	}

	return token{fields: s.fields, n: n}
}

// fits reports whether the record has as many fields as the header line has
// columns, apart from empty ones at its end. Without a header line all records fit.
func (s *splitter) fits() bool {
	if s.width == 0 {
		return true
	}
	if len(s.fields) < s.width {
		return false
	}
	for _, f := range s.fields[s.width:] {
		if f != "" {
			return false
		}
	}

	return true
}

// hasOwnColumns reports whether the record is of a type whose columns are not
// those of the header line.
func (s *splitter) hasOwnColumns() bool { return s.other != nil && s.other(s.fields) }

// open returns the token of a record whose end is missing, if it is not to be
// waited for.
func (s *splitter) open(data []byte, last bool) (t token, ok bool) {
	i := bytes.IndexByte(data, '\n')
	first := lineLen(data)

	switch {
	case i >= 0 && (last || len(data) > maxRecord || s.recordFollows(data[first:])):
		return token{n: first, err: errQuote}, true
	case i < 0 && len(data) > maxRecord:
		return token{n: len(data), err: errLong, skip: true}, true
	}

	return token{}, false
}

// recordFollows reports whether one of the lines of data is a record or a header
// line. Then the quote that is open before them was never closed.
func (s *splitter) recordFollows(data []byte) bool {
	var other splitter
	for len(data) > 0 {
		n := bytes.IndexByte(data, '\n')
		if n < 0 {
			return false
		}
		if beginsRecord(data) {
			_, err := other.parse(data)
			if err == nil && (isHeader(other.fields) || len(other.fields) == s.width) {
				return true
			}
		}
		data = data[n+1:]
	}

	return false
}

// beginsRecord reports whether the first field of a line is a type of record,
// or "type".
func beginsRecord(line []byte) bool {
	line = bytes.TrimPrefix(line, bom)
	i := bytes.IndexByte(line[:min(len(line), 16)], ',')
	if i < 0 {
		return false
	}

	kind := strings.Trim(string(line[:i]), `"`)
	_, known := types[kind]

	return known || ignored[kind] || strings.EqualFold(kind, "type")
}

// parse reads the record that data begins with into s.fields, and returns its
// length with the line end. An empty line has no fields.
func (s *splitter) parse(data []byte) (int, error) {
	s.fields = s.fields[:0]
	s.ends = s.ends[:0]
	s.text = s.text[:0]

	at := 0
	if bytes.HasPrefix(data, bom) {
		at = len(bom)
	}

	end := bytes.IndexByte(data, '\n')
	if end < 0 {
		return 0, errOpen
	}
	if line := trimCR(data[at:end]); bytes.IndexByte(line, '"') < 0 { // nearly all are such
		return end + 1, s.plain(line)
	}

	for {
		n, err := s.field(data[at:])
		if err != nil {
			return 0, err
		}
		at += n
		s.ends = append(s.ends, len(s.text))

		switch {
		case bytes.HasPrefix(data[at:], []byte("\r\n")):
			return at + 2, s.cut()
		case at < len(data) && data[at] == '\n':
			return at + 1, s.cut()
		case at < len(data) && data[at] == ',':
			at++
		default: // behind a closing quote
			if at == len(data) || string(data[at:]) == "\r" {
				return 0, errOpen
			}
			return 0, errQuote
		}
	}
}

// field appends the field that data begins with to s.text, and returns its length
// in data.
func (s *splitter) field(data []byte) (int, error) {
	if len(data) > 0 && data[0] == '"' {
		return s.quoted(data)
	}

	n := fieldLen(data)
	if n < 0 {
		return 0, errOpen
	}

	field := data[:n]
	if n < len(data) && data[n] == '\n' {
		field = trimCR(field)
	}
	if bytes.IndexByte(field, '"') >= 0 {
		return 0, errBare
	}
	s.text = append(s.text, field...)

	return n, nil
}

// plain reads the fields of a line without quotes.
func (s *splitter) plain(line []byte) error {
	if len(line) == 0 {
		return nil
	}
	if bytes.IndexByte(line, 0) >= 0 {
		return errNUL
	}

	rest := string(line)
	for {
		i := strings.IndexByte(rest, ',')
		if i < 0 {
			s.fields = append(s.fields, rest)
			return nil
		}
		s.fields = append(s.fields, rest[:i])
		rest = rest[i+1:]
	}
}

// quoted appends a field in quotes to s.text, with CRLF as LF, and returns its
// length in data.
func (s *splitter) quoted(data []byte) (int, error) {
	at := 1
	for {
		i := bytes.IndexByte(data[at:], '"')
		if i < 0 {
			return 0, errOpen
		}
		s.text = append(s.text, bytes.ReplaceAll(data[at:at+i], []byte("\r\n"), []byte("\n"))...)
		at += i + 1

		if at == len(data) || data[at] != '"' {
			return at, nil
		}
		s.text = append(s.text, '"')
		at++
	}
}

// cut slices s.text into fields.
func (s *splitter) cut() error {
	if bytes.IndexByte(s.text, 0) >= 0 {
		return errNUL
	}

	text, from := string(s.text), 0
	for _, end := range s.ends {
		s.fields = append(s.fields, text[from:end])
		from = end
	}

	return nil
}

// fieldLen returns the length of a field without quotes, -1 if its end is missing.
func fieldLen(data []byte) int {
	for i, c := range data {
		if c == ',' || c == '\n' {
			return i
		}
	}

	return -1
}

// leadingNULs returns how many NUL bytes data begins with, with the line end if
// that is next. A crash leaves them in place of blocks that were not written; what
// follows them may be a record.
func leadingNULs(data []byte) int {
	n := 0
	for n < len(data) && data[n] == 0 {
		n++
	}
	if n > 0 && bytes.HasPrefix(data[n:], []byte("\n")) {
		n++
	}

	return n
}

// trimCR removes the CR at the end of a line.
func trimCR(line []byte) []byte { return bytes.TrimSuffix(line, []byte("\r")) }

// lineLen returns the length of the first line of data, with its end.
func lineLen(data []byte) int {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1
	}

	return len(data)
}
