package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// ReadAt reads the record of n bytes at a position that AppendAt or a Reader
// returned, and checks it. ErrCorrupt and ErrGone are for good; any other error
// says nothing of the record.
func (s *Spool) ReadAt(p Position, n int) ([]byte, error) {
	return s.ReadInto(p, make([]byte, n+lineExtra))
}

// LineBytes returns how long the buffer of ReadInto has to be for a record of
// n bytes.
func LineBytes(n int) int { return n + lineExtra }

// ReadInto is ReadAt into a buffer that is as long as LineBytes says. The
// record returned is a part of it.
func (s *Spool) ReadInto(p Position, line []byte) ([]byte, error) {
	f, err := s.fs.Open(s.path(p.Segment))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %x", ErrGone, p.Segment)
	}
	if err != nil {
		s.metrics.readErrors.Inc()
		return nil, fmt.Errorf("spool: %w", err)
	}
	defer f.Close()

	n, err := f.ReadAt(line, p.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		s.metrics.readErrors.Inc()
		return nil, fmt.Errorf("spool: segment %x at %d: %w", p.Segment, p.Offset, err)
	}

	if n >= len(line)-1 { // the checksum is the record's, whatever became of the line end
		if record, ok := parseLine(line[:len(line)-1]); ok {
			return record, nil
		}
	}
	s.metrics.corrupt.Inc()

	return nil, fmt.Errorf("spool: segment %x at %d: %w", p.Segment, p.Offset, ErrCorrupt)
}
