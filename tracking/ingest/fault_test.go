package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/tracking/event"
	"postern/tracking/spool"
	"postern/tracking/spool/atomicfile"
)

// of returns n events, numbered from first, of a type and a message each.
func of(t testing.TB, typ event.Type, message string, first, n int) [][]byte {
	t.Helper()

	var out [][]byte
	for i := first; i < first+n; i++ {
		out = append(out, line(t, i, func(e *event.Event) {
			e.Type, e.MessageID = typ, strings.ReplaceAll(message, "%", fmt.Sprint(i))
			if typ == event.Click {
				e.TargetLinkURL, e.TargetLinkName = "https://x.example/", "x"
			}
		}))
	}

	return out
}

func has(ndjson string, id int) bool {
	return strings.Contains(ndjson, fmt.Sprintf(`"event_id":"%d"`, id))
}

// ids returns how often each event was taken.
func (s *sink) ids() map[string]int {
	out := map[string]int{}
	for _, l := range s.lines() {
		e, err := event.Decode([]byte(l))
		if err != nil {
			out["broken"]++
			continue
		}
		out[e.ID]++
	}

	return out
}

func (s *sink) sent() []string {
	s.mu.Lock()
	defer s.mu.Unlock()

	return append([]string(nil), s.calls...)
}

// quarantined returns the ids in quarantine, and fails where a line is not whole.
func quarantined(t *testing.T, dir string) map[string]int {
	t.Helper()

	out := map[string]int{}
	for _, l := range strings.Split(readAside(t, dir), "\n") {
		if l == "" {
			continue
		}
		var r quarantineLine
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatalf("quarantine: %v: %s", err, l)
		}
		e, err := event.Decode(r.Event)
		if err != nil {
			out[r.Raw]++
			continue
		}
		out[e.ID]++
	}

	return out
}

func TestOtherAnswersAreNoFaultOfAnEvent(t *testing.T) {
	t.Parallel()

	for _, status := range []int{301, 302, 307, 401, 402, 403, 404, 405, 407, 408, 409, 410, 415, 425, 429, 451, 500, 502, 503, 504} {
		inBubble(t, fmt.Sprint(status), func(t *testing.T) {
			r := start(t, t.TempDir(), &sink{answer: func(n int, _ string) error {
				if n < 2 {
					return refusal(status, "no")
				}
				return nil
			}}, nil, of(t, event.Open, "m%", 1, 9)...)
			r.settled(t)
			r.stop()

			if got := r.sink.ids(); len(got) != 9 {
				t.Errorf("taken %v, want 9 events", got)
			}
			if got := readAside(t, r.dir); got != "" {
				t.Errorf("quarantined: %s", got)
			}
			calls := r.sink.sent()
			for i, c := range calls {
				if c != calls[0] {
					t.Errorf("upload %d is cut in another way: %q, first %q", i, c, calls[0])
				}
			}
		})
	}
}

// TestManyPoisonEvents: more than refusedInARow events in a row are refused
// alone, while the service is well.
func TestManyPoisonEvents(t *testing.T) {
	t.Parallel()

	const bad = 50

	for _, c := range []struct {
		name  string
		lines func() [][]byte
	}{
		{"other events behind them", func() [][]byte {
			return append(of(t, event.Click, "m%", 1, bad), of(t, event.Open, "n%", bad+1, 10)...)
		}},
		{"other events before them", func() [][]byte {
			return append(of(t, event.Open, "n%", bad+1, 10), of(t, event.Click, "m%", 1, bad)...)
		}},
		{"others of the same type", func() [][]byte {
			return append(of(t, event.Click, "m", 1, bad), of(t, event.Click, "n%", bad+1, 10)...)
		}},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			r := start(t, t.TempDir(), &sink{answer: func(_ int, ndjson string) error {
				for i := 1; i <= bad; i++ {
					if has(ndjson, i) {
						return refusal(422, "no")
					}
				}
				return nil
			}}, nil, c.lines()...)
			r.settled(t)
			r.stop()

			if got := r.sink.ids(); len(got) != 10 {
				t.Errorf("taken %v, want 10 events", got)
			}
			if got := quarantined(t, r.dir); len(got) != bad {
				t.Errorf("%d events in quarantine, want %d", len(got), bad)
			}
		})
	}
}

// TestEverythingRefused: a proxy answers 400 to all. Nothing is thrown aside,
// and all goes when it is over.
func TestEverythingRefused(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		var well atomic.Bool
		r := start(t, t.TempDir(), &sink{answer: func(int, string) error {
			if well.Load() {
				return nil
			}
			return refusal(400, "plain HTTP request was sent to HTTPS port")
		}}, nil, append(of(t, event.Open, "m%", 1, 40), of(t, event.Click, "n%", 41, 40)...)...)
		wait(t, "uploads", func() bool { return len(r.sink.sent()) > 100 })
		well.Store(true)
		r.settled(t)
		r.stop()

		if got := r.sink.ids(); len(got) != 80 {
			t.Errorf("%d events taken, want 80", len(got))
		}
		if got := readAside(t, r.dir); got != "" {
			t.Errorf("quarantined: %s", got)
		}
	})
}

// TestEverythingRefusedInSmallBatches: the same, with a batch an event.
func TestEverythingRefusedInSmallBatches(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		const n = 100

		var well atomic.Bool
		r := start(t, t.TempDir(), &sink{answer: func(int, string) error {
			if well.Load() {
				return nil
			}
			return refusal(400, "no")
		}}, func(c *Config) { c.Batch.Bytes = 1 }, of(t, event.Open, "m%", 1, n)...)
		wait(t, "uploads", func() bool { return len(r.sink.sent()) > 200 })
		well.Store(true)
		r.settled(t)
		r.stop()

		aside := quarantined(t, r.dir)
		if len(aside) >= refusedInARow {
			t.Errorf("%d events in quarantine, want less than %d", len(aside), refusedInARow)
		}
		if got := r.sink.ids(); len(got)+len(aside) < n {
			t.Errorf("%d events taken and %d in quarantine, want %d", len(got), len(aside), n)
		}
	})
}

// TestNothingElseToTry: many events of one message are refused and there is no
// other; they wait, and hold up nothing, until another event shows that it is
// they.
func TestNothingElseToTry(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), &sink{answer: func(_ int, ndjson string) error {
			if strings.Contains(ndjson, `"message_id":"bad"`) {
				return refusal(400, "no")
			}
			return nil
		}}, nil, of(t, event.Open, "bad", 1, 25)...)
		wait(t, "doubt", func() bool { return len(r.sink.sent()) > 60 })
		if got := readAside(t, r.dir); got != "" {
			t.Errorf("quarantined before anything else was tried: %s", got)
		}

		if err := r.spool.Append(context.Background(), of(t, event.Click, "good", 26, 1)...); err != nil {
			t.Fatal(err)
		}
		r.settled(t)
		r.stop()

		if got := r.sink.ids(); got["26"] == 0 || len(got) != 1 {
			t.Errorf("taken %v, want event 26", got)
		}
		if got := quarantined(t, r.dir); len(got) != 25 {
			t.Errorf("%d events in quarantine, want 25", len(got))
		}
	})
}

// TestEventThatBreaksTheService: an event to which the service has no answer
// delays none but itself, and is not sent in vain again after a restart with
// what was taken already.
func TestEventThatBreaksTheService(t *testing.T) {
	t.Parallel()

	const n = 61

	for _, c := range []struct {
		name   string
		err    error
		bad    []int
		change func(*Config)
	}{
		{"500, small batches", refusal(500, "oops"), []int{30}, func(c *Config) { c.Batch.Bytes = 1000 }},
		{"cut off, small batches", errors.New("EOF"), []int{30}, func(c *Config) { c.Batch.Bytes = 1000 }},
		{"403 of a firewall, small batches", refusal(403, "blocked"), []int{30}, func(c *Config) { c.Batch.Bytes = 1000 }},
		{"500, the only batch", refusal(500, "oops"), []int{30}, nil},
		{"two in one batch", refusal(500, "oops"), []int{7, 55}, nil},
		{"neighbours", refusal(500, "oops"), []int{30, 31, 32}, nil},
		{"the first and the last", refusal(502, "oops"), []int{1, n}, func(c *Config) { c.Batch.Bytes = 5000 }},
		{"one in each of many batches", refusal(500, "oops"), []int{1, 11, 21, 31, 41, 51, 61}, func(c *Config) { c.Batch.Bytes = 2000 }},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			dir := t.TempDir()
			first := &sink{answer: func(_ int, ndjson string) error {
				for _, i := range c.bad {
					if has(ndjson, i) {
						return c.err
					}
				}
				return nil
			}}
			r := start(t, dir, first, c.change, of(t, event.Open, "m%", 1, n)...)
			wait(t, "the others", func() bool { return len(first.ids()) == n-len(c.bad) })
			if got := readAside(t, r.dir); got != "" {
				t.Errorf("quarantined: %s", got)
			}
			if at := spool.Cursor(r.dir, "r"); at == r.spool.Newest() {
				t.Errorf("the cursor passed an event that was not taken: %+v", at)
			}
			r.stop()

			second := &sink{}
			r = start(t, dir, second, c.change)
			r.settled(t)
			r.stop()

			got := second.ids()
			for _, i := range c.bad {
				if got[fmt.Sprint(i)] != 1 {
					t.Errorf("event %d was taken %d times after the restart, want once", i, got[fmt.Sprint(i)])
				}
			}
			if len(got) > len(c.bad) {
				t.Errorf("sent again after the restart: %v, want %v alone", got, c.bad)
			}
			for id, times := range first.ids() {
				if times > 1 {
					t.Errorf("event %s was taken %d times", id, times)
				}
			}
		})
	}
}

// TestOutageCutsNothing: while nothing is taken, no batch is cut for good.
func TestOutageCutsNothing(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		away.Store(true)
		r := start(t, t.TempDir(), &sink{answer: func(int, string) error {
			if away.Load() {
				return refusal(503, "away")
			}
			return nil
		}}, func(c *Config) { c.Batch.Bytes = 5000 }, of(t, event.Open, "m%", 1, 200)...)
		wait(t, "many failures", func() bool { return len(r.sink.sent()) > 60 })
		away.Store(false)
		r.settled(t)
		r.stop()

		got := r.sink.ids()
		for id, times := range got {
			if times != 1 {
				t.Errorf("event %s was taken %d times", id, times)
			}
		}
		if len(got) != 200 {
			t.Errorf("%d events taken, want 200", len(got))
		}
	})
}

// TestAsideIsFull: where more batches are stuck than may wait aside, they keep
// their slots; nothing is lost.
func TestAsideIsFull(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		var well atomic.Bool
		s := &sink{answer: func(_ int, ndjson string) error {
			if !well.Load() && strings.Contains(ndjson, `"message_id":"bad"`) {
				return refusal(500, "oops")
			}
			return nil
		}}
		var lines [][]byte
		for i := range 30 {
			lines = append(lines, of(t, event.Open, "bad", 10*i+1, 1)...)
			lines = append(lines, of(t, event.Open, "good", 10*i+2, 1)...)
		}
		r := start(t, t.TempDir(), s, func(c *Config) { c.Batch.Bytes = 60 }, lines...) // aside: 960 bytes, for two of them
		wait(t, "failures", func() bool { return len(s.sent()) > 100 })
		well.Store(true)
		r.settled(t)
		r.stop()

		if got := s.ids(); len(got) != 60 {
			t.Errorf("%d events taken, want 60", len(got))
		}
		if n := r.up.aside.batches; n != 0 || r.up.aside.bytes != 0 {
			t.Errorf("%d batches and %d bytes are aside at the end", n, r.up.aside.bytes)
		}
	})
}

// copyState copies a folder that is written to meanwhile.
func copyState(t *testing.T, from, to string) {
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(name, ".new") {
			return nil
		}
		if err != nil {
			return err
		}
		target := to + strings.TrimPrefix(name, from)
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o600)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRestartAtAnyUpload takes the state on disk at each upload, as kill -9
// would leave it, and goes on from there: every event is taken or quarantined,
// and what goes again goes in the same company.
func TestRestartAtAnyUpload(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		const n = 40

		bad := func(ndjson string) error {
			switch {
			case has(ndjson, 13), has(ndjson, 14):
				return refusal(400, "no")
			case has(ndjson, 31):
				return refusal(500, "oops")
			}
			return nil
		}
		change := func(c *Config) { c.Batch.Bytes = 3000 }

		dir := t.TempDir()
		var mu sync.Mutex
		var copies []string
		var taken []map[string]int
		var sent [][]string
		s := &sink{}
		s.answer = func(n int, ndjson string) error {
			mu.Lock()
			defer mu.Unlock()

			if len(copies) < 40 {
				to := filepath.Join(t.TempDir(), "copy")
				copyState(t, dir, to)
				copies, taken, sent = append(copies, to), append(taken, s.ids()), append(sent, s.sent())
			}
			return bad(ndjson)
		}
		r := start(t, dir, s, change, of(t, event.Open, "m%", 1, n)...)
		wait(t, "all but one", func() bool { return len(s.ids()) == n-3 })
		r.stop()

		for i, dir := range copies {
			again := &sink{answer: func(_ int, ndjson string) error {
				if has(ndjson, 13) || has(ndjson, 14) {
					return refusal(400, "no")
				}
				return nil
			}}
			r := start(t, dir, again, change)
			r.settled(t)
			r.stop()

			got, aside := again.ids(), quarantined(t, r.dir)
			for id := 1; id <= n; id++ {
				id := fmt.Sprint(id)
				if taken[i][id]+got[id]+aside[id] == 0 {
					t.Errorf("copy %d: event %s is lost", i, id)
				}
			}

			before := strings.Join(sent[i], "\n")
			for _, call := range again.sent() {
				for _, l := range strings.Split(strings.TrimSuffix(call, "\n"), "\n") {
					e, err := event.Decode([]byte(l))
					if err != nil {
						t.Fatal(err)
					}
					if taken[i][e.ID] > 0 && !strings.Contains(before, call) {
						t.Errorf("copy %d: event %s goes again in other company", i, e.ID)
					}
				}
			}
		}
	})
}

// flaky is a source that fails now and then.
type flaky struct {
	Source
	reads, commits atomic.Int64
}

func (f *flaky) Next(ctx context.Context) (spool.Record, error) {
	if f.reads.Add(1)%3 == 1 {
		return spool.Record{}, errors.New("too many open files")
	}
	return f.Source.Next(ctx)
}

func (f *flaky) Commit(p spool.Position) error {
	if f.commits.Add(1)%2 == 1 {
		return errors.New("no space left on device")
	}
	return f.Source.Commit(p)
}

func TestReadAndCommitErrorsEndNothing(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "events")
		sp, err := spool.Open(spool.Config{Dir: dir, Readers: []string{"r"}, Keep: time.Hour, Log: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer sp.Close()
		if err := sp.Append(context.Background(), of(t, event.Open, "m%", 1, 20)...); err != nil {
			t.Fatal(err)
		}

		s := &sink{}
		up, err := New(Config{
			Dir:     dir,
			Sink:    s,
			Batch:   BatchConfig{Bytes: 1000, Age: 20 * time.Millisecond},
			Uploads: UploadConfig{MinBackoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond},
			Log:     quiet,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer up.Close()
		src, err := sp.Reader("r")
		if err != nil {
			t.Fatal(err)
		}

		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- up.Serve(ctx, &flaky{Source: src}) }()
		wait(t, "the cursor", func() bool { return spool.Cursor(dir, "r") == sp.Newest() })
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if got := s.ids(); len(got) != 20 {
			t.Errorf("%d events taken, want 20", len(got))
		}
	})
}

// counter fails one call of all, and only that one.
type counter struct {
	mu    sync.Mutex
	n     int
	fail  int
	which string
}

var errOnce = errors.New("input/output error (once)")

func (c *counter) call(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.n++; c.n == c.fail {
		c.which = what
		return errOnce
	}

	return nil
}

type onceFS struct{ *counter }

func (o onceFS) MkdirAll(dir string) error {
	return errors.Join(o.call("mkdir"), atomicfile.OS{}.MkdirAll(dir))
}

func (o onceFS) OpenAppend(name string) (atomicfile.AppendFile, error) {
	if err := o.call("open"); err != nil {
		return nil, err
	}
	f, err := atomicfile.OS{}.OpenAppend(name)
	return &onceFile{f, o.counter}, err
}

func (o onceFS) SyncDir(dir string) error {
	return errors.Join(o.call("syncdir"), atomicfile.OS{}.SyncDir(dir))
}

type onceFile struct {
	atomicfile.AppendFile
	c *counter
}

func (f *onceFile) Write(b []byte) (int, error) {
	if err := f.c.call("write"); err != nil {
		n, _ := f.AppendFile.Write(b[:len(b)/2])
		return n, err
	}
	return f.AppendFile.Write(b)
}

func (f *onceFile) ReadAt(b []byte, at int64) (int, error) {
	if err := f.c.call("read"); err != nil {
		return 0, err
	}
	return f.AppendFile.ReadAt(b, at)
}

func (f *onceFile) Size() (int64, error) {
	if err := f.c.call("size"); err != nil {
		return 0, err
	}
	return f.AppendFile.Size()
}

func (f *onceFile) Sync() error  { return errors.Join(f.c.call("sync"), f.AppendFile.Sync()) }
func (f *onceFile) Close() error { return errors.Join(f.c.call("close"), f.AppendFile.Close()) }

// TestQuarantineFailsOnce: whichever call fails, an event that is refused is in
// quarantine, whole, before the cursor passes it.
func TestQuarantineFailsOnce(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		for fail := 1; ; fail++ {
			c := &counter{fail: fail}
			r := start(t, t.TempDir(), &sink{answer: func(_ int, ndjson string) error {
				if has(ndjson, 3) || has(ndjson, 7) {
					return refusal(400, "no")
				}
				return nil
			}}, func(u *Config) { u.Quarantine.FS = onceFS{c} }, of(t, event.Open, "m%", 1, 9)...)
			r.settled(t)
			r.stop()

			got := quarantined(t, r.dir)
			if got["3"] == 0 || got["7"] == 0 || len(got) != 2 {
				t.Errorf("call %d (%s) fails: in quarantine %v, want 3 and 7", fail, c.which, got)
			}
			if taken := r.sink.ids(); len(taken) != 7 {
				t.Errorf("call %d (%s) fails: taken %v, want 7 events", fail, c.which, taken)
			}
			if c.which == "" {
				if fail < 8 {
					t.Errorf("only %d calls", fail)
				}
				return
			}
		}
	})
}

// ledgerFS fails one call of the ledger's.
type ledgerFS struct {
	spool.OS
	*counter
}

func (l ledgerFS) Create(name string) (spool.File, error) {
	if err := l.call("create"); err != nil {
		return nil, err
	}
	f, err := l.OS.Create(name)
	return &ledgerFile{f, l.counter}, err
}

func (l ledgerFS) SyncDir(dir string) error {
	return errors.Join(l.call("sync folder"), l.OS.SyncDir(dir))
}

type ledgerFile struct {
	spool.File
	c *counter
}

func (f *ledgerFile) Write(b []byte) (int, error) {
	if err := f.c.call("write"); err != nil {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, err
	}
	return f.File.Write(b)
}

func (f *ledgerFile) Sync() error { return errors.Join(f.c.call("sync"), f.File.Sync()) }

// TestLedgerFailsOnce: whichever call fails, uploads go on, and the state of
// every batch is in the ledger in the end.
func TestLedgerFailsOnce(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		for fail := 1; ; fail++ {
			c := &counter{fail: fail}
			r := start(t, t.TempDir(), &sink{answer: func(_ int, ndjson string) error {
				if has(ndjson, 3) {
					return refusal(400, "no")
				}
				return nil
			}}, func(u *Config) { u.Ledger.FS, u.Batch.Bytes = ledgerFS{counter: c}, 1000 }, of(t, event.Open, "m%", 1, 9)...)
			r.settled(t)
			r.stop()

			if taken := r.sink.ids(); len(taken) != 8 {
				t.Errorf("call %d (%s) fails: taken %v, want 8 events", fail, c.which, taken)
			}
			if got := quarantined(t, r.dir); got["3"] != 1 {
				t.Errorf("call %d (%s) fails: in quarantine %v, want 3", fail, c.which, got)
			}
			entries, err := Batches(r.dir)
			if err != nil {
				t.Fatal(err)
			}
			events := 0
			for _, e := range entries {
				if e.Status == Sent || e.Status == Partly {
					events += e.Events
				}
			}
			if events != 9 {
				t.Errorf("call %d (%s) fails: the ledger knows of %d events, want 9: %+v", fail, c.which, events, entries)
			}
			if c.which == "" {
				if fail < 8 {
					t.Errorf("only %d calls", fail)
				}
				return
			}
		}
	})
}

// TestDamagedLedgerIsNamed in the log, and stops nothing.
func TestDamagedLedgerIsNamed(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := start(t, dir, &sink{}, nil, of(t, event.Open, "m%", 1, 3)...)
		r.settled(t)
		r.stop()
		names, err := filepath.Glob(filepath.Join(r.dir, "ledger", "*.seg"))
		if err != nil || len(names) != 1 {
			t.Fatalf("ledger: %v, %v", names, err)
		}
		data, err := os.ReadFile(names[0])
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/3] ^= 1
		if err := os.WriteFile(names[0], data, 0o600); err != nil {
			t.Fatal(err)
		}

		var log strings.Builder
		r = start(t, dir, &sink{}, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) },
			of(t, event.Open, "m%", 4, 1)...)
		wait(t, "the new event", func() bool { return r.sink.ids()["4"] == 1 })
		r.stop()
		kept, err := filepath.Glob(filepath.Join(r.dir, "ledger", "*.broken"))
		if err != nil || len(kept) != 1 || !strings.Contains(log.String(), filepath.Base(kept[0])) {
			t.Errorf("quarantined %v, %v, want one file, and its name in\n%s", kept, err, log.String())
		}
	})
}

// TestAsideTakesLittleMemory: of a batch that waits for one event, only that is
// kept.
func TestAsideTakesLittleMemory(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		const n = 500

		s := &sink{answer: func(_ int, ndjson string) error {
			if has(ndjson, 250) {
				return refusal(500, "oops")
			}
			return nil
		}}
		r := start(t, t.TempDir(), s, nil, of(t, event.Open, "m%", 1, n)...)
		wait(t, "the others", func() bool { return len(s.ids()) == n-1 })
		wait(t, "the room", func() bool {
			r.up.aside.mu.Lock()
			defer r.up.aside.mu.Unlock()
			return r.up.aside.batches == 1 && r.up.aside.bytes < 1000
		})
		r.stop()
	})
}

// TestServeWaitsForUploadsInFlight: what the service takes while the uploader
// stops does not go again.
func TestServeWaitsForUploadsInFlight(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name  string
		grace func() time.Duration
		again int // events that go at the next start
	}{
		{name: "answered in time", grace: func() time.Duration { return time.Hour }},
		{name: "not answered in time", grace: func() time.Duration { return 0 }, again: 2},
		{name: "no grace", again: 2},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			dir := t.TempDir()
			slow := &slowSink{begun: make(chan struct{}), answer: make(chan struct{})}
			setUp := func(cfg *Config) {
				cfg.Sink = slow
				cfg.Uploads.Grace = c.grace
			}
			r := start(t, dir, nil, setUp, line(t, 1, nil), line(t, 2, nil))
			<-slow.begun

			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				r.stop()
			}()
			if c.again == 0 { // else nobody answers
				<-r.stopping
				close(slow.answer)
			}
			<-stopped

			second := &sink{}
			r = start(t, dir, second, nil)
			r.settled(t)
			r.stop()
			if got := second.lines(); len(got) != c.again {
				t.Errorf("%d events went at the next start, want %d: %q", len(got), c.again, got)
			}
		})
	}
}

// slowSink takes a batch once it is told to.
type slowSink struct{ begun, answer chan struct{} }

// Send implements Sink.
func (s *slowSink) Send(ctx context.Context, ndjson []byte) (string, int, error) {
	close(s.begun)

	select {
	case <-s.answer:
		return "id", len(ndjson), nil
	case <-ctx.Done():
		return "", 0, ctx.Err()
	}
}
