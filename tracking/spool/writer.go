package spool

import (
	"fmt"
	"path/filepath"
	"time"
)

// write is the one goroutine that writes: it takes all that waits, writes it
// at once, fsyncs once, and tells everybody.
func (s *Spool) write() {
	defer close(s.done)
	tick := time.NewTicker(min(s.c.SegmentAge, 10*time.Second))
	defer tick.Stop()
	for {
		select {
		case r := <-s.queue:
			s.guard()
			s.commit(s.gather(r))
		case <-tick.C:
			s.guard()
		case <-s.quit:
			for len(s.queue) > 0 {
				s.commit(s.gather(<-s.queue))
			}
			s.endSegment()
			return
		}
		if s.file != nil && time.Since(s.began) >= s.c.SegmentAge {
			s.endSegment()
		}
		s.sweep()
	}
}

func (s *Spool) gather(first *request) []*request {
	batch := []*request{first}
	for n := len(s.queue); n > 0; n-- {
		batch = append(batch, <-s.queue)
	}
	return batch
}

func (s *Spool) commit(batch []*request) {
	buf := batch[0].lines
	if len(batch) > 1 {
		size := 0
		for _, r := range batch {
			size += len(r.lines)
		}
		buf = make([]byte, 0, size)
		for _, r := range batch {
			buf = append(buf, r.lines...)
		}
	}
	at, err := s.put(buf)
	for _, r := range batch {
		if err == nil {
			s.appended.Add(float64(len(r.offsets)))
		}
		r.at = at
		at.Offset += int64(len(r.lines))
		r.done <- err
	}
}

// put makes buf durable, in a second segment where the first one's fsync
// failed. It tells where buf begins.
func (s *Spool) put(buf []byte) (Position, error) {
	var at Position
	var err error
	for try := 0; try < 2; try++ {
		var retry bool
		if at, retry, err = s.putOnce(buf); err == nil || !retry {
			return at, err
		}
	}
	return at, err
}

func (s *Spool) putOnce(buf []byte) (at Position, retry bool, err error) {
	if s.file == nil {
		if err := s.newSegment(); err != nil {
			return at, false, err
		}
	}
	seg := s.segs[len(s.segs)-1] // only this goroutine appends to segs
	at = Position{seg.seq, seg.size}
	if _, err := s.file.Write(buf); err != nil {
		// What was written of it must not be glued to the next record.
		if e := s.file.Truncate(seg.size); e != nil {
			s.endSegment()
		}
		return at, false, fmt.Errorf("spool: write: %w", err)
	}
	s.syncs.Inc()
	if err := s.file.Sync(); err != nil {
		s.c.Log.Error("spool: fsync failed, segment ended", "segment", seg.seq, "err", err)
		s.endSegment()
		return at, true, fmt.Errorf("spool: fsync: %w", err)
	}
	s.mu.Lock()
	seg.size += int64(len(buf))
	seg.last = time.Now()
	close(s.grown)
	s.grown = make(chan struct{})
	s.mu.Unlock()
	if seg.size >= s.c.SegmentBytes {
		s.endSegment()
	}
	return at, false, nil
}

func (s *Spool) newSegment() error {
	s.mu.Lock()
	next := uint64(1)
	if n := len(s.segs); n > 0 {
		next = s.segs[n-1].seq + 1
	}
	for _, p := range s.cursors { // all segments may be gone, the cursors not
		next = max(next, p.Segment+1)
	}
	s.mu.Unlock()
	f, err := s.c.FS.Create(s.path(next))
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if err := s.c.FS.SyncDir(s.c.Dir); err != nil {
		f.Close()
		return fmt.Errorf("spool: %w", err)
	}
	s.file, s.began = f, time.Now()
	s.mu.Lock()
	s.segs = append(s.segs, &segment{seq: next, last: s.began})
	s.mu.Unlock()
	return nil
}

func (s *Spool) endSegment() {
	if s.file == nil {
		return
	}
	s.file.Close()
	s.file = nil
	s.mu.Lock()
	s.segs[len(s.segs)-1].closed = true
	close(s.grown)
	s.grown = make(chan struct{})
	s.mu.Unlock()
}

// guardEvery is how often the free space is asked for.
const guardEvery = 100 * time.Millisecond

// guard gives up the oldest segments while the disk has less than MinFree.
func (s *Spool) guard() {
	if s.c.MinFree == 0 || time.Since(s.guarded) < guardEvery {
		return
	}
	s.guarded = time.Now()
	for {
		free, err := s.c.FS.Free(s.c.Dir)
		if err != nil || free >= s.c.MinFree {
			return
		}
		s.mu.Lock()
		if len(s.segs) == 0 {
			s.mu.Unlock()
			return
		}
		seg := s.segs[0]
		if !seg.closed {
			s.mu.Unlock()
			if seg.size == 0 {
				return
			}
			s.endSegment()
			s.mu.Lock()
		}
		s.segs = s.segs[1:]
		s.mu.Unlock()
		s.sacrificed.Inc()
		s.c.Log.Error("spool: less than min_free_space is free, the oldest segment was removed and its events are lost",
			"file", filepath.Base(s.path(seg.seq)), "bytes", seg.size, "free", free)
		if err := s.c.FS.Remove(s.path(seg.seq)); err != nil {
			s.c.Log.Error("spool: segment not removed", "file", filepath.Base(s.path(seg.seq)), "err", err)
			return
		}
	}
}

// sweep unlinks segments that every reader has passed and whose time is over.
func (s *Spool) sweep() {
	s.mu.Lock()
	var gone []uint64
	for len(s.segs) > 0 {
		seg := s.segs[0]
		passed := seg.closed
		for _, p := range s.cursors {
			passed = passed && (p.Segment > seg.seq || p.Segment == seg.seq && p.Offset >= seg.size)
		}
		if !passed || time.Since(seg.last) < s.c.Keep {
			break
		}
		gone = append(gone, seg.seq)
		s.segs = s.segs[1:]
	}
	s.mu.Unlock()
	for _, seq := range gone {
		if err := s.c.FS.Remove(s.path(seq)); err != nil {
			s.c.Log.Error("spool: segment not removed", "file", filepath.Base(s.path(seq)), "err", err)
		}
	}
}
