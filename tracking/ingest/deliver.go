package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"postern/tracking/event"
)

const (
	// patience is how often a part fails, with others accepted in between, before
	// it is halved.
	patience = 3

	// refusedInARow is how many events are refused alone, with nothing accepted in
	// between, before another event is sent to learn whether the events are at fault.
	refusedInARow = 20
)

// part is a run of a batch's items that goes in one upload.
type part struct {
	from, to int
	failed   int   // times, for no fault of an event
	last     fault // how it failed last
	taken    int64 // Uploader.taken when it failed first, or was cut
	backoff  time.Duration
	due      time.Time
	tried    time.Time
}

// delivery uploads one batch. It belongs to one goroutine.
type delivery struct {
	u     *Uploader
	b     *batch
	entry Entry

	parts []part    // what is not done, in the batch's order
	held  []refused // refused alone; quarantined once it is sure that it is they
	since int64     // Uploader.taken when the first of them was refused

	// doubt is set while it seems that the service refuses everything; suspects
	// are the events that it refused alone before that.
	doubt    bool
	suspects suspects
	tests    int // events tried to tell

	failures int       // uploads that failed for no fault of an event
	noted    time.Time // when the ledger was told last

	troubles      int   // failures in a row, of all parts, with nothing taken in between
	troublesSince int64 // Uploader.taken at the first of them

	slots   chan struct{} // uploads in flight
	hasSlot bool
	weight  int // bytes that it takes up of what may be aside
}

func (u *Uploader) newDelivery(b *batch, slots chan struct{}) *delivery {
	d := &delivery{u: u, b: b, entry: b.Entry, slots: slots}
	d.parts = d.undone(nil, 0, len(b.items))

	return d
}

// undone appends the parts of items[from:to] that are still to be sent. Where
// some items are done, the rest is cut as it was cut before.
func (d *delivery) undone(parts []part, from, to int) []part {
	n := 0
	for i := from; i < to; i++ {
		if d.b.items[i].done {
			n++
		}
	}

	switch n {
	case to - from:
		return parts
	case 0:
		return append(parts, part{from: from, to: to, taken: d.u.taken.Load(), backoff: d.u.c.MinBackoff})
	}

	mid := (from + to) / 2
	return d.undone(d.undone(parts, from, mid), mid, to)
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

// goAside gives up the slot, where there is room aside.
func (d *delivery) goAside() bool {
	if d.weight > 0 {
		return true
	}

	weight := d.size()
	if !d.u.aside.enter(weight) {
		return false
	}
	d.weight = weight

	if d.hasSlot {
		d.hasSlot = false
		<-d.slots
	}

	return true
}

// leave gives back the slot, or the room aside.
func (d *delivery) leave() {
	if d.hasSlot {
		d.hasSlot = false
		<-d.slots
	}
	if d.weight > 0 {
		d.u.aside.leave(d.weight)
		d.weight = 0
	}
}

func (d *delivery) waitingBytes() int {
	n := 1
	for i := range d.b.items {
		if !d.b.items[i].done {
			n += len(d.b.items[i].line) + 1
		}
	}

	return n
}

// run tries until every event of the batch was taken or quarantined, or ctx
// ends. Then it returns false, and the batch stays planned.
func (d *delivery) run(ctx context.Context) bool {
	defer d.leave()

	if !d.quarantineUnreadable(ctx) {
		return false
	}

	for {
		if !d.expire(ctx) {
			return false
		}

		p := d.nextDue()
		if len(d.held) > 0 && (p == nil || d.u.taken.Load() > d.since) {
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
		if ctx.Err() != nil || !d.try(ctx, *p) {
			return false
		}
		d.shrink()
	}

	d.finish()

	return true
}

// shrink gives back the room aside that the parts that are done took up.
func (d *delivery) shrink() {
	if d.weight == 0 {
		return
	}

	d.compact()
	now := d.size()
	d.u.aside.shrink(d.weight - now)
	d.weight = now
}

// compact forgets the items that are done, once no part is to be cut any more:
// a batch aside takes up no more than the events that it waits for.
func (d *delivery) compact() {
	if len(d.held) > 0 {
		return
	}

	var items []item
	var parts []part
	for _, p := range d.parts {
		waiting := d.waiting(p)
		if len(waiting) > 1 {
			return
		}
		if len(waiting) == 0 {
			continue
		}
		p.from, p.to = len(items), len(items)+1
		items, parts = append(items, d.b.items[waiting[0]]), append(parts, p)
	}
	d.b.items, d.parts = items, parts
}

// itemBytes is what an item takes up beside its line.
const itemBytes = 128

// size is how many bytes the batch takes up.
func (d *delivery) size() int { return d.waitingBytes() + itemBytes*len(d.b.items) }

// nextDue returns the part that is due first, of several the one that was tried
// longest ago, nil where there is none.
func (d *delivery) nextDue() *part {
	var first *part
	for i := range d.parts {
		p := &d.parts[i]
		if first == nil || p.due.Before(first.due) || p.due.Equal(first.due) && p.tried.Before(first.tried) {
			first = p
		}
	}

	return first
}

// waiting returns the items of a part that are still to be sent.
func (d *delivery) waiting(p part) []int {
	var out []int
	for i := p.from; i < p.to; i++ {
		if !d.b.items[i].done {
			out = append(out, i)
		}
	}

	return out
}

// try sends one part. It returns false where ctx ended.
func (d *delivery) try(ctx context.Context, p part) bool {
	items := d.waiting(p)
	if len(items) == 0 {
		d.replace(p)
		return true
	}

	if d.doubt {
		return d.test(ctx, p)
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
		d.cut()
		return true
	case faultOf(err) != faultEvents:
		d.trouble(p, err)
		return true
	case len(d.waiting(p)) > 1:
		d.replace(p, d.halves(p, 0)...)
		return true
	}

	d.replace(p)
	d.hold(items[0], err)
	if d.u.alone.Load() < refusedInARow {
		return true
	}

	return d.judge(ctx)
}

// probe returns less than a whole part, now and then, where that has failed
// again and again and nothing else was taken meanwhile: of a batch that is the
// only one, too, it is to be learned whether the service is away, or whether it
// is one of its events.
func (d *delivery) probe(p part, items []int) ([]int, bool) {
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
func (d *delivery) replace(p part, by ...part) {
	i := slices.IndexFunc(d.parts, func(o part) bool { return o.from == p.from }) // none overlaps another
	d.parts = slices.Replace(d.parts, i, i+1, by...)
}

// halves cuts a part in two, that have failed so often.
func (d *delivery) halves(p part, failed int) []part {
	half := part{
		failed:  failed,
		taken:   d.u.taken.Load(),
		backoff: d.u.c.MinBackoff,
	}
	mid := (p.from + p.to) / 2

	left, right := half, half
	left.from, left.to = p.from, mid
	right.from, right.to = mid, p.to

	return []part{left, right}
}

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

// send uploads items of the batch, and notes it where they were taken.
func (d *delivery) send(ctx context.Context, items []int) error {
	if d.weight > 0 { // one at a time
		if !d.u.aside.acquire(ctx) {
			return ctx.Err()
		}
		defer d.u.aside.release()
	}

	upload, cancel := d.u.c.inGrace(ctx)
	defer cancel()
	id, wire, err := d.u.c.Sink.Send(upload, d.ndjson(items))
	d.entry.Tries++
	d.u.metrics.batches.WithLabelValues(statusLabel(err)).Inc()
	if err != nil {
		return err
	}

	d.u.noteTaken(d.weight > 0)
	for _, i := range items {
		d.u.metrics.events.WithLabelValues(d.b.items[i].typ.PublicName()).Inc()
	}
	d.u.remember(d.b.items[items[0]])
	d.done(items, step{ID: id, Wire: wire})

	return nil
}

// ndjson joins the lines of items.
func (d *delivery) ndjson(items []int) []byte {
	lines := make([][]byte, 0, len(items)+1)
	for _, i := range items {
		lines = append(lines, d.b.items[i].line)
	}

	return bytes.Join(append(lines, nil), []byte("\n")) // with a line end behind the last
}

// done notes that items need nothing more. The last ones are noted with the
// batch, in finish.
func (d *delivery) done(items []int, s step) {
	s.Batch = d.b.Batch
	for _, i := range items {
		it := &d.b.items[i]
		it.done = true
		it.line = nil

		if n := len(s.Spans); n > 0 && s.Spans[n-1].To == it.span.From {
			s.Spans[n-1].To = it.span.To
			continue
		}
		s.Spans = append(s.Spans, it.span)
	}

	d.entry.Wire += s.Wire
	d.entry.Aside += s.Aside
	if s.ID != "" {
		d.entry.IDs = append(d.entry.IDs, s.ID)
	}

	if d.waitingBytes() > 1 {
		d.u.ledger.note(record{Step: &s})
	}
}

// finish notes the end of the batch.
func (d *delivery) finish() {
	e := &d.entry
	switch {
	case e.Aside > 0:
		e.Status = Partly
	case e.Events == 0:
		e.Status = Empty
	default:
		e.Status = Sent
	}
	e.At = d.u.c.Now()
	d.u.ledger.note(record{Entry: e})
	if d.u.c.PollOutcomes {
		d.u.outcomes.expect(*e, e.At)
	}

	taken := max(0, e.Events-e.Aside)
	if d.u.c.Verbose && e.Events > 0 {
		what := fmt.Sprintf("Signals: Transferred %d events in batch %d successfully (id=%s)",
			taken, e.Batch, firstOf(e.IDs))
		d.u.c.Log.Info(what, "raw", e.Raw, "gzip", e.Wire)
	}

	d.u.mu.Lock()
	defer d.u.mu.Unlock()

	d.u.summary.batches++
	d.u.summary.events += taken
	d.u.summary.raw += e.Raw
	d.u.summary.wire += e.Wire
}

func firstOf(ids []string) string {
	if len(ids) == 0 {
		return ""
	}

	return ids[0]
}
