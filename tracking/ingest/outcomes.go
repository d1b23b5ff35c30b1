package ingest

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	pollEvery   = time.Minute    // between rounds of requests
	pollFor     = 24 * time.Hour // after the upload
	pollAtATime = 50             // uploads in a request
	pollRounds  = 20             // requests in a round
	maxPending  = 100_000        // uploads that are pending; older ones are forgotten
)

// outcomes are the uploads whose outcome is not known yet, asked for in turn. It is
// safe for concurrent use.
type outcomes struct {
	mu      sync.Mutex
	pending []pending // the one to ask for next first
}

// pending is an upload whose outcome is not known yet.
type pending struct {
	id    string
	entry *Entry // shared by the uploads of one batch
}

// expect adds the uploads of a batch.
func (o *outcomes) expect(e Entry, now time.Time) {
	if now.Sub(e.At) >= pollFor || e.isOpen() {
		return
	}

	o.mu.Lock()
	defer o.mu.Unlock()

	entry := &e
	entry.IDs = slices.Clone(e.IDs)
	entry.Outcomes = slices.Clone(e.Outcomes)

	for _, id := range entry.IDs {
		known := slices.ContainsFunc(entry.Outcomes, func(have Outcome) bool { return have.BatchID == id })
		if !known {
			o.pending = append(o.pending, pending{id, entry})
		}
	}
	if n := len(o.pending); n > maxPending {
		o.pending = slices.Clone(o.pending[n-maxPending:])
	}
}

// next removes and returns the next n uploads to ask for. Those that are too old are
// forgotten.
func (o *outcomes) next(n int, now time.Time) []pending {
	o.mu.Lock()
	defer o.mu.Unlock()

	o.pending = slices.DeleteFunc(o.pending, func(p pending) bool { return now.Sub(p.entry.At) >= pollFor })

	n = min(n, len(o.pending))
	out := slices.Clone(o.pending[:n])
	o.pending = slices.Delete(o.pending, 0, n)

	return out
}

// back adds uploads behind the others.
func (o *outcomes) back(list []pending) {
	o.mu.Lock()
	o.pending = append(o.pending, list...)
	o.mu.Unlock()
}

// len returns how many uploads are pending.
func (o *outcomes) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()

	return len(o.pending)
}

// asker is a sink that can be asked for outcomes of uploads.
type asker interface {
	// Outcomes returns what is known of the uploads with these ids.
	Outcomes(ctx context.Context, ids []string) ([]Outcome, error)
}

// poll asks how many events of each batch the service accepted, and records it in the
// ledger, until ctx ends.
func (u *Uploader) poll(ctx context.Context, every time.Duration) {
	sink, ok := u.cfg.Sink.(asker)
	if !ok || !u.cfg.PollOutcomes {
		return
	}

	tick := time.NewTicker(every)
	defer tick.Stop()

	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}

		if err := u.pollOnce(ctx, sink); err != nil && ctx.Err() == nil {
			u.cfg.Log.Warn("Signals: cannot ask for outcomes of batches", "err", err)
		}
	}
}

// pollOnce asks for each upload once, in at most pollRounds requests.
func (u *Uploader) pollOnce(ctx context.Context, sink asker) error {
	left := min(u.outcomes.len(), pollAtATime*pollRounds)
	for left > 0 {
		list := u.outcomes.next(min(left, pollAtATime), u.cfg.Now())
		if len(list) == 0 {
			return nil
		}
		left -= len(list)

		unknown, err := u.ask(ctx, sink, list)
		u.outcomes.back(unknown)
		if err != nil {
			return err
		}
	}

	return nil
}

// ask asks for some uploads, and returns those whose outcome is still unknown.
func (u *Uploader) ask(ctx context.Context, sink asker, list []pending) (unknown []pending, err error) {
	var ids []string
	for _, p := range list {
		ids = append(ids, p.id)
	}

	told, err := sink.Outcomes(ctx, ids)
	if err != nil {
		return list, err
	}

	var changed []*Entry
	for _, p := range list {
		i := slices.IndexFunc(told, func(o Outcome) bool { return o.BatchID == p.id })
		if i < 0 {
			unknown = append(unknown, p)
			continue
		}

		o := told[i]
		p.entry.Outcomes = append(p.entry.Outcomes, o)
		if !slices.Contains(changed, p.entry) {
			changed = append(changed, p.entry)
		}
		if o.Failed > 0 || o.Type == "error" {
			u.cfg.Log.Error("Signals: the service did not accept all of a batch",
				"batch", p.entry.Batch, "id", o.BatchID, "failed", o.Failed, "error_type", o.ErrorType)
		}
	}
	for _, e := range changed {
		u.ledger.note(record{Entry: e})
	}

	return unknown, nil
}
