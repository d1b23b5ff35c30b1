package spool

import (
	"errors"
	"fmt"
	"io/fs"
)

// Hold changes by n bytes, which may be negative, how much room stays allocated
// behind the open segment for essential records. The next append allocates it;
// if that is not possible, the append fails with ErrNoSpace unless it is
// essential itself.
func (s *Spool) Hold(n int64) { s.held.Add(n) }

// allocateStep is how many bytes are allocated at a time.
const allocateStep = 256 << 10

// allocate makes sure that the disk holds the room that Hold asked for behind
// the offset end of the open segment. It returns ErrNoSpace if it cannot, unless
// the append is essential; the write itself will tell then.
func (s *Spool) allocate(end int64, essential bool) error {
	held := s.held.Load()
	if held <= 0 || s.w.noAllocate || end+held <= s.w.allocated {
		return nil
	}

	size := s.segs[len(s.segs)-1].size
	from := max(s.w.allocated, size)

	to := end + held + allocateStep
	err := s.w.file.Allocate(from, to-from)
	if noSpace(err) { // then no more than needed
		to = end + held
		err = s.w.file.Allocate(from, to-from)
	}

	switch {
	case err == nil:
		s.w.allocated = to
	case errors.Is(err, errors.ErrUnsupported):
		s.w.noAllocate = true
		s.log.Warn("spool: file system cannot allocate space ahead", "dir", s.cfg.Dir)
	case noSpace(err) && !essential:
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}

	return nil
}

// canBeginAnother reports whether there is room for a new segment including what
// is to be allocated behind it. On a full disk the open segment is continued: the
// room that its end frees could be taken by another program before the next
// segment exists.
func (s *Spool) canBeginAnother() bool {
	held := s.held.Load()
	if held <= 0 || s.w.noAllocate {
		return true
	}

	free, err := s.disk.Free()

	return err != nil || free >= held+allocateStep
}

// noteApart tells the Disk how many of the held bytes are not allocated yet.
func (s *Spool) noteApart() {
	apart := s.held.Load()
	if s.w.file != nil {
		apart -= max(0, s.w.allocated-s.segs[len(s.segs)-1].size)
	}

	s.disk.setApart(s, max(0, apart))
}

// trimSlack frees the room that a previous run left allocated behind its
// segments, and reports whether there was any. As long as nothing is held it
// does nothing: the owner may not have said yet what it needs.
func (s *Spool) trimSlack() bool {
	if s.held.Load() == 0 {
		return false
	}

	s.mu.Lock()
	var old []segment
	for _, seg := range s.segs {
		if seg.slack {
			old = append(old, *seg)
			seg.slack = false
		}
	}
	s.mu.Unlock()

	for _, seg := range old {
		if err := s.truncate(seg.seq, seg.size); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("spool: cannot trim segment", "file", segmentName(seg.seq), "err", err)
		}
	}

	return len(old) > 0
}
