package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
)

// Index is what an owner that keeps an index of a spool's records gives to
// Scan.
type Index struct {
	// Head is how much of a record is read at first.
	Head int

	// Length returns from the beginning of a record how long it is in all, 0
	// where that cannot be told.
	Length func(beginning []byte) int

	// Load gets the beginning of each record and the length of it. Where that
	// is not enough it returns false and is called again with the whole.
	Load func(at Position, beginning []byte, n int) bool

	// Unread is told where a segment could not be read on, before Scan goes to
	// the next. An error of the machine says nothing of the records: they are
	// read later, with ScanSegment.
	Unread func(at Position)
}

// Scan goes over the records from a reader's cursor on without reading all of
// the large ones. Checksums are those of whole records: what the index saw only
// the beginning of is checked when ReadAt reads it. Damaged records are
// quarantined and passed over.
func (s *Spool) Scan(reader string, index Index) error {
	s.mu.Lock()
	from, ok := s.cursors[reader]
	var starts []Position
	for _, seg := range s.segs {
		if seg.seq > from.Segment {
			starts = append(starts, Position{Segment: seg.seq})
		}
		if seg.seq == from.Segment {
			starts = append(starts, from)
		}
	}
	s.mu.Unlock()
	if !ok {
		return errNoReader(reader)
	}

	for _, at := range starts {
		err := retryBriefly(func() (err error) {
			at, err = s.ScanSegment(at, index)
			return err
		})
		if err != nil {
			s.log.Error("spool: segment not readable, trying again later", "segment", at.Segment,
				"offset", at.Offset, "err", err)
			index.Unread(at)
		}
	}

	return nil
}

// Check goes over all records and quarantines the damaged ones, for an owner
// that has no reader to find them.
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

// ScanSegment is Scan for the rest of a segment. Where that cannot be read it
// returns how far it came. A segment that is gone has no rest.
func (s *Spool) ScanSegment(at Position, index Index) (Position, error) {
	size := s.SegmentSize(at.Segment)
	file, err := s.fs.Open(s.path(at.Segment))
	if errors.Is(err, fs.ErrNotExist) {
		s.metrics.gone.Inc()
		s.log.Error("spool: segment is gone, passed over", "segment", at.Segment)
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

// scanRecord takes the record at a position into the index and returns the
// bytes of its line.
func (s *Spool) scanRecord(file File, at Position, size int64, buf []byte, index Index) (int64, error) {
	b, err := readUpTo(file, buf[:min(int64(len(buf)), size-at.Offset)], at.Offset)
	if err != nil {
		return 0, err
	}
	if len(b) == 0 {
		s.metrics.gone.Inc()
		s.log.Error("spool: segment is cut, its end is passed over", "segment", at.Segment, "from", at.Offset, "to", size)
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
		if line, end, err = longLine(file, at.Offset, size); err != nil {
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

// endsAt reports whether a record of n bytes at an offset ends in a newline.
func endsAt(file File, offset int64, n int, size int64) (bool, error) {
	end := offset + int64(n+lineExtra)
	if n <= 0 || end > size {
		return false, nil
	}

	last, err := readUpTo(file, make([]byte, 1), end-1)

	return string(last) == "\n", err
}

// readUpTo fills b from an offset on, as far as the file goes.
func readUpTo(file File, b []byte, offset int64) ([]byte, error) {
	n, err := file.ReadAt(b, offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}

	return b[:n], err
}

// longLine reads from an offset to the end of the line. A durable segment ends
// with one; where the file is shorter than it was, what is left is the line.
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
