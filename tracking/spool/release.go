package spool

import (
	"errors"
	"io/fs"
	"time"
)

// passed reports whether a segment is closed and every reader has passed it. The
// caller holds mu.
func (s *Spool) passed(seg *segment) bool { return seg.closed && s.behindAll(seg) }

// behindAll reports whether every reader has passed the end of a segment. The
// caller holds mu.
func (s *Spool) behindAll(seg *segment) bool {
	for _, p := range s.cursors {
		if p.Segment < seg.seq || p.Segment == seg.seq && p.Offset < seg.size {
			return false
		}
	}

	return true
}

// sweepPause is how long sweep waits after a segment could not be removed.
const sweepPause = time.Second

// sweep removes the segments that every reader has passed for Config.Keep.
func (s *Spool) sweep() {
	if time.Now().Before(s.w.sweepAfter) {
		return
	}

	var old []*segment
	s.mu.Lock()
	for len(s.segs) > 0 && s.passed(s.segs[0]) && time.Since(s.segs[0].last) >= s.cfg.Keep {
		old = append(old, s.segs[0])
		s.segs = s.segs[1:]
	}
	s.mu.Unlock()

	if len(old) > 0 {
		s.remove(old)
	}
}

// remove removes the files of segments that were taken out of segs. After an
// error the segments that are left are put back.
func (s *Spool) remove(old []*segment) {
	s.w.removed = time.Now()

	for i, seg := range old {
		s.releaseReaders(seg.seq)

		if err := s.removeFile(seg); err != nil {
			s.log.Error("spool: cannot remove segment", "file", segmentName(seg.seq), "err", err)
			s.w.sweepAfter = time.Now().Add(sweepPause)

			s.mu.Lock()
			s.segs = append(old[i:len(old):len(old)], s.segs...)
			s.mu.Unlock()

			return
		}
	}
}

// removeFile removes the file of a segment, or quarantines it if it holds
// damaged records that were not copied.
func (s *Spool) removeFile(seg *segment) error {
	path := s.path(seg.seq)

	if !seg.damaged {
		return ignoreMissing(s.fs.Remove(path))
	}

	kept, err := s.quarantineFile(path)
	if err != nil {
		return ignoreMissing(err)
	}

	s.log.Error("spool: segment with damaged records quarantined", "quarantine", kept)
	_ = s.fs.Remove(path + keepSuffix) // without its segment it has no meaning

	return nil
}

// ignoreMissing returns err, or nil if it says that a file does not exist.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	return err
}

// releaseReaders makes readers close a segment that is to be removed, because
// the room of a file is not freed while it is open.
func (s *Spool) releaseReaders(seq uint64) {
	s.mu.Lock()
	readers := s.readers
	s.mu.Unlock()

	for _, r := range readers {
		r.releaseSegment(seq)
	}
}
