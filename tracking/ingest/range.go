package ingest

import (
	"slices"
	"time"
)

// part is a run of a batch's items that goes in one upload.
type itemRange struct {
	from, to int
	failed   int   // times, for no fault of an event
	last     fault // how it failed last
	taken    int64 // Uploader.taken when it failed first, or was cut
	backoff  time.Duration
	due      time.Time
	tried    time.Time
}

// undone appends the parts of items[from:to] that are still to be sent. Where
// some items are done, the rest is cut as it was cut before.
func (d *delivery) pendingRanges(ranges []itemRange, from, to int) []itemRange {
	n := 0
	for i := from; i < to; i++ {
		if d.b.items[i].done {
			n++
		}
	}

	switch n {
	case to - from:
		return ranges
	case 0:
		return append(ranges, itemRange{from: from, to: to, taken: d.u.taken.Load(), backoff: d.cfg.Uploads.MinBackoff})
	}

	mid := (from + to) / 2
	return d.pendingRanges(d.pendingRanges(ranges, from, mid), mid, to)
}

// nextDue returns the part that is due first, of several the one that was tried
// longest ago, nil where there is none.
func (d *delivery) nextDue() *itemRange {
	var first *itemRange
	for i := range d.ranges {
		p := &d.ranges[i]
		if first == nil || p.due.Before(first.due) || p.due.Equal(first.due) && p.tried.Before(first.tried) {
			first = p
		}
	}

	return first
}

// waiting returns the items of a part that are still to be sent.
func (d *delivery) waiting(p itemRange) []int {
	var out []int
	for i := p.from; i < p.to; i++ {
		if !d.b.items[i].done {
			out = append(out, i)
		}
	}

	return out
}

// probe returns less than a whole part, now and then, where that has failed
// again and again and nothing else was taken meanwhile: of a batch that is the
// only one, too, it is to be learned whether the service is away, or whether it
// is one of its events.
func (d *delivery) probe(p itemRange, items []int) ([]int, bool) {
	if len(items) < 2 || p.last != faultService || d.u.taken.Load() > p.taken {
		return nil, false
	}
	if p.failed < patience || p.failed%2 == 0 {
		return nil, false
	}

	n := (p.failed-patience)/2 + 1 // the first half, the first quarter, ..., then one after the other
	if size := len(items) >> n; size > 0 {
		return items[:size], true
	}
	i := n % len(items)

	return items[i : i+1], true
}

// replace substitutes other parts for p.
func (d *delivery) replace(p itemRange, by ...itemRange) {
	i := slices.IndexFunc(d.ranges, func(o itemRange) bool { return o.from == p.from }) // none overlaps another
	d.ranges = slices.Replace(d.ranges, i, i+1, by...)
}

// halves cuts a part in two, that have failed so often.
func (d *delivery) bisect(p itemRange, failed int) []itemRange {
	half := itemRange{
		failed:  failed,
		taken:   d.u.taken.Load(),
		backoff: d.cfg.Uploads.MinBackoff,
	}
	mid := (p.from + p.to) / 2

	left, right := half, half
	left.from, left.to = p.from, mid
	right.from, right.to = mid, p.to

	return []itemRange{left, right}
}
