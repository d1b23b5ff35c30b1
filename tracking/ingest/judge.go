package ingest

import (
	"context"
	"slices"
	"time"
)

// refused is an event that was refused alone.
type refused struct {
	item int
	err  error
}

// hold keeps an event that was refused alone until it is sure that it is the
// event.
func (d *delivery) hold(item int, err error) {
	if len(d.held) == 0 {
		d.since = d.u.taken.Load()
	}
	d.held = append(d.held, refused{item, err})

	if d.u.c.Now().Sub(d.b.items[item].time) <= d.u.c.MaxAge { // else there is a reason
		d.u.alone.Add(1)
	}
}

// judge decides what becomes of the events that were refused alone. They are
// quarantined where others are taken, or where they are few; where others are
// refused likewise, or there is nothing else to try, all wait. It returns false
// where ctx ended.
func (d *delivery) judge(ctx context.Context) bool {
	if d.u.taken.Load() > d.since || d.u.alone.Load() < refusedInARow {
		return d.quarantineHeld(ctx)
	}

	d.suspects.add(d.b.items, d.held)
	err, tried := d.sendOther(ctx)
	if ctx.Err() != nil && err != nil {
		return false
	}
	if tried && err == nil {
		return d.quarantineHeld(ctx)
	}

	if !tried {
		err = d.held[len(d.held)-1].err
	}
	d.doubt = true
	d.since = d.u.taken.Load()
	for _, h := range d.held {
		d.parts = append(d.parts, part{from: h.item, to: h.item + 1, backoff: d.u.c.MinBackoff})
	}
	slices.SortFunc(d.parts, func(a, b part) int { return a.from - b.from })
	d.held = nil
	d.postpone(err)

	if !tried { // nothing to try: others may show it, so they must get past
		d.goAside()
	}

	return true
}

// postpone has every part of a batch in doubt wait.
func (d *delivery) postpone(err error) {
	first := &d.parts[0]
	wait := jitter(first.backoff)
	first.backoff = min(2*first.backoff, d.u.c.MaxBackoff)

	for i := range d.parts {
		d.parts[i].due = time.Now().Add(wait)
		d.parts[i].backoff = first.backoff
	}

	d.noteFailure(err)
	d.u.metrics.failing.Set(1)
	d.u.c.Log.Error("Signals: EVENTS OF EVERY KIND ARE REFUSED, so it is not the events; all stay on disk",
		"err", err,
		"batch", d.b.Batch,
		"events", len(d.undoneItems()),
		"again_in_seconds", wait.Round(time.Millisecond).Seconds(),
	)
}

// undoneItems returns the items that are not done.
func (d *delivery) undoneItems() []int { return d.waiting(part{from: 0, to: len(d.b.items)}) }

// test asks whether the service takes anything again: with another event than
// those that it refused where there is one, else with a part of the batch.
func (d *delivery) test(ctx context.Context, p part) bool {
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
	for i := range d.parts { // at once
		d.parts[i].due = time.Time{}
	}

	return true
}
