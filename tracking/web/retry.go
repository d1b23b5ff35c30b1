package web

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
)

// Limits of the events that wait in memory until they can be written.
const (
	maxWaiting   = 10000            // events
	waitAtMost   = 10 * time.Minute // after which an event is lost
	firstPause   = time.Second      // between two attempts, doubled up to longestPause
	longestPause = 30 * time.Second
	maxFailures  = 3 // in a row, after which an attempt stops
	flushWithin  = 5 * time.Second
)

// queuedEvent is an event that could not be written.
type queuedEvent struct {
	key    requestKey
	since  time.Time
	event  *event.Event
	events Recorder
}

// retryQueue retries the events of tracked unsubscribe links. Whoever follows one
// is redirected to the sender's page whatever happens to the event, and does not
// come back.
type retryQueue struct {
	mu      sync.Mutex
	entries []*queuedEvent
	closed  bool
	wake    chan struct{} // holds one after something was added

	now     func() time.Time
	pause   time.Duration // firstPause
	lost    prometheus.Counter
	waiting prometheus.GaugeFunc
}

// newRetryQueue returns an empty queue that counts the events it loses.
func newRetryQueue(lost prometheus.Counter) *retryQueue {
	q := &retryQueue{
		wake:  make(chan struct{}, 1),
		now:   time.Now,
		pause: firstPause,
		lost:  lost,
	}

	q.waiting = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postern_web_waiting_unsubscribes",
		Help: "Unsubscribe events in memory that could not be written yet.",
	}, func() float64 {
		q.mu.Lock()
		defer q.mu.Unlock()

		return float64(len(q.entries))
	})

	return q
}

// add queues an event and reports whether there was room for it. An event whose
// request has the key of a queued one is not queued again.
func (q *retryQueue) add(key requestKey, e *event.Event, events Recorder) bool {
	q.mu.Lock()
	defer q.mu.Unlock()

	if slices.ContainsFunc(q.entries, func(w *queuedEvent) bool { return w.key == key }) {
		return true
	}
	if q.closed || len(q.entries) >= maxWaiting {
		return false
	}

	q.entries = append(q.entries, &queuedEvent{
		key:    key,
		since:  q.now(),
		event:  e,
		events: events,
	})
	select {
	case q.wake <- struct{}{}:
	default:
	}

	return true
}

// serve retries queued events until ctx is done, and then once more.
func (q *retryQueue) serve(ctx context.Context, log *slog.Logger) {
	pause := q.pause
	for {
		select {
		case <-q.wake:
		case <-ctx.Done():
			q.flush(ctx, log)
			return
		}

		for q.length() > 0 {
			if !sleep(ctx, pause) {
				q.flush(ctx, log)
				return
			}
			if q.try(ctx, log) {
				pause = q.pause
			} else {
				pause = min(2*pause, longestPause)
			}
		}
	}
}

// sleep waits for d and returns true, or false if ctx is done before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()

	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// length returns the number of queued events.
func (q *retryQueue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()

	return len(q.entries)
}

// try writes the queued events, oldest first, drops those that have waited too
// long, and reports whether any was written. An event that fails is moved to the
// end, so that one that can never be written does not block the others.
func (q *retryQueue) try(ctx context.Context, log *slog.Logger) (written bool) {
	failures := 0
	for range q.length() {
		if failures >= maxFailures {
			break
		}

		w := q.first()
		if err := w.events.Record(context.WithoutCancel(ctx), w.event); err != nil {
			failures++
			q.putBack(w)
			continue
		}
		failures = 0
		written = true
	}
	q.expire(log)

	return written
}

// first removes the first event from the queue, which must not be empty. Only the
// goroutine of serve removes events. Meanwhile add does not know of the event, and
// would queue one with the same key again.
func (q *retryQueue) first() *queuedEvent {
	q.mu.Lock()
	defer q.mu.Unlock()

	w := q.entries[0]
	q.entries[0] = nil
	q.entries = q.entries[1:]

	return w
}

// putBack adds an event that first has removed to the end of the queue.
func (q *retryQueue) putBack(w *queuedEvent) {
	q.mu.Lock()
	defer q.mu.Unlock()

	q.entries = append(q.entries, w)
}

// expire drops the events that have waited too long.
func (q *retryQueue) expire(log *slog.Logger) {
	q.mu.Lock()
	kept := q.entries[:0]
	for _, w := range q.entries {
		if q.now().Sub(w.since) < waitAtMost {
			kept = append(kept, w)
		}
	}
	gone := len(q.entries) - len(kept)
	clear(q.entries[len(kept):])
	q.entries = kept
	q.mu.Unlock()

	q.lose(log, gone)
}

// flush writes all events, and drops those that cannot be written. The queue is
// closed afterwards.
func (q *retryQueue) flush(ctx context.Context, log *slog.Logger) {
	q.mu.Lock()
	entries := q.entries
	q.entries = nil
	q.closed = true
	q.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWithin)
	defer cancel()

	lost := 0
	for _, w := range entries {
		if ctx.Err() != nil || w.events.Record(ctx, w.event) != nil {
			lost++
		}
	}

	q.lose(log, lost)
}

// lose counts and logs n lost events.
func (q *retryQueue) lose(log *slog.Logger, n int) {
	if n == 0 {
		return
	}

	q.lost.Add(float64(n))
	log.Error("web: unsubscribe events lost", "events", n)
}
