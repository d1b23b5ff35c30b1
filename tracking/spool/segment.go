package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// suffix ends the file names of segments.
const suffix = ".seg"

// maxSegment is the highest number that a segment may have. A file with a higher
// one was not written by a spool, and counting on from it could overflow.
const maxSegment = 1 << 62

// segment is what a Spool knows of one of its files.
type segment struct {
	seq         uint64
	size        int64              // durable bytes
	closed      bool               // nothing will be appended
	last        time.Time          // of the last append
	slack       bool               // a previous run may have left allocated room behind its end
	damaged     bool               // to be quarantined, not removed
	quarantined map[int64]struct{} // offsets of damaged records that were copied
}

// path returns the file of a segment.
func (s *Spool) path(seq uint64) string {
	return filepath.Join(s.cfg.Dir, segmentName(seq))
}

// segmentName returns the file name of a segment.
func segmentName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, suffix) }

// segmentNumber parses the file name of a segment.
func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	seq, err := strconv.ParseUint(digits, 16, 64)

	return seq, ok && err == nil && name == segmentName(seq)
}

// segment returns the segment with a number, or nil if it does not exist. The
// caller holds mu.
func (s *Spool) segment(seq uint64) *segment {
	for _, seg := range s.segs {
		if seg.seq == seq {
			return seg
		}
	}

	return nil
}

// exists reports whether there is a segment with a number.
func (s *Spool) exists(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.segment(seq) != nil
}

// Size returns the number of durable bytes in all segments.
func (s *Spool) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	sum := int64(0)
	for _, seg := range s.segs {
		sum += seg.size
	}

	return sum
}

// SegmentSize returns the number of durable bytes in a segment, or 0 if it does
// not exist.
func (s *Spool) SegmentSize(seq uint64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	if seg := s.segment(seq); seg != nil {
		return seg.size
	}

	return 0
}

// Newest returns the end of the log. The next record is appended there, or in a
// later segment.
func (s *Spool) Newest() Position {
	s.mu.Lock()
	defer s.mu.Unlock()

	if len(s.segs) == 0 {
		return Position{}
	}

	last := s.segs[len(s.segs)-1]

	return Position{Segment: last.seq, Offset: last.size}
}

// Tail returns the lowest number that the segment of the next record can have.
func (s *Spool) Tail() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	if n := len(s.segs); n > 0 && !s.segs[n-1].closed {
		return s.segs[n-1].seq
	}

	return s.used + 1
}

// Rotate ends the open segment, so that it can be removed once every reader has
// passed it. It returns when that is done.
func (s *Spool) Rotate() { s.do(s.endSegment) }

// newSegment starts a segment with a number that was never used. A number counts
// as used even if the segment cannot be created.
func (s *Spool) newSegment() error {
	f, seq, err := s.createSegment()
	if noSpace(err) && s.trimSlack() {
		f, seq, err = s.createSegment()
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}

	s.w.file = f
	s.w.allocated = 0

	s.mu.Lock()
	s.w.began = time.Now()
	s.segs = append(s.segs, &segment{seq: seq, last: s.w.began})
	s.mu.Unlock()

	// Allocate here before the room behind older segments is freed. If it fails,
	// the first append tries again.
	_ = s.allocate(0, false)
	s.trimSlack()

	return nil
}

// maxNumbers is how many numbers are tried for a new segment.
const maxNumbers = 1000

// createSegment creates the file of a new segment and makes its name durable.
func (s *Spool) createSegment() (f File, seq uint64, err error) {
	for range maxNumbers {
		s.mu.Lock()
		s.used++
		seq = s.used
		s.mu.Unlock()

		f, err = s.fs.Create(s.path(seq))
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return nil, 0, err
	}

	if err := s.fs.SyncDir(s.cfg.Dir); err != nil {
		f.Close()

		if rerr := s.fs.Remove(s.path(seq)); rerr != nil {
			s.log.Error("spool: cannot remove empty segment", "file", segmentName(seq), "err", rerr)
		}

		return nil, 0, err
	}

	return f, seq, nil
}

// endSegment ends the open segment and frees the room allocated behind it.
func (s *Spool) endSegment() {
	if s.w.file == nil {
		return
	}

	seg := s.segs[len(s.segs)-1]
	if s.w.allocated > seg.size {
		if err := s.w.file.Truncate(seg.size); err != nil {
			s.log.Warn("spool: cannot trim segment", "file", segmentName(seg.seq), "err", err)
		}
	}

	s.leaveSegment()
	s.noteApart()
}

// leaveSegment closes the open segment and keeps the room allocated behind it
// for the next run.
func (s *Spool) leaveSegment() {
	if s.w.file == nil {
		return
	}

	s.w.file.Close()
	s.w.file = nil
	s.w.allocated = 0

	s.mu.Lock()
	s.segs[len(s.segs)-1].closed = true
	s.wakeReaders()
	s.mu.Unlock()
}

// wakeReaders wakes the readers that wait for records. The caller holds mu.
func (s *Spool) wakeReaders() {
	close(s.grown)
	s.grown = make(chan struct{})
}
