package spool

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// lookEvery is how often the writer looks at the free space and at the age of
// its segment where nothing is appended.
const lookEvery = time.Second

// write is the one goroutine that writes: it takes all that waits, writes it
// at once, fsyncs once, and answers everybody.
func (s *Spool) write() {
	defer close(s.done)

	tick := time.NewTicker(min(s.cfg.SegmentAge, lookEvery))
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

		if s.file != nil && time.Since(s.began) >= s.cfg.SegmentAge && s.canBeginAnother() {
			s.endSegment()
		}
		s.sweep()
	}
}

// maxBatch is how many bytes are written with one fsync, beyond those of the
// last request: others wait for it.
const maxBatch = 8 << 20

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

// commitBatch makes requests durable together and answers them.
func (s *Spool) commitBatch(batch []*request) {
	fit, written := s.admit(batch)
	defer written()

	if len(fit) == 0 {
		return
	}

	at, err := s.put(fit)
	if noSpace(err) {
		// What records that something is done with goes alone.
		essential := slices.DeleteFunc(slices.Clone(fit), func(r *request) bool { return r.class != Essential })
		if n := len(essential); n > 0 && n < len(fit) {
			s.answer(slices.DeleteFunc(fit, func(r *request) bool { return r.class == Essential }), at, err)
			fit = essential
			at, err = s.put(fit)
		}
	}
	s.answer(fit, at, err)
}

// answer tells requests what became of them. The first begins at a position.
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

// admit returns the requests that the disk has room for, and refuses the
// others. Until written is called, their bytes count as taken.
func (s *Spool) admit(batch []*request) (fit []*request, written func()) {
	if s.cfg.Disk == nil && s.cfg.MinFree == 0 {
		return batch, func() {}
	}

	ordinary, internal, err := s.disk.room(s)
	if err != nil { // the write will tell
		return batch, func() {}
	}

	var taken int64
	var refused []*request
	for _, r := range batch {
		n := int64(len(r.lines))
		switch {
		case r.class == Ordinary && n > ordinary, r.class == Internal && n > max(ordinary, internal):
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

// maxJoined is how many bytes are copied together to be written at once.
const maxJoined = 1 << 20

// text is what a batch writes.
type text struct {
	pieces    [][]byte
	size      int64
	essential bool // all of it
}

// join returns the lines of requests: in one piece, or as they are where they
// are long.
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

// put makes requests durable, in a second segment where the first one failed.
// It returns where they begin.
func (s *Spool) put(batch []*request) (Position, error) {
	lines := join(batch)
	at, err := s.putOnce(lines)
	if err == nil || noSpace(err) {
		return at, err
	}
	s.log.Error("spool: write failed, trying a new segment", "dir", s.cfg.Dir, "err", err)

	return s.putOnce(lines)
}

// putOnce writes lines and fsyncs them. A segment whose write or fsync failed
// for another reason than a full disk is ended.
func (s *Spool) putOnce(lines text) (Position, error) {
	if s.file == nil {
		if err := s.newSegment(); err != nil {
			return Position{}, err
		}
	}

	seg := s.segs[len(s.segs)-1] // only this goroutine appends to segs
	at := Position{seg.seq, seg.size}
	if err := s.allocate(seg.size+lines.size, lines.essential); err != nil {
		return at, err
	}

	if err := s.writeLines(seg, lines.pieces); err != nil {
		return at, fmt.Errorf("spool: write: %w", err)
	}

	s.metrics.syncs.Inc()
	if err := s.file.Sync(); err != nil {
		_ = s.file.Truncate(seg.size) // or it may be there twice after a restart
		s.endSegment()
		return at, fmt.Errorf("spool: fsync: %w", err)
	}

	s.mu.Lock()
	seg.size += lines.size
	seg.last = time.Now()
	close(s.grown)
	s.grown = make(chan struct{})
	s.mu.Unlock()

	if seg.size >= s.cfg.SegmentBytes && s.canBeginAnother() {
		s.endSegment()
	}
	s.noteApart()

	return at, nil
}

// writeLines writes to the open segment. What a failed write left must not be
// glued to the next record: it is truncated away, or the segment ends. The room
// that a truncation takes with it is allocated again.
func (s *Spool) writeLines(seg *segment, pieces [][]byte) error {
	var err error
	for _, p := range pieces {
		if _, err = s.file.Write(p); err != nil {
			break
		}
	}
	if err == nil {
		return nil
	}

	terr := s.file.Truncate(seg.size)
	s.allocated = min(s.allocated, seg.size)
	switch {
	case terr != nil || !noSpace(err):
		s.endSegment()
	case s.held.Load() > 0:
		_ = s.allocate(seg.size, true)
	}

	return err
}
