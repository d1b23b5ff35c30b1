package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
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

	tick := time.NewTicker(min(s.c.SegmentAge, lookEvery))
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

		if s.file != nil && time.Since(s.began) >= s.c.SegmentAge && s.canBeginAnother() {
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
			s.appended.Add(float64(len(r.offsets)))
		case noSpace(err):
			s.refused.Add(float64(len(r.offsets)))
		}

		r.at = at
		at.Offset += int64(len(r.lines))
		r.done <- err
	}
}

// admit returns the requests that the disk has room for, and refuses the
// others. Until written is called, their bytes count as taken.
func (s *Spool) admit(batch []*request) (fit []*request, written func()) {
	if s.c.Disk == nil && s.c.MinFree == 0 {
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
	s.c.Log.Error("spool: write failed, trying a new segment", "dir", s.c.Dir, "err", err)

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

	s.syncs.Inc()
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

	if seg.size >= s.c.SegmentBytes && s.canBeginAnother() {
		s.endSegment()
	}
	s.noteApart()

	return at, nil
}

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
		s.c.Log.Warn("spool: the file system cannot allocate room ahead", "dir", s.c.Dir)
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

// maxNumbers is how many numbers are tried for a new segment.
const maxNumbers = 1000

// newSegment begins a segment under a number that was never used. A number
// counts as used whatever comes of it.
func (s *Spool) newSegment() error {
	f, seq, err := s.createSegment()
	if noSpace(err) && s.trimSlack() {
		f, seq, err = s.createSegment()
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}

	s.file, s.allocated = f, 0

	s.mu.Lock()
	s.began = time.Now()
	s.segs = append(s.segs, &segment{seq: seq, last: s.began})
	s.mu.Unlock()

	// Its own room first, then that of the segments before it may go.
	_ = s.allocate(0, false) // or when the first records are written
	s.trimSlack()

	return nil
}

// createSegment makes the file of a new segment and its name durable.
func (s *Spool) createSegment() (f File, seq uint64, err error) {
	for range maxNumbers {
		s.mu.Lock()
		s.used++
		seq = s.used
		s.mu.Unlock()

		f, err = s.c.FS.Create(s.path(seq))
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return nil, 0, err
	}

	if err := s.c.FS.SyncDir(s.c.Dir); err != nil {
		f.Close()
		if rerr := s.c.FS.Remove(s.path(seq)); rerr != nil {
			s.c.Log.Error("spool: empty segment not removed", "file", filepath.Base(s.path(seq)), "err", rerr)
		}
		return nil, 0, err
	}

	return f, seq, nil
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
			s.c.Log.Warn("spool: segment not trimmed", "file", filepath.Base(s.path(seg.seq)), "err", err)
		}
	}

	return len(old) > 0
}

// endSegment ends the open segment and frees what is allocated behind it.
func (s *Spool) endSegment() {
	if s.file == nil {
		return
	}

	seg := s.segs[len(s.segs)-1]
	if s.allocated > seg.size {
		if err := s.file.Truncate(seg.size); err != nil {
			s.c.Log.Warn("spool: segment not trimmed", "file", filepath.Base(s.path(seg.seq)), "err", err)
		}
	}
	s.leaveSegment()
	s.noteApart()
}

// leaveSegment closes the open segment as it is: what is allocated behind it
// is there for the next run.
func (s *Spool) leaveSegment() {
	if s.file == nil {
		return
	}

	s.file.Close()
	s.file, s.allocated = nil, 0
	s.mu.Lock()
	s.segs[len(s.segs)-1].closed = true
	close(s.grown)
	s.grown = make(chan struct{})
	s.mu.Unlock()
}
