package spool

import (
	"errors"
	"io/fs"
	"time"
)

const (
	// guardInterval is how often the free space is checked while records arrive.
	guardInterval = 100 * time.Millisecond

	// settleTime is how long the file system gets to free removed segments before
	// more unread ones are removed.
	settleTime = 5 * time.Second

	// minUnreadAge is the least age of a segment that is removed for room though
	// no reader is configured that could have read it.
	minUnreadAge = 2 * time.Second

	// warnInterval is how often the log says that segments are removed early.
	warnInterval = 10 * time.Second
)

// guard keeps MinFree and the headroom of the Disk free: first by removing
// segments that every reader has passed, then, for MinFree only, by removing the
// oldest unread ones.
func (s *Spool) guard() {
	if time.Since(s.w.guarded) < guardInterval {
		return
	}
	s.w.guarded = time.Now()

	s.endUnlinked()
	s.relieve(0)
	s.logFull()

	if s.cfg.MinFree == 0 || time.Since(s.w.removed) < settleTime {
		return
	}

	free, err := s.disk.Free()
	if err != nil || free >= int64(s.cfg.MinFree) {
		return
	}

	s.sacrifice(int64(s.cfg.MinFree)-free, free)
}

// endUnlinked ends the open segment if another program removed its file: what is
// written to it cannot be read by anybody.
func (s *Spool) endUnlinked() {
	if s.w.file == nil {
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

	s.log.Error("spool: open segment was removed by another program, its records are lost", "file", path)
	s.endSegment()
}

// logFull logs when records begin to be refused, and when they are accepted
// again.
func (s *Spool) logFull() {
	full := errors.Is(s.Err(), ErrNoSpace)
	if full == s.w.full {
		return
	}
	s.w.full = full

	if full {
		s.log.Error("spool: disk too full, records are refused", "dir", s.cfg.Dir, "must_stay_free", s.disk.floor(s))
	} else {
		s.log.Info("spool: records are accepted again", "dir", s.cfg.Dir)
	}
}

// relieve removes segments that every reader has passed, even before Config.Keep
// is over, until there is room for n more bytes. The open segment is ended for
// this if every reader has passed its records.
func (s *Spool) relieve(n int64) {
	free, err := s.disk.Free()
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

	var old []*segment
	s.mu.Lock()
	for missing > 0 && len(s.segs) > 0 && s.passed(s.segs[0]) {
		old = append(old, s.segs[0])
		missing -= s.segs[0].size
		s.segs = s.segs[1:]
	}
	s.mu.Unlock()

	if len(old) == 0 {
		return
	}

	if time.Since(s.w.warned) >= warnInterval {
		s.w.warned = time.Now()
		s.log.Warn("spool: disk nearly full, removing read segments early",
			"dir", s.cfg.Dir, "segments", len(old), "free", free)
	}
	s.remove(old)
}

// openIsPassed reports whether the open segment has records and every reader has
// passed them. Without readers the segment must be of some age.
func (s *Spool) openIsPassed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.w.file == nil || len(s.cursors) == 0 && time.Since(s.w.began) < minUnreadAge {
		return false
	}

	seg := s.segs[len(s.segs)-1]

	return seg.size > 0 && s.behindAll(seg)
}

// sacrifice removes the oldest segments, read or not, if that frees enough. The
// open segment stays: records that were just acknowledged are not removed to
// make room for the next ones.
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

	old := s.segs[:n:n]
	s.segs = s.segs[n:]
	s.mu.Unlock()

	for _, seg := range old {
		s.metrics.sacrificed.Inc()
		s.log.Error("spool: free space below min_free_space, oldest segment removed and its events are lost",
			"file", segmentName(seg.seq), "bytes", seg.size, "free", free)
	}
	s.remove(old)
}
