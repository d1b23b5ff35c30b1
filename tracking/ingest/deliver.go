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
	refused []refusedItem // refused alone; quarantined once it is sure that it is they
	since   int64         // Uploader.taken when the first of them was refused

	// doubt is set while it seems that the service refuses everything; suspects
	// are the events that it refused alone before that.
	doubt    bool
	suspects suspects
	tests    int // events tried to tell

	failures int       // uploads that failed for no fault of an event
	noted    time.Time // when the ledger was told last

	failuresInRow int   // failures in a row, of all parts, with nothing taken in between
	rowSince      int64 // Uploader.taken at the first of them

	slots   chan struct{} // uploads in flight
	hasSlot bool
	weight  int // bytes that it takes up of what may be aside
}

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

// enter waits for a slot. A batch that a previous run had cut in parts already
// goes aside where there is room, so that it holds up nothing again.
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

// run tries until every event of the batch was taken or quarantined, or ctx
// ends. Then it returns false, and the batch stays planned.
func (d *delivery) run(ctx context.Context) bool {
	defer d.leave()

	if !d.quarantineUnreadable(ctx) {
		return false
	}

	for {
		if !d.quarantineExpired(ctx) {
			return false
		}

		p := d.nextDue()
		if len(d.refused) > 0 && (p == nil || d.u.taken.Load() > d.since) {
			if !d.judge(ctx) {
				return false
			}
			continue
		}
		if p == nil {
			break
		}

		if wait := time.Until(p.due); wait > 0 && !sleep(ctx, wait) {
			return false
		}
		if ctx.Err() != nil || !d.sendRange(ctx, *p) {
			return false
		}
		d.shrink()
	}

	d.finish()

	return true
}

// try sends one part. It returns false where ctx ended.
func (d *delivery) sendRange(ctx context.Context, p itemRange) bool {
	items := d.waiting(p)
	if len(items) == 0 {
		d.replace(p)
		return true
	}

	if d.doubt {
		return d.probeService(ctx, p)
	}
	if probe, ok := d.probe(p, items); ok {
		items = probe
	}

	err := d.send(ctx, items)
	switch {
	case ctx.Err() != nil && err != nil:
		return false
	case err == nil:
		if len(d.waiting(p)) == 0 {
			d.replace(p)
		}
		d.bisectFailing()
		return true
	case faultOf(err) != faultEvents:
		d.retryLater(p, err)
		return true
	case len(d.waiting(p)) > 1:
		d.replace(p, d.bisect(p, 0)...)
		return true
	}

	d.replace(p)
	d.addRefused(items[0], err)
	if d.u.alone.Load() < refusedInARow {
		return true
	}

	return d.judge(ctx)
}
