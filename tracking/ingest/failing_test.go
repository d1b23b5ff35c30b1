package ingest

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/tracking/event"
	"postern/tracking/spool"
)

// ledgerRecords returns how many records the ledger of a directory has.
func ledgerRecords(t *testing.T, dir string) int {
	t.Helper()

	n := 0
	err := spool.ReadDir(filepath.Join(dir, "ledger"), func(spool.Record) bool {
		n++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}

	return n
}

// onlyBatch returns the one batch of the ledger.
func onlyBatch(t *testing.T, dir string) Entry {
	t.Helper()

	entries, err := Batches(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("ledger %+v, %v; want one batch", entries, err)
	}

	return entries[0]
}

// TestLedgerSaysThatUploadsFail: while the uploads of a batch fail, the ledger
// says so, also when the uploader has ended, and does not grow with each of
// them; in the end the batch is sent, once.
func TestLedgerSaysThatUploadsFail(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name   string
		status int
		events int
	}{
		{"the service is away", 503, 1},
		{"the key is refused", 401, 1},
		{"everything is refused", 400, 2 * refusedInARow},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			dir := t.TempDir()
			away := &sink{answer: func(int, string) error { return refusal(c.status, "not now") }}
			r := start(t, dir, away, nil, of(t, event.Open, "m%", 1, c.events)...)
			wait(t, "failures", func() bool { return len(away.sent()) > 100+4*c.events })
			wait(t, "a failing batch", func() bool { return onlyBatch(t, r.dir).Status == Failing })
			r.stop()

			e := onlyBatch(t, r.dir)
			if e.Status != Failing || e.Tries == 0 || !strings.Contains(e.Error, "not now") {
				t.Errorf("got %s after %d tries with %q, want failing with the error", e.Status, e.Tries, e.Error)
			}
			if n := ledgerRecords(t, r.dir); n > 20 {
				t.Errorf("%d records in the ledger after %d uploads, want 20 at most", n, len(away.sent()))
			}

			back := &sink{}
			r = start(t, dir, back, nil)
			r.settled(t)
			r.stop()

			if sent := onlyBatch(t, r.dir); sent.Status != Sent || sent.Tries <= e.Tries {
				t.Errorf("got %s after %d tries, want sent after more than %d", sent.Status, sent.Tries, e.Tries)
			}
			if got := len(back.lines()); got != c.events {
				t.Errorf("%d events taken, want %d", got, c.events)
			}
		})
	}
}

// TestFailuresAreNotedSeldom: by the number of failures, and by the time.
func TestFailuresAreNotedSeldom(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name     string
		failures int
		every    time.Duration
		want     int
	}{
		{"the first", 1, time.Second, 1},
		{"powers of two", 9, time.Second, 4},
		{"many at once", 100_000, 0, 17},
		{"for long", 64 + 60, time.Minute, 7 + 2*4 + 2}, // 1 to 64; in gaps of 16, 32 and 60 minutes
	} {
		inBubble(t, c.name, func(t *testing.T) {
			var now atomic.Int64
			up := ledgerOnly(t, t.TempDir(), func(c *Config) {
				c.Now = func() time.Time { return time.Unix(now.Load(), 0) }
			})

			d := up.newDelivery(&batch{Entry: Entry{Batch: 1, Status: Planned}}, nil)
			for range c.failures {
				d.entry.Tries++
				d.noteFailure(refusal(503, "away"))
				now.Add(int64(c.every / time.Second))
			}

			if got := ledgerRecords(t, up.cfg.Dir); got != c.want {
				t.Errorf("%d records, want %d", got, c.want)
			}
		})
	}
}

// TestBatchesReadsLedger reads ledgers as this version and earlier ones write
// them.
func TestBatchesReadsLedger(t *testing.T) {
	t.Parallel()

	const (
		planned = `{"batch":1,"at":"2026-11-24T10:00:00Z","from":{},"to":{"Segment":1,"Offset":90},"sum":7,"events":3,"raw":80,"status":"planned"}`
		sent    = `{"batch":1,"at":"2026-11-24T10:00:01Z","from":{},"to":{"Segment":1,"Offset":90},"sum":7,"events":3,"raw":80,"status":"sent","tries":4,"error":"old"}`
		step    = `{"step":{"batch":1,"spans":[{"from":{},"to":{"Segment":1,"Offset":30}}],"id":"one","wire":5}}`
		failed  = `{"failure":{"batch":1,"tries":2,"error":"away"}}`
		other   = `{"failure":{"batch":9,"tries":2,"error":"away"}}`
	)

	for _, c := range []struct {
		name    string
		records []string
		status  string
		tries   int
		error   string
		done    int
	}{
		{"planned", []string{planned}, Planned, 0, "", 0},
		{"what is no record", []string{"{", planned, "[]", step, `{"batch":"x"}`}, Planned, 0, "", 1},
		{"a step of a batch that is forgotten", []string{strings.Replace(step, `"batch":1`, `"batch":9`, 1), planned}, Planned, 0, "", 0},
		{"before there were failures", []string{planned, step, sent}, Sent, 4, "old", 0},
		{"killed by an earlier version", []string{planned, step}, Planned, 0, "", 1},
		{"failing", []string{planned, failed}, Failing, 2, "away", 0},
		{"failing in parts", []string{planned, step, failed}, Failing, 2, "away", 1},
		{"a part after a failure", []string{planned, failed, step}, Failing, 2, "away", 1},
		{"sent after a failure", []string{planned, failed, sent}, Sent, 4, "old", 0},
		{"a failure that comes late", []string{planned, sent, failed}, Sent, 4, "old", 0},
		{"a failure of a batch that is forgotten", []string{other, planned}, Planned, 0, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := spool.Open(spool.Config{Dir: filepath.Join(dir, "ledger"), Keep: time.Hour, Log: quiet})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range c.records {
				if err := s.Append(context.Background(), []byte(r)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}

			e := onlyBatch(t, dir)
			if e.Status != c.status || e.Tries != c.tries || e.Error != c.error || len(e.Done) != c.done {
				t.Errorf("got %+v, want %s, %d tries, error %q, %d parts done", e, c.status, c.tries, c.error, c.done)
			}
		})
	}
}
