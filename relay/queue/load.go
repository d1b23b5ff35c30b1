package queue

import (
	"fmt"

	"postern/tracking/spool"
)

// headBytes is what is read of a transaction at the start; its JSON mostly fits.
const headBytes = 1 << 10

// lateRecords is what has to be known while a segment could not be read at the
// start, for when it is: what happened since to the copies in it.
type lateRecords struct {
	unread []spool.Position
	ended  map[copyKey]struct{}
	states map[copyKey]stateRecord
}

// index is how the spool's records are taken into the index.
func (q *Queue) index() spool.Index {
	return spool.Index{
		Head:   headBytes,
		Length: recordLength,
		Load:   q.load,
		Unread: func(at spool.Position) {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.late.unread = append(q.late.unread, at)
			if q.late.ended == nil {
				q.late.ended = map[copyKey]struct{}{}
				q.late.states = map[copyKey]stateRecord{}
			}
		},
	}
}

// load takes one record of a previous run into the index. It reports whether
// the beginning b of the record, which is n bytes long, was enough.
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

// quarantine keeps a record that cannot be decoded.
func (q *Queue) quarantine(at spool.Position, n int, why error) {
	q.broken.Inc()
	file, err := q.spool.Quarantine(at, n, fmt.Sprintf("%016x-%016x", at.Segment, at.Offset))
	if err != nil { // read a moment ago: its bytes are what they are
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

// applyLate brings a transaction that was read late up to date; under mu.
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
	switch {
	case c != nil:
		if late, ok := q.late.states[key]; !ok || late.LastTry.Before(s.LastTry) {
			q.setState(c, s)
		}
	case len(q.late.unread) > 0:
		q.late.states[key] = s
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

// loadUnread reads on where segments could not be read at the start.
func (q *Queue) loadUnread() {
	for {
		q.mu.Lock()
		if len(q.late.unread) == 0 {
			q.mu.Unlock()
			return
		}
		at := q.late.unread[0]
		q.mu.Unlock()

		rest, err := q.spool.ScanSegment(at, q.index())

		q.mu.Lock()
		if err != nil {
			q.late.unread[0] = rest
			q.mu.Unlock()
			return
		}
		q.late.unread = q.late.unread[1:]
		if len(q.late.unread) == 0 {
			q.late = lateRecords{}
		}
		q.mu.Unlock()
		q.cfg.Log.Info("queue: segment read after all", "segment", at.Segment)
	}
}
