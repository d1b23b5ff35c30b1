package ingest

import (
	"context"
	"time"
)

// delivery uploads one batch. It belongs to one goroutine.
type delivery struct {
	u       *Uploader
	cfg     *Config
	metrics *metrics
	b       *batch
	entry   Entry // the batch's state in the ledger

	ranges  []itemRange   // what is not done, in the batch's order
	refused []refusedItem // refused alone; quarantined once they are known to be at fault
	since   int64         // Uploader.taken when the first of them was refused

	// doubt is set while the service seems to refuse everything; suspects are the
	// events that it refused alone before that.
	doubt    bool
	suspects suspects
	tests    int // other events that were sent to find out

	failures int       // uploads that failed for no fault of an event
	noted    time.Time // time of the last failure in the ledger

	failuresInRow int   // of all ranges, with nothing accepted in between
	rowSince      int64 // Uploader.taken at the first of them

	slots   chan struct{} // uploads in flight
	hasSlot bool
	weight  int // bytes that it holds of the room aside
}

// newDelivery returns a delivery of a batch, which has not entered yet.
func (u *Uploader) newDelivery(b *batch, slots chan struct{}) *delivery {
	d := &delivery{
		u:       u,
		cfg:     &u.cfg,
		metrics: u.metrics,
		b:       b,
		entry:   b.Entry,
		slots:   slots,
	}
	d.ranges = d.pendingRanges(nil, 0, len(b.items))

	return d
}

// enter waits for a slot among the uploads in flight, and reports whether there was
// one before ctx ended. A batch that a previous run sent in parts needs none if there
// is room aside.
func (d *delivery) enter(ctx context.Context) bool {
	if d.b.recalled && len(d.b.Done) > 0 && d.goAside() {
		return true
	}

	select {
	case d.slots <- struct{}{}:
		d.hasSlot = true
		return true
	case <-ctx.Done():
		return false
	}
}

// run uploads until every event of the batch was accepted or quarantined. It returns
// false if ctx ended before that; then the batch stays planned.
func (d *delivery) run(ctx context.Context) bool {
	defer d.leave()

	if !d.quarantineUnreadable(ctx) {
		return false
	}

	for {
		if !d.quarantineExpired(ctx) {
			return false
		}

		r := d.nextDue()
		if len(d.refused) > 0 && (r == nil || d.u.taken.Load() > d.since) {
			if !d.judge(ctx) {
				return false
			}
			continue
		}
		if r == nil {
			break
		}

		if wait := time.Until(r.due); wait > 0 && !sleep(ctx, wait) {
			return false
		}
		if ctx.Err() != nil || !d.sendRange(ctx, *r) {
			return false
		}
		d.shrink()
	}

	d.finish()

	return true
}

// sendRange sends a range once, and decides what becomes of it. It returns false if
// ctx ended.
func (d *delivery) sendRange(ctx context.Context, r itemRange) bool {
	items := d.waiting(r)
	if len(items) == 0 {
		d.replace(r)
		return true
	}

	if d.doubt {
		return d.probeService(ctx, r)
	}
	if probe, ok := d.probe(r, items); ok {
		items = probe
	}

	err := d.send(ctx, items)
	switch {
	case ctx.Err() != nil && err != nil:
		return false
	case err == nil:
		if len(d.waiting(r)) == 0 {
			d.replace(r)
		}
		d.bisectFailing()
		return true
	case faultOf(err) != faultEvents:
		d.retryLater(r, err)
		return true
	case len(d.waiting(r)) > 1:
		d.replace(r, d.bisect(r, 0)...)
		return true
	}

	d.replace(r)
	d.addRefused(items[0], err)
	if d.u.alone.Load() < refusedInARow {
		return true
	}

	return d.judge(ctx)
}
