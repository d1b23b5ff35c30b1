package queue

import (
	"context"

	"postern/tracking/spool"
)

// note queues a record that nobody waits for.
func (q *Queue) note(kind byte, v any) {
	if r, err := encodeJSON(kind, v); err == nil {
		q.done <- r
	}
}

// writeLog writes what nobody waits for, many records with one fsync, and
// lets the old segments go.
func (q *Queue) writeLog(stop <-chan struct{}) {
	for {
		var records [][]byte
		select {
		case r := <-q.done:
			records = append(records, r)
		case <-stop:
			if len(q.done) == 0 {
				return
			}
		}
		for n := len(q.done); n > 0; n-- {
			records = append(records, <-q.done)
		}
		if err := q.spool.Append(context.Background(), records...); err != nil {
			q.c.Log.Error("queue: states not written; copies may go twice after a crash", "records", len(records), "err", err)
		}
		q.advance()
	}
}

// advance lets segments go that no transaction needs, and moves transactions
// that hold back too many.
func (q *Queue) advance() {
	q.mu.Lock()
	newest := q.spool.Newest().Segment
	oldest := newest
	for _, set := range []map[uint64]int{q.segments, q.floors} {
		for seg := range set {
			oldest = min(oldest, seg)
		}
	}
	var move []*entry
	if newest-oldest >= maxSegments && q.segments[oldest] <= maxMoved {
		for _, e := range q.entries {
			if e.at.Segment == oldest {
				move = append(move, e)
			}
		}
	}
	q.mu.Unlock()
	if err := q.spool.Free(readerName, spool.Position{Segment: oldest}); err != nil {
		q.c.Log.Error("queue: old segments stay", "err", err)
	}
	for _, e := range move {
		q.move(e)
	}
}

// maxMoved is how many transactions of a segment are worth moving.
const maxMoved = 1000

// move writes a transaction again at the end, with the copies that still wait
// and their states.
func (q *Queue) move(e *entry) {
	q.mu.Lock()
	at, size := e.at, e.size
	q.mu.Unlock()
	t, err := q.read(at, size)
	if err != nil {
		return // the attempt sets it aside
	}
	var states []stateRecord
	q.mu.Lock()
	left := t.Copies[:0]
	for _, c := range t.Copies {
		if s := e.copies[c.MessageID]; s != nil {
			left = append(left, c)
			states = append(states, stateRecord{ID: e.id, Copy: c.MessageID, Tries: s.tries, Next: s.next, Away: s.isAway, Reply: s.reply, LastTry: s.lastTry})
		}
	}
	t.Copies = left
	q.mu.Unlock()
	if len(left) == 0 {
		return
	}
	var records [][]byte
	err = q.put(context.Background(), func(t *Transaction, at spool.Position, size int) {
		if q.entries[e.id] == e {
			q.add(t, at, size)
		}
		// A copy that ended meanwhile must not wake up with the new record.
		for _, c := range t.Copies {
			if e.copies[c.MessageID] == nil {
				r, _ := encodeJSON(kindDone, doneRecord{e.id, c.MessageID, "moved"})
				records = append(records, r)
			}
		}
	}, t)
	if err != nil {
		q.c.Log.Error("queue: transaction not moved", "id", e.id, "err", err)
		return
	}
	for _, s := range states {
		r, _ := encodeJSON(kindState, s)
		records = append([][]byte{r}, records...)
	}
	if err := q.spool.Append(context.Background(), records...); err != nil {
		q.c.Log.Error("queue: states not moved", "id", e.id, "err", err)
	}
}
