package ingest

import (
	"context"
	"slices"
	"time"
)

// refused is an event that was refused alone.
type refusedItem struct {
	item int
	err  error
}

// hold keeps an event that was refused alone until it is sure that it is the
// event.
func (d *delivery) addRefused(item int, err error) {
	if len(d.refused) == 0 {
		d.since = d.u.taken.Load()
	}
	d.refused = append(d.refused, refusedItem{item, err})

	if d.cfg.Now().Sub(d.b.items[item].time) <= d.cfg.Quarantine.MaxAge { // else there is a reason
		d.u.alone.Add(1)
	}
}

// judge decides what becomes of the events that were refused alone. They are
// quarantined where others are taken, or where they are few; where others are
// refused likewise, or there is nothing else to try, all wait. It returns false
// where ctx ended.
func (d *delivery) judge(ctx context.Context) bool {
	if d.u.taken.Load() > d.since || d.u.alone.Load() < refusedInARow {
		return d.quarantineRefused(ctx)
	}

	d.suspects.add(d.b.items, d.refused)
	err, tried := d.sendOther(ctx)
	if ctx.Err() != nil && err != nil {
		return false
	}
	if tried && err == nil {
		return d.quarantineRefused(ctx)
	}

	if !tried {
		err = d.refused[len(d.refused)-1].err
	}
	d.doubt = true
	d.since = d.u.taken.Load()
	for _, h := range d.refused {
		d.ranges = append(d.ranges, itemRange{from: h.item, to: h.item + 1, backoff: d.cfg.Uploads.MinBackoff})
	}
	slices.SortFunc(d.ranges, func(a, b itemRange) int { return a.from - b.from })
	d.refused = nil
	d.postpone(err)

	if !tried { // nothing to try: others may show it, so they must get past
		d.goAside()
	}

	return true
}

// postpone has every part of a batch in doubt wait.
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

// undoneItems returns the items that are not done.
func (d *delivery) pendingItems() []int { return d.waiting(itemRange{from: 0, to: len(d.b.items)}) }

// test asks whether the service takes anything again: with another event than
// those that it refused where there is one, else with a part of the batch.
func (d *delivery) probeService(ctx context.Context, p itemRange) bool {
	if d.u.taken.Load() > d.since {
		d.doubt = false
		return true
	}

	err, tried := d.sendOther(ctx)
	if !tried {
		err = d.send(ctx, d.waiting(p))
	}
	if err != nil {
		if ctx.Err() != nil {
			return false
		}
		d.postpone(err)
		return true
	}

	d.doubt = false
	if len(d.waiting(p)) == 0 {
		d.replace(p)
	}
	for i := range d.ranges { // at once
		d.ranges[i].due = time.Time{}
	}

	return true
}
