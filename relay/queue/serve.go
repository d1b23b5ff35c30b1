package queue

import (
	"container/heap"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"postern/tracking/spool"
)

const (
	// longWait is how long the queue sleeps at most.
	longWait = time.Minute

	// readPause follows an attempt whose copy could not be read for now.
	readPause = 10 * time.Second

	// largeMessage is the size, in bytes, from which on DSNs are made one at a
	// time, since each holds the message again.
	largeMessage = 1 << 20
)

// Serve sends what is due until ctx ends. Attempts in progress then have
// Config.Grace to complete; those that are cut off are tried again after the next
// start.
func (q *Queue) Serve(ctx context.Context, d Deliverer) error {
	q.d = d
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()

	var workers sync.WaitGroup
	work := make(chan *copyState)
	for range q.cfg.Workers {
		workers.Go(func() {
			for c := range work {
				q.attempt(sending, c)
			}
		})
	}

	var others sync.WaitGroup
	stopLog := make(chan struct{})
	others.Go(func() { q.writeLog(stopLog) })
	others.Go(func() { q.probe(ctx) })

	q.dispatch(ctx, work)
	close(work)
	grace := time.AfterFunc(q.cfg.Grace, cut)
	defer grace.Stop()
	workers.Wait()

	close(stopLog)
	others.Wait()

	return nil
}

// dispatch hands the copies that are due to the workers until ctx ends.
func (q *Queue) dispatch(ctx context.Context, work chan<- *copyState) {
	for ctx.Err() == nil {
		c, wait := q.takeDue()
		if c != nil {
			select {
			case work <- c:
			case <-ctx.Done():
			}
			continue
		}

		select {
		case <-q.wake:
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// takeDue takes the first copy that is due out of the heap. If none is due, it
// returns how long to wait.
func (q *Queue) takeDue() (*copyState, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()

	if len(q.due) == 0 {
		return nil, longWait
	}

	c := q.due[0]
	if wait := c.next.Sub(q.cfg.Now()); wait > 0 {
		return nil, min(wait, longWait)
	}

	heap.Pop(&q.due)
	c.busy = true

	return c, 0
}

// attempt sends one copy. If ctx ends first, the attempt does not count.
func (q *Queue) attempt(ctx context.Context, c *copyState) {
	at, size := q.position(c)
	mem, err := q.memory.get(ctx, spool.LineBytes(size))
	if err != nil {
		return
	}
	defer q.memory.put(mem)

	t, index, err := q.readCopy(c, at, mem.buf)
	if err != nil {
		q.handleUnreadable(c, at, size, err)
		return
	}

	q.mu.Lock()
	tries := c.tries
	t.Recovered = c.e.recovered
	q.mu.Unlock()

	v := q.deliver(ctx, t, index, tries)
	decided := v.Done || v.Failed
	if ctx.Err() != nil && !decided {
		return
	}

	tries++
	expired := !decided && q.cfg.Now().Sub(t.Created) >= q.cfg.BounceAfter
	switch {
	case v.Done:
		q.attempts.WithLabelValues("done").Inc()
		q.finish(c, "sent")
	case v.Failed || expired:
		q.attempts.WithLabelValues("failed").Inc()
		q.giveUp(ctx, t, index, c, tries, v)
	default:
		q.attempts.WithLabelValues("deferred").Inc()
		q.retryLater(c, tries, v)
	}
}

// deliver has the deliverer send a copy, with its time limited.
func (q *Queue) deliver(ctx context.Context, t *Transaction, index, tries int) Verdict {
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()

	return q.d.Deliver(ctx, t, index, tries)
}

// position returns where a copy's transaction is, and its size.
func (q *Queue) position(c *copyState) (spool.Position, int) {
	q.mu.Lock()
	defer q.mu.Unlock()

	return c.e.at, c.e.size
}

// readCopy reads a copy's transaction into a buffer, which then belongs to the
// transaction, and returns the index of the copy.
func (q *Queue) readCopy(c *copyState, at spool.Position, buf []byte) (*Transaction, int, error) {
	record, err := q.spool.ReadInto(at, buf)
	if err != nil {
		return nil, 0, err
	}

	t, err := decodeInPlace(record)
	if err != nil {
		return nil, 0, err
	}

	index := t.find(c.messageID)
	if index < 0 {
		return nil, 0, errRecord
	}

	return t, index, nil
}

// read reads a transaction.
func (q *Queue) read(at spool.Position, size int) (*Transaction, error) {
	record, err := q.spool.ReadAt(at, size)
	if err != nil {
		return nil, err
	}

	return decodeInPlace(record)
}

// handleUnreadable handles a copy that could not be read at a position. If it has
// moved meanwhile, or cannot be read for now, it is tried again. If it is damaged
// it is quarantined, and ends.
func (q *Queue) handleUnreadable(c *copyState, at spool.Position, size int, err error) {
	if now, _ := q.position(c); now != at {
		q.postpone(c, 0)
		return
	}

	q.attempts.WithLabelValues("unreadable").Inc()
	log := q.cfg.Log.With("message_id", c.messageID, "recipient", c.recipient)
	gone := errors.Is(err, spool.ErrGone)
	damaged := errors.Is(err, spool.ErrCorrupt) || errors.Is(err, errRecord)
	if !gone && !damaged {
		log.Error("queue: cannot read copy, trying again", "err", err)
		q.postpone(c, readPause)
		return
	}

	file := ""
	if !gone {
		q.broken.Inc()
		var failed error
		file, failed = q.spool.Quarantine(at, size, c.e.id)
		if failed != nil && !errors.Is(failed, spool.ErrGone) {
			log.Error("queue: cannot quarantine damaged copy, trying again", "err", errors.Join(err, failed))
			q.postpone(c, readPause)
			return
		}
	}

	log.Error("queue: damaged copy quarantined", "file", file, "err", err)
	q.finish(c, "unreadable")
}

// postpone makes a copy due after a pause. The attempt does not count.
func (q *Queue) postpone(c *copyState, pause time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()

	c.busy = false
	c.next = q.cfg.Now().Add(pause)
	q.schedule(c)
}

// retryLater makes a copy due after the pause that follows so many attempts.
func (q *Queue) retryLater(c *copyState, tries int, v Verdict) {
	q.mu.Lock()
	defer q.mu.Unlock()

	c.busy = false
	c.tries = tries
	c.next = q.nextTry(tries)
	c.lastTry = q.cfg.Now()
	c.reply = v.Reply
	c.upstream = v.Upstream

	q.setAway(c, v.Away)
	q.schedule(c)
	q.markChanged(c)
}

// giveUp queues the DSN about a copy and ends the copy. If the disk has no room
// for the DSN, it is sent at once; if that fails too, the copy stays.
func (q *Queue) giveUp(ctx context.Context, t *Transaction, index int, c *copyState, tries int, v Verdict) {
	if t.size() >= largeMessage {
		q.largeDSN.Lock()
		defer q.largeDSN.Unlock()
	}

	dsns := q.d.GiveUp(ctx, t, index, tries, v)
	if err := q.putDSNs(ctx, dsns); err != nil {
		q.cfg.Log.Error("queue: cannot queue DSN, copy stays", "message_id", c.messageID, "err", err)
		q.retryLater(c, tries, v)
		return
	}

	q.finish(c, failedWith(v.Reply))
}

// putDSNs queues DSNs, or sends them if the disk has no room.
func (q *Queue) putDSNs(ctx context.Context, dsns []*Transaction) error {
	if len(dsns) == 0 {
		return nil
	}

	err := q.put(context.WithoutCancel(ctx), spool.Internal, dsns...)
	if errors.Is(err, spool.ErrNoSpace) && q.sendNow(ctx, dsns) {
		return nil
	}

	return err
}

// sendNow sends transactions that the disk has no room for. It reports whether
// all have been accepted or refused for good.
func (q *Queue) sendNow(ctx context.Context, ts []*Transaction) bool {
	for _, t := range ts {
		for i := range t.Copies {
			v := q.deliver(ctx, t, i, 0)
			if !v.Done && !v.Failed {
				return false
			}
			if v.Failed { // a DSN has no DSN itself
				q.d.GiveUp(ctx, t, i, 1, v)
			}
		}
	}

	return true
}

// failedWith returns why a copy ended, for its record: at most the code of the
// reply, since the room for the record was allocated before the reply was known.
func failedWith(reply string) string {
	code, _, _ := strings.Cut(reply, " ")
	if len(code) != 3 || strings.Trim(code, "0123456789") != "" {
		return "failed"
	}

	return "failed " + code
}

// probe asks whether an upstream is reachable while copies wait for that, and
// makes them due when one is, until ctx ends.
func (q *Queue) probe(ctx context.Context) {
	tick := time.Tick(q.cfg.ProbeEvery)
	for {
		select {
		case <-tick:
		case <-ctx.Done():
			return
		}

		q.mu.Lock()
		waiting := len(q.away)
		q.mu.Unlock()
		if waiting == 0 || q.d.Reachable(ctx) != nil {
			continue
		}

		q.cfg.Log.Info("queue: upstream is back", "copies", waiting)
		q.releaseAway()
	}
}

// releaseAway makes the copies due that wait for an upstream to be reachable.
func (q *Queue) releaseAway() {
	q.mu.Lock()
	defer q.mu.Unlock()

	for c := range q.away {
		delete(q.away, c)
		if !c.busy {
			c.next = q.cfg.Now()
			q.schedule(c)
		}
	}
}
