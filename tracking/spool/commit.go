package spool

import (
	"os"
	"path/filepath"
)

// Commit makes it durable that everything before p has been dealt with. It
// needs no room on the disk.
func (r *Reader) Commit(p Position) error { return r.s.commit(r.name, p) }

func (s *Spool) commit(reader string, p Position) error {
	if err := s.cursorFiles[reader].commit(p); err != nil {
		return err
	}

	s.mu.Lock()
	s.cursors[reader] = p
	s.mu.Unlock()

	return nil
}

// Free commits a reader's position for an owner that reads with ReadAt: what
// is before it is not needed any more. It writes only where that lets a whole
// segment go, and removes that segment.
func (s *Spool) Free(reader string, p Position) error {
	s.mu.Lock()
	at, known := s.cursors[reader]
	s.mu.Unlock()
	if !known {
		return errNoReader(reader)
	}
	if p.Segment <= at.Segment {
		return nil
	}

	if err := s.commit(reader, Position{Segment: p.Segment}); err != nil {
		return err
	}
	s.do(s.sweep)

	return nil
}

// Cursor reads how far a reader of a spool's directory is, without its lock.
func Cursor(dir, name string) Position {
	data, err := os.ReadFile(filepath.Join(dir, "cursor-"+name))
	if err != nil {
		return Position{}
	}

	newest, _, _ := newestSlot(data)

	return newest.Position
}
