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

// quarantine keeps events that will never be accepted, in a file a day. It is safe for
// concurrent use.
type quarantine struct {
	dir   string
	files *atomicfile.Appender
	now   func() time.Time
}

// quarantineEntry is an event and why it is quarantined.
type quarantineEntry struct {
	reason string // refused, expired, unreadable
	status int
	words  string
	line   []byte
}

// quarantineLine is a line of a quarantine file.
type quarantineLine struct {
	At     time.Time       `json:"at"`
	Reason string          `json:"reason"`
	Status int             `json:"status,omitempty"`
	Words  string          `json:"words"`
	Event  json.RawMessage `json:"event,omitempty"`
	Raw    string          `json:"raw,omitempty"` // if the event is not JSON
}

// newQuarantine returns a quarantine in dir.
func newQuarantine(dir string, fsys atomicfile.AppendFS, now func() time.Time) *quarantine {
	return &quarantine{
		dir:   dir,
		files: atomicfile.NewAppender(fsys),
		now:   now,
	}
}

// put makes events durable in the file of the day. After an error it may be called
// again with the same events.
func (q *quarantine) put(events ...quarantineEntry) error {
	var text bytes.Buffer

	now := q.now().UTC()
	for _, e := range events {
		b, err := json.Marshal(e.lineAt(now))
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

// lineAt returns the line of an entry that is quarantined at a time.
func (e quarantineEntry) lineAt(now time.Time) quarantineLine {
	l := quarantineLine{
		At:     now,
		Reason: e.reason,
		Status: e.status,
		Words:  e.words,
	}
	if json.Valid(e.line) {
		l.Event = slices.Clone(e.line)
	} else {
		l.Raw = string(e.line)
	}

	return l
}

// quarantineRefused quarantines the items that were refused alone. Like the methods
// below it returns false if ctx ended before that was durable.
func (d *delivery) quarantineRefused(ctx context.Context) bool {
	var out []quarantineEntry
	var items []int
	for _, r := range d.refused {
		refusal := &Refusal{}
		errors.As(r.err, &refusal)

		out = append(out, quarantineEntry{
			reason: "refused",
			status: refusal.Status,
			words:  refusal.Words,
			line:   d.b.items[r.item].line,
		})
		items = append(items, r.item)
		d.cfg.Log.Error("Signals: an event was refused and quarantined", "err", r.err, "batch", d.b.Batch)
	}

	d.refused = nil
	slices.Sort(items)

	return d.quarantine(ctx, items, out)
}

// quarantineUnreadable quarantines records that are not events.
func (d *delivery) quarantineUnreadable(ctx context.Context) bool {
	var out []quarantineEntry
	var items []int
	for i, it := range d.b.items {
		if it.unreadable == "" || it.done {
			continue
		}

		out = append(out, quarantineEntry{
			reason: "unreadable",
			words:  it.unreadable,
			line:   it.line,
		})
		items = append(items, i)
	}

	return d.quarantine(ctx, items, out)
}

// quarantineExpired quarantines the events that are too old for the service, by its
// clock and by ours: one of the two may have jumped.
func (d *delivery) quarantineExpired(ctx context.Context) bool {
	now, known := d.u.earliestNow()
	if !known {
		return true
	}

	var out []quarantineEntry
	var items []int
	for i, it := range d.b.items {
		if it.done || it.unreadable != "" || now.Sub(it.time) <= d.cfg.Quarantine.MaxAge {
			continue
		}

		out = append(out, quarantineEntry{
			reason: "expired",
			words:  "older than " + d.cfg.Quarantine.MaxAge.String(),
			line:   it.line,
		})
		items = append(items, i)
	}
	if len(items) == 0 {
		return true
	}

	d.refused = slices.DeleteFunc(d.refused, func(r refusedItem) bool { return slices.Contains(items, r.item) })

	return d.quarantine(ctx, items, out)
}

// quarantine makes events durable in the quarantine, and tries again until that
// succeeds, so that no event is lost.
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
		d.cfg.Log.Error("ingest: cannot write to the quarantine, trying again",
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
