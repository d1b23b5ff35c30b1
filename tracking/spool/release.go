package spool

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"
)

const (
	// guardEvery is how often the free space is looked at while records come.
	guardEvery = 100 * time.Millisecond

	// settle is how long the file system has to free what was removed before
	// unread segments are removed once more.
	settle = 5 * time.Second

	// unreadAge is how old a segment is at least that goes for room though
	// there is no reader who could have read it.
	unreadAge = 2 * time.Second

	// warnEvery is how often it is said that segments go early.
	warnEvery = 10 * time.Second

	// sweepPause follows a segment that could not be removed.
	sweepPause = time.Second
)

// passed reports whether nobody needs a segment any more; under mu.
func (s *Spool) passed(seg *segment) bool { return seg.closed && s.behindAll(seg) }

// behindAll reports whether every reader is past a segment's end; under mu.
func (s *Spool) behindAll(seg *segment) bool {
	for _, p := range s.cursors {
		if p.Segment < seg.seq || p.Segment == seg.seq && p.Offset < seg.size {
			return false
		}
	}

	return true
}

// sweep removes segments that every reader has passed and whose time is over.
func (s *Spool) sweep() {
	if time.Now().Before(s.sweepAfter) {
		return
	}

	var gone []*segment
	s.mu.Lock()
	for len(s.segs) > 0 && s.passed(s.segs[0]) && time.Since(s.segs[0].last) >= s.cfg.Keep {
		gone = append(gone, s.segs[0])
		s.segs = s.segs[1:]
	}
	s.mu.Unlock()

	if len(gone) > 0 {
		s.remove(gone)
	}
}

// remove removes the files of segments that were taken out of segs. Those that
// cannot be removed now come back into it.
func (s *Spool) remove(gone []*segment) {
	s.removed = time.Now()
	for i, seg := range gone {
		s.releaseReaders(seg.seq)
		if err := s.removeFile(seg); err != nil {
			s.log.Error("spool: segment not removed", "file", filepath.Base(s.path(seg.seq)), "err", err)
			s.sweepAfter = time.Now().Add(sweepPause)
			s.mu.Lock()
			s.segs = append(gone[i:len(gone):len(gone)], s.segs...)
			s.mu.Unlock()
			return
		}
	}
}

// removeFile removes a segment's file, or renames it where it holds damaged
// records that are nowhere else.
func (s *Spool) removeFile(seg *segment) error {
	if seg.damaged {
		kept, err := s.quarantineFile(s.path(seg.seq))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		s.log.Error("spool: segment with damaged records kept", "file", kept)
		_ = s.fs.Remove(s.path(seg.seq) + keepSuffix) // one that stays says nothing
		return nil
	}

	err := s.fs.Remove(s.path(seg.seq))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}

	return err
}

// releaseReaders has readers close a segment that goes: an open file keeps its
// room.
func (s *Spool) releaseReaders(seq uint64) {
	s.mu.Lock()
	readers := s.readers
	s.mu.Unlock()
	for _, r := range readers {
		r.releaseSegment(seq)
	}
}
