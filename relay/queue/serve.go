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
	longWait = time.Minute

	// readPause follows an attempt whose copy could not be read just now.
	readPause = 10 * time.Second

	// largeMessage is from where on DSNs are made one at a time: they hold the
	// message again.
	largeMessage = 1 << 20
)

// Serve sends what is due until ctx ends. Attempts under way then have Grace
// to end; what is cut off is tried again after the next start.
func (q *Queue) Serve(ctx context.Context, d Deliverer) error {
	q.d = d
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()

	var workers, others sync.WaitGroup
	work, stopLog := make(chan *copyState), make(chan struct{})
	for range q.cfg.Workers {
		workers.Go(func() {
			for c := range work {
				q.attempt(sending, c)
			}
		})
	}

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

// handOut gives what is due to the workers until ctx ends.
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

// takeDue takes the first copy that is due, or returns how long to wait.
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

// attempt sends one copy.
func (q *Queue) attempt(ctx context.Context, c *copyState) {
	at, size := q.position(c)
	mem, err := q.memory.get(ctx, spool.LineBytes(size))
	if err != nil { // we stop
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

	one, cancel := context.WithTimeout(ctx, deliverTimeout)
	v := q.d.Deliver(one, t, index, tries)
	cancel()
	if ctx.Err() != nil && !v.Done && !v.Failed { // we stop; nothing has been said
		return
	}

	tries++
	expired := !v.Done && !v.Failed && q.cfg.Now().Sub(t.Created) >= q.cfg.BounceAfter
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

// place is where a copy's transaction is.
func (q *Queue) position(c *copyState) (spool.Position, int) {
	q.mu.Lock()
	defer q.mu.Unlock()

	return c.e.at, c.e.size
}

// readCopy reads a copy's transaction into a buffer, which it shares.
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

func (q *Queue) read(at spool.Position, size int) (*Transaction, error) {
	record, err := q.spool.ReadAt(at, size)
	if err != nil {
		return nil, err
	}

	return decodeInPlace(record)
}

// unreadable is a copy that could not be read. Broken bytes are quarantined in
// a file of their own, and the rest goes on. A copy that has moved meanwhile,
// or that cannot be read just now, is tried again.
func (q *Queue) handleUnreadable(c *copyState, at spool.Position, size int, err error) {
	if now, _ := q.position(c); now != at {
		q.postpone(c, 0)
		return
	}

	q.attempts.WithLabelValues("unreadable").Inc()
	gone := errors.Is(err, spool.ErrGone)
	if !gone && !errors.Is(err, spool.ErrCorrupt) && !errors.Is(err, errRecord) {
		q.cfg.Log.Error("queue: copy not readable, trying again", "message_id", c.messageID,
			"recipient", c.recipient, "err", err)
		q.postpone(c, readPause)
		return
	}

	file := ""
	if !gone {
		q.broken.Inc()
		var kept error
		file, kept = q.spool.Quarantine(at, size, c.e.id)
		if kept != nil && !errors.Is(kept, spool.ErrGone) {
			q.cfg.Log.Error("queue: broken copy not quarantined, trying again", "message_id", c.messageID,
				"recipient", c.recipient, "err", errors.Join(err, kept))
			q.postpone(c, readPause)
			return
		}
	}
	q.cfg.Log.Error("queue: copy is broken and was quarantined", "file", file, "message_id", c.messageID,
		"recipient", c.recipient, "err", err)
	q.finish(c, "unreadable")
}

// later makes a copy due after a pause; the attempt did not count.
func (q *Queue) postpone(c *copyState, pause time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c.next, c.busy = q.cfg.Now().Add(pause), false
	q.schedule(c)
}

// again makes a copy due after the pause that follows its tries.
func (q *Queue) retryLater(c *copyState, tries int, v Verdict) {
	q.mu.Lock()
	defer q.mu.Unlock()

	c.busy = false
	c.tries, c.next = tries, q.nextTry(tries)
	c.lastTry = q.cfg.Now()
	c.reply, c.upstream = v.Reply, v.Upstream
	q.setAway(c, v.Away)
	q.schedule(c)
	q.markChanged(c)
}

// giveUp queues what is to be said about a copy and forgets it. Where the disk
// has no room for that, it is sent at once.
func (q *Queue) giveUp(ctx context.Context, t *Transaction, index int, c *copyState, tries int, v Verdict) {
	if t.size() >= largeMessage {
		q.largeDSN.Lock()
		defer q.largeDSN.Unlock()
	}

	about := q.d.GiveUp(ctx, t, index, tries, v)
	if len(about) > 0 {
		err := q.put(context.WithoutCancel(ctx), spool.Internal, about...)
		if errors.Is(err, spool.ErrNoSpace) && q.sendNow(ctx, about) {
			err = nil
		}
		if err != nil {
			q.cfg.Log.Error("queue: a DSN could not be queued, the copy stays", "message_id", c.messageID, "err", err)
			q.retryLater(c, tries, v)
			return
		}
	}
	q.finish(c, failedWith(v.Reply))
}

// sendNow sends transactions that the disk has no room for, so that the copies
// that they are about can leave it. It reports whether none has to be sent
// again.
func (q *Queue) sendNow(ctx context.Context, ts []*Transaction) bool {
	for _, t := range ts {
		for i := range t.Copies {
			one, cancel := context.WithTimeout(ctx, deliverTimeout)
			v := q.d.Deliver(one, t, i, 0)
			cancel()
			if !v.Done && !v.Failed {
				return false
			}
			if v.Failed { // a DSN has no DSN
				q.d.GiveUp(ctx, t, i, 1, v)
			}
		}
	}

	return true
}

// failedWith says why a copy ended, in a few letters whatever the upstream said.
func failedWith(reply string) string {
	code, _, _ := strings.Cut(reply, " ")
	if len(code) != 3 || strings.Trim(code, "0123456789") != "" {
		return "failed"
	}

	return "failed " + code
}

// probe asks for the upstream while copies wait for it, and makes them due
// when it is back.
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

		q.cfg.Log.Info("queue: the upstream is back", "copies", waiting)
		q.mu.Lock()
		for c := range q.away {
			delete(q.away, c)
			if !c.busy {
				c.next = q.cfg.Now()
				q.schedule(c)
			}
		}
		q.mu.Unlock()
	}
}
