package ingest

import (
	"context"
	"sync"
)

const (
	// maxAside is how many batches may be aside.
	maxAside = 1024

	// asideBytes is how many bytes of events may be aside, in sizes of a batch.
	asideBytes = 16

	// asideAtOnce is how many uploads of batches aside are in flight.
	asideAtOnce = 2
)

// aside is where batches are that others pass, because they failed repeatedly while
// others were accepted. It bounds what they hold; a batch that finds no room keeps its
// slot among the uploads in flight. It is safe for concurrent use.
type aside struct {
	maxBytes int
	inFlight chan struct{}
	metrics  *metrics

	mu      sync.Mutex
	batches int
	bytes   int
}

// newAside returns an empty aside for batches of at most batchBytes.
func newAside(batchBytes int, m *metrics) *aside {
	return &aside{
		maxBytes: asideBytes * batchBytes,
		inFlight: make(chan struct{}, asideAtOnce),
		metrics:  m,
	}
}

// enter reserves room for a batch, and reports whether there was any. The first batch
// always finds room.
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

// shrink releases some of a batch's room.
func (a *aside) shrink(bytes int) {
	a.mu.Lock()
	a.bytes -= bytes
	a.mu.Unlock()
}

// leave releases the room of a batch.
func (a *aside) leave(bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.batches--
	a.bytes -= bytes
	a.metrics.asideBatches.Set(float64(a.batches))
}

// acquire waits until an upload may begin, and reports whether that was before ctx
// ended. Each upload needs a release.
func (a *aside) acquire(ctx context.Context) bool {
	select {
	case a.inFlight <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// release ends an upload.
func (a *aside) release() { <-a.inFlight }

// goAside moves the batch aside, and releases its slot. It reports false if there is
// no room.
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

// leave releases the slot, or the room aside.
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

// waitingBytes returns the size of the upload of all items that are not done, and one
// byte more.
func (d *delivery) waitingBytes() int {
	n := 1
	for i := range d.b.items {
		if !d.b.items[i].done {
			n += len(d.b.items[i].line) + 1
		}
	}

	return n
}

// shrink releases the room aside of the items that are done.
func (d *delivery) shrink() {
	if d.weight == 0 {
		return
	}

	d.compact()
	now := d.size()
	d.u.aside.shrink(d.weight - now)
	d.weight = now
}

// compact forgets the items that are done once no range is to be bisected any more,
// so that a batch aside holds no more than the events that are still to be sent.
func (d *delivery) compact() {
	if len(d.refused) > 0 {
		return
	}

	var items []item
	var ranges []itemRange
	for _, r := range d.ranges {
		waiting := d.waiting(r)
		if len(waiting) > 1 {
			return
		}
		if len(waiting) == 0 {
			continue
		}

		r.from = len(items)
		r.to = r.from + 1
		items = append(items, d.b.items[waiting[0]])
		ranges = append(ranges, r)
	}
	d.b.items = items
	d.ranges = ranges
}

// itemBytes is the memory that an item needs besides its line.
const itemBytes = 128

// size returns how much memory the batch needs, in bytes.
func (d *delivery) size() int { return d.waitingBytes() + itemBytes*len(d.b.items) }
