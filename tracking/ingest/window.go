package ingest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"postern/tracking/spool"
)

// window knows which batches are open, and so how far the cursor may go: to
// the first batch that is open, whatever is done with behind it. Its memory is
// bounded by the number of open batches.
type window struct {
	mu        sync.Mutex
	open      []*batch // in the log's order
	reached   spool.Position
	committed spool.Position
	moved     chan struct{}
}

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

// end removes a batch that needs nothing more.
func (w *window) end(b *batch) {
	w.mu.Lock()
	w.open = slices.DeleteFunc(w.open, func(o *batch) bool { return o == b })
	w.mu.Unlock()

	select {
	case w.moved <- struct{}{}:
	default:
	}
}

// position returns where the cursor may be, and whether it is behind that.
func (w *window) position() (p spool.Position, behind bool) {
	w.mu.Lock()
	defer w.mu.Unlock()

	p = w.reached
	if len(w.open) > 0 {
		p = w.open[0].From
	}

	return p, before(w.committed, p)
}

// advance writes the cursor where it is behind.
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

// commit advances the cursor of src until ctx ends, and then once more. A
// cursor that could not be written is tried again.
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

// lastCommits is how often a cursor is tried at the end.
const lastCommits = 3

func logCursor(log *slog.Logger, err error) {
	log.Error("ingest: cannot write cursor, tried again; until then events may go twice after a crash", "err", err)
}
