package queue

import (
	"context"
	"errors"
	"slices"

	"postern/tracking/spool"
)

const (
	// slackSegments is how many segments' worth of records that are not needed
	// may be on disk, in addition to the size of what waits.
	slackSegments = 2

	// movedBytes and movedEntries limit what is moved at a time.
	movedBytes   = 1 << 20
	movedEntries = 256
)

// needed returns the first segment that is needed. empty reports whether none is
// but the open one. q.mu must be held.
func (q *Queue) needed() (segment uint64, empty bool) {
	segment = q.spool.Tail()
	for seg := range q.segments {
		segment = min(segment, seg)
	}
	for seg := range q.floors {
		segment = min(segment, seg)
	}
	for _, at := range q.late.unread {
		segment = min(segment, at.Segment)
	}

	return segment, len(q.segments)+len(q.floors)+len(q.late.unread) == 0
}

// freeSegments removes the segments that are not needed, and compacts the others.
// It reports whether there is more to do.
func (q *Queue) freeSegments() (more bool) {
	if !q.removeSegments() {
		return false
	}

	return q.compact()
}

// freeOpenSegment is like freeSegments, and if nothing waits in any segment it
// closes the open one, so that it can be removed too.
func (q *Queue) freeOpenSegment() (more bool) {
	if !q.removeSegments() {
		return false
	}

	q.mu.Lock()
	segment, empty := q.needed()
	q.mu.Unlock()

	newest := q.spool.Newest()
	if empty && newest.Segment == segment && newest.Offset > 0 {
		q.spool.Rotate()
		return true
	}

	return q.compact()
}

// removeSegments removes the segments that are not needed, and the ends that would
// be recorded for copies in them. It reports whether that succeeded.
func (q *Queue) removeSegments() bool {
	q.mu.Lock()
	segment, _ := q.needed()
	q.mu.Unlock()

	if err := q.spool.Free(readerName, spool.Position{Segment: segment}); err != nil {
		q.cfg.Log.Error("queue: cannot release segments", "err", err)
		return false
	}
	q.dropEnds(segment)

	return true
}

// dropEnds forgets the ends of copies whose transactions are in segments before
// the one given.
func (q *Queue) dropEnds(segment uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()

	q.ends = slices.DeleteFunc(q.ends, func(e pendingEnd) bool {
		if e.segment >= segment {
			return false
		}
		q.spool.Hold(-e.room)
		return true
	})
}

// compact moves a part of what waits in the oldest segment to the end of the
// spool, if the segment holds back much: if more than half of the bytes on disk
// are not needed, or, on a full disk, if that is so for the segment and what
// waits in it fits. It reports whether it moved anything.
//
// Since segments are freed in order, moving everything that waits once frees all
// the rest. With more than half of it not needed, less is written than is freed.
func (q *Queue) compact() bool {
	size := q.spool.Size()
	q.mu.Lock()
	segment, _ := q.needed()
	u := q.segments[segment]
	if u == nil { // nothing waits there, or not yet
		q.mu.Unlock()
		return false
	}
	live, waiting := q.live, u.bytes
	q.mu.Unlock()

	worth := size-live >= live+slackSegments*q.cfg.segmentBytes
	if errors.Is(q.spool.Err(), spool.ErrNoSpace) {
		worth = q.worthMovingWhenFull(segment, waiting)
	}
	if !worth {
		return false
	}

	if segment == q.spool.Tail() {
		q.spool.Rotate()
	}

	return q.moveSome(segment)
}

// worthMovingWhenFull reports whether moving the bytes that wait in a segment
// frees more than it takes, and whether they fit into the headroom.
func (q *Queue) worthMovingWhenFull(segment uint64, waiting int64) bool {
	return 2*waiting <= q.spool.SegmentSize(segment) && 2*waiting <= q.spool.InternalRoom()
}

// moveSome moves some transactions of a segment, if there is memory for it. It
// reports whether any was moved.
func (q *Queue) moveSome(segment uint64) bool {
	entries, size := q.pick(segment)
	if len(entries) == 0 || !q.memory.tryReserve(2*size) {
		return false
	}
	defer q.memory.release(2 * size)

	return q.move(entries)
}

// pick returns the transactions of a segment that are moved next, and their size
// in bytes.
func (q *Queue) pick(segment uint64) (entries []*entry, size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()

	u := q.segments[segment]
	if u == nil {
		return nil, 0
	}

	for e := range u.entries {
		tooLarge := len(entries) > 0 && size+int64(e.size) > movedBytes
		if tooLarge || len(entries) == movedEntries {
			break
		}
		entries = append(entries, e)
		size += int64(e.size)
	}

	return entries, size
}

// relocation is a transaction that is being moved.
type relocation struct {
	e       *entry
	t       *Transaction
	at      int   // index of the transaction's record in what is written
	written int64 // bytes of the transaction and its states
}

// move writes transactions at the end of the spool, each followed by the states
// of its copies, with one append. It reports whether it moved any.
func (q *Queue) move(entries []*entry) bool {
	var moves []relocation
	var records [][]byte
	for _, e := range entries {
		t, own, err := q.relocate(e)
		if err != nil || len(own) == 0 {
			continue // the next attempt quarantines it, or no copy is waiting any more
		}

		m := relocation{
			e:  e,
			t:  t,
			at: len(records),
		}
		for _, r := range own {
			m.written += int64(len(r))
		}
		moves = append(moves, m)
		records = append(records, own...)
	}
	if len(moves) == 0 {
		return false
	}

	err := q.append(context.Background(), spool.Internal, records, func(at []spool.Position) {
		for _, m := range moves {
			q.moved(m, at[m.at], len(records[m.at]))
		}
	})
	if err != nil {
		q.cfg.Log.Error("queue: transactions not moved", "transactions", len(moves), "err", err)
		return false
	}

	return true
}

// relocate reads a transaction, and returns it without the copies that no longer
// wait, and its records; no records if no copy waits.
func (q *Queue) relocate(e *entry) (*Transaction, [][]byte, error) {
	q.mu.Lock()
	at, size := e.at, e.size
	q.mu.Unlock()

	t, err := q.read(at, size)
	if err != nil {
		return nil, nil, err
	}

	q.mu.Lock()
	defer q.mu.Unlock()

	var left []Copy
	var states []stateRecord
	for _, c := range t.Copies {
		if s := e.copies[c.MessageID]; s != nil {
			left = append(left, c)
			states = append(states, s.state())
		}
	}
	t.Copies = left
	if len(left) == 0 {
		return nil, nil, nil
	}

	record, err := encodeTransaction(t)
	if err != nil {
		return nil, nil, err
	}

	records := [][]byte{record}
	for _, s := range states {
		r, err := encodeJSON(kindState, s)
		if err != nil {
			return nil, nil, err
		}
		records = append(records, r)
	}

	return t, records, nil
}

// moved enters the new position of a transaction into the index. The end of a
// copy that was sent meanwhile is recorded again, so that the copy does not come
// back with the new record. q.mu must be held.
func (q *Queue) moved(m relocation, at spool.Position, size int) {
	if q.entries[m.e.id] == m.e {
		q.leave(m.e)
		q.occupy(m.e, at, size, m.written)
	}

	for _, c := range m.t.Copies {
		if m.e.copies[c.MessageID] != nil {
			continue
		}

		room := recordRoom(m.e.id, c.MessageID)
		q.spool.Hold(room)
		q.ends = append(q.ends, pendingEnd{
			doneRecord: doneRecord{m.e.id, c.MessageID, "moved"},
			segment:    at.Segment,
			room:       room,
		})
	}
}
