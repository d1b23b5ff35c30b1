package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"postern/tracking/spool/atomicfile"
)

// quarantine keeps events that will never be taken, a file a day. It is safe
// for concurrent use.
type quarantine struct {
	dir   string
	files *atomicfile.Appender
	now   func() time.Time
}

// rejected is an event and why it is in quarantine.
type rejected struct {
	reason string // refused, expired, unreadable
	status int
	words  string
	line   []byte
}

// rejectedLine is a line of a quarantine file.
type rejectedLine struct {
	At     time.Time       `json:"at"`
	Reason string          `json:"reason"`
	Status int             `json:"status,omitempty"`
	Words  string          `json:"words"`
	Event  json.RawMessage `json:"event,omitempty"`
	Raw    string          `json:"raw,omitempty"` // where it is not JSON
}

func newQuarantine(dir string, fsys atomicfile.AppendFS, now func() time.Time) *quarantine {
	return &quarantine{
		dir:   dir,
		files: atomicfile.NewAppender(fsys),
		now:   now,
	}
}

// put makes events durable in today's file. After an error it may be called
// again with the same events.
func (q *quarantine) put(events ...rejected) error {
	var text bytes.Buffer

	now := q.now().UTC()
	for _, e := range events {
		l := rejectedLine{
			At:     now,
			Reason: e.reason,
			Status: e.status,
			Words:  e.words,
			Event:  slices.Clone(e.line),
		}
		if !json.Valid(e.line) {
			l.Event, l.Raw = nil, string(e.line)
		}

		b, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("ingest: quarantine: %w", err)
		}
		text.Write(b)
		text.WriteByte('\n')
	}

	name := filepath.Join(q.dir, now.Format(time.DateOnly)+".ndjson")
	if err := q.files.Append(name, text.Bytes()); err != nil {
		return fmt.Errorf("ingest: quarantine: %w", err)
	}

	return nil
}

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
