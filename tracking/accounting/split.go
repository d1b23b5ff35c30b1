package accounting

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxRecord is how long a record may be, and so how long a quote that is open
// is waited for.
const maxRecord = 64 << 10

// What is wrong with a line.
var (
	errQuote    = errors.New("a quote is open, or characters follow a closing one")
	errBare     = errors.New("a quote within a field that is not quoted")
	errNUL      = errors.New("a NUL byte")
	errLong     = fmt.Errorf("a record longer than %d bytes", maxRecord)
	errCut      = errors.New("the file ends within a record")
	errNoHeader = errors.New("no header line before it")
)

// errOpen says that data ends within a record.
var errOpen = errors.New("the end of the record is to come")

var bom = []byte("\ufeff")

// splitter is the one reader of records (RFC 4180, CRLF or LF at the end of
// lines): of files, of the pipe and of --print. It belongs to one goroutine.
type splitter struct {
	width  int                        // columns of the header line; 0: none yet
	other  func(fields []string) bool // whether a record that does not fit has columns that are known; may be nil
	fields []string
	ends   []int
	text   []byte
}

// token is what data begins with.
type token struct {
	fields []string // of a record; valid until the next call
	n      int      // bytes with the line end
	err    error    // why it is not a record
	blank  bool     // an empty line
	skip   bool     // the line goes on behind it; what follows, up to its end, is a part of it
}

// next returns what data begins with. ok is false where its end may still come:
// with last set, nothing comes any more. A bad record is one line long, whatever
// it seemed to reach over, so that the lines behind it are read.
func (s *splitter) next(data []byte, last bool) (t token, ok bool) {
	if len(data) == 0 {
		return token{}, false
	}

	if len(data) > maxRecord+1 {
		data, last = data[:maxRecord+1], false
	}

	if n := leadingNULs(data); n > 0 {
		whole := n < len(data) || data[n-1] == '\n' || len(data) > maxRecord || last
		return token{n: n, err: errNUL}, whole
	}

	n, err := s.parse(data)
	if last && errors.Is(err, errOpen) { // the last line may have no end
		n, err = s.parse(append(slices.Clip(data), '\n'))
		n = min(n, len(data))
	}

	first := lineLen(data)
	if data[first-1] != '\n' && last && (err != nil || !isHeader(s.fields) && !s.fits()) {
		return token{n: first, err: errCut}, true
	}

	switch {
	case errors.Is(err, errOpen):
		return s.open(data, last)
	case err != nil:
		return token{n: first, err: err}, true
	case n > maxRecord:
		return token{n: first, err: errLong}, true
	case len(s.fields) == 0:
		return token{n: n, blank: true}, true
	case isHeader(s.fields):
		s.width = len(s.fields)
	case !s.fits() && !s.hasOwnColumns():
		err := fmt.Errorf("%w: %d fields for %d columns", ErrNoColumns, len(s.fields), s.width)
		return token{n: first, err: err}, true
	}

	return token{fields: s.fields, n: n}, true
}

// fits reports whether the record has as many fields as the header has columns;
// empty ones may follow. Before a header line every record does.
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

// open decides about a record whose end is not there.
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

// recordFollows reports whether one of some lines begins a record or is a
// header line: then the quote that is open before them was never closed.
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
		if at < len(data) && data[at] == '"' {
			n, err := s.quoted(data[at:])
			if err != nil {
				return 0, err
			}
			at += n
		} else {
			n := fieldLen(data[at:])
			if n < 0 {
				return 0, errOpen
			}
			field := data[at : at+n]
			at += n
			if at < len(data) && data[at] == '\n' {
				field = trimCR(field)
			}
			if bytes.IndexByte(field, '"') >= 0 {
				return 0, errBare
			}
			s.text = append(s.text, field...)
		}
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

// plain reads a line without quotes.
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

// quoted reads a field in quotes into s.text, and returns its length. A CRLF in
// it becomes LF.
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

// cut makes fields of what was gathered in s.text.
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

// fieldLen is how long a field is that is not quoted, -1 where its end is not
// there.
func fieldLen(data []byte) int {
	for i, c := range data {
		if c == ',' || c == '\n' {
			return i
		}
	}

	return -1
}

// leadingNULs is how many NUL bytes data begins with: what a crash leaves of
// blocks that were not written. What is behind them may be a record, unless the
// line ends there.
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

func trimCR(line []byte) []byte { return bytes.TrimSuffix(line, []byte("\r")) }

// lineLen is the length of the first line of data with its end.
func lineLen(data []byte) int {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1
	}

	return len(data)
}
