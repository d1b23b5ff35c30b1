package queue

import (
	"fmt"

	"postern/tracking/spool"
)

// headBytes is the number of bytes of a transaction that are read at startup, in
// which its JSON usually fits.
const headBytes = 1 << 10

// lateRecords is what happened, since startup, to copies of transactions that are
// in unread segments. It is applied when those are read.
type lateRecords struct {
	unread []spool.Position
	ended  map[copyKey]struct{}
	states map[copyKey]stateRecord
}

// index returns how the records of the spool are entered into the index.
func (q *Queue) index() spool.Index {
	return spool.Index{
		Head:   headBytes,
		Length: recordLength,
		Load:   q.load,
		Unread: q.noteUnread,
	}
}

// noteUnread records that a segment cannot be read from a position on.
func (q *Queue) noteUnread(at spool.Position) {
	q.mu.Lock()
	defer q.mu.Unlock()

	q.late.unread = append(q.late.unread, at)
	if q.late.ended == nil {
		q.late.ended = map[copyKey]struct{}{}
		q.late.states = map[copyKey]stateRecord{}
	}
}

// load enters one record of a previous run into the index. It reports whether the
// beginning b of the record, whose length is n, was enough.
func (q *Queue) load(at spool.Position, b []byte, n int) bool {
	kind := byte(0)
	if len(b) >= 2 {
		kind = b[0]
	}

	if kind == kindTransaction && len(b) < n && headEnd(b) < 0 {
		return false
	}

	var err error
	switch kind {
	case kindTransaction:
		err = q.loadTransaction(at, b, n)
	case kindState:
		err = q.loadState(b)
	case kindDone:
		err = q.loadDone(b)
	default:
		err = errRecord
	}
	if err != nil {
		q.quarantine(at, n, err)
	}

	return true
}

// quarantine copies a record that cannot be decoded to a file. If that fails, the
// whole segment is kept.
func (q *Queue) quarantine(at spool.Position, n int, why error) {
	q.broken.Inc()
	file, err := q.spool.Quarantine(at, n, fmt.Sprintf("%016x-%016x", at.Segment, at.Offset))
	if err != nil {
		q.spool.QuarantineSegment(at.Segment)
		file = "its segment"
	}

	q.cfg.Log.Error("queue: record quarantined", "file", file, "segment", at.Segment, "offset", at.Offset, "err", why)
}

func (q *Queue) loadTransaction(at spool.Position, b []byte, n int) error {
	t, err := decodeHead(b)
	if err != nil {
		return err
	}

	q.mu.Lock()
	defer q.mu.Unlock()

	old := q.entries[t.ID]
	if old != nil && old.at.Segment > at.Segment { // read late, and moved since
		return nil
	}

	q.add(t, at, n)
	q.entries[t.ID].recovered = true
	if old == nil {
		q.spool.Hold(endRoom(t))
		q.applyLate(t)
	}

	return nil
}

// applyLate applies to a transaction what happened before it was read. q.mu must
// be held.
func (q *Queue) applyLate(t *Transaction) {
	if len(q.late.unread) == 0 {
		return
	}

	for _, tc := range t.Copies {
		key := copyKey{t.ID, tc.MessageID}
		c := q.find(key)
		if c == nil {
			continue
		}

		if s, ok := q.late.states[key]; ok {
			q.setState(c, s)
		}
		if _, ok := q.late.ended[key]; ok {
			q.spool.Hold(-c.room())
			q.forget(c)
		}
	}
}

func (q *Queue) loadState(b []byte) error {
	var s stateRecord
	if err := decodeJSON(b, &s); err != nil {
		return err
	}

	q.mu.Lock()
	defer q.mu.Unlock()

	key := copyKey{s.ID, s.Copy}
	c := q.find(key)
	if c == nil {
		if len(q.late.unread) > 0 {
			q.late.states[key] = s
		}
		return nil
	}

	late, ok := q.late.states[key]
	if !ok || late.LastTry.Before(s.LastTry) {
		q.setState(c, s)
	}

	return nil
}

func (q *Queue) loadDone(b []byte) error {
	var d doneRecord
	if err := decodeJSON(b, &d); err != nil {
		return err
	}

	q.mu.Lock()
	defer q.mu.Unlock()

	key := copyKey{d.ID, d.Copy}
	if len(q.late.unread) > 0 {
		q.late.ended[key] = struct{}{}
	}
	if c := q.find(key); c != nil {
		q.spool.Hold(-c.room())
		q.forget(c)
	}

	return nil
}

// loadUnread tries again to read the segments that could not be read at startup,
// in order.
func (q *Queue) loadUnread() {
	for {
		at, ok := q.firstUnread()
		if !ok {
			return
		}

		rest, err := q.spool.ScanSegment(at, q.index())
		if err != nil {
			q.mu.Lock()
			q.late.unread[0] = rest
			q.mu.Unlock()
			return
		}

		q.mu.Lock()
		q.late.unread = q.late.unread[1:]
		if len(q.late.unread) == 0 {
			q.late = lateRecords{}
		}
		q.mu.Unlock()
		q.cfg.Log.Info("queue: segment read at last", "segment", at.Segment)
	}
}

// firstUnread returns where the first unread segment is to be read on.
func (q *Queue) firstUnread() (spool.Position, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()

	if len(q.late.unread) == 0 {
		return spool.Position{}, false
	}

	return q.late.unread[0], true
}
