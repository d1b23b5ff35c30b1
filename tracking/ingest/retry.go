package ingest

import (
	"errors"
	"time"

	"postern/tracking/event"
)

// trouble notes a failure that says nothing of the events, and when the part is
// tried again.
func (d *delivery) retryLater(p itemRange, err error) {
	wait := jitter(p.backoff)
	var r *Refusal
	if errors.As(err, &r) && r.RetryAfter > 0 {
		wait = max(wait, r.RetryAfter+jitter(p.backoff)-p.backoff/2)
	}
	d.logFailure(p, err, wait)
	d.noteFailure(err)

	p.last = faultOf(err)
	if p.last != faultRate {
		p.failed++
		if p.failed == 1 {
			p.taken = d.u.taken.Load()
		}
	}
	p.backoff = min(2*p.backoff, d.cfg.Uploads.MaxBackoff)
	p.tried = time.Now()
	p.due = p.tried.Add(wait)
	d.replace(p, p)

	if taken := d.u.taken.Load(); taken != d.rowSince {
		d.failuresInRow, d.rowSince = 0, taken
	}
	d.failuresInRow++
	if d.failuresInRow > 1 { // it seems to be the service: the other parts wait as well
		first := p.due.Add(-1) // and come before this one then
		for i := range d.ranges {
			if d.ranges[i].due.Before(first) {
				d.ranges[i].due = first
			}
		}
	}
	d.bisectFailing()
}

func (d *delivery) logFailure(p itemRange, err error, wait time.Duration) {
	what := "upload failed, events stay on disk"
	if faultOf(err) == faultAccess {
		what = "UPLOADS ARE REFUSED, every event stays on disk; check upload_url, proxy and maintenance of the service"

		var r *Refusal
		if errors.As(err, &r) && (r.Status == 401 || r.Status == 403) {
			what = "THE API KEY IS REFUSED; uploads pause, every event stays on disk"
		}
	}
	d.cfg.Log.Error("Signals: "+what,
		"err", err,
		"batch", d.b.Batch,
		"events", len(d.waiting(p)),
		"aside", d.weight > 0,
		"again_in_seconds", wait.Round(time.Millisecond).Seconds(),
	)

	d.u.mu.Lock()
	d.u.summary.failures++
	d.u.mu.Unlock()

	if d.weight == 0 {
		d.metrics.failing.Set(1)
	}
}

// maxError is how much of an error stays in the ledger.
const maxError = 500

// noteEvery is how long the ledger goes without a word of a batch that fails.
const noteEvery = 10 * time.Minute

// noteFailure writes into the ledger that uploads of the batch fail: the first,
// second, fourth, eighth time and so on, and every noteEvery, so that an outage
// does not fill it.
func (d *delivery) noteFailure(err error) {
	d.entry.Error = event.Clip(err.Error(), maxError)
	d.failures++

	now := d.cfg.Now()
	isPowerOfTwo := d.failures&(d.failures-1) == 0
	if !isPowerOfTwo && now.Sub(d.noted) < noteEvery {
		return
	}

	d.noted = now
	d.u.ledger.hint(record{Failure: &failure{
		Batch: d.b.Batch,
		Tries: d.entry.Tries,
		Error: d.entry.Error,
	}})
}

// cut halves the parts that failed again and again while others were taken.
// From then on the batch holds up no other.
func (d *delivery) bisectFailing() {
	taken := d.u.taken.Load()

	var ranges []itemRange
	for _, p := range d.ranges {
		if p.failed < patience || taken <= p.taken {
			ranges = append(ranges, p)
			continue
		}

		if d.hasSlot && d.goAside() {
			d.cfg.Log.Error("Signals: a batch fails again and again while others are taken; "+
				"it goes on in parts, others pass it",
				"batch", d.b.Batch,
				"events", len(d.waiting(p)),
				"err", d.entry.Error,
			)
		}
		if len(d.waiting(p)) > 1 {
			ranges = append(ranges, d.bisect(p, patience-1)...)
		} else {
			ranges = append(ranges, p)
		}
	}
	d.ranges = ranges
}

const (
	// patience is how often a part fails, with others accepted in between, before
	// it is halved.
	patience = 3

	// refusedInARow is how many events are refused alone, with nothing accepted in
	// between, before another event is sent to learn whether the events are at fault.
	refusedInARow = 20
)
