package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// Index builds an index of a spool's records, for an owner that does not read
// them with a Reader.
type Index struct {
	// Head is how many bytes of a record are read at first.
	Head int

	// Length returns the length of a record from its first bytes, or 0 if it
	// cannot be known.
	Length func(beginning []byte) int

	// Load is called with the first bytes of each record and its length. If they
	// are not enough it returns false, and is called again with the whole record.
	Load func(at Position, beginning []byte, n int) bool

	// Unread is called with the position from which a segment could not be read.
	// Its records may be readable later, with ScanSegment.
	Unread func(at Position)
}

// Scan indexes the records behind a reader's cursor without reading all of the
// large ones. A record of which only the first bytes were read is verified when
// ReadAt reads it. Damaged records are quarantined and skipped.
func (s *Spool) Scan(reader string, index Index) error {
	from, ends, err := s.waiting(reader)
	if err != nil {
		return err
	}

	for _, end := range ends {
		at := Position{Segment: end.Segment}
		if end.Segment == from.Segment {
			at = from
		}

		err := retryBriefly(func() (err error) {
			at, err = s.ScanSegment(at, index)
			return err
		})
		if err != nil {
			s.log.Error("spool: cannot read segment, retrying later",
				"segment", at.Segment, "offset", at.Offset, "err", err)
			index.Unread(at)
		}
	}

	return nil
}

// Check reads all records and quarantines the damaged ones, for an owner that has
// no reader that would find them.
func (s *Spool) Check() error {
	s.mu.Lock()
	segs := slices.Clone(s.segs)
	s.mu.Unlock()

	all := Index{
		Head:   64 << 10,
		Length: func([]byte) int { return 0 },
		Load:   func(Position, []byte, int) bool { return true },
	}

	for _, seg := range segs {
		if _, err := s.ScanSegment(Position{Segment: seg.seq}, all); err != nil {
			return fmt.Errorf("spool: segment %x: %w", seg.seq, err)
		}
	}

	return nil
}

// ScanSegment is like Scan, for one segment from a position on. With an error it
// returns the position of the first record that was not indexed. A segment that
// does not exist is skipped.
func (s *Spool) ScanSegment(at Position, index Index) (Position, error) {
	size := s.SegmentSize(at.Segment)
	file, err := s.fs.Open(s.path(at.Segment))
	if errors.Is(err, fs.ErrNotExist) {
		s.metrics.gone.Inc()
		s.log.Error("spool: segment missing, skipped", "segment", at.Segment)

		return at, nil
	}
	if err != nil {
		s.metrics.readErrors.Inc()
		return at, err
	}
	defer file.Close()

	buf := make([]byte, index.Head+lineExtra)
	for at.Offset < size {
		n, err := s.scanRecord(file, at, size, buf, index)
		if err != nil {
			s.metrics.readErrors.Inc()
			return at, err
		}

		at.Offset += n
	}

	return at, nil
}

// scanRecord indexes the record at a position and returns the length of its
// line. size is that of the segment; buf is for the beginning of the record.
func (s *Spool) scanRecord(file File, at Position, size int64, buf []byte, index Index) (int64, error) {
	b, err := readUpTo(file, buf[:min(int64(len(buf)), size-at.Offset)], at.Offset)
	if err != nil {
		return 0, err
	}
	if len(b) == 0 {
		s.metrics.gone.Inc()
		s.log.Error("spool: segment truncated, its end is skipped",
			"segment", at.Segment, "from", at.Offset, "to", size)

		return size - at.Offset, nil
	}

	end := int64(bytes.IndexByte(b, '\n'))
	if end < 0 && len(b) == len(buf) {
		n := index.Length(b[lineExtra-1:])
		ends, err := endsAt(file, at.Offset, n, size)
		if err != nil {
			return 0, err
		}

		if ends && index.Load(at, b[lineExtra-1:], n) {
			return int64(n + lineExtra), nil
		}
	}

	line := b
	if end < 0 {
		line, end, err = longLine(file, at.Offset, size)
		if err != nil {
			return 0, err
		}
	}

	record, n, ok := takeLine(line[:end])
	if !ok && int(end) == len(line) {
		record, n, ok = takeTail(line)
	}
	if ok {
		index.Load(at, record, len(record))
	} else {
		s.quarantineLine(at, line[:end], ErrCorrupt)
	}

	return int64(n), nil
}

// endsAt reports whether the line of a record of n bytes at an offset ends with a
// newline.
func endsAt(file File, offset int64, n int, size int64) (bool, error) {
	end := offset + int64(n+lineExtra)
	if n <= 0 || end > size {
		return false, nil
	}

	last, err := readUpTo(file, make([]byte, 1), end-1)

	return string(last) == "\n", err
}

// readUpTo reads into b from an offset on, up to the end of the file, and returns
// what it read.
func readUpTo(file File, b []byte, offset int64) ([]byte, error) {
	n, err := file.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}

	return b[:n], err
}

// longLine reads the line at an offset and returns it with the index of its line
// end. If the file was truncated, the rest of it is the line.
func longLine(file File, offset, size int64) (line []byte, end int64, err error) {
	for n := int64(64 << 10); ; n *= 4 {
		want := min(n, size-offset)
		line, err = readUpTo(file, make([]byte, want), offset)
		if err != nil {
			return nil, 0, err
		}

		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			return line, int64(i), nil
		}
		if int64(len(line)) < want || want == size-offset {
			return line, int64(len(line)), nil
		}
	}
}
