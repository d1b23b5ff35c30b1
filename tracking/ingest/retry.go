package ingest

import (
	"errors"
	"time"

	"postern/tracking/event"
)

// trouble notes a failure that says nothing of the events, and when the part is
// tried again.
func (d *delivery) trouble(p part, err error) {
	wait := jitter(p.backoff)
	var r *Refusal
	if errors.As(err, &r) && r.RetryAfter > 0 {
		wait = max(wait, r.RetryAfter+jitter(p.backoff)-p.backoff/2)
	}
	d.logTrouble(p, err, wait)
	d.noteFailure(err)

	p.last = faultOf(err)
	if p.last != faultRate {
		p.failed++
		if p.failed == 1 {
			p.taken = d.u.taken.Load()
		}
	}
	p.backoff = min(2*p.backoff, d.u.c.MaxBackoff)
	p.tried = time.Now()
	p.due = p.tried.Add(wait)
	d.replace(p, p)

	if taken := d.u.taken.Load(); taken != d.troublesSince {
		d.troubles, d.troublesSince = 0, taken
	}
	d.troubles++
	if d.troubles > 1 { // it seems to be the service: the other parts wait as well
		first := p.due.Add(-1) // and come before this one then
		for i := range d.parts {
			if d.parts[i].due.Before(first) {
				d.parts[i].due = first
			}
		}
	}
	d.cut()
}

func (d *delivery) logTrouble(p part, err error, wait time.Duration) {
	what := "upload failed, events stay on disk"
	if faultOf(err) == faultAccess {
		what = "UPLOADS ARE REFUSED, every event stays on disk; check upload_url, proxy and maintenance of the service"

		var r *Refusal
		if errors.As(err, &r) && (r.Status == 401 || r.Status == 403) {
			what = "THE API KEY IS REFUSED; uploads pause, every event stays on disk"
		}
	}
	d.u.c.Log.Error("Signals: "+what,
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
		d.u.metrics.failing.Set(1)
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

	now := d.u.c.Now()
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
func (d *delivery) cut() {
	taken := d.u.taken.Load()

	var parts []part
	for _, p := range d.parts {
		if p.failed < patience || taken <= p.taken {
			parts = append(parts, p)
			continue
		}

		if d.hasSlot && d.goAside() {
			d.u.c.Log.Error("Signals: a batch fails again and again while others are taken; "+
				"it goes on in parts, others pass it",
				"batch", d.b.Batch,
				"events", len(d.waiting(p)),
				"err", d.entry.Error,
			)
		}
		if len(d.waiting(p)) > 1 {
			parts = append(parts, d.halves(p, patience-1)...)
		} else {
			parts = append(parts, p)
		}
	}
	d.parts = parts
}

const (
	// patience is how often a part fails, with others accepted in between, before
	// it is halved.
	patience = 3

	// refusedInARow is how many events are refused alone, with nothing accepted in
	// between, before another event is sent to learn whether the events are at fault.
	refusedInARow = 20
)
