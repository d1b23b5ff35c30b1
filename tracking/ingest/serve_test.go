package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
	"postern/tracking/spool"
	"postern/tracking/spool/atomicfile"
)

// TestDefaults are the documented ones, and what is set stays.
func TestDefaults(t *testing.T) {
	got := Config{}.withDefaults()
	if got.Uploads.AtOnce != 4 || got.Uploads.MinBackoff != time.Second || got.Uploads.MaxBackoff != time.Minute ||
		got.Quarantine.MaxAge != 24*time.Hour || got.Ledger.Keep != 7*24*time.Hour {
		t.Errorf("got %+v", got)
	}
	if d := time.Since(got.Now()).Abs(); d > time.Hour {
		t.Errorf("its clock is %s off", d)
	}

	now := time.Unix(1, 0)
	got = Config{
		Uploads:    UploadConfig{AtOnce: 1, MinBackoff: 2, MaxBackoff: 3},
		Quarantine: QuarantineConfig{MaxAge: 4},
		Ledger:     LedgerConfig{Keep: 5},
		Now:        func() time.Time { return now },
	}.withDefaults()
	if got.Uploads.AtOnce != 1 || got.Uploads.MinBackoff != 2 || got.Uploads.MaxBackoff != 3 || got.Quarantine.MaxAge != 4 ||
		got.Ledger.Keep != 5 || got.Now() != now {
		t.Errorf("got %+v, want what was set", got)
	}
}

func TestJitter(t *testing.T) {
	low, high := time.Hour, time.Duration(0)
	for range 1000 {
		d := jitter(10)
		low, high = min(low, d), max(high, d)
	}
	if low != 5 || high != 10 {
		t.Errorf("got %d to %d, want 5 to 10", low, high)
	}
	if got := jitter(0); got != 0 {
		t.Errorf("got %s of nothing", got)
	}
}

// timed is a sink that keeps when it was asked, and how many at once.
type timed struct {
	mu     sync.Mutex
	times  []time.Time
	calls  []string
	now    int
	most   int
	answer func(n int, ndjson string) error
	takes  time.Duration
}

func (s *timed) Send(ctx context.Context, ndjson []byte) (string, int, error) {
	s.mu.Lock()
	n := len(s.calls)
	s.calls = append(s.calls, string(ndjson))
	s.times = append(s.times, time.Now())
	s.now++
	s.most = max(s.most, s.now)
	s.mu.Unlock()

	sleep(ctx, s.takes)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
	if s.answer == nil {
		return fmt.Sprint("id", n), len(ndjson) / 2, nil
	}

	return fmt.Sprint("id", n), len(ndjson) / 2, s.answer(n, string(ndjson))
}

// TestUploadsInFlight: as many as are configured, and no more.
func TestUploadsInFlight(t *testing.T) {
	for _, c := range []struct{ configured, want int }{{0, 4}, {1, 1}, {3, 3}} {
		inBubble(t, fmt.Sprint(c.configured), func(t *testing.T) {
			s := &timed{takes: time.Second}
			r := start(t, t.TempDir(), nil, func(cfg *Config) {
				cfg.Sink = s
				cfg.Uploads.AtOnce = c.configured
				cfg.Batch.Bytes = 1
			}, of(t, event.Open, "m%", 1, 12)...)
			r.settled(t)
			r.stop()
			if s.most != c.want || len(s.calls) != 12 {
				t.Errorf("%d of %d uploads in flight, want %d of 12", s.most, len(s.calls), c.want)
			}
		})
	}
}

// TestRequestsOfABatch counts the requests that a service gets, when, and
// whether the batch was split.
func TestRequestsOfABatch(t *testing.T) {
	every := func(err error) func(int, string) error { return func(int, string) error { return err } }
	type window struct{ least, most int }
	for _, c := range []struct {
		name   string
		answer func(int, string) error
		within time.Duration
		want   window
		split  bool
		taken  int
	}{
		{"taken", nil, time.Hour, window{1, 1}, false, 6},
		// 1, 2, 4, 8, 16 and 32 seconds, and then a minute each, or half of that.
		{"429 for an hour", every(refusal(429, "slow down")), time.Hour, window{65, 127}, false, 0},
		{"401 for an hour", every(refusal(401, "who are you")), time.Hour, window{65, 127}, false, 0},
		{"404 for an hour", every(refusal(404, "nowhere")), time.Hour, window{65, 127}, false, 0},
		{"503 for an hour: probed", every(refusal(503, "away")), time.Hour, window{65, 127}, true, 0},
		{"503, less than four times", every(refusal(503, "away")), 3 * time.Second, window{2, 4}, false, 0},
		{"Retry-After of ten minutes", every(&Refusal{Status: 503, RetryAfter: 10 * time.Minute}), 59 * time.Minute, window{5, 6}, true, 0},
		{"400 of a single event of six", func(_ int, s string) error {
			if has(s, 3) {
				return refusal(400, "no")
			}
			return nil
		}, time.Hour, window{7, 7}, true, 5},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			s := &timed{answer: c.answer}
			r := start(t, t.TempDir(), nil, func(cfg *Config) {
				cfg.Sink = s
				cfg.Uploads.MinBackoff = time.Second
				cfg.Uploads.MaxBackoff = time.Minute
			}, of(t, event.Open, "m%", 1, 6)...)
			time.Sleep(c.within)
			synctest.Wait()
			r.stop()

			if n := len(s.calls); n < c.want.least || n > c.want.most {
				t.Errorf("%d requests, want %d to %d", n, c.want.least, c.want.most)
			}
			split := slices.ContainsFunc(s.calls, func(call string) bool { return call != s.calls[0] })
			if split != c.split {
				t.Errorf("split: %t, want %t", split, c.split)
			}
			if aside := quarantined(t, r.dir); len(aside) != 0 && c.taken != 5 || c.taken == 5 && aside["3"] != 1 {
				t.Errorf("in quarantine: %v", aside)
			}
		})
	}
}

// TestPatienceSplitsNothing: a service that asks for patience gets the batch as
// it was, though it takes others meanwhile.
func TestPatienceSplitsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &timed{answer: func(_ int, ndjson string) error {
			if has(ndjson, 1) {
				return refusal(429, "slow down")
			}
			return nil
		}}
		r := start(t, t.TempDir(), nil, func(cfg *Config) {
			cfg.Sink = s
			cfg.Uploads.MinBackoff = time.Second
			cfg.Uploads.MaxBackoff = time.Minute
		}, of(t, event.Open, "m%", 1, 4)...)
		for i := range 60 {
			if err := r.spool.Append(t.Context(), of(t, event.Open, "n%", 10+i, 1)...); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		r.stop()

		requests := 0
		for _, call := range s.calls {
			if !has(call, 1) {
				continue
			}
			if requests++; call != s.calls[0] {
				t.Errorf("the batch was split: %q", call)
			}
		}
		if requests < 60 || requests > 127 {
			t.Errorf("%d requests in an hour, want 60 to 127", requests)
		}
		if got := r.up.aside.batches; got != 0 {
			t.Errorf("%d batches are aside, want none", got)
		}
	})
}

// TestRefusedInARow: nineteen events that are refused alone are quarantined;
// from the twentieth on it is asked whether it is they.
func TestRefusedInARow(t *testing.T) {
	for _, c := range []struct {
		n    int
		want int // in quarantine
	}{{19, 19}, {20, 0}} {
		inBubble(t, fmt.Sprint(c.n), func(t *testing.T) {
			s := &timed{answer: func(int, string) error { return refusal(400, "no") }}
			r := start(t, t.TempDir(), nil, func(cfg *Config) {
				cfg.Sink = s
				cfg.Uploads.MinBackoff = time.Second
				cfg.Uploads.MaxBackoff = time.Minute
			}, of(t, event.Open, "m", 1, c.n)...)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			r.stop()
			if got := quarantined(t, r.dir); len(got) != c.want {
				t.Errorf("%d in quarantine, want %d", len(got), c.want)
			}
		})
	}
}

// TestDoubtBacksOff: while everything is refused one event is tried at a time,
// more and more seldom, each time another one; with the first that is taken
// everything goes at once.
func TestDoubtBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		var well atomic.Bool
		reg := prometheus.NewRegistry()
		s := &timed{answer: func(int, string) error {
			if well.Load() {
				return nil
			}
			return refusal(400, "no")
		}}
		lines := append(of(t, event.Open, "m%", 1, 20), of(t, event.Click, "n%", 21, 5)...)
		r := start(t, t.TempDir(), nil, func(cfg *Config) {
			cfg.Sink = s
			cfg.Uploads.MinBackoff = time.Second
			cfg.Uploads.MaxBackoff = time.Minute
			cfg.Metrics = reg
			cfg.Log = textLog(&log)
		}, lines...)
		time.Sleep(time.Hour)
		synctest.Wait()
		n := len(s.calls)
		if n < 100 || n > 190 { // some 45 to find them, and then 65 to 127
			t.Errorf("%d requests in an hour", n)
		}
		last := s.calls[n-5:]
		for i, call := range last {
			if strings.Count(call, "\n") != 1 || !strings.Contains(call, `"type":"click"`) {
				t.Errorf("tried %q, want one click", call)
			}
			if i > 0 && call == last[i-1] {
				t.Errorf("tried the same event twice: %q", call)
			}
			if i > 0 {
				if wait := s.times[n-5+i].Sub(s.times[n-6+i]); wait < 30*time.Second || wait > time.Minute {
					t.Errorf("waited %s, want 30 to 60 seconds", wait)
				}
			}
		}
		if g := gauges(t, reg); g["failing"] != 1 || g["batches_total 400"] != float64(n) {
			t.Errorf("got %v after %d requests", g, n)
		}
		if !strings.Contains(log.String(), "EVENTS OF EVERY KIND ARE REFUSED") ||
			!strings.Contains(log.String(), "batch=1 events=25") {
			t.Errorf("no word of it: %.300s", log.String())
		}

		well.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := s.times[len(s.times)-1].Sub(s.times[n]); got != 0 {
			t.Errorf("the rest took %s, want it at once", got)
		}
		if g := gauges(t, reg); g["failing"] != 0 || g["events_total open"]+g["events_total click"] != 25 {
			t.Errorf("got %v, want 25 events taken", g)
		}
		r.stop()
		if got := quarantined(t, r.dir); len(got) != 0 {
			t.Errorf("in quarantine: %v", got)
		}
	})
}

// TestMetrics counts what becomes of events and uploads.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		s := &timed{answer: func(n int, ndjson string) error {
			switch {
			case n == 0:
				return errors.New("EOF")
			case n == 1:
				return refusal(503, "away")
			case has(ndjson, 2):
				return refusal(422, "no")
			}
			return nil
		}}
		old := line(t, 9, func(e *event.Event) { e.Timestamp.Time = time.Now().Add(-24*time.Hour - time.Second) })
		edge := line(t, 8, func(e *event.Event) { e.Timestamp.Time = time.Now().Add(-24*time.Hour + time.Hour) })
		lines := append(of(t, event.Open, "m%", 1, 3), old, edge, []byte("no event"), of(t, event.Click, "m", 4, 1)[0])
		r := start(t, t.TempDir(), nil, func(cfg *Config) {
			cfg.Sink = s
			cfg.Metrics = reg
			cfg.Filter.Types = map[event.Type]bool{event.Open: true}
		}, lines...)
		r.settled(t)
		r.stop()
		got := gauges(t, reg)
		maps.DeleteFunc(got, func(name string, _ float64) bool { return strings.HasPrefix(name, "postern_") }) // the ledger's
		want := map[string]float64{
			"events_total open":                 3,
			"filtered_events_total click":       1,
			"set_aside_events_total refused":    1,
			"set_aside_events_total expired":    1,
			"set_aside_events_total unreadable": 1,
			"batches_total error":               1,
			"batches_total 503":                 1,
			"batches_total 422":                 got["batches_total 422"],
			"batches_total 200":                 got["batches_total 200"],
			"failing":                           0,
			"aside_batches":                     0,
		}
		if !maps.Equal(got, want) || got["batches_total 422"] < 2 || got["batches_total 200"] < 2 {
			t.Errorf("got %v, want %v", got, want)
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetHelp() == "" {
				t.Errorf("%s has no help", f.GetName())
			}
		}
	})
}

// TestExpiry is to the instant, by the earlier of two clocks.
func TestExpiry(t *testing.T) {
	for _, c := range []struct {
		name    string
		age     time.Duration
		theirs  time.Duration // their clock from ours
		known   bool
		expired bool
	}{
		{"a day", 24 * time.Hour, 0, true, false},
		{"more", 24*time.Hour + 1, 0, true, true},
		{"more by ours, not by theirs", 24*time.Hour + 1, -1, true, false},
		{"more by theirs, not by ours", 24 * time.Hour, time.Hour, true, false},
		{"more, with theirs unknown", 24*time.Hour + 1, 0, false, false},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			s := &clocked{off: c.theirs, known: c.known}
			u := ledgerOnly(t, t.TempDir(), func(cfg *Config) {
				cfg.Sink = s
				cfg.Quarantine.FS = unsyncedAppendFS{}
			})
			d := idle(t, u, 3)
			d.b.items[1].time = time.Now().Add(-c.age)
			d.b.items[2].time = time.Now().Add(-48 * time.Hour)
			d.b.items[2].done = true
			d.refused = []refusedItem{{item: 0}, {item: 1}}
			if !d.quarantineExpired(t.Context()) {
				t.Fatal("ended")
			}
			if got := d.b.items[1].done; got != c.expired {
				t.Errorf("expired: %t, want %t", got, c.expired)
			}
			if got := len(d.refused) == 1 && d.refused[0].item == 0; got != c.expired {
				t.Errorf("held: %+v", d.refused)
			}
			got := readAside(t, u.cfg.Dir)
			if c.expired && (strings.Count(got, "\n") != 1 ||
				!strings.Contains(got, `"reason":"expired","words":"older than 24h0m0s"`)) {
				t.Errorf("in quarantine: %s", got)
			}
		})
	}
}

// clocked is a sink that knows of a service's clock.
type clocked struct {
	sink
	off   time.Duration
	known bool
}

func (c *clocked) ServiceTime(ours time.Time) (time.Time, bool) { return ours.Add(c.off), c.known }

// TestQuarantineLines hold all that is known of an event.
func TestQuarantineLines(t *testing.T) {
	now := time.Date(2026, 11, 24, 23, 0, 0, 0, time.FixedZone("x", -2*3600))
	dir := filepath.Join(t.TempDir(), "rejected")
	q := newQuarantine(dir, nil, func() time.Time { return now })
	err := q.put(
		quarantineEntry{reason: "refused", status: 400, words: "no", line: []byte(`{"a":1}`)},
		quarantineEntry{reason: "unreadable", words: "what", line: []byte("\x00no json")},
	)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "2026-11-25.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"at":"2026-11-25T01:00:00Z","reason":"refused","status":400,"words":"no","event":{"a":1}}
{"at":"2026-11-25T01:00:00Z","reason":"unreadable","words":"what","raw":"\u0000no json"}
`
	if string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}

	q = newQuarantine(dir, brokenAppends{}, time.Now)
	if err := q.put(quarantineEntry{line: []byte("{}")}); !errors.Is(err, errOnce) ||
		!strings.HasPrefix(err.Error(), "ingest: quarantine: ") {
		t.Errorf("got %v, want the disk's error", err)
	}
}

// brokenAppends is a disk that takes nothing.
type brokenAppends struct{ atomicfile.OS }

func (brokenAppends) OpenAppend(string) (atomicfile.AppendFile, error) { return nil, errOnce }

// sometimes is a disk that takes nothing while it is told so.
type sometimes struct {
	unsyncedAppendFS
	fails int
	times []time.Time
}

func (s *sometimes) OpenAppend(name string) (atomicfile.AppendFile, error) {
	s.times = append(s.times, time.Now())
	if s.fails > 0 {
		s.fails--
		return nil, errOnce
	}
	return s.unsyncedAppendFS.OpenAppend(name)
}

// TestQuarantineBacksOff from a second to a minute, and keeps the event
// meanwhile.
func TestQuarantineBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		disk := &sometimes{fails: 8}
		u := ledgerOnly(t, t.TempDir(), func(c *Config) {
			c.Quarantine.FS = disk
			c.Log = textLog(&log)
		})
		d := idle(t, u, 2)
		d.b.items[1].unreadable = "what"
		if !d.quarantineUnreadable(t.Context()) || !d.b.items[1].done || d.b.items[0].done || d.entry.Quarantined != 1 {
			t.Errorf("got %+v, %d quarantined", d.b.items[1], d.entry.Quarantined)
		}
		for i, seconds := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			wait, backoff := disk.times[i+1].Sub(disk.times[i]), seconds*time.Second
			if wait < backoff/2 || wait > backoff {
				t.Errorf("wait %d: %s, want %s to %s", i+1, wait, backoff/2, backoff)
			}
		}
		if n := strings.Count(log.String(), "cannot write to the quarantine"); n != 8 {
			t.Errorf("said %d times, want 8", n)
		}
		if !d.quarantineUnreadable(t.Context()) || len(disk.times) != 9 {
			t.Error("it is quarantined again")
		}

		disk.fails = 100
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		d.b.items[0].unreadable = "what"
		if d.quarantineUnreadable(ctx) || d.b.items[0].done {
			t.Error("at the end of the context it counts as done")
		}
	})
}

// TestGrace: uploads in flight may take as long as is left.
func TestGrace(t *testing.T) {
	type key struct{}

	for _, c := range []struct {
		name  string
		grace func() time.Duration
		want  time.Duration
	}{
		{"none", nil, 0},
		{"a minute", func() time.Duration { return time.Minute }, time.Minute},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, 1))
			longer, done := Config{Uploads: UploadConfig{Grace: c.grace}}.inGrace(ctx)
			defer done()
			if longer.Value(key{}) != 1 {
				t.Error("the context's values are lost")
			}
			time.Sleep(time.Hour)
			if longer.Err() != nil {
				t.Error("ended before its context")
			}
			begun := time.Now()
			cancel()
			<-longer.Done()
			if got := time.Since(begun); got != c.want {
				t.Errorf("ended after %s, want %s", got, c.want)
			}
		})
	}
	inBubble(t, "given up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		longer, done := Config{Uploads: UploadConfig{Grace: func() time.Duration { return time.Hour }}}.inGrace(ctx)
		cancel()
		synctest.Wait()
		done()
		if longer.Err() == nil {
			t.Error("it goes on")
		}
	})
	inBubble(t, "sleep", func(t *testing.T) {
		begun := time.Now()
		if !sleep(t.Context(), time.Minute) || time.Since(begun) != time.Minute {
			t.Errorf("slept %s, want a minute", time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if sleep(ctx, time.Minute) || time.Since(begun) != time.Minute+time.Second {
			t.Error("slept on at the end of its context")
		}
	})
}

// TestSummaries: a line a minute and one at the end, where there is something to
// say.
func TestSummaries(t *testing.T) {
	for _, verbose := range []bool{false, true} {
		inBubble(t, fmt.Sprint("verbose ", verbose), func(t *testing.T) {
			var log logged
			u := ledgerOnly(t, t.TempDir(), func(c *Config) {
				c.LogEach = verbose
				c.Log = textLog(&log)
			})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				u.summarise(ctx)
			}()
			said := func() string {
				synctest.Wait()
				defer log.Reset()
				var out []string
				for _, l := range strings.Split(strings.TrimSpace(log.String()), "\n") {
					_, l, _ = strings.Cut(l, "msg=")
					out = append(out, l)
				}
				return strings.Join(out, "; ")
			}
			expect := func(discovered, transferred string) {
				t.Helper()
				want := transferred
				if verbose {
					want = strings.TrimSuffix(discovered+"; "+transferred, "; ")
				}
				if got := said(); got != want {
					t.Errorf("got %s\nwant %s", got, want)
				}
			}

			count := func(s summary) {
				u.mu.Lock()
				u.summary = s
				u.mu.Unlock()
			}
			count(summary{events: 5, batches: 2, failures: 1, raw: 100, wire: 50})
			time.Sleep(time.Minute - 1)
			if got := said(); got != "" {
				t.Errorf("before a minute is over: %s", got)
			}
			time.Sleep(time.Nanosecond)
			expect(`"Signals: Discovered 2 files"`, `"Signals: Transferred 5 events in 2 batches successfully" failures=1 raw=100 gzip=50`)
			time.Sleep(time.Minute)
			expect(`"Signals: Discovered 0 files"`, "")
			count(summary{failures: 1})
			time.Sleep(time.Minute)
			expect(`"Signals: Discovered 0 files"`, `"Signals: Transferred 0 events in 0 batches successfully" failures=1 raw=0 gzip=0`)
			count(summary{batches: 1})
			cancel()
			<-done
			expect(`"Signals: Discovered 1 files"`, `"Signals: Transferred 0 events in 1 batches successfully" failures=0 raw=0 gzip=0`)
		})
	}
}

// TestNewUploaderSaysWhatIsWrong with its ledger.
func TestNewUploaderSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: file, Sink: &sink{}, Log: quiet}); err == nil {
		t.Error("a file in the place of a folder: no error")
	}

	u, err := New(Config{Dir: dir, Sink: &sink{}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: dir, Sink: &sink{}, Log: quiet}); !errors.Is(err, spool.ErrLocked) {
		t.Errorf("twice: got %v, want %v", err, spool.ErrLocked)
	}
	u.ledger.note(record{Entry: &Entry{Batch: 1, Status: Sent}})
	if err := u.Close(); err != nil {
		t.Error(err)
	}

	var log bytes.Buffer
	hooked := &hookedFS{open: func() error { return errOnce }}
	u, err = New(Config{Dir: dir, Sink: &sink{}, Ledger: LedgerConfig{FS: hooked}, Log: textLog(&log)})
	if err != nil {
		t.Fatalf("one that cannot be checked: got %v", err)
	}
	if !strings.Contains(log.String(), "cannot check ledger") || u.last != 1 {
		t.Errorf("the newest batch is %d, log %s", u.last, log.String())
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}

	ledger := filepath.Join(dir, "ledger")
	hooked.open = func() error { // a file comes in its place
		if err := os.Rename(ledger, ledger+".moved"); err != nil {
			return err
		}
		return os.WriteFile(ledger, nil, 0o600)
	}
	if _, err := New(Config{Dir: dir, Sink: &sink{}, Ledger: LedgerConfig{FS: hooked}, Log: quiet}); err == nil {
		t.Error("one that cannot be read: no error")
	}
	if err := errors.Join(os.Remove(ledger), os.Rename(ledger+".moved", ledger)); err != nil {
		t.Fatal(err)
	}
	u, err = New(Config{Dir: dir, Sink: &sink{}, Ledger: LedgerConfig{FS: unsyncedFS{}}, Log: quiet})
	if err != nil {
		t.Fatalf("the ledger is held: %v", err)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
}

// hookedFS does something else than opening a file, once it is checked.
type hookedFS struct {
	unsyncedFS
	open func() error
}

func (h *hookedFS) Open(name string) (spool.File, error) {
	if h.open != nil && strings.HasSuffix(name, ".seg") && calledBy("Check") {
		if err := h.open(); err != nil {
			return nil, err
		}
		h.open = nil
	}
	return h.unsyncedFS.Open(name)
}

// calledBy reports whether a spool's method is under way.
func calledBy(method string) bool {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "spool.(*Spool)."+method) {
			return true
		}
		if !more {
			return false
		}
	}
}

// TestRecall: what is left of earlier batches, and which number comes next.
func TestRecall(t *testing.T) {
	u := ledgerOnly(t, t.TempDir(), func(c *Config) {
		c.From = at(2)
		c.PollOutcomes = true
	})
	now := time.Now()
	u.recall([]Entry{
		{Batch: 9, From: at(3), To: at(4), Status: Planned, At: now},
		{Batch: 7, From: at(1), To: at(2), Status: Sent, At: now, IDs: []string{"a"}},
		{Batch: 8, From: at(2), To: at(3), Status: Sent, At: now, IDs: []string{"b"}, Outcomes: []Outcome{{BatchID: "x"}}},
	})
	if u.last != 9 || len(u.earlier) != 2 || u.earlier[0].Batch != 8 || u.earlier[1].Batch != 9 ||
		u.earlier[0].Outcomes != nil {
		t.Errorf("got %d and %+v, want batches 8 and 9", u.last, u.earlier)
	}
	if u.outcomes.len() != 2 {
		t.Errorf("%d uploads are asked for, want 2", u.outcomes.len())
	}
}
