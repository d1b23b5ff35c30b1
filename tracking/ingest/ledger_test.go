package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
	"postern/tracking/spool"
)

// tightFS is a disk with so many bytes free.
type tightFS struct {
	unsyncedFS
	free *atomic.Int64
}

func (f tightFS) Free(string) (uint64, error) { return uint64(f.free.Load()), nil }

// TestLedgerOnAFullDisk: what is done with is written down all the same, as long
// as its room lasts; that uploads fail is not.
func TestLedgerOnAFullDisk(t *testing.T) {
	var log bytes.Buffer
	var free atomic.Int64
	free.Store(1 << 30)
	fsys := tightFS{free: &free}
	dir := t.TempDir()
	disk := spool.NewDisk(fsys, dir, 1<<20)
	u := ledgerOnly(t, dir, func(c *Config) {
		c.Disk = disk
		c.Ledger.FS = fsys
		c.Log = textLog(&log)
	})
	u.ledger.note(record{Entry: &Entry{Batch: 1, Status: Planned}})
	free.Store(1 << 20) // what stays free on any disk

	u.ledger.hint(record{Failure: &failure{Batch: 1, Tries: 1}})
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "cannot record failed uploads") {
		t.Errorf("got log %q, want a warning", log.String())
	}
	log.Reset()
	u.ledger.note(record{Entry: &Entry{Batch: 2, Status: Planned}})
	if log.Len() != 0 {
		t.Errorf("got log %q, want none", log.String())
	}
	got, err := Batches(dir)
	if err != nil || len(got) != 2 || got[0].Status != Planned || got[1].Batch != 2 {
		t.Errorf("got %+v, %v, want both batches", got, err)
	}
}

// TestLedgerIsKept for a week, and longer where events may wait so long, in a
// segment a day.
func TestLedgerIsKept(t *testing.T) {
	for _, c := range []struct {
		name         string
		keep, maxAge time.Duration
		want         time.Duration
	}{
		{"a week", 0, 0, 7 * 24 * time.Hour},
		{"as configured", 72 * time.Hour, 0, 72 * time.Hour},
		{"as long as events wait", time.Hour, 48 * time.Hour, 49 * time.Hour},
	} {
		got := Config{Ledger: LedgerConfig{Keep: c.keep}, Quarantine: QuarantineConfig{MaxAge: c.maxAge}}.withDefaults().ledgerConfig()
		if got.Keep != c.want || got.SegmentAge != 24*time.Hour {
			t.Errorf("%s: kept for %s in segments of %s, want %s and a day", c.name, got.Keep, got.SegmentAge, c.want)
		}
	}
}

// TestLedgerHasItsMetrics under its own name.
func TestLedgerHasItsMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	ledgerOnly(t, t.TempDir(), func(c *Config) { c.Metrics = reg })
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "postern_ledger_") {
			n++
		}
	}
	if n == 0 {
		t.Error("got none")
	}
}

// slowLog takes a second for each record of a kind.
type slowLog struct {
	slog.Handler
	slow string
	done *atomic.Int64
}

func (s slowLog) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, s.slow) {
		time.Sleep(time.Second)
		s.done.Add(1)
	}
	return s.Handler.Handle(ctx, r)
}

// TestServeWaitsForAllItBegan: the summary is written and the cursor where it
// may be when it returns; outcomes are asked for meanwhile.
func TestServeWaitsForAllItBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said atomic.Int64
		var log bytes.Buffer
		a := &asking{sink: &sink{}, answer: func([]string) ([]Outcome, error) { return nil, nil }}
		u := ledgerOnly(t, t.TempDir(), func(c *Config) {
			c.Sink = a
			c.PollOutcomes = true
			c.LogEach = true
			c.Log = slog.New(slowLog{slog.NewTextHandler(&log, nil), "Discovered", &said})
		})
		src := &slowCommits{list: listOf(of(t, event.Open, "m%", 1, 3)...)}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		if err := u.Serve(ctx, src); err != nil {
			t.Error(err)
		}
		if said.Load() != 2 {
			t.Errorf("%d summaries in 90 seconds, want 2", said.Load())
		}
		if len(a.times) != 1 {
			t.Errorf("asked for outcomes %d times, want once", len(a.times))
		}
		if n := len(src.commits); n != 1 || src.commits[0] != at(3) {
			t.Errorf("got commits %v, want %v", src.commits, at(3))
		}
	})
}

// TestServeEndsWithItsLastCommit, though that takes a while.
func TestServeEndsWithItsLastCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), func(c *Config) { c.Sink = &timed{takes: 5 * time.Second} })
		src := &slowCommits{list: listOf(of(t, event.Open, "m%", 1, 3)...)}
		u.cfg.Uploads.Grace = func() time.Duration { return time.Minute }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := u.Serve(ctx, src); err != nil {
			t.Error(err)
		}
		if n := len(src.commits); n != 1 || src.commits[0] != at(3) {
			t.Errorf("got commits %v, want %v", src.commits, at(3))
		}
	})
}

// slowCommits is a source whose cursor takes a second.
type slowCommits struct{ *list }

func (s *slowCommits) Commit(p spool.Position) error {
	time.Sleep(time.Second)
	return s.list.Commit(p)
}

// TestSendRemembers an event of each type that was taken, the first of an
// upload.
func TestSendRemembers(t *testing.T) {
	reg := prometheus.NewRegistry()
	u := ledgerOnly(t, t.TempDir(), func(c *Config) {
		c.Sink = &sink{}
		c.Metrics = reg
	})
	d := idle(t, u, 4)
	want := string(d.b.items[1].line)
	if err := d.send(t.Context(), []int{1, 2}); err != nil {
		t.Fatal(err)
	}
	if got := string(u.samples[event.Open]); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if d.entry.Tries != 1 || u.taken.Load() != 1 || gauges(t, reg)["events_total open"] != 2 {
		t.Errorf("got %d tries, %d taken, %v", d.entry.Tries, u.taken.Load(), gauges(t, reg))
	}
}

// flakyLedger is a file system whose writes fail while it is told so.
type flakyLedger struct {
	unsyncedFS
	fails *atomic.Bool
}

func (f flakyLedger) Create(name string) (spool.File, error) {
	if f.fails.Load() {
		return nil, errOnce
	}
	file, err := f.unsyncedFS.Create(name)
	if err != nil {
		return nil, err
	}
	return flakyLedgerFile{file, f.fails}, nil
}

type flakyLedgerFile struct {
	spool.File
	fails *atomic.Bool
}

func (f flakyLedgerFile) Write(b []byte) (int, error) {
	if f.fails.Load() {
		return 0, errOnce
	}
	return f.File.Write(b)
}

// TestLedgerKeepsWhatItCouldNotWrite, in order, up to ten thousand records; a
// word of failures waits for nothing.
func TestLedgerKeepsWhatItCouldNotWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var fails atomic.Bool
		u := ledgerOnly(t, t.TempDir(), func(c *Config) {
			c.Ledger.FS = flakyLedger{fails: &fails}
			c.Log = textLog(&log)
		})
		entry := func(n int) record {
			return record{Entry: &Entry{Batch: uint64(n), Status: Planned}}
		}
		fails.Store(true)
		u.ledger.note(entry(1))
		u.ledger.note(entry(2))
		u.ledger.hint(record{Failure: &failure{Batch: 1, Tries: 1}})
		if n := len(u.ledger.unwritten); n != 2 || !strings.Contains(log.String(), "records_waiting=2") {
			t.Errorf("%d records wait, log %s", n, log.String())
		}
		if strings.Contains(log.String(), "level=WARN") {
			t.Errorf("a word of failures was tried before them: %s", log.String())
		}
		fails.Store(false)
		u.ledger.hint(record{Failure: &failure{Batch: 1, Tries: 1}}) // still before what it is about
		u.ledger.note(entry(3))
		got, err := Batches(u.cfg.Dir)
		if err != nil || len(got) != 3 || got[0].Batch != 1 || got[2].Batch != 3 || got[0].Status != Planned ||
			len(u.ledger.unwritten) != 0 {
			t.Errorf("got %+v, %v, want three planned batches", got, err)
		}
		u.ledger.hint(record{Failure: &failure{Batch: 1, Tries: 1, Error: "x"}})
		if got, _ = Batches(u.cfg.Dir); got[0].Status != Failing {
			t.Errorf("got %+v, want it to fail", got[0])
		}

		fails.Store(true)
		log.Reset()
		u.ledger.hint(record{Failure: &failure{Batch: 1, Tries: 2}})
		if !strings.Contains(log.String(), "level=WARN") || len(u.ledger.unwritten) != 0 {
			t.Errorf("%d records wait, log %s", len(u.ledger.unwritten), log.String())
		}
		u.ledger.unwritten = make([][]byte, 9_999)
		for i := range u.ledger.unwritten {
			u.ledger.unwritten[i] = []byte(fmt.Sprint(i))
		}
		u.ledger.note(entry(4))
		if len(u.ledger.unwritten) != 10_000 || string(u.ledger.unwritten[0]) != "0" {
			t.Errorf("%d records wait from %s on, want 10000", len(u.ledger.unwritten), u.ledger.unwritten[0])
		}
		u.ledger.note(entry(5))
		if len(u.ledger.unwritten) != 10_000 || string(u.ledger.unwritten[0]) != "1" {
			t.Errorf("%d records wait from %s on, want the newest 10000", len(u.ledger.unwritten), u.ledger.unwritten[0])
		}
		if err := u.ledger.flush(); !errors.Is(err, errOnce) || !strings.HasPrefix(err.Error(), "ingest: ") {
			t.Errorf("got %v, want the disk's error", err)
		}
		u.ledger.unwritten = nil
		fails.Store(false)
	})
}

// TestTimesThatCannotBeWritten: a clock beyond the year 9999 costs a record, and
// not the ledger.
func TestTimesThatCannotBeWritten(t *testing.T) {
	var log bytes.Buffer
	late := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	u := ledgerOnly(t, t.TempDir(), func(c *Config) { c.Log = textLog(&log) })
	u.ledger.note(record{Entry: &Entry{At: late}})
	u.ledger.hint(record{Entry: &Entry{At: late}})
	if n := strings.Count(log.String(), "cannot encode a record of the ledger"); n != 2 || len(u.ledger.unwritten) != 0 {
		t.Errorf("said %d times, %d records wait, want 2 and none", n, len(u.ledger.unwritten))
	}
	if n := ledgerRecords(t, u.cfg.Dir); n != 0 {
		t.Errorf("%d records, want none", n)
	}

	q := newQuarantine(t.TempDir(), nil, func() time.Time { return late })
	if err := q.put(quarantineEntry{line: []byte("{}")}); err == nil || !strings.HasPrefix(err.Error(), "ingest: quarantine: json") {
		t.Errorf("in quarantine: got %v, want an error", err)
	}
}

// TestLedgerIsWrittenAtItsEnd, and says where it cannot be.
func TestLedgerIsWrittenAtItsEnd(t *testing.T) {
	for _, broken := range []bool{false, true} {
		var fails atomic.Bool
		dir := t.TempDir()
		u, err := New(Config{Dir: dir, Sink: &sink{}, Ledger: LedgerConfig{FS: flakyLedger{fails: &fails}}, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		fails.Store(true)
		u.ledger.note(record{Entry: &Entry{Batch: 1, Status: Sent}})
		fails.Store(broken)
		if err := u.Close(); (err != nil) != broken {
			t.Errorf("broken %t: got %v", broken, err)
		}
		if got, err := Batches(dir); err != nil || (len(got) == 1) == broken {
			t.Errorf("broken %t: got %+v, %v", broken, got, err)
		}
		u, err = New(Config{Dir: dir, Sink: &sink{}, Ledger: LedgerConfig{FS: unsyncedFS{}}, Log: quiet})
		if err != nil {
			t.Fatalf("the ledger is held: %v", err)
		}
		if err := u.Close(); err != nil {
			t.Error(err)
		}
		if err := u.Close(); err == nil {
			t.Error("a ledger that is closed: no error")
		}
	}
}

// TestSteps count once, and what they add.
func TestSteps(t *testing.T) {
	e := Entry{Status: Planned}
	e.apply(&step{Spans: []Span{{at(0), at(1)}}, ID: "a", Wire: 3})
	e.apply(&step{Spans: []Span{{at(1), at(2)}, {at(3), at(4)}}, Quarantined: 2})
	e.apply(&step{Spans: []Span{{at(0), at(1)}}, ID: "a", Wire: 3})
	e.apply(&step{Spans: []Span{{at(5), at(6)}, {at(3), at(4)}}, ID: "b", Wire: 4})
	if len(e.Done) != 3 || e.Wire != 3 || e.Quarantined != 2 || !slices.Equal(e.IDs, []string{"a"}) {
		t.Errorf("got %+v", e)
	}
	e.fail(&failure{Tries: 2, Error: "x"})
	if e.Status != Failing || e.Tries != 2 || e.Error != "x" || !e.isOpen() {
		t.Errorf("got %+v", e)
	}
	for _, status := range []string{Sent, Partly, Empty} {
		e = Entry{Status: status}
		e.fail(&failure{Tries: 2})
		if e.Status != status || e.Tries != 0 || e.isOpen() {
			t.Errorf("%s: got %+v", status, e)
		}
	}
}

// TestRecordsOfTheLedger are what earlier versions write and read.
func TestRecordsOfTheLedger(t *testing.T) {
	for _, c := range []struct {
		r    record
		want string
	}{
		{record{Failure: &failure{Batch: 1, Tries: 2, Error: "x"}}, `{"failure":{"batch":1,"tries":2,"error":"x"}}`},
		{record{Step: &step{Batch: 1, Spans: []Span{{at(0), at(1)}}, ID: "a", Wire: 2, Quarantined: 3}},
			`{"step":{"batch":1,"spans":[{"from":{"Segment":1,"Offset":0},"to":{"Segment":1,"Offset":10}}],"id":"a","wire":2,"aside":3}}`},
	} {
		got, err := json.Marshal(c.r)
		if err != nil || string(got) != c.want {
			t.Errorf("got %s, %v\nwant %s", got, err, c.want)
		}
	}
}
