package accounting

import (
	"bytes"
	"errors"
)

// scanner yields the lines and records of a stream of bytes one by one. Files,
// the pipe and Print all read through it. It belongs to one goroutine.
type scanner struct {
	split splitter

	data []byte // what was given last
	used int    // bytes of data that were yielded
	last bool   // nothing follows data

	skipping bool // within a line that is longer than maxRecord
	torn     bool // the stream ended within a record
}

// line is a record, an empty line, or a line that is not a record.
type line struct {
	token
	raw []byte // with the line end; valid until more data is given
}

// begin gives the scanner data that it may keep until the end. If last is set,
// nothing follows.
func (s *scanner) begin(data []byte, last bool) {
	s.data = data
	s.used = 0
	s.last = last
}

// feed copies more data behind what was not yielded yet. If last is set, nothing
// follows.
func (s *scanner) feed(data []byte, last bool) {
	s.data = append(s.data[:0], s.data[s.used:]...)
	s.data = append(s.data, data...)
	s.used = 0
	s.last = last
}

// rest returns what was not yielded yet.
func (s *scanner) rest() []byte { return s.data[s.used:] }

// next yields the next line. It returns false if more data must be given first,
// or if there is none.
//
// The last line of a stream that ends within it has the error errCut. It is not
// consumed, for its end may be written later.
func (s *scanner) next() (line, bool) {
	rest := s.rest()
	if len(rest) == 0 || s.torn {
		return line{}, false
	}

	if s.skipping {
		return s.skip(rest), true
	}

	t, ok := s.split.next(rest, s.last)
	if !ok {
		return line{}, false
	}

	l := line{token: t, raw: rest[:t.n]}
	if errors.Is(t.err, errCut) {
		s.torn = true
		return l, true
	}
	s.used += t.n
	s.skipping = t.skip

	return l, true
}

// skip passes over more of a line that is too long, as if it were empty.
func (s *scanner) skip(rest []byte) line {
	n := lineLen(rest)
	s.used += n
	s.skipping = rest[n-1] != '\n'

	return line{
		token: token{n: n, blank: true},
		raw:   rest[:n],
	}
}

// lines returns how many line ends l has.
func (l line) lines() int64 { return int64(bytes.Count(l.raw, []byte("\n"))) }
