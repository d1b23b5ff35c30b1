package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// ReadAt reads and verifies the record of n bytes at a position that AppendAt or
// a Reader returned. ErrCorrupt and ErrGone are final; after any other error the
// record may still be readable later.
func (s *Spool) ReadAt(p Position, n int) ([]byte, error) {
	return s.ReadInto(p, make([]byte, LineBytes(n)))
}

// LineBytes returns the length of the buffer that ReadInto needs for a record of
// n bytes.
func LineBytes(n int) int { return n + lineExtra }

// ReadInto is like ReadAt and reads into buf, whose length must be that of
// LineBytes. The record that it returns is a part of buf.
func (s *Spool) ReadInto(p Position, buf []byte) ([]byte, error) {
	f, err := s.fs.Open(s.path(p.Segment))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %x", ErrGone, p.Segment)
	}
	if err != nil {
		s.metrics.readErrors.Inc()
		return nil, fmt.Errorf("spool: %w", err)
	}
	defer f.Close()

	n, err := f.ReadAt(buf, p.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		s.metrics.readErrors.Inc()
		return nil, fmt.Errorf("spool: segment %x at %d: %w", p.Segment, p.Offset, err)
	}

	// The checksum does not cover the line end, which may be missing.
	if n >= len(buf)-1 {
		if record, ok := parseLine(buf[:len(buf)-1]); ok {
			return record, nil
		}
	}

	s.metrics.corrupt.Inc()

	return nil, fmt.Errorf("spool: segment %x at %d: %w", p.Segment, p.Offset, ErrCorrupt)
}
