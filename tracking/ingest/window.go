package ingest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"postern/tracking/spool"
)

// window knows which batches are open, and so how far the cursor may advance: to the
// first open batch, whatever is done behind it. Its memory is bounded by the number of
// open batches. It is safe for concurrent use.
type window struct {
	mu        sync.Mutex
	open      []*batch // in the log's order
	reached   spool.Position
	committed spool.Position
	moved     chan struct{}
}

// newWindow returns a window without batches.
func newWindow() *window { return &window{moved: make(chan struct{}, 1)} }

// begin adds a batch behind the others.
func (w *window) begin(b *batch) {
	w.mu.Lock()
	defer w.mu.Unlock()

	if w.reached == (spool.Position{}) {
		w.committed = b.From
	}
	w.open = append(w.open, b)
	w.reached = b.To
}

// end removes a batch that is done.
func (w *window) end(b *batch) {
	w.mu.Lock()
	w.open = slices.DeleteFunc(w.open, func(o *batch) bool { return o == b })
	w.mu.Unlock()

	select {
	case w.moved <- struct{}{}:
	default:
	}
}

// position returns where the cursor may be, and whether it is not there yet.
func (w *window) position() (p spool.Position, behind bool) {
	w.mu.Lock()
	defer w.mu.Unlock()

	p = w.reached
	if len(w.open) > 0 {
		p = w.open[0].From
	}

	return p, before(w.committed, p)
}

// advance writes the cursor if it may advance.
func (w *window) advance(src Source) error {
	p, behind := w.position()
	if !behind {
		return nil
	}
	if err := src.Commit(p); err != nil {
		return err
	}

	w.mu.Lock()
	w.committed = p
	w.mu.Unlock()

	return nil
}

// commit advances the cursor of src until ctx ends, and then once more. If the cursor
// cannot be written, it tries again.
func (w *window) commit(ctx context.Context, src Source, c Config) {
	backoff := c.Uploads.MinBackoff
	retry := time.NewTimer(0)
	defer retry.Stop()

	for ctx.Err() == nil {
		select {
		case <-w.moved:
		case <-retry.C:
		case <-ctx.Done():
		}

		err := w.advance(src)
		if err == nil {
			backoff = c.Uploads.MinBackoff
			continue
		}

		logCursor(c.Log, err)
		retry.Reset(jitter(backoff))
		backoff = min(2*backoff, c.Uploads.MaxBackoff)
	}

	for range lastCommits {
		err := w.advance(src)
		if err == nil {
			return
		}
		logCursor(c.Log, err)
	}
}

// lastCommits is how often commit tries to write the cursor at the end.
const lastCommits = 3

// logCursor logs that the cursor cannot be written.
func logCursor(log *slog.Logger, err error) {
	log.Error("ingest: cannot write cursor, trying again; until then events may be uploaded twice after a crash",
		"err", err)
}
