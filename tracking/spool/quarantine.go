package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// brokenSuffix is what the names of quarantined files end in.
const brokenSuffix = ".broken"

// maxQuarantined is how many records of one segment get a file each; where
// more are damaged, the segment itself is kept.
const maxQuarantined = 16

// maxNames is how many names are tried for a file.
const maxNames = 100

// SetAside copies what stands where a record of n bytes should be to a file of
// its own, NAME.broken beside the segments, and returns the file. It is
// durable then. Where it cannot be written, the segment is not removed when its
// time has come but renamed, and the file returned is what it will be called.
// An error is returned only where the bytes cannot be read now.
func (s *Spool) SetAside(p Position, n int, name string) (string, error) {
	raw, err := s.readRaw(p, n+lineExtra)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %x", ErrGone, p.Segment)
	}
	if err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}

	return s.quarantine(p, raw, filepath.Base(name)), nil
}

// readRaw reads at most n bytes at a position.
func (s *Spool) readRaw(p Position, n int) ([]byte, error) {
	f, err := s.fs.Open(s.path(p.Segment))
	if err != nil {
		return nil, err
	}
	defer f.Close()

	raw := make([]byte, n)
	got, err := f.ReadAt(raw, p.Offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}

	return raw[:got], err
}

// quarantineLine keeps a damaged record of a segment and says so in the log.
func (s *Spool) quarantineLine(p Position, raw []byte, why error) {
	s.metrics.corrupt.Inc()
	if s.isDamaged(p.Segment) { // said before
		return
	}
	kept := s.quarantine(p, raw, fmt.Sprintf("%016x-%016x", p.Segment, p.Offset))
	s.log.Error("spool: damaged record quarantined", "file", kept, "segment", p.Segment, "offset", p.Offset,
		"bytes", len(raw), "err", why)
}

// quarantine writes raw to NAME.broken, or has its segment kept.
func (s *Spool) quarantine(p Position, raw []byte, name string) string {
	if s.isDamaged(p.Segment) {
		return s.path(p.Segment) + brokenSuffix
	}

	kept, err := s.keepBytes(filepath.Join(s.cfg.Dir, name), raw)
	if err == nil && s.countQuarantined(p) {
		s.metrics.quarantined.Inc()
		return kept
	}
	if err != nil {
		s.log.Error("spool: damaged record not copied, its segment will be kept", "segment", p.Segment, "err", err)
	}

	s.markDamaged(p.Segment)
	s.metrics.quarantined.Inc()

	return s.path(p.Segment) + brokenSuffix
}

// keepBytes writes data to PATH.broken. What is there already with the same
// content is left; other content gets another name.
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

	return "", fmt.Errorf("spool: %s: %d quarantined files of one name", path, maxNames)
}

// createWith makes a new file durable, or leaves none.
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

// quarantineFile renames a file to NAME.broken, or to a name like it that is
// not taken.
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

	return "", fmt.Errorf("spool: %s: %d quarantined files of one name", name, maxNames)
}

// Keep has a segment renamed to NAME.seg.broken instead of removed when its time
// has come.
func (s *Spool) Keep(segment uint64) { s.markDamaged(segment) }

func (s *Spool) isDamaged(seq uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	seg := s.segment(seq)

	return seg != nil && seg.damaged
}

// keepSuffix is what the name of a file ends in that says, over a restart, that
// a segment is to be kept.
const keepSuffix = ".keep"

// markDamaged has a segment kept, by this run and the next.
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
		s.log.Error("spool: a restart will not know that the segment is to be kept", "segment", seq, "err", err)
	}
}

// countQuarantined counts a record of a segment that got a file, and reports
// whether the next one may have one too.
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
