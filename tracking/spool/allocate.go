package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Hold changes by n bytes how much room stays allocated behind the open
// segment for essential records. It is allocated with the next append, which
// fails with ErrNoSpace where it cannot be and the append is not essential.
func (s *Spool) Hold(n int64) { s.held.Add(n) }

// canBeginAnother reports whether there is room for a new segment with all that
// is to be allocated behind it. On a full disk the open one goes on, for what
// its end frees may be another program's before the next begins.
func (s *Spool) canBeginAnother() bool {
	held := s.held.Load()
	if held <= 0 || s.noAllocate {
		return true
	}

	free, err := s.disk.free()

	return err != nil || free >= held+allocateStep
}

// allocateStep is how much room is allocated at a time.
const allocateStep = 256 << 10

// allocate has the disk hold what Hold asks for behind the byte end of the
// open segment. Essential records do without it where the disk is full.
func (s *Spool) allocate(end int64, essential bool) error {
	held := s.held.Load()
	if held <= 0 || s.noAllocate || end+held <= s.allocated {
		return nil
	}

	size := s.segs[len(s.segs)-1].size
	from := max(s.allocated, size)
	err := s.file.Allocate(from, end+held+allocateStep-from)
	if err == nil {
		s.allocated = end + held + allocateStep
		return nil
	}
	if noSpace(err) {
		if err = s.file.Allocate(from, end+held-from); err == nil {
			s.allocated = end + held
			return nil
		}
	}

	switch {
	case errors.Is(err, errors.ErrUnsupported):
		s.noAllocate = true
		s.log.Warn("spool: the file system cannot allocate room ahead", "dir", s.cfg.Dir)
		return nil
	case noSpace(err) && !essential:
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	default: // the write will tell
		return nil
	}
}

// noteApart tells the disk how much of the room for essential records is still
// to be allocated.
func (s *Spool) noteApart() {
	apart := s.held.Load()
	if s.file != nil {
		apart -= max(0, s.allocated-s.segs[len(s.segs)-1].size)
	}

	s.disk.setApart(s, max(0, apart))
}

// trimSlack frees what a previous run left allocated behind its segments. It
// reports whether there was any.
func (s *Spool) trimSlack() bool {
	if s.held.Load() == 0 {
		return false // for now
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
			s.log.Warn("spool: segment not trimmed", "file", filepath.Base(s.path(seg.seq)), "err", err)
		}
	}

	return len(old) > 0
}
