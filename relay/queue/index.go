package queue

import (
	"container/heap"
	"time"

	"postern/tracking/spool"
)

// usage is what waits in a segment.
type usage struct {
	entries map[*entry]struct{}
	bytes   int64
}

// entry is a transaction that waits.
type entry struct {
	id      string
	session string // the id that the client got; empty: none
	at      spool.Position
	size    int
	weight  int64
	created time.Time
	from    string
	copies  map[string]*copyState // by message id; those not done

	recovered bool // of a previous run
}

type copyState struct {
	e         *entry
	messageID string
	recipient string
	tries     int
	next      time.Time
	lastTry   time.Time
	reply     string
	upstream  string
	isAway    bool
	busy      bool
	heapIndex int // -1: not in the heap
}

// add takes a transaction into the index. One that is there already has moved.
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

	for _, c := range t.Copies {
		s := &copyState{
			e:         e,
			messageID: c.MessageID,
			recipient: c.Recipient.Address.String(),
			next:      q.cfg.Now(),
			heapIndex: -1,
		}
		if v := c.Tried; v != nil {
			s.tries, s.next = 1, q.nextTry(1)
			s.lastTry, s.reply = q.cfg.Now(), v.Reply
			q.setAway(s, v.Away)
		}
		e.copies[c.MessageID] = s
		q.copies++
		q.schedule(s)
	}
}

// occupy notes that a transaction needs a segment, and how many bytes of it:
// more than its size where states were written with it.
func (q *Queue) occupy(e *entry, at spool.Position, size int, weight int64) {
	e.at, e.size = at, size
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

// leave notes that a transaction no longer needs its segment.
func (q *Queue) leave(e *entry) {
	u := q.segments[e.at.Segment]
	delete(u.entries, e)
	u.bytes -= e.weight
	q.live -= e.weight

	if len(u.entries) == 0 {
		delete(q.segments, e.at.Segment)
	}
}

// forget takes a copy out of the index.
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

func (q *Queue) setAway(c *copyState, away bool) {
	c.isAway = away
	if away {
		q.away[c] = struct{}{}
	} else {
		delete(q.away, c)
	}
}

func (q *Queue) schedule(c *copyState) {
	if c.heapIndex >= 0 {
		heap.Fix(&q.due, c.heapIndex)
	} else {
		heap.Push(&q.due, c)
	}
	nudge(q.wake)
}

// dueHeap orders copies by when they are due.
type dueHeap []*copyState

func (h dueHeap) Len() int { return len(h) }

func (h dueHeap) Less(i, j int) bool { return h[i].next.Before(h[j].next) }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
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
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	c.heapIndex = -1
	return c
}

type copyKey struct{ id, messageID string }

// find returns a copy that waits, or nil; under mu.
func (q *Queue) find(key copyKey) *copyState {
	if e := q.entries[key.id]; e != nil {
		return e.copies[key.messageID]
	}

	return nil
}

// setState takes over what a record says of a copy; under mu.
func (q *Queue) setState(c *copyState, s stateRecord) {
	c.tries, c.next = s.Tries, s.Next
	c.reply, c.upstream = s.Reply, s.Upstream
	c.lastTry = s.LastTry
	q.setAway(c, s.Away)
	q.schedule(c)
}
