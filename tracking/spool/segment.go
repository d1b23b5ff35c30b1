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

const (
	suffix     = ".seg"
	lineExtra  = 8 + 1 + 1 // checksum, space, newline
	queueDepth = 1024

	// maxSegment is the highest number that a segment may have. One above it was
	// not written here: the number behind it would leave no room to go on.
	maxSegment = 1 << 62
)

type segment struct {
	seq         uint64
	size        int64 // durable bytes
	closed      bool  // nothing will be added
	last        time.Time
	slack       bool               // a previous run may have left allocated room behind its end
	damaged     bool               // to be renamed, not removed
	quarantined map[int64]struct{} // offsets of damaged records that were copied
}

func (s *Spool) path(seq uint64) string {
	return filepath.Join(s.cfg.Dir, segmentName(seq))
}

// segmentName is the file name of a segment.
func segmentName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, suffix) }

// segmentNumber reads a segment's file name.
func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	seq, err := strconv.ParseUint(digits, 16, 64)

	return seq, ok && err == nil && name == segmentName(seq)
}

// Size returns the bytes in segments.
func (s *Spool) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	sum := int64(0)
	for _, seg := range s.segs {
		sum += seg.size
	}

	return sum
}

// SegmentSize returns the bytes in a segment, 0 where it is gone.
func (s *Spool) SegmentSize(seq uint64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	if seg := s.segment(seq); seg != nil {
		return seg.size
	}

	return 0
}

// Newest is the position that the next record will have, or one before it.
func (s *Spool) Newest() Position {
	s.mu.Lock()
	defer s.mu.Unlock()

	if len(s.segs) == 0 {
		return Position{}
	}

	last := s.segs[len(s.segs)-1]

	return Position{last.seq, last.size}
}

// Tail is the lowest number that the segment of the next record can have.
func (s *Spool) Tail() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	if n := len(s.segs); n > 0 && !s.segs[n-1].closed {
		return s.segs[n-1].seq
	}

	return s.used + 1
}

// Rotate ends the open segment, so that it can go when nothing in it is needed.
func (s *Spool) Rotate() { s.do(s.endSegment) }

// maxNumbers is how many numbers are tried for a new segment.
const maxNumbers = 1000

// newSegment begins a segment under a number that was never used. A number
// counts as used whatever comes of it.
func (s *Spool) newSegment() error {
	f, seq, err := s.createSegment()
	if noSpace(err) && s.trimSlack() {
		f, seq, err = s.createSegment()
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}

	s.file, s.allocated = f, 0

	s.mu.Lock()
	s.began = time.Now()
	s.segs = append(s.segs, &segment{seq: seq, last: s.began})
	s.mu.Unlock()

	// Its own room first, then that of the segments before it may go.
	_ = s.allocate(0, false) // or when the first records are written
	s.trimSlack()

	return nil
}

// createSegment makes the file of a new segment and its name durable.
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
			s.log.Error("spool: empty segment not removed", "file", filepath.Base(s.path(seq)), "err", rerr)
		}
		return nil, 0, err
	}

	return f, seq, nil
}

// endSegment ends the open segment and frees what is allocated behind it.
func (s *Spool) endSegment() {
	if s.file == nil {
		return
	}

	seg := s.segs[len(s.segs)-1]
	if s.allocated > seg.size {
		if err := s.file.Truncate(seg.size); err != nil {
			s.log.Warn("spool: segment not trimmed", "file", filepath.Base(s.path(seg.seq)), "err", err)
		}
	}
	s.leaveSegment()
	s.noteApart()
}

// leaveSegment closes the open segment as it is: what is allocated behind it
// is there for the next run.
func (s *Spool) leaveSegment() {
	if s.file == nil {
		return
	}

	s.file.Close()
	s.file, s.allocated = nil, 0
	s.mu.Lock()
	s.segs[len(s.segs)-1].closed = true
	close(s.grown)
	s.grown = make(chan struct{})
	s.mu.Unlock()
}

// segment returns the segment of a number, nil where it is gone; under mu.
func (s *Spool) segment(seq uint64) *segment {
	for _, seg := range s.segs {
		if seg.seq == seq {
			return seg
		}
	}

	return nil
}

func (s *Spool) exists(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.segment(seq) != nil
}
