package queue

import (
	"container/heap"
	"time"

	"postern/tracking/spool"
)

// entry is a transaction with waiting copies.
type entry struct {
	id      string
	session string // id in the reply to the client; empty: none
	at      spool.Position
	size    int   // bytes of its record
	weight  int64 // size, and the states written with it
	created time.Time
	from    string
	copies  map[string]*copyState // the waiting ones, by message id

	recovered bool // read at startup
}

// copyState is a copy that waits or is being sent.
type copyState struct {
	e         *entry
	messageID string
	recipient string
	tries     int
	next      time.Time
	lastTry   time.Time
	reply     string
	upstream  string
	isAway    bool // no upstream was reachable
	busy      bool // an attempt is in progress
	heapIndex int  // in Queue.due; -1: not there
}

// copyKey identifies a copy.
type copyKey struct {
	id        string // of the transaction
	messageID string
}

// usage is what waits in a segment.
type usage struct {
	entries map[*entry]struct{}
	bytes   int64
}

// add enters a transaction into the index. One that is already there has moved.
// q.mu must be held, as for all functions of this file.
func (q *Queue) add(t *Transaction, at spool.Position, size int) {
	if old := q.entries[t.ID]; old != nil {
		q.leave(old)
		q.occupy(old, at, size, int64(size))
		return
	}

	e := &entry{
		id:      t.ID,
		session: t.Session,
		created: t.Created,
		from:    t.From.String(),
		copies:  map[string]*copyState{},
	}
	q.entries[t.ID] = e
	q.occupy(e, at, size, int64(size))

	for i := range t.Copies {
		q.addCopy(e, &t.Copies[i])
	}
}

// addCopy enters a copy into the index. It is due now, or after the first pause
// if it was tried before it was queued.
func (q *Queue) addCopy(e *entry, c *Copy) {
	now := q.cfg.Now()
	s := &copyState{
		e:         e,
		messageID: c.MessageID,
		recipient: c.Recipient.Address.String(),
		next:      now,
		heapIndex: -1,
	}

	if v := c.Tried; v != nil {
		s.tries = 1
		s.next = q.nextTry(1)
		s.lastTry = now
		s.reply = v.Reply
		q.setAway(s, v.Away)
	}

	e.copies[c.MessageID] = s
	q.copies++
	q.schedule(s)
}

// occupy records that a transaction needs weight bytes of a segment.
func (q *Queue) occupy(e *entry, at spool.Position, size int, weight int64) {
	e.at = at
	e.size = size
	e.weight = weight

	u := q.segments[at.Segment]
	if u == nil {
		u = &usage{entries: map[*entry]struct{}{}}
		q.segments[at.Segment] = u
	}

	u.entries[e] = struct{}{}
	u.bytes += weight
	q.live += weight
}

// leave records that a transaction no longer needs its segment.
func (q *Queue) leave(e *entry) {
	u := q.segments[e.at.Segment]
	delete(u.entries, e)
	u.bytes -= e.weight
	q.live -= e.weight

	if len(u.entries) == 0 {
		delete(q.segments, e.at.Segment)
	}
}

// find returns a waiting copy, or nil.
func (q *Queue) find(key copyKey) *copyState {
	e := q.entries[key.id]
	if e == nil {
		return nil
	}

	return e.copies[key.messageID]
}

// forget removes a copy from the index, and with the last copy its transaction.
func (q *Queue) forget(c *copyState) {
	if c.e.copies[c.messageID] != c {
		return
	}

	delete(c.e.copies, c.messageID)
	delete(q.away, c)
	delete(q.changed, c)
	q.copies--

	if c.heapIndex >= 0 {
		heap.Remove(&q.due, c.heapIndex)
	}

	if len(c.e.copies) == 0 {
		delete(q.entries, c.e.id)
		q.leave(c.e)
	}
}

// setState restores the state of a copy from its record.
func (q *Queue) setState(c *copyState, s stateRecord) {
	c.tries = s.Tries
	c.next = s.Next
	c.lastTry = s.LastTry
	c.reply = s.Reply
	c.upstream = s.Upstream

	q.setAway(c, s.Away)
	q.schedule(c)
}

// state returns the record of a copy's state.
func (c *copyState) state() stateRecord {
	return stateRecord{
		ID:       c.e.id,
		Copy:     c.messageID,
		Tries:    c.tries,
		Next:     c.next,
		Away:     c.isAway,
		Reply:    c.reply,
		LastTry:  c.lastTry,
		Upstream: c.upstream,
	}
}

// setAway records whether a copy waits for an upstream to be reachable.
func (q *Queue) setAway(c *copyState, away bool) {
	c.isAway = away
	if away {
		q.away[c] = struct{}{}
	} else {
		delete(q.away, c)
	}
}

// schedule enters a copy into the heap, or moves it there after next has changed.
func (q *Queue) schedule(c *copyState) {
	if c.heapIndex >= 0 {
		heap.Fix(&q.due, c.heapIndex)
	} else {
		heap.Push(&q.due, c)
	}

	notify(q.wake)
}

// dueHeap orders copies by the time of their next attempts.
type dueHeap []*copyState

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].next.Before(h[j].next) }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex = i
	h[j].heapIndex = j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	c := x.(*copyState)
	c.heapIndex = len(*h)
	*h = append(*h, c)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	last := len(old) - 1
	c := old[last]
	*h = old[:last]
	c.heapIndex = -1

	return c
}
