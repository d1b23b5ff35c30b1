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

// goAside gives up the slot, where there is room aside.
func (d *delivery) goAside() bool {
	if d.weight > 0 {
		return true
	}

	weight := d.size()
	if !d.u.aside.enter(weight) {
		return false
	}
	d.weight = weight

	if d.hasSlot {
		d.hasSlot = false
		<-d.slots
	}

	return true
}

// leave gives back the slot, or the room aside.
func (d *delivery) leave() {
	if d.hasSlot {
		d.hasSlot = false
		<-d.slots
	}
	if d.weight > 0 {
		d.u.aside.leave(d.weight)
		d.weight = 0
	}
}

func (d *delivery) waitingBytes() int {
	n := 1
	for i := range d.b.items {
		if !d.b.items[i].done {
			n += len(d.b.items[i].line) + 1
		}
	}

	return n
}

// shrink gives back the room aside that the parts that are done took up.
func (d *delivery) shrink() {
	if d.weight == 0 {
		return
	}

	d.compact()
	now := d.size()
	d.u.aside.shrink(d.weight - now)
	d.weight = now
}

// compact forgets the items that are done, once no part is to be cut any more:
// a batch aside takes up no more than the events that it waits for.
func (d *delivery) compact() {
	if len(d.refused) > 0 {
		return
	}

	var items []item
	var ranges []itemRange
	for _, p := range d.ranges {
		waiting := d.waiting(p)
		if len(waiting) > 1 {
			return
		}
		if len(waiting) == 0 {
			continue
		}
		p.from, p.to = len(items), len(items)+1
		items, ranges = append(items, d.b.items[waiting[0]]), append(ranges, p)
	}
	d.b.items, d.ranges = items, ranges
}

// itemBytes is what an item takes up beside its line.
const itemBytes = 128

// size is how many bytes the batch takes up.
func (d *delivery) size() int { return d.waitingBytes() + itemBytes*len(d.b.items) }
