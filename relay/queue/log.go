package queue

import (
	"context"
	"errors"
	"slices"
	"time"

	"postern/tracking/spool"
)

const (
	// defaultLogEvery is how often, without any other reason, writes that failed
	// are tried again and segments are freed.
	defaultLogEvery = 500 * time.Millisecond

	// warnEvery limits how often the log says that records cannot be written.
	warnEvery = 30 * time.Second

	// groupSize is the number of records that are written all or none.
	groupSize = 500

	// maxUnsaved limits how many ends, and how many states, are encoded at a
	// time, since the queue is locked meanwhile.
	maxUnsaved = 10 * groupSize

	// lastTries is the number of writes that are tried on shutdown, lastPause
	// apart.
	lastTries = 3
	lastPause = 200 * time.Millisecond

	// baseRoom is always allocated, for the ends of copies that move.
	baseRoom = 16 << 10
)

// noStates is the class of states that are not to be written now.
const noStates spool.Class = -1

// pendingEnd is the end of a copy that is to be recorded.
type pendingEnd struct {
	doneRecord
	segment uint64 // of the transaction; once it is removed, no record is needed
	room    int64  // held for the record
}

// room returns the bytes that the record of a copy's end takes on disk at most.
func (c *copyState) room() int64 { return recordRoom(c.e.id, c.messageID) }

// endRoom returns the room for the ends of all copies of a transaction.
func endRoom(t *Transaction) int64 {
	n := int64(0)
	for i := range t.Copies {
		n += recordRoom(t.ID, t.Copies[i].MessageID)
	}

	return n
}

// recordRoom assumes that every byte of both ids is escaped.
func recordRoom(id, messageID string) int64 { return int64(128 + 2*(len(id)+len(messageID))) }

// finish removes a copy from the index and has its end recorded.
func (q *Queue) finish(c *copyState, why string) {
	q.mu.Lock()
	defer q.mu.Unlock()

	if c.e.copies[c.messageID] != c { // dropped by the operator
		return
	}
	q.endCopy(c, why)
}

// endCopy is like finish. q.mu must be held.
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
	notify(q.wakeLog)
}

// markChanged has the state of a copy recorded. q.mu must be held.
func (q *Queue) markChanged(c *copyState) {
	q.changed[c] = struct{}{}
	notify(q.wakeLog)
}

// Flush records the ends and states of copies that are not on disk yet. What
// cannot be written is kept for the next time.
func (q *Queue) Flush() error { return q.flush(spool.Ordinary) }

// flush writes ends as essential records, also if the states, which are of the
// class given, cannot be written.
func (q *Queue) flush(states spool.Class) error {
	q.flushing.Lock()
	defer q.flushing.Unlock()

	// On a full disk the states are not even encoded.
	var unsaved error
	if states == spool.Ordinary && q.unsaved() > 0 && errors.Is(q.spool.Err(), spool.ErrNoSpace) {
		states = noStates
		unsaved = spool.ErrNoSpace
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
			states = noStates
			unsaved = failed
		}
	}
}

// unsavedBatch is what is written with one call.
type unsavedBatch struct {
	ends    []pendingEnd
	changed []*copyState
	groups  []spool.Group // of the ends, then of the states
}

// takeUnsaved removes ends and states that are to be recorded from the queue, and
// encodes them.
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

	groups, err := encodeGroups(b.ends, b.changed, states)
	if err != nil {
		return b, err
	}
	b.groups = groups

	q.ends = q.ends[n:]
	for _, c := range b.changed {
		delete(q.changed, c)
	}

	return b, nil
}

// putBack returns to the queue what could not be written. errs are those of the
// groups.
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

// chunks divides records into groups.
func chunks[T any](all []T) [][]T { return slices.Collect(slices.Chunk(all, groupSize)) }

// encodeGroups encodes ends and states, one group for each chunk.
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

// Alive returns when the goroutine that records ends and frees segments was last
// seen to make progress, or the current time while Serve is not running.
func (q *Queue) Alive() time.Time {
	if last := q.lastAlive.Load(); last != nil {
		return *last
	}

	return time.Now()
}

func (q *Queue) noteAlive() {
	now := time.Now()
	q.lastAlive.Store(&now)
}

// writeLog records the ends and states of copies, many with one fsync, and frees
// segments, until stop is closed.
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
			q.finishLog()
			return
		}

		err := q.Flush()
		if err != nil && time.Since(warned) > warnEvery {
			warned = time.Now()
			q.cfg.Log.Error("queue: ends and states not recorded yet, a crash would duplicate mail",
				"records", q.unsaved(), "err", err)
		}

		free := q.freeSegments
		if idle {
			q.loadUnread()
			q.memory.trim()
			free = q.freeOpenSegment
		}
		for free() {
			_ = q.Flush() // an error was logged above
			free = q.freeSegments
		}

		if err == nil {
			continue
		}

		// Do not try again at once.
		select {
		case <-tick:
		case <-stop:
			q.finishLog()
			return
		}
	}
}

// finishLog records what is left on shutdown, and frees segments.
func (q *Queue) finishLog() {
	q.flushLast()
	q.freeOpenSegment()
}

// flushLast records what is left, with a few tries.
func (q *Queue) flushLast() {
	for try := 1; q.unsaved() > 0; try++ {
		err := q.flush(spool.Internal)
		if err == nil {
			return
		}

		if try == lastTries {
			q.cfg.Log.Error("queue: ends and states not recorded, mail may be duplicated",
				"records", q.unsaved(), "err", err)
			return
		}
		time.Sleep(lastPause)
	}
}
