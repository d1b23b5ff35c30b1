package ingest

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	pollEvery   = time.Minute    // how often outcomes are asked for
	pollFor     = 24 * time.Hour // how long after the upload
	pollAtATime = 50             // uploads in one question
	pollRounds  = 20             // questions at a time
	maxPending  = 100_000        // uploads that are asked for at all; the newest
)

// outcomes are the uploads whose outcome is not known yet. All are asked for in
// turn.
type outcomes struct {
	mu      sync.Mutex
	pending []pending // the one to ask for next first
}

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
	entry.IDs, entry.Outcomes = slices.Clone(e.IDs), slices.Clone(e.Outcomes)
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

// next takes uploads out that are to be asked for. Those that are too old are
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

// back puts uploads behind the others.
func (o *outcomes) back(list []pending) {
	o.mu.Lock()
	o.pending = append(o.pending, list...)
	o.mu.Unlock()
}

func (o *outcomes) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()

	return len(o.pending)
}

// asker is a sink that can be asked for outcomes.
type asker interface {
	Outcomes(ctx context.Context, ids []string) ([]Outcome, error)
}

// poll learns how many events of each batch the service accepted, and writes
// it into the ledger.
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
			u.cfg.Log.Warn("Signals: outcomes of batches not learned", "err", err)
		}
	}
}

// pollOnce asks for each upload once, as far as pollRounds questions go.
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

// ask asks for some uploads, and returns those that the service did not tell of.
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
			u.cfg.Log.Error("Signals: the service did not take all of a batch",
				"batch", p.entry.Batch, "id", o.BatchID, "failed", o.Failed, "error_type", o.ErrorType)
		}
	}
	for _, e := range changed {
		u.ledger.note(record{Entry: e})
	}

	return unknown, nil
}
