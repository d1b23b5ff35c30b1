package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Refusal is the service's answer to a batch that it did not take.
type Refusal struct {
	Status     int
	Words      string
	RetryAfter time.Duration
}

func (r *Refusal) Error() string { return fmt.Sprintf("HTTP %d: %s", r.Status, r.Words) }

// What a refusal calls for.
type remedy int

const (
	again remedy = iota // the service's trouble: the same later
	key                 // 401, 403: ours, and nothing of it is the events' fault
	split               // 413, or one of the events: halves
)

func remedyFor(err error) remedy {
	var r *Refusal
	if !errors.As(err, &r) {
		return again
	}
	switch s := r.Status; {
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		return key
	case s == http.StatusRequestTimeout || s == http.StatusTooManyRequests || s == http.StatusTooEarly:
		return again
	case s/100 == 4:
		return split
	}
	return again
}

// deliver tries until every event of a batch was taken or set aside, or ctx
// ends. Then the batch stays planned.
func (u *Uploader) deliver(ctx context.Context, b *batch) {
	defer close(b.done)
	e := b.Entry
	if len(b.lines) > 0 && !u.part(ctx, b, 0, len(b.lines), &e) {
		return
	}
	switch {
	case b.Events == 0:
		e.Status = Empty
	case e.Aside > 0:
		e.Status = Partly
	default:
		e.Status = Sent
	}
	e.At = u.c.Now()
	if err := u.note(e); err != nil {
		u.c.Log.Error("ingest: ledger not written; the batch goes again after a restart", "err", err)
	}
	b.Entry = e
	if u.c.Verbose && b.Events > 0 {
		u.c.Log.Info(fmt.Sprintf("Signals: Transferred %d events in batch %d successfully (id=%s)", e.Events-e.Aside, e.Batch, firstOf(e.IDs)), "raw", e.Raw, "gzip", e.Wire)
	}
	u.mu.Lock()
	u.summary.batches++
	u.summary.events += e.Events - e.Aside
	u.summary.raw += e.Raw
	u.summary.wire += e.Wire
	u.mu.Unlock()
}

func firstOf(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return ids[0]
}

// part delivers lines[from:to]. It returns false where ctx ended first.
func (u *Uploader) part(ctx context.Context, b *batch, from, to int, e *Entry) bool {
	backoff := u.c.MinBackoff
	for {
		fresh := u.fresh(b, from, to, e)
		if len(fresh) == 0 {
			return true
		}
		id, wire, err := u.c.Sink.Send(ctx, join(fresh))
		e.Tries++
		u.batches.WithLabelValues(statusLabel(err)).Inc()
		if err == nil {
			e.IDs, e.Wire = append(e.IDs, id), e.Wire+wire
			u.failing.Set(0)
			for i := from; i < to; i++ {
				if b.lines[i] != nil {
					u.events.WithLabelValues(b.types[i].PublicName()).Inc()
				}
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		e.Error = err.Error()
		wait := backoff/2 + rand.N(backoff/2+1)
		switch remedyFor(err) {
		case split:
			return u.halves(ctx, b, from, to, e, err)
		case key:
			wait = u.c.MaxBackoff/2 + rand.N(u.c.MaxBackoff/2+1)
			u.c.Log.Error("Signals: THE API KEY IS REFUSED; uploads pause, every event stays on disk", "err", err, "events", len(fresh), "again_in", wait.Round(time.Millisecond))
		default:
			var r *Refusal
			if errors.As(err, &r) {
				wait = max(wait, r.RetryAfter)
			}
			u.c.Log.Error("Signals: upload failed, events stay on disk", "err", err, "events", len(fresh), "again_in", wait.Round(time.Millisecond))
		}
		u.failing.Set(1)
		u.mu.Lock()
		u.summary.failures++
		u.mu.Unlock()
		backoff = min(2*backoff, u.c.MaxBackoff)
		if !sleep(ctx, wait) {
			return false
		}
	}
}

func statusLabel(err error) string {
	var r *Refusal
	switch {
	case err == nil:
		return "200"
	case errors.As(err, &r):
		return strconv.Itoa(r.Status)
	}
	return "error"
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fresh are the lines of a part that are still to be sent. Those past the
// API's age are set aside, for it would refuse them.
func (u *Uploader) fresh(b *batch, from, to int, e *Entry) [][]byte {
	var out [][]byte
	now := u.c.Now()
	if clock, ok := u.c.Sink.(interface{ ServiceTime() (time.Time, bool) }); ok {
		if t, known := clock.ServiceTime(); known { // ours may have jumped
			now = t
		}
	}
	for i := from; i < to; i++ {
		switch {
		case b.lines[i] == nil:
		case now.Sub(b.times[i]) > u.c.MaxAge:
			u.putAside("expired", 0, "older than "+u.c.MaxAge.String(), b.lines[i])
			b.lines[i] = nil
			e.Aside++
		default:
			out = append(out, b.lines[i])
		}
	}
	return out
}

// halves sends a refused part in two, until the event that the service does
// not take stands alone.
func (u *Uploader) halves(ctx context.Context, b *batch, from, to int, e *Entry, err error) bool {
	var left []int
	for i := from; i < to; i++ {
		if b.lines[i] != nil {
			left = append(left, i)
		}
	}
	if len(left) == 1 {
		var r *Refusal
		errors.As(err, &r)
		u.c.Log.Error("Signals: an event is refused and set aside", "err", err)
		u.putAside("refused", r.Status, r.Words, b.lines[left[0]])
		b.lines[left[0]] = nil
		e.Aside++
		return true
	}
	mid := left[len(left)/2]
	return u.part(ctx, b, from, mid, e) && u.part(ctx, b, mid, to, e)
}

// pollEvery is how often outcomes are asked for; pollFor, how long after.
const (
	pollEvery   = time.Minute
	pollFor     = 24 * time.Hour
	pollAtATime = 50
)

// poll learns how many events of each batch the service accepted, and writes
// it into the ledger.
func (u *Uploader) poll(ctx context.Context, every time.Duration) {
	asker, ok := u.c.Sink.(interface {
		Outcomes(context.Context, []string) ([]Outcome, error)
	})
	if !ok || !u.c.PollOutcomes {
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
		if err := u.pollOnce(ctx, asker.Outcomes); err != nil && ctx.Err() == nil {
			u.c.Log.Warn("Signals: outcomes of batches not learned", "err", err)
		}
	}
}

func (u *Uploader) pollOnce(ctx context.Context, ask func(context.Context, []string) ([]Outcome, error)) error {
	entries, err := Batches(u.c.Dir)
	if err != nil {
		return err
	}
	byID := map[string]*Entry{}
	var ids []string
	for i := range entries {
		e := &entries[i]
		if len(e.Outcomes) < len(e.IDs) && u.c.Now().Sub(e.At) < pollFor && len(ids) < pollAtATime {
			for _, id := range e.IDs {
				byID[id] = e
				ids = append(ids, id)
			}
		}
	}
	if len(ids) == 0 {
		return nil
	}
	outcomes, err := ask(ctx, ids)
	if err != nil {
		return err
	}
	changed := map[*Entry]bool{}
	for _, o := range outcomes {
		e := byID[o.BatchID]
		if e == nil || slices.ContainsFunc(e.Outcomes, func(have Outcome) bool { return have.BatchID == o.BatchID }) {
			continue
		}
		e.Outcomes = append(e.Outcomes, o)
		changed[e] = true
		if o.Failed > 0 || o.Type == "error" {
			u.c.Log.Error("Signals: the service did not take all of a batch", "batch", e.Batch, "id", o.BatchID, "failed", o.Failed, "error_type", o.ErrorType)
		}
	}
	for e := range changed {
		if err := u.note(*e); err != nil {
			return err
		}
	}
	return nil
}

const summaryEvery = time.Minute

// summarise writes what PowerMTA's operators know: a line a minute.
func (u *Uploader) summarise(ctx context.Context) {
	tick := time.NewTicker(summaryEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			u.logSummary()
			return
		}
		u.logSummary()
	}
}

func (u *Uploader) logSummary() {
	u.mu.Lock()
	s := u.summary
	u.summary = summary{}
	u.mu.Unlock()
	if u.c.Verbose {
		u.c.Log.Info(fmt.Sprintf("Signals: Discovered %d files", s.batches))
	}
	if s.batches > 0 || s.failures > 0 {
		u.c.Log.Info(fmt.Sprintf("Signals: Transferred %d events in %d batches successfully", s.events, s.batches), "failures", s.failures, "raw", s.raw, "gzip", s.wire)
	}
}

// aside keeps events that will never be taken, a file a day.
type aside struct {
	dir string
	now func() time.Time
	mu  sync.Mutex
}

type asideLine struct {
	At     time.Time       `json:"at"`
	Reason string          `json:"reason"` // refused, expired, unreadable
	Status int             `json:"status,omitempty"`
	Words  string          `json:"words"`
	Event  json.RawMessage `json:"event,omitempty"`
	Raw    string          `json:"raw,omitempty"` // what is no JSON
}

func (a *aside) put(reason string, status int, words string, line []byte) error {
	l := asideLine{At: a.now().UTC(), Reason: reason, Status: status, Words: words, Event: slices.Clone(line)}
	if !json.Valid(line) {
		l.Event, l.Raw = nil, string(line)
	}
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(a.dir, l.At.Format("2006-01-02")+".ndjson"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}
