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

// The limits of what waits in memory for the disk.
const (
	maxWaiting   = 10000            // events
	waitAtMost   = 10 * time.Minute // then an event is lost
	firstPause   = time.Second      // between two tries, doubled up to longestPause
	longestPause = 30 * time.Second
	maxFailures  = 3 // in a row, after which a try leaves the rest for the next
	flushWithin  = 5 * time.Second
)

// waiting is an event that could not be written.
type waiting struct {
	key    requestKey
	since  time.Time
	event  *event.Event
	events Recorder
}

// later writes the events of tracked unsubscribe links that the disk refused
// when the link was followed. Whoever follows one is led to the sender's page
// and comes back for nothing, so that the event is all that is left.
type later struct {
	mu     sync.Mutex
	queue  []*waiting
	closed bool
	wake   chan struct{} // holds one, where something was added

	now     func() time.Time
	pause   time.Duration // the first one
	lost    prometheus.Counter
	waiting prometheus.GaugeFunc
}

func newLater(lost prometheus.Counter) *later {
	l := &later{
		wake:  make(chan struct{}, 1),
		now:   time.Now,
		pause: firstPause,
		lost:  lost,
	}

	l.waiting = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postern_web_waiting_unsubscribes",
		Help: "Unsubscribe events that wait in memory until they can be written.",
	}, func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return float64(len(l.queue))
	})

	return l
}

// add puts an event into the queue and reports whether there was room for it.
// The event of a request that is the same as one that waits is that one.
func (l *later) add(key requestKey, e *event.Event, events Recorder) bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	if slices.ContainsFunc(l.queue, func(w *waiting) bool { return w.key == key }) {
		return true
	}
	if l.closed || len(l.queue) >= maxWaiting {
		return false
	}

	l.queue = append(l.queue, &waiting{key: key, since: l.now(), event: e, events: events})
	select {
	case l.wake <- struct{}{}:
	default:
	}

	return true
}

// serve tries what waits until ctx ends, and then once more.
func (l *later) serve(ctx context.Context, log *slog.Logger) {
	pause := l.pause
	for {
		select {
		case <-l.wake:
		case <-ctx.Done():
			l.flush(ctx, log)
			return
		}

		for l.length() > 0 {
			if !sleep(ctx, pause) {
				l.flush(ctx, log)
				return
			}
			if l.try(ctx, log) {
				pause = l.pause
			} else {
				pause = min(2*pause, longestPause)
			}
		}
	}
}

// sleep reports whether d passed before ctx ended.
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

func (l *later) length() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// try writes what waits, oldest first, and gives up what has waited too long.
// It reports whether anything was written. An event that fails goes to the end,
// so that one that can never be written holds up no other.
func (l *later) try(ctx context.Context, log *slog.Logger) (written bool) {
	failures := 0
	for range l.length() {
		if failures >= maxFailures {
			break
		}

		w := l.first()
		if err := w.events.Record(context.WithoutCancel(ctx), w.event); err != nil {
			failures++
			l.putBack(w)
			continue
		}
		failures = 0
		written = true
	}
	l.expire(log)

	return written
}

// first takes the first event out of the queue, which must not be empty. While
// it is out it is the caller's, and add takes its request for another one. Only
// the goroutine of serve takes events out.
func (l *later) first() *waiting {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]

	return w
}

func (l *later) putBack(w *waiting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, w)
}

func (l *later) expire(log *slog.Logger) {
	l.mu.Lock()
	kept := l.queue[:0]
	for _, w := range l.queue {
		if l.now().Sub(w.since) < waitAtMost {
			kept = append(kept, w)
		}
	}
	gone := len(l.queue) - len(kept)
	clear(l.queue[len(kept):])
	l.queue = kept
	l.mu.Unlock()

	l.lose(log, gone)
}

// flush tries everything a last time. What cannot be written is lost.
func (l *later) flush(ctx context.Context, log *slog.Logger) {
	l.mu.Lock()
	queue := l.queue
	l.queue = nil
	l.closed = true
	l.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWithin)
	defer cancel()

	lost := 0
	for _, w := range queue {
		if ctx.Err() != nil || w.events.Record(ctx, w.event) != nil {
			lost++
		}
	}

	l.lose(log, lost)
}

func (l *later) lose(log *slog.Logger, n int) {
	if n == 0 {
		return
	}

	l.lost.Add(float64(n))
	log.Error("web: unsubscribe events lost", "events", n)
}
