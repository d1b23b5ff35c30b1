package web

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/agent"
)

// State is what a tracker remembers between requests, in bounded memory: recent
// requests, and events that still have to be written. When the configuration is
// reloaded, the new Handler gets the State of the old one. It is safe for
// concurrent use.
type State struct {
	agents  *agent.Reader
	repeats repeats
	history *history
	retries *retryQueue
	lost    prometheus.Counter
	writing chan struct{} // holds one for each event that is being written
	limits  struct{ refused, lost, unknownHost, unknownKey logLimiter }
}

// NewState returns an empty State.
func NewState() *State {
	lost := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postern_web_events_lost_total",
		Help: "Events that could not be written. The recipient was served all the same.",
	})

	return &State{
		agents:  agent.NewReader(),
		history: newHistory(),
		retries: newRetryQueue(lost),
		lost:    lost,
		writing: make(chan struct{}, maxWriting),
	}
}

// Serve retries the events of unsubscribe links that could not be written when
// they happened, until ctx is done, and then once more. ctx must not be done
// before the last request is answered. The error is always nil.
func (s *State) Serve(ctx context.Context, log *slog.Logger) error {
	s.retries.serve(ctx, log)
	return nil
}

// collectors returns the metrics of the State.
func (s *State) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.lost, s.retries.waiting}
}

// logEvery is the shortest time between two messages of a logLimiter.
const logEvery = time.Minute

// logLimiter bounds how often a message is logged that any request may cause. The
// zero value is ready for use, and safe for concurrent use.
type logLimiter struct {
	mu   sync.Mutex
	last time.Time
}

// log calls write unless it did so less than logEvery ago.
func (l *logLimiter) log(now time.Time, write func()) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if !l.last.IsZero() && now.Sub(l.last).Abs() < logEvery {
		return
	}

	l.last = now
	write()
}
