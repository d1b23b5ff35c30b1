package ingest

import (
	"context"
	"fmt"
	"time"
)

const summaryEvery = time.Minute

// summarise writes what PowerMTA's operators know: a line a minute.
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

func (u *Uploader) logSummary() {
	u.mu.Lock()
	s := u.summary
	u.summary = summary{}
	u.mu.Unlock()

	if u.cfg.LogEach {
		u.cfg.Log.Info(fmt.Sprintf("Signals: Discovered %d files", s.batches))
	}
	if s.batches > 0 || s.failures > 0 {
		u.cfg.Log.Info(fmt.Sprintf("Signals: Transferred %d events in %d batches successfully", s.events, s.batches),
			"failures", s.failures, "raw", s.raw, "gzip", s.wire)
	}
}

type summary struct {
	events, batches, failures int
	raw, wire                 int
}
