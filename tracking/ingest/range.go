package ingest

import (
	"slices"
	"time"
)

// itemRange is a range of the items of a batch that is sent in one upload.
type itemRange struct {
	from int // index of the first item
	to   int // index behind the last item

	failed  int           // uploads that failed for no fault of an event
	last    fault         // of the last failure
	taken   int64         // Uploader.taken at the first failure, or when it was bisected
	backoff time.Duration // before the next attempt
	due     time.Time     // of the next attempt
	tried   time.Time     // of the last attempt
}

// pendingRanges appends the ranges of items[from:to] that are still to be sent. If
// some items are done, the rest is bisected as it was before.
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
		return append(ranges, itemRange{
			from:    from,
			to:      to,
			taken:   d.u.taken.Load(),
			backoff: d.cfg.Uploads.MinBackoff,
		})
	}

	mid := (from + to) / 2
	return d.pendingRanges(d.pendingRanges(ranges, from, mid), mid, to)
}

// nextDue returns the range that is due first, nil if there is none. Of several it
// is the one that was tried longest ago.
func (d *delivery) nextDue() *itemRange {
	var first *itemRange
	for i := range d.ranges {
		r := &d.ranges[i]
		if first == nil || r.isBefore(first) {
			first = r
		}
	}

	return first
}

// isBefore reports whether r is to be tried before o.
func (r *itemRange) isBefore(o *itemRange) bool {
	if r.due.Equal(o.due) {
		return r.tried.Before(o.tried)
	}

	return r.due.Before(o.due)
}

// waiting returns the items of a range that are still to be sent.
func (d *delivery) waiting(r itemRange) []int {
	var out []int
	for i := r.from; i < r.to; i++ {
		if !d.b.items[i].done {
			out = append(out, i)
		}
	}

	return out
}

// probe returns some of the items of a range instead of all. It does so every other
// time once the range has failed repeatedly while nothing else was accepted: even
// if there is no other batch, it must be found out whether the service is down or
// one of the events makes it fail.
func (d *delivery) probe(r itemRange, items []int) ([]int, bool) {
	if len(items) < 2 || r.last != faultService || d.u.taken.Load() > r.taken {
		return nil, false
	}
	if r.failed < patience || r.failed%2 == 0 {
		return nil, false
	}

	// The first half, the first quarter and so on, then one item after the other.
	n := (r.failed-patience)/2 + 1
	if size := len(items) >> n; size > 0 {
		return items[:size], true
	}
	i := n % len(items)

	return items[i : i+1], true
}

// replace replaces r with other ranges.
func (d *delivery) replace(r itemRange, by ...itemRange) {
	i := slices.IndexFunc(d.ranges, func(o itemRange) bool { return o.from == r.from }) // ranges do not overlap
	d.ranges = slices.Replace(d.ranges, i, i+1, by...)
}

// bisect returns the two halves of a range, which count as having failed so often.
func (d *delivery) bisect(r itemRange, failed int) []itemRange {
	half := itemRange{
		failed:  failed,
		taken:   d.u.taken.Load(),
		backoff: d.cfg.Uploads.MinBackoff,
	}

	left, right := half, half
	left.from = r.from
	left.to = (r.from + r.to) / 2
	right.from = left.to
	right.to = r.to

	return []itemRange{left, right}
}
