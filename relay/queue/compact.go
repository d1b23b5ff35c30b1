package queue

import (
	"context"
	"errors"
	"slices"

	"postern/tracking/spool"
)

const (
	// slackSegments is how many segments' worth of records that nobody needs may
	// lie on the disk, beyond as much as what waits.
	slackSegments = 2

	// movedBytes and movedEntries bound what is moved at a time.
	movedBytes   = 1 << 20
	movedEntries = 256
)

// clean moves a part of what waits in the oldest segment to the end where it
// holds back much: where more than half of what lies on the disk is needed by
// nobody, and on a full disk where that is so of the oldest segment and the
// rest fits. It reports whether it moved anything.
//
// Segments go in order, so that moving all of what waits once frees all the
// rest: with no more waiting than not, less is written than comes free.
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
// frees more than it takes, and they fit into the headroom.
func (q *Queue) worthMovingWhenFull(segment uint64, waiting int64) bool {
	return 2*waiting <= q.spool.SegmentSize(segment) && 2*waiting <= q.spool.InternalRoom()
}

// moveSome writes some of a segment's transactions again at the end, with the
// copies that still wait and their states. It reports whether any was moved.
func (q *Queue) moveSome(segment uint64) bool {
	entries, bytes := q.pick(segment)
	if len(entries) == 0 || !q.memory.tryReserve(2*bytes) {
		return false
	}
	defer q.memory.release(2 * bytes)

	return q.move(entries)
}

// pick returns transactions of a segment that are moved next, and their bytes.
func (q *Queue) pick(segment uint64) (entries []*entry, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.segments[segment]
	if u == nil {
		return nil, 0
	}

	for e := range u.entries {
		if len(entries) > 0 && bytes+int64(e.size) > movedBytes || len(entries) == movedEntries {
			break
		}
		entries = append(entries, e)
		bytes += int64(e.size)
	}

	return entries, bytes
}

// relocation is a transaction on its way to the end of the spool.
type relocation struct {
	e       *entry
	t       *Transaction
	at      int   // index of its first record, which is the transaction's
	written int64 // bytes of all its records
}

// move writes transactions again, each followed by its copies' states, in one
// append.
func (q *Queue) move(entries []*entry) bool {
	var moves []relocation
	var records [][]byte
	for _, e := range entries {
		t, own, err := q.relocate(e)
		if err != nil || len(own) == 0 {
			continue // an attempt quarantines it, or nothing waits any more
		}
		m := relocation{e: e, t: t, at: len(records)}
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

// relocate reads a transaction and returns it with the copies that still wait,
// and its records.
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

// moved takes a transaction's new place into the index; under mu. A copy that
// ended meanwhile must not wake up with the new record.
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

// needed returns the first segment that is needed, and whether nothing waits in
// any; under mu.
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

// advance removes segments that no transaction needs, the open one too where
// rotate is set, and moves what holds back too much. It reports whether there
// is more to do.
func (q *Queue) freeSegments(rotate bool) (more bool) {
	q.mu.Lock()
	segment, empty := q.needed()
	q.mu.Unlock()

	if err := q.spool.Free(readerName, spool.Position{Segment: segment}); err != nil {
		q.cfg.Log.Error("queue: cannot release segments", "err", err)
		return false
	}
	q.dropEnds(segment)

	newest := q.spool.Newest()
	if empty && rotate && newest.Segment == segment && newest.Offset > 0 {
		q.spool.Rotate()
		return true
	}

	return q.compact()
}

// dropEnds forgets ends of copies whose transactions are in removed segments.
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
