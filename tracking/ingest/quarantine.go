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
type quarantineEntry struct {
	reason string // refused, expired, unreadable
	status int
	words  string
	line   []byte
}

// rejectedLine is a line of a quarantine file.
type quarantineLine struct {
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
func (q *quarantine) put(events ...quarantineEntry) error {
	var text bytes.Buffer

	now := q.now().UTC()
	for _, e := range events {
		l := quarantineLine{
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
func (d *delivery) quarantineRefused(ctx context.Context) bool {
	var out []quarantineEntry
	var items []int
	for _, h := range d.refused {
		r := &Refusal{}
		errors.As(h.err, &r)
		out = append(out, quarantineEntry{
			reason: "refused",
			status: r.Status,
			words:  r.Words,
			line:   d.b.items[h.item].line,
		})
		items = append(items, h.item)
		d.cfg.Log.Error("Signals: an event is refused and quarantined", "err", h.err, "batch", d.b.Batch)
	}

	d.refused = nil
	slices.Sort(items)

	return d.quarantine(ctx, items, out)
}

// quarantineUnreadable puts records that are not events into quarantine.
func (d *delivery) quarantineUnreadable(ctx context.Context) bool {
	var out []quarantineEntry
	var items []int
	for i, it := range d.b.items {
		if it.unreadable != "" && !it.done {
			out = append(out, quarantineEntry{reason: "unreadable", words: it.unreadable, line: it.line})
			items = append(items, i)
		}
	}

	return d.quarantine(ctx, items, out)
}

// expire quarantines the events that are too old for the service, by its clock
// and by ours: one of the two may have jumped.
func (d *delivery) quarantineExpired(ctx context.Context) bool {
	now, known := d.u.earliestNow()
	if !known {
		return true
	}

	var out []quarantineEntry
	var items []int
	for i, it := range d.b.items {
		if !it.done && it.unreadable == "" && now.Sub(it.time) > d.cfg.Quarantine.MaxAge {
			words := "older than " + d.cfg.Quarantine.MaxAge.String()
			out = append(out, quarantineEntry{reason: "expired", words: words, line: it.line})
			items = append(items, i)
		}
	}
	if len(items) == 0 {
		return true
	}

	d.refused = slices.DeleteFunc(d.refused, func(h refusedItem) bool { return slices.Contains(items, h.item) })

	return d.quarantine(ctx, items, out)
}

// reject makes events durable in the quarantine. Where that fails they are kept
// and it is tried again: an event is never lost that way.
func (d *delivery) quarantine(ctx context.Context, items []int, events []quarantineEntry) bool {
	if len(items) == 0 {
		return true
	}

	backoff := d.cfg.Uploads.MinBackoff
	for {
		err := d.u.quarantine.put(events...)
		if err == nil {
			break
		}

		wait := jitter(backoff)
		d.cfg.Log.Error("ingest: cannot write to the quarantine, tried again",
			"err", err, "events", len(events), "again_in_seconds", wait.Seconds())
		if !sleep(ctx, wait) {
			return false
		}
		backoff = min(2*backoff, d.cfg.Uploads.MaxBackoff)
	}

	for _, e := range events {
		d.metrics.quarantined.WithLabelValues(e.reason).Inc()
	}
	d.done(items, step{Quarantined: len(items)})

	return true
}
