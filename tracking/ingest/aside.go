package ingest

import (
	"context"
	"sync"
)

const (
	// maxAside is how many batches wait aside.
	maxAside = 1024

	// asideBytes is how many bytes of events wait aside, times the size of a
	// batch.
	asideBytes = 16

	// asideAtOnce is how many uploads of what is aside are in flight.
	asideAtOnce = 2
)

// aside bounds what batches may hold that others pass. A batch that finds no
// room keeps its slot among the uploads in flight.
type aside struct {
	maxBytes int
	inFlight chan struct{}
	metrics  *metrics

	mu      sync.Mutex
	batches int
	bytes   int
}

func newAside(batchBytes int, m *metrics) *aside {
	return &aside{
		maxBytes: asideBytes * batchBytes,
		inFlight: make(chan struct{}, asideAtOnce),
		metrics:  m,
	}
}

// enter takes room for a batch, and reports whether there was any.
func (a *aside) enter(bytes int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()

	if a.batches > 0 && (a.batches >= maxAside || a.bytes+bytes > a.maxBytes) {
		return false
	}
	a.batches++
	a.bytes += bytes
	a.metrics.asideBatches.Set(float64(a.batches))

	return true
}

// shrink gives back a part of a batch's room.
func (a *aside) shrink(bytes int) {
	a.mu.Lock()
	a.bytes -= bytes
	a.mu.Unlock()
}

// leave gives back the room of a batch.
func (a *aside) leave(bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.batches--
	a.bytes -= bytes
	a.metrics.asideBatches.Set(float64(a.batches))
}

// acquire waits until an upload may begin.
func (a *aside) acquire(ctx context.Context) bool {
	select {
	case a.inFlight <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (a *aside) release() { <-a.inFlight }
