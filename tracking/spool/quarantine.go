package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// brokenSuffix ends the names of quarantined files.
const brokenSuffix = ".broken"

// keepSuffix ends the names of files that mark a segment to be quarantined, so
// that the next run knows as well.
const keepSuffix = ".keep"

// maxQuarantined is how many records of one segment get a file each. If more are
// damaged the segment itself is quarantined.
const maxQuarantined = 16

// maxNames is how many names are tried for a quarantined file.
const maxNames = 100

// Quarantine copies the bytes where a record of n bytes should be to the file
// NAME.broken in the directory of the spool, and returns the path of the file
// once it is durable. If it cannot be written the whole segment is quarantined
// instead, when it would be removed; the path of that file is returned then.
// There is an error only if the bytes cannot be read now.
func (s *Spool) Quarantine(p Position, n int, name string) (string, error) {
	raw, err := s.readRaw(p, n+lineExtra)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %x", ErrGone, p.Segment)
	}
	if err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}

	return s.quarantineBytes(p, raw, filepath.Base(name)), nil
}

// QuarantineSegment makes the spool rename a segment to NAME.seg.broken when it
// would be removed.
func (s *Spool) QuarantineSegment(seq uint64) { s.markDamaged(seq) }

// readRaw reads up to n bytes at a position.
func (s *Spool) readRaw(p Position, n int) ([]byte, error) {
	f, err := s.fs.Open(s.path(p.Segment))
	if err != nil {
		return nil, err
	}
	defer f.Close()

	return readUpTo(f, make([]byte, n), p.Offset)
}

// quarantineLine quarantines a damaged record that a reader found, and logs it. Of
// a segment that is quarantined itself this was logged before.
func (s *Spool) quarantineLine(p Position, raw []byte, why error) {
	s.metrics.corrupt.Inc()
	if s.isDamaged(p.Segment) {
		return
	}

	kept := s.quarantineBytes(p, raw, fmt.Sprintf("%016x-%016x", p.Segment, p.Offset))
	s.log.Error("spool: damaged record quarantined", "quarantine", kept,
		"segment", p.Segment, "offset", p.Offset, "bytes", len(raw), "err", why)
}

// quarantineBytes writes raw to NAME.broken. If that fails, or if its segment has
// too many damaged records, the segment is quarantined instead.
func (s *Spool) quarantineBytes(p Position, raw []byte, name string) string {
	if s.isDamaged(p.Segment) {
		return s.path(p.Segment) + brokenSuffix
	}

	kept, err := s.keepBytes(filepath.Join(s.cfg.Dir, name), raw)
	if err == nil && s.countQuarantined(p) {
		s.metrics.quarantined.Inc()
		return kept
	}
	if err != nil {
		s.log.Error("spool: cannot copy damaged record, its segment will be quarantined",
			"segment", p.Segment, "err", err)
	}

	s.markDamaged(p.Segment)
	s.metrics.quarantined.Inc()

	return s.path(p.Segment) + brokenSuffix
}

// keepBytes writes data to PATH.broken, or to PATH-N.broken if there is a file of
// that name with other content, and returns the name.
func (s *Spool) keepBytes(path string, data []byte) (string, error) {
	for i := range maxNames {
		name := path + brokenSuffix
		if i > 0 {
			name = fmt.Sprintf("%s-%d%s", path, i, brokenSuffix)
		}

		err := s.createWith(name, data)
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", err
		}
		if s.sameContent(name, data) {
			return name, nil
		}
	}

	return "", errManyNames(path)
}

// errManyNames is the error for a file whose names are all in use.
func errManyNames(path string) error {
	return fmt.Errorf("spool: %s: there are %d quarantined files of this name", path, maxNames)
}

// createWith creates a file with a content and makes it durable. After an error
// there is no such file.
func (s *Spool) createWith(name string, data []byte) error {
	f, err := s.fs.Create(name)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}

	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}

	err = errors.Join(err, f.Close())
	if err == nil {
		err = s.fs.SyncDir(s.cfg.Dir)
	}
	if err != nil {
		_ = s.fs.Remove(name)
		return fmt.Errorf("spool: %w", err)
	}

	return nil
}

// sameContent reports whether a file has a content.
func (s *Spool) sameContent(name string, data []byte) bool {
	f, err := s.fs.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()

	have := make([]byte, len(data)+1)
	n, err := f.ReadAt(have, 0)

	return errors.Is(err, io.EOF) && bytes.Equal(have[:n], data)
}

// quarantineFile renames a file to NAME.broken, or to NAME-N.broken if that
// exists, and returns the new name.
func (s *Spool) quarantineFile(name string) (string, error) {
	for i := range maxNames {
		kept := name + brokenSuffix
		if i > 0 {
			kept = fmt.Sprintf("%s-%d%s", name, i, brokenSuffix)
		}

		if f, err := s.fs.Open(kept); err == nil {
			f.Close()
			continue
		}

		if err := s.fs.Rename(name, kept); err != nil {
			return "", fmt.Errorf("spool: %w", err)
		}
		if err := s.fs.SyncDir(s.cfg.Dir); err != nil {
			return "", fmt.Errorf("spool: %w", err)
		}
		s.metrics.quarantined.Inc()

		return kept, nil
	}

	return "", errManyNames(name)
}

// isDamaged reports whether a segment is to be quarantined.
func (s *Spool) isDamaged(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	seg := s.segment(seq)

	return seg != nil && seg.damaged
}

// markDamaged notes that a segment is to be quarantined, for this run and the
// next.
func (s *Spool) markDamaged(seq uint64) {
	s.mu.Lock()
	seg := s.segment(seq)
	mark := seg != nil && !seg.damaged
	if mark {
		seg.damaged = true
	}
	s.mu.Unlock()

	if !mark {
		return
	}

	err := s.createWith(s.path(seq)+keepSuffix, nil)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		s.log.Error("spool: cannot mark segment, a restart will not know that it is to be quarantined",
			"segment", seq, "err", err)
	}
}

// countQuarantined notes that a record got a file of its own, and reports whether
// its segment has no more of them than it may have.
func (s *Spool) countQuarantined(p Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	seg := s.segment(p.Segment)
	if seg == nil {
		return true
	}

	if seg.quarantined == nil {
		seg.quarantined = map[int64]struct{}{}
	}
	seg.quarantined[p.Offset] = struct{}{}

	return len(seg.quarantined) <= maxQuarantined
}
