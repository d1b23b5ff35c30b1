package web

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/agent"
)

// State is what a tracker remembers of clients and what it still has to write,
// all of it bounded: a Handler that takes another's place goes on with it.
type State struct {
	agents  *agent.Reader
	repeats repeats
	history *history
	later   *later
	lost    prometheus.Counter
	writing chan struct{} // a place for each event that is being written
	say     struct{ refused, lost, unknownHost, unknownKey seldom }
}

// NewState returns an empty memory.
func NewState() *State {
	lost := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postern_web_events_lost_total",
		Help: "Events that could not be written; the recipient was served all the same.",
	})
	return &State{
		agents:  agent.NewReader(),
		history: newHistory(),
		later:   newLater(lost),
		lost:    lost,
		writing: make(chan struct{}, maxWriting),
	}
}

// Serve writes the events of unsubscribe links that could not be written when
// they happened. When ctx ends, after the last request, it tries a last time.
func (s *State) Serve(ctx context.Context, log *slog.Logger) error {
	s.later.serve(ctx, log)
	return nil
}

func (s *State) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.lost, s.later.waiting}
}

// sayEvery is how often one kind of thing is logged that may happen with every
// request.
const sayEvery = time.Minute

// seldom bounds how often something is logged. The zero value is ready for use.
type seldom struct {
	mu   sync.Mutex
	last time.Time
}

// log calls write unless it did so within the last minute.
func (s *seldom) log(now time.Time, write func()) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if !s.last.IsZero() && now.Sub(s.last).Abs() < sayEvery {
		return
	}

	s.last = now
	write()
}
