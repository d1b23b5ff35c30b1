package spool

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// writer is the state of the writer goroutine.
type writer struct {
	// The open segment.
	file       File // nil if there is none
	began      time.Time
	allocated  int64 // offset up to which the disk holds room for it
	noAllocate bool  // the file system cannot allocate

	// What guard and sweep remember.
	guarded    time.Time // last look at the free space
	removed    time.Time // last removal of segments
	warned     time.Time // last warning that segments are removed early
	full       bool      // records are being refused, and the log says so
	sweepAfter time.Time // no removal before; set when one failed
}

// idleInterval is how often an idle writer checks the free space and the age of
// its segment.
const idleInterval = time.Second

// write is the body of the writer goroutine, the only one that writes segments.
// It takes all requests that wait, writes them together, fsyncs once, and
// answers each.
func (s *Spool) write() {
	defer close(s.done)

	tick := time.NewTicker(min(s.cfg.SegmentAge, idleInterval))
	defer tick.Stop()

	for {
		s.noteAlive()

		select {
		case r := <-s.queue:
			s.guard()
			s.commitBatch(s.gather(r))
		case f := <-s.control:
			f()
		case <-tick.C:
			s.guard()
		case <-s.quit:
			for len(s.queue) > 0 {
				s.commitBatch(s.gather(<-s.queue))
			}
			s.leaveSegment()

			return
		}

		if s.w.file != nil && time.Since(s.w.began) >= s.cfg.SegmentAge && s.canBeginAnother() {
			s.endSegment()
		}
		s.sweep()
	}
}

// maxBatch is the number of bytes from which no more requests are added to a
// batch, so that those in it do not wait too long.
const maxBatch = 8 << 20

// gather returns first and the requests that wait behind it.
func (s *Spool) gather(first *request) []*request {
	batch := []*request{first}
	size := len(first.lines)
	for n := len(s.queue); n > 0 && size < maxBatch; n-- {
		r := <-s.queue
		batch = append(batch, r)
		size += len(r.lines)
	}

	return batch
}

// commitBatch makes requests durable together and answers them. If the disk is
// too full for all of them, the essential ones are tried without the others.
func (s *Spool) commitBatch(batch []*request) {
	fit, written := s.admit(batch)
	defer written()

	if len(fit) == 0 {
		return
	}

	at, err := s.writeBatch(fit)
	if noSpace(err) {
		isEssential := func(r *request) bool { return r.class == Essential }
		isOther := func(r *request) bool { return r.class != Essential }

		essential := slices.DeleteFunc(slices.Clone(fit), isOther)
		if n := len(essential); n > 0 && n < len(fit) {
			s.answer(slices.DeleteFunc(fit, isEssential), at, err)
			fit = essential
			at, err = s.writeBatch(fit)
		}
	}

	s.answer(fit, at, err)
}

// answer sends requests their result. at is where the first one begins.
func (s *Spool) answer(batch []*request, at Position, err error) {
	if noSpace(err) && !errors.Is(err, ErrNoSpace) {
		err = fmt.Errorf("%w: %w", ErrNoSpace, err)
	}

	for _, r := range batch {
		switch {
		case err == nil:
			s.metrics.appended.Add(float64(len(r.offsets)))
		case noSpace(err):
			s.metrics.refused.Add(float64(len(r.offsets)))
		}

		r.at = at
		at.Offset += int64(len(r.lines))
		r.done <- err
	}
}

// admit returns the requests that the disk has room for, and answers the others
// with ErrNoSpace. Until written is called the Disk counts their bytes as used.
func (s *Spool) admit(batch []*request) (fit []*request, written func()) {
	if s.cfg.Disk == nil && s.cfg.MinFree == 0 {
		return batch, func() {}
	}

	ordinary, internal, err := s.disk.room(s)
	if err != nil { // the write itself will tell
		return batch, func() {}
	}

	var taken int64
	var refused []*request
	for _, r := range batch {
		n := int64(len(r.lines))
		if r.class == Ordinary && n > ordinary || r.class == Internal && n > max(ordinary, internal) {
			refused = append(refused, r)
			continue
		}

		ordinary -= n
		internal -= n
		taken += n
		fit = append(fit, r)
	}

	s.answer(refused, Position{}, ErrNoSpace)

	return fit, s.disk.admit(taken)
}

// maxJoined is up to how many bytes the lines of a batch are copied together, to
// be written at once.
const maxJoined = 1 << 20

// text is what a batch writes.
type text struct {
	pieces    [][]byte
	size      int64
	essential bool // all of it is
}

// join returns the lines of requests, in one piece unless they are long.
func join(batch []*request) text {
	out := text{essential: true}
	for _, r := range batch {
		out.pieces = append(out.pieces, r.lines)
		out.size += int64(len(r.lines))
		out.essential = out.essential && r.class == Essential
	}

	if len(batch) > 1 && out.size <= maxJoined {
		out.pieces = [][]byte{slices.Concat(out.pieces...)}
	}

	return out
}

// writeBatch makes requests durable and returns where the first one begins. If
// the open segment fails for another reason than a full disk, a new one is tried.
func (s *Spool) writeBatch(batch []*request) (Position, error) {
	lines := join(batch)

	at, err := s.writeOnce(lines)
	if err == nil || noSpace(err) {
		return at, err
	}

	s.log.Error("spool: write failed, trying a new segment", "dir", s.cfg.Dir, "err", err)

	return s.writeOnce(lines)
}

// writeOnce writes and fsyncs lines. It ends the segment if one of the two fails
// for another reason than a full disk.
func (s *Spool) writeOnce(lines text) (Position, error) {
	if s.w.file == nil {
		if err := s.newSegment(); err != nil {
			return Position{}, err
		}
	}

	seg := s.segs[len(s.segs)-1] // without mu: only this goroutine changes segs
	at := Position{Segment: seg.seq, Offset: seg.size}
	if err := s.allocate(seg.size+lines.size, lines.essential); err != nil {
		return at, err
	}

	if err := s.writeLines(seg, lines.pieces); err != nil {
		return at, fmt.Errorf("spool: write: %w", err)
	}

	s.metrics.syncs.Inc()
	if err := s.w.file.Sync(); err != nil {
		_ = s.w.file.Truncate(seg.size) // else the lines may be read twice after a restart
		s.endSegment()

		return at, fmt.Errorf("spool: fsync: %w", err)
	}

	s.mu.Lock()
	seg.size += lines.size
	seg.last = time.Now()
	s.wakeReaders()
	s.mu.Unlock()

	if seg.size >= s.cfg.SegmentBytes && s.canBeginAnother() {
		s.endSegment()
	}
	s.noteApart()

	return at, nil
}

// writeLines writes to the open segment. What a failed write left is truncated
// away, so that the next record does not continue its last line; if that fails
// too, the segment ends.
func (s *Spool) writeLines(seg *segment, pieces [][]byte) error {
	var err error
	for _, p := range pieces {
		if _, err = s.w.file.Write(p); err != nil {
			break
		}
	}
	if err == nil {
		return nil
	}

	truncateErr := s.w.file.Truncate(seg.size)
	s.w.allocated = min(s.w.allocated, seg.size) // truncating freed the room behind

	switch {
	case truncateErr != nil || !noSpace(err):
		s.endSegment()
	case s.held.Load() > 0:
		_ = s.allocate(seg.size, true)
	}

	return err
}
