package ingest

import (
	"context"
	"errors"
	"slices"
	"time"
)

// quarantineHeld puts the events that were refused alone into quarantine.
func (d *delivery) quarantineHeld(ctx context.Context) bool {
	var out []rejected
	var items []int
	for _, h := range d.held {
		r := &Refusal{}
		errors.As(h.err, &r)
		out = append(out, rejected{
			reason: "refused",
			status: r.Status,
			words:  r.Words,
			line:   d.b.items[h.item].line,
		})
		items = append(items, h.item)
		d.u.c.Log.Error("Signals: an event is refused and quarantined", "err", h.err, "batch", d.b.Batch)
	}

	d.held = nil
	slices.Sort(items)

	return d.reject(ctx, items, out)
}

// quarantineUnreadable puts records that are not events into quarantine.
func (d *delivery) quarantineUnreadable(ctx context.Context) bool {
	var out []rejected
	var items []int
	for i, it := range d.b.items {
		if it.unreadable != "" && !it.done {
			out = append(out, rejected{reason: "unreadable", words: it.unreadable, line: it.line})
			items = append(items, i)
		}
	}

	return d.reject(ctx, items, out)
}

// expire quarantines the events that are too old for the service, by its clock
// and by ours: one of the two may have jumped.
func (d *delivery) expire(ctx context.Context) bool {
	now, known := d.u.earliestNow()
	if !known {
		return true
	}

	var out []rejected
	var items []int
	for i, it := range d.b.items {
		if !it.done && it.unreadable == "" && now.Sub(it.time) > d.u.c.MaxAge {
			words := "older than " + d.u.c.MaxAge.String()
			out = append(out, rejected{reason: "expired", words: words, line: it.line})
			items = append(items, i)
		}
	}
	if len(items) == 0 {
		return true
	}

	d.held = slices.DeleteFunc(d.held, func(h refused) bool { return slices.Contains(items, h.item) })

	return d.reject(ctx, items, out)
}

// reject makes events durable in the quarantine. Where that fails they are kept
// and it is tried again: an event is never lost that way.
func (d *delivery) reject(ctx context.Context, items []int, events []rejected) bool {
	if len(items) == 0 {
		return true
	}

	backoff := d.u.c.MinBackoff
	for {
		err := d.u.quarantine.put(events...)
		if err == nil {
			break
		}

		wait := jitter(backoff)
		d.u.c.Log.Error("ingest: cannot write to the quarantine, tried again",
			"err", err, "events", len(events), "again_in_seconds", wait.Seconds())
		if !sleep(ctx, wait) {
			return false
		}
		backoff = min(2*backoff, d.u.c.MaxBackoff)
	}

	for _, e := range events {
		d.u.metrics.quarantined.WithLabelValues(e.reason).Inc()
	}
	d.done(items, step{Aside: len(items)})

	return true
}

// earliestNow returns the earlier of our time and the service's. Where the sink
// knows of a service's clock and cannot tell its time, known is false.
func (u *Uploader) earliestNow() (now time.Time, known bool) {
	now = u.c.Now()

	clock, ok := u.c.Sink.(interface {
		ServiceTime(ours time.Time) (time.Time, bool)
	})
	if !ok {
		return now, true
	}

	theirs, known := clock.ServiceTime(now)
	if theirs.Before(now) {
		now = theirs
	}

	return now, known
}
