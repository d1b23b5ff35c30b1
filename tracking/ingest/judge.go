package ingest

import (
	"context"
	"slices"
	"time"
)

// refusedItem is an item that was refused alone.
type refusedItem struct {
	item int
	err  error
}

// addRefused keeps an item that was refused alone until it is known whether the event
// is at fault.
func (d *delivery) addRefused(item int, err error) {
	if len(d.refused) == 0 {
		d.since = d.u.taken.Load()
	}
	d.refused = append(d.refused, refusedItem{item, err})

	// That an event is too old for the service says nothing about the others.
	if d.cfg.Now().Sub(d.b.items[item].time) <= d.cfg.Quarantine.MaxAge {
		d.u.alone.Add(1)
	}
}

// judge decides what becomes of the items that were refused alone. They are
// quarantined if other events are accepted, or if they are few. If others are refused
// as well, or there are no others, everything waits. It returns false if ctx ended.
func (d *delivery) judge(ctx context.Context) bool {
	if d.u.taken.Load() > d.since || d.u.alone.Load() < refusedInARow {
		return d.quarantineRefused(ctx)
	}

	d.suspects.add(d.b.items, d.refused)
	tried, err := d.sendOther(ctx)
	if ctx.Err() != nil && err != nil {
		return false
	}
	if tried && err == nil {
		return d.quarantineRefused(ctx)
	}

	if !tried {
		err = d.refused[len(d.refused)-1].err
	}
	d.returnRefused()
	d.doubt = true
	d.since = d.u.taken.Load()
	d.postpone(err)

	if !tried { // other batches may show whether the service accepts anything
		d.goAside()
	}

	return true
}

// returnRefused makes ranges of the items that were refused alone, each of which is
// sent again.
func (d *delivery) returnRefused() {
	for _, r := range d.refused {
		d.ranges = append(d.ranges, itemRange{
			from:    r.item,
			to:      r.item + 1,
			backoff: d.cfg.Uploads.MinBackoff,
		})
	}
	slices.SortFunc(d.ranges, func(a, b itemRange) int { return a.from - b.from })
	d.refused = nil
}

// postpone makes every range of a batch in doubt wait.
func (d *delivery) postpone(err error) {
	first := &d.ranges[0]
	wait := jitter(first.backoff)
	first.backoff = min(2*first.backoff, d.cfg.Uploads.MaxBackoff)

	for i := range d.ranges {
		d.ranges[i].due = time.Now().Add(wait)
		d.ranges[i].backoff = first.backoff
	}

	d.noteFailure(err)
	d.metrics.failing.Set(1)
	d.cfg.Log.Error("Signals: EVENTS OF EVERY KIND ARE REFUSED, so it is not the events; all stay on disk",
		"err", err,
		"batch", d.b.Batch,
		"events", len(d.pendingItems()),
		"again_in_seconds", wait.Round(time.Millisecond).Seconds(),
	)
}

// pendingItems returns the items that are not done.
func (d *delivery) pendingItems() []int { return d.waiting(itemRange{from: 0, to: len(d.b.items)}) }

// probeService finds out whether the service accepts anything again. It sends another
// event than those that were refused if there is one, else a range of the batch. It
// returns false if ctx ended.
func (d *delivery) probeService(ctx context.Context, r itemRange) bool {
	if d.u.taken.Load() > d.since {
		d.doubt = false
		return true
	}

	tried, err := d.sendOther(ctx)
	if !tried {
		err = d.send(ctx, d.waiting(r))
	}
	if err != nil && ctx.Err() != nil {
		return false
	}
	if err != nil {
		d.postpone(err)
		return true
	}

	d.doubt = false
	if len(d.waiting(r)) == 0 {
		d.replace(r)
	}
	for i := range d.ranges {
		d.ranges[i].due = time.Time{} // now
	}

	return true
}
