package spool

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"
)

// guard keeps MinFree and the headroom of the disk free: first without what
// every reader has passed, then, for MinFree alone, without the oldest unread
// segments.
func (s *Spool) guard() {
	if time.Since(s.guarded) < guardEvery {
		return
	}

	s.guarded = time.Now()
	s.endUnlinked()
	s.relieve(0)
	s.noteFull()

	if s.cfg.MinFree == 0 || time.Since(s.removed) < settle {
		return
	}

	free, err := s.disk.free()
	if err != nil || free >= int64(s.cfg.MinFree) {
		return
	}
	s.sacrifice(int64(s.cfg.MinFree)-free, free)
}

// endUnlinked ends the open segment where somebody removed its file: what is
// written there is in no folder, and cannot be read by its name.
func (s *Spool) endUnlinked() {
	if s.file == nil {
		return
	}

	path := s.path(s.segs[len(s.segs)-1].seq)
	f, err := s.fs.Open(path)
	if err == nil {
		f.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return
	}

	s.log.Error("spool: the open segment was removed by another program, its records are lost", "file", path)
	s.endSegment()
}

// noteFull says in the log when records begin to be refused, and when they are
// accepted again.
func (s *Spool) noteFull() {
	full := errors.Is(s.Err(), ErrNoSpace)
	if full == s.full {
		return
	}

	s.full = full

	if full {
		s.log.Error("spool: the disk is too full, records are refused", "dir", s.cfg.Dir,
			"must_stay_free", s.disk.floor(s))
	} else {
		s.log.Info("spool: records are accepted again", "dir", s.cfg.Dir)
	}
}

// relieve removes segments that every reader has passed until there is room
// for n more bytes, whether their time is over or not. An open segment in which
// nothing waits is ended for it.
func (s *Spool) relieve(n int64) {
	free, err := s.disk.free()
	if err != nil {
		return
	}

	s.disk.mu.Lock()
	missing := s.disk.floor(s) + s.disk.promised() + n - free
	s.disk.mu.Unlock()
	if missing <= 0 {
		return
	}

	if s.openIsPassed() {
		s.endSegment()
	}

	var gone []*segment
	s.mu.Lock()
	for missing > 0 && len(s.segs) > 0 && s.passed(s.segs[0]) {
		gone = append(gone, s.segs[0])
		missing -= s.segs[0].size
		s.segs = s.segs[1:]
	}
	s.mu.Unlock()
	if len(gone) == 0 {
		return
	}

	if time.Since(s.warned) >= warnEvery {
		s.warned = time.Now()
		s.log.Warn("spool: the disk is nearly full, segments that were read are removed early",
			"dir", s.cfg.Dir, "segments", len(gone), "free", free)
	}
	s.remove(gone)
}

// openIsPassed reports whether all readers have passed what is in the open
// segment. Where there are none, it has to be of some age.
func (s *Spool) openIsPassed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.file == nil || len(s.cursors) == 0 && time.Since(s.began) < unreadAge {
		return false
	}

	seg := s.segs[len(s.segs)-1]

	return seg.size > 0 && s.behindAll(seg)
}

// sacrifice removes the oldest segments, read or not, where that frees enough.
// The open one stays: what was just acknowledged is not destroyed for room that
// the next record takes.
func (s *Spool) sacrifice(missing, free int64) {
	s.mu.Lock()
	sum, n := int64(0), 0
	for n < len(s.segs) && s.segs[n].closed && sum < missing {
		sum += s.segs[n].size
		n++
	}
	if sum < missing {
		s.mu.Unlock()
		return
	}

	gone := s.segs[:n:n]
	s.segs = s.segs[n:]
	s.mu.Unlock()

	for _, seg := range gone {
		s.metrics.sacrificed.Inc()
		s.log.Error("spool: less than min_free_space is free, the oldest segment was removed and its events are lost",
			"file", filepath.Base(s.path(seg.seq)), "bytes", seg.size, "free", free)
	}
	s.remove(gone)
}
