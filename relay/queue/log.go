package queue

import (
	"context"
	"errors"
	"slices"
	"time"

	"postern/tracking/spool"
)

const (
	// defaultLogEvery is how often records that could not be written are tried again,
	// and segments looked at, where nothing else happens.
	defaultLogEvery = 500 * time.Millisecond

	// warnEvery is how often it is said that records are not written.
	warnEvery = 30 * time.Second

	// groupSize is how many records are written together or not at all.
	groupSize = 500

	// lastTries is how often records are tried at the end, lastPause apart.
	lastTries = 3
	lastPause = 200 * time.Millisecond

	// baseRoom stays allocated whatever waits, for the records of moved copies.
	baseRoom = 16 << 10
)

// end is a copy's end that is to be recorded.
type pendingEnd struct {
	doneRecord
	segment uint64 // of its transaction; with that gone, nothing is to be said
	room    int64  // held for the record
}

// room is what the record of a copy's end takes on disk at most.
func (c *copyState) room() int64 { return recordRoom(c.e.id, c.messageID) }

// endRoom is room of all copies of a transaction.
func endRoom(t *Transaction) int64 {
	n := int64(0)
	for i := range t.Copies {
		n += recordRoom(t.ID, t.Copies[i].MessageID)
	}

	return n
}

// recordRoom allows for both ids escaped twice.
func recordRoom(id, messageID string) int64 { return int64(128 + 2*(len(id)+len(messageID))) }

// finish takes a copy out of the index and has its end recorded.
func (q *Queue) finish(c *copyState, why string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.e.copies[c.messageID] != c { // dropped meanwhile
		return
	}
	q.endCopy(c, why)
}

// end is finish under mu.
func (q *Queue) endCopy(c *copyState, why string) {
	key := copyKey{c.e.id, c.messageID}
	q.ends = append(q.ends, pendingEnd{
		doneRecord: doneRecord{key.id, key.messageID, why},
		segment:    c.e.at.Segment,
		room:       c.room(),
	})
	if len(q.late.unread) > 0 {
		q.late.ended[key] = struct{}{}
	}
	q.forget(c)
	nudge(q.wakeLog)
}

// change has a copy's state recorded; under mu.
func (q *Queue) markChanged(c *copyState) {
	q.changed[c] = struct{}{}
	nudge(q.wakeLog)
}

// state is the record of a copy's state; under mu.
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

// Flush records the ends and states of copies that are not on disk yet. What
// cannot be written is kept for the next time.
func (q *Queue) Flush() error { return q.flush(spool.Ordinary) }

// flush is Flush with a class for states. Ends are essential: they are written
// though states cannot be.
func (q *Queue) flush(states spool.Class) error {
	q.flushing.Lock()
	defer q.flushing.Unlock()

	var unsaved error // of states
	if states == spool.Ordinary && q.unsaved() > 0 && errors.Is(q.spool.Err(), spool.ErrNoSpace) {
		states, unsaved = noStates, spool.ErrNoSpace // without encoding them
	}
	for {
		b, err := q.takeUnsaved(states)
		if err != nil {
			return err
		}
		if len(b.groups) == 0 {
			return unsaved
		}

		errs := q.spool.AppendGroups(context.Background(), b.groups)
		q.putBack(b, errs)
		failed := errors.Join(errs...)
		if failed != nil && errs[0] != nil {
			return failed
		}
		if failed != nil {
			states, unsaved = noStates, failed
		}
	}
}

// noStates is a class for states that are not to be tried again now.
const noStates spool.Class = -1

// unsavedBatch is what is written in one go.
type unsavedBatch struct {
	ends    []pendingEnd
	changed []*copyState
	groups  []spool.Group // those of the ends, then those of the states
}

// maxUnsaved is how many ends, and how many states, are taken at a time: the
// queue stands still while they are encoded.
const maxUnsaved = 10 * groupSize

// takeUnsaved takes ends and states that are to be recorded.
func (q *Queue) takeUnsaved(states spool.Class) (unsavedBatch, error) {
	q.mu.Lock()
	defer q.mu.Unlock()

	n := min(len(q.ends), maxUnsaved)
	b := unsavedBatch{ends: q.ends[:n:n]}
	for c := range q.changed {
		if states == noStates || len(b.changed) == maxUnsaved {
			break
		}
		b.changed = append(b.changed, c)
	}

	var err error
	if b.groups, err = encodeGroups(b.ends, b.changed, states); err != nil {
		return b, err
	}
	q.ends = q.ends[n:]
	for _, c := range b.changed {
		delete(q.changed, c)
	}

	return b, nil
}

// putBack keeps what could not be written for the next time.
func (q *Queue) putBack(b unsavedBatch, errs []error) {
	q.mu.Lock()
	defer q.mu.Unlock()

	ends := chunks(b.ends)
	for i, part := range ends {
		if errs[i] != nil {
			q.ends = append(q.ends, part...)
			continue
		}
		for _, e := range part {
			q.spool.Hold(-e.room)
		}
	}

	for i, part := range chunks(b.changed) {
		if errs[len(ends)+i] == nil {
			continue
		}
		for _, c := range part {
			if c.e.copies[c.messageID] == c {
				q.changed[c] = struct{}{}
			}
		}
	}
}

// chunks cuts records into groups.
func chunks[T any](all []T) [][]T { return slices.Collect(slices.Chunk(all, groupSize)) }

// encodeGroups encodes ends and states, a group a chunk.
func encodeGroups(ends []pendingEnd, changed []*copyState, class spool.Class) ([]spool.Group, error) {
	var groups []spool.Group
	for _, part := range chunks(ends) {
		g := spool.Group{Class: spool.Essential}
		for _, e := range part {
			r, err := encodeJSON(kindDone, e.doneRecord)
			if err != nil {
				return nil, err
			}
			g.Records = append(g.Records, r)
		}
		groups = append(groups, g)
	}

	for _, part := range chunks(changed) {
		g := spool.Group{Class: class}
		for _, c := range part {
			r, err := encodeJSON(kindState, c.state())
			if err != nil {
				return nil, err
			}
			g.Records = append(g.Records, r)
		}
		groups = append(groups, g)
	}

	return groups, nil
}

// Alive returns when the goroutine that records ends and releases segments
// showed its last sign of life.
func (q *Queue) Alive() time.Time {
	if turn := q.lastAlive.Load(); turn != nil {
		return *turn
	}

	return time.Now()
}

func (q *Queue) noteAlive() {
	now := time.Now()
	q.lastAlive.Store(&now)
}

// writeLog records what became of copies, many with one fsync, and has segments
// removed that nobody needs.
func (q *Queue) writeLog(stop <-chan struct{}) {
	tick := time.Tick(q.cfg.logEvery)
	defer q.lastAlive.Store(nil)
	var warned time.Time
	for {
		q.noteAlive()
		idle := false
		select {
		case <-q.wakeLog:
		case <-tick:
			idle = true
		case <-stop:
			q.flushLast()
			q.freeSegments(true)
			return
		}

		err := q.Flush()
		if err != nil && time.Since(warned) > warnEvery {
			warned = time.Now()
			q.cfg.Log.Error("queue: ends and states of copies not written yet; after a crash copies may go twice",
				"records", q.unsaved(), "err", err)
		}
		if idle {
			q.loadUnread()
			q.memory.trim()
		}
		for more := q.freeSegments(idle); more; more = q.freeSegments(false) {
			_ = q.Flush() // said above
		}

		if err != nil { // not again at once
			select {
			case <-tick:
			case <-stop:
				q.flushLast()
				q.freeSegments(true)
				return
			}
		}
	}
}

// flushLast writes what is left, as well as it can be.
func (q *Queue) flushLast() {
	for try := 1; q.unsaved() > 0; try++ {
		err := q.flush(spool.Internal)
		if err == nil {
			return
		}
		if try == lastTries {
			q.cfg.Log.Error("queue: ends and states of copies not written, copies may go twice",
				"records", q.unsaved(), "err", err)
			return
		}
		time.Sleep(lastPause)
	}
}
