package ingest

import (
	"errors"
	"net/http"
	"time"

	"postern/tracking/event"
)

// retryLater records a failure that is no event's fault, and when the range is tried
// again.
func (d *delivery) retryLater(r itemRange, err error) {
	wait := retryDelay(r.backoff, err)
	d.logFailure(r, err, wait)
	d.noteFailure(err)

	r.last = faultOf(err)
	if r.last != faultRate {
		r.failed++
	}
	if r.last != faultRate && r.failed == 1 {
		r.taken = d.u.taken.Load()
	}
	r.backoff = min(2*r.backoff, d.cfg.Uploads.MaxBackoff)
	r.tried = time.Now()
	r.due = r.tried.Add(wait)
	d.replace(r, r)

	taken := d.u.taken.Load()
	if taken != d.rowSince {
		d.failuresInRow = 0
		d.rowSince = taken
	}
	d.failuresInRow++
	if d.failuresInRow > 1 { // it seems to be the service
		d.deferOthers(r.due)
	}

	d.bisectFailing()
}

// retryDelay returns how long to wait after a failed upload: the backoff with
// jitter, or longer if the service asks for it (Retry-After, RFC 9110 section
// 10.2.3).
func retryDelay(backoff time.Duration, err error) time.Duration {
	wait := jitter(backoff)

	var refusal *Refusal
	if errors.As(err, &refusal) && refusal.RetryAfter > 0 {
		wait = max(wait, refusal.RetryAfter+jitter(backoff)-backoff/2)
	}

	return wait
}

// deferOthers makes all ranges wait until just before due, when another one is tried
// again.
func (d *delivery) deferOthers(due time.Time) {
	earliest := due.Add(-1)
	for i := range d.ranges {
		if d.ranges[i].due.Before(earliest) {
			d.ranges[i].due = earliest
		}
	}
}

// logFailure logs a failed upload and counts it for the summary.
func (d *delivery) logFailure(r itemRange, err error, wait time.Duration) {
	d.cfg.Log.Error("Signals: "+failureText(err),
		"err", err,
		"batch", d.b.Batch,
		"events", len(d.waiting(r)),
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

// failureText returns what a failed upload means for an operator.
func failureText(err error) string {
	if faultOf(err) != faultAccess {
		return "upload failed, events stay on disk"
	}

	var refusal *Refusal
	if errors.As(err, &refusal) {
		switch refusal.Status {
		case http.StatusUnauthorized, http.StatusForbidden:
			return "THE API KEY IS REFUSED; uploads pause, every event stays on disk"
		}
	}

	return "UPLOADS ARE REFUSED, every event stays on disk; check upload_url, proxy and maintenance of the service"
}

// maxError is how much of an error is kept in the ledger, in bytes.
const maxError = 500

// noteEvery is the longest time between two records of failures of a batch.
const noteEvery = 10 * time.Minute

// noteFailure records in the ledger that uploads of the batch fail: at the first,
// second, fourth, eighth failure and so on, and every noteEvery, so that an outage
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

// bisectFailing bisects the ranges that failed repeatedly while others were accepted,
// and moves the batch aside.
func (d *delivery) bisectFailing() {
	taken := d.u.taken.Load()

	var ranges []itemRange
	for _, r := range d.ranges {
		if r.failed < patience || taken <= r.taken {
			ranges = append(ranges, r)
			continue
		}

		events := len(d.waiting(r))
		if d.hasSlot && d.goAside() {
			d.cfg.Log.Error("Signals: a batch fails repeatedly while others are accepted; "+
				"it is sent in parts, and others pass it",
				"batch", d.b.Batch,
				"events", events,
				"err", d.entry.Error,
			)
		}

		if events > 1 {
			ranges = append(ranges, d.bisect(r, patience-1)...)
		} else {
			ranges = append(ranges, r)
		}
	}
	d.ranges = ranges
}

const (
	// patience is how often a range fails, with others accepted in between, before
	// it is bisected.
	patience = 3

	// refusedInARow is how many events are refused alone, with nothing accepted in
	// between, before another event is sent to find out whether they are at fault.
	refusedInARow = 20
)
