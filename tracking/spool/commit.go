package spool

import (
	"os"
	"path/filepath"
)

// Commit makes durable that the reader is done with everything before p. The
// cursor is overwritten in place, which works on a full disk, too.
func (r *Reader) Commit(p Position) error { return r.s.commit(r.name, p) }

// commit makes a reader's position durable and lets segments be removed.
func (s *Spool) commit(reader string, p Position) error {
	if err := s.cursorFiles[reader].commit(p); err != nil {
		return err
	}

	s.mu.Lock()
	s.cursors[reader] = p
	s.mu.Unlock()

	return nil
}

// Free says that nothing before p is needed any more, for an owner that has no
// Reader but uses ReadAt. It moves the cursor of that name only if this lets
// whole segments be removed, and removes those whose time is over.
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

// Cursor returns the cursor of a reader of the spool in dir, which another
// process may have open. It returns the zero Position, the start of the log, if
// there is no valid cursor.
func Cursor(dir, name string) Position {
	data, err := os.ReadFile(filepath.Join(dir, "cursor-"+name))
	if err != nil {
		return Position{}
	}

	newest, _, _ := newestSlot(data)

	return newest.Position
}
