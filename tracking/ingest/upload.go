package ingest

import (
	"bytes"
	"context"
	"fmt"
)

// send uploads items of the batch, and records them as done if they were accepted.
func (d *delivery) send(ctx context.Context, items []int) error {
	if d.weight > 0 {
		if !d.u.aside.acquire(ctx) {
			return ctx.Err()
		}
		defer d.u.aside.release()
	}

	upload, cancel := d.cfg.inGrace(ctx)
	defer cancel()

	id, wire, err := d.cfg.Sink.Send(upload, d.ndjson(items))
	d.entry.Tries++
	d.metrics.batches.WithLabelValues(statusLabel(err)).Inc()
	if err != nil {
		return err
	}

	d.u.noteTaken(d.weight > 0)
	for _, i := range items {
		d.metrics.events.WithLabelValues(d.b.items[i].typ.PublicName()).Inc()
	}
	d.u.remember(d.b.items[items[0]])
	d.done(items, step{ID: id, Wire: wire})

	return nil
}

// ndjson returns the lines of items, each with its line end.
func (d *delivery) ndjson(items []int) []byte {
	lines := make([][]byte, 0, len(items)+1)
	for _, i := range items {
		lines = append(lines, d.b.items[i].line)
	}

	lines = append(lines, nil) // for the line end behind the last

	return bytes.Join(lines, []byte("\n"))
}

// done records in the ledger that items were accepted or quarantined. The last ones
// are recorded with the batch, by finish.
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
	d.entry.Quarantined += s.Quarantined
	if s.ID != "" {
		d.entry.IDs = append(d.entry.IDs, s.ID)
	}

	if d.waitingBytes() > 1 {
		d.u.ledger.note(record{Step: &s})
	}
}

// finish records the end of the batch in the ledger, the log and the summary.
func (d *delivery) finish() {
	e := &d.entry
	switch {
	case e.Quarantined > 0:
		e.Status = Partly
	case e.Events == 0:
		e.Status = Empty
	default:
		e.Status = Sent
	}
	e.At = d.cfg.Now()

	d.u.ledger.note(record{Entry: e})
	if d.cfg.PollOutcomes {
		d.u.outcomes.expect(*e, e.At)
	}

	taken := max(0, e.Events-e.Quarantined)
	if d.cfg.LogEach && e.Events > 0 {
		text := fmt.Sprintf("Signals: Transferred %d events in batch %d successfully (id=%s)",
			taken, e.Batch, firstOf(e.IDs))
		d.cfg.Log.Info(text, "raw", e.Raw, "gzip", e.Wire)
	}

	d.u.mu.Lock()
	defer d.u.mu.Unlock()

	d.u.summary.batches++
	d.u.summary.events += taken
	d.u.summary.raw += e.Raw
	d.u.summary.wire += e.Wire
}

// firstOf returns the first id, "" if there is none.
func firstOf(ids []string) string {
	if len(ids) == 0 {
		return ""
	}

	return ids[0]
}
