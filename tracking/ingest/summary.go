package ingest

import (
	"context"
	"fmt"
	"time"
)

// summaryEvery is how often a summary is logged.
const summaryEvery = time.Minute

// summarise logs a line a minute, as PowerMTA does, until ctx ends.
func (u *Uploader) summarise(ctx context.Context) {
	tick := time.NewTicker(summaryEvery)
	defer tick.Stop()

	for {
		select {
		case <-tick.C:
			u.logSummary()
		case <-ctx.Done():
			u.logSummary()
			return
		}
	}
}

// logSummary logs what happened since it was last called.
func (u *Uploader) logSummary() {
	u.mu.Lock()
	s := u.summary
	u.summary = summary{}
	u.mu.Unlock()

	if u.cfg.LogEach {
		u.cfg.Log.Info(fmt.Sprintf("Signals: Discovered %d files", s.batches))
	}
	if s.batches > 0 || s.failures > 0 {
		text := fmt.Sprintf("Signals: Transferred %d events in %d batches successfully", s.events, s.batches)
		u.cfg.Log.Info(text, "failures", s.failures, "raw", s.raw, "gzip", s.wire)
	}
}

// summary counts what happened since the last one was logged.
type summary struct {
	events   int // accepted
	batches  int // done
	failures int // of uploads
	raw      int // bytes of NDJSON
	wire     int // bytes sent
}
