package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
)

// TestWhereABatchEnters: one that was cut before goes aside where there is room,
// others wait for a slot.
func TestWhereABatchEnters(t *testing.T) {
	done := []Span{{at(0), at(1)}}
	for _, c := range []struct {
		name     string
		recalled bool
		done     []Span
		full     bool
		aside    bool
	}{
		{"new", false, nil, false, false},
		{"of a previous run", true, nil, false, false},
		{"cut by a previous run", true, done, false, true},
		{"cut, and no room", true, done, true, false},
		{"new, though it has spans", false, done, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := ledgerOnly(t, t.TempDir(), nil)
			if c.full {
				u.aside.enter(u.aside.maxBytes)
			}
			b := batchOf(t, 2)
			b.recalled, b.Done = c.recalled, c.done
			slots := make(chan struct{}, 1)
			d := u.newDelivery(b, slots)
			if !d.enter(t.Context()) {
				t.Fatal("did not enter")
			}
			if aside := d.weight > 0; aside != c.aside || d.hasSlot == aside || len(slots) == 1 == aside {
				t.Errorf("aside %t, slot %t, %d slots in use", aside, d.hasSlot, len(slots))
			}
			d.leave()
			if len(slots) != 0 {
				t.Error("the slot is held at the end")
			}
		})
	}

	u := ledgerOnly(t, t.TempDir(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := u.newDelivery(batchOf(t, 1), nil)
	if d.enter(ctx) || d.hasSlot {
		t.Error("entered at the end of the context")
	}
}

// TestNothingIsSentAtTheEnd of the context, and the batch stays open.
func TestNothingIsSentAtTheEnd(t *testing.T) {
	s := &sink{}
	u := ledgerOnly(t, t.TempDir(), func(c *Config) { c.Sink = s })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := idle(t, u, 2)
	if d.run(ctx) || len(s.sent()) != 0 || ledgerRecords(t, u.cfg.Dir) != 0 {
		t.Errorf("%d uploads, %d records in the ledger, want none", len(s.sent()), ledgerRecords(t, u.cfg.Dir))
	}
	if d.hasSlot || len(d.slots) != 0 {
		t.Error("the slot is held at the end")
	}

	for range asideAtOnce { // others' uploads
		u.aside.acquire(t.Context())
	}
	d = idle(t, u, 2)
	d.goAside()
	if err := d.send(ctx, []int{0}); !errors.Is(err, context.Canceled) || len(s.sent()) != 0 {
		t.Errorf("aside: got %v, %d uploads, want %v and none", err, len(s.sent()), context.Canceled)
	}
	u.aside.release()
	if err := d.send(t.Context(), []int{0}); err != nil || len(u.aside.inFlight) != 1 {
		t.Errorf("with room: got %v, %d in flight", err, len(u.aside.inFlight))
	}
}

// TestQuarantineAtTheEnd of the context: what could not be quarantined is sent
// or quarantined at the next start.
func TestQuarantineAtTheEnd(t *testing.T) {
	for name, change := range map[string]func(*item){
		"unreadable": func(it *item) { it.unreadable = "what" },
		"expired":    func(it *item) { it.time = time.Now().Add(-48 * time.Hour) },
	} {
		inBubble(t, name, func(t *testing.T) {
			s := &sink{}
			u := ledgerOnly(t, t.TempDir(), func(c *Config) {
				c.Sink = s
				c.Quarantine.FS = brokenAppends{}
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			d := idle(t, u, 2)
			change(&d.b.items[0])
			if d.run(ctx) || len(s.sent()) != 0 || d.b.items[0].done || ledgerRecords(t, u.cfg.Dir) != 0 {
				t.Errorf("%d uploads, done %t", len(s.sent()), d.b.items[0].done)
			}
			if time.Now() != mustDeadline(ctx) {
				t.Error("it ended before its context")
			}
		})
	}
}

func mustDeadline(ctx context.Context) time.Time {
	d, _ := ctx.Deadline()
	return d
}

// TestServeEndsWhileABatchWaits for a slot: it goes at the next start.
func TestServeEndsWhileABatchWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &timed{takes: time.Hour}
		u := ledgerOnly(t, t.TempDir(), func(c *Config) {
			c.Sink = s
			c.Uploads.AtOnce = 1
			c.Batch.Bytes = 1
			c.Uploads.Grace = func() time.Duration { return 2 * time.Hour }
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		src := listOf(of(t, event.Open, "m%", 1, 3)...)
		if err := u.Serve(ctx, src); err != nil {
			t.Error(err)
		}
		if len(s.calls) != 1 || len(src.commits) != 1 || src.commits[0] != at(1) {
			t.Errorf("%d uploads, commits %v, want the first alone", len(s.calls), src.commits)
		}
	})
}

// TestFewUploadsAside are in flight: two.
func TestFewUploadsAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &timed{takes: time.Second}
		u := ledgerOnly(t, t.TempDir(), func(c *Config) {
			c.Sink = s
			c.Batch.Bytes = 1 << 20
		})
		done := make(chan bool, 5)
		for range cap(done) {
			d := idle(t, u, 2)
			d.goAside()
			go func() { done <- d.run(t.Context()) }()
		}
		for range cap(done) {
			if !<-done {
				t.Error("not done")
			}
		}
		if s.most != 2 || u.aside.batches != 0 || len(u.aside.inFlight) != 0 {
			t.Errorf("%d in flight, %d batches at the end, want 2 and none", s.most, u.aside.batches)
		}
	})
}

// TestServiceIsWell once a batch that is not aside was taken.
func TestServiceIsWell(t *testing.T) {
	reg := prometheus.NewRegistry()
	u := ledgerOnly(t, t.TempDir(), func(c *Config) { c.Metrics = reg })
	u.metrics.failing.Set(1)
	u.alone.Store(7)
	u.noteTaken(true)
	if gauges(t, reg)["failing"] != 1 || u.taken.Load() != 1 || u.alone.Load() != 0 {
		t.Errorf("one aside: got %v, %d taken, %d refused alone", gauges(t, reg), u.taken.Load(), u.alone.Load())
	}
	u.noteTaken(false)
	if gauges(t, reg)["failing"] != 0 || u.taken.Load() != 2 {
		t.Errorf("another: got %v, %d taken", gauges(t, reg), u.taken.Load())
	}
}

// TestHeldEventsAreQuarantined with the service's words, and merged in the
// ledger.
func TestHeldEventsAreQuarantined(t *testing.T) {
	var log bytes.Buffer
	u := ledgerOnly(t, t.TempDir(), func(c *Config) {
		c.Quarantine.FS = unsyncedAppendFS{}
		c.Log = textLog(&log)
	})
	d := idle(t, u, 4)
	u.ledger.note(record{Entry: &d.b.Entry})
	d.refused = []refusedItem{
		{2, refusal(422, "bad")},
		{1, errors.New("EOF")},
	}
	if !d.quarantineRefused(t.Context()) || d.refused != nil {
		t.Errorf("held: %+v", d.refused)
	}
	var got []quarantineLine
	for _, l := range strings.Split(strings.TrimSpace(readAside(t, u.cfg.Dir)), "\n") {
		var r quarantineLine
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if len(got) != 2 || got[0].Status != 422 || got[0].Words != "bad" || got[0].Reason != "refused" ||
		!has(string(got[0].Event), 2) || got[1].Status != 0 || !has(string(got[1].Event), 1) {
		t.Errorf("got %+v", got)
	}
	e := onlyBatch(t, u.cfg.Dir)
	if want := []Span{{at(1), at(3)}}; !slices.Equal(e.Done, want) || e.Quarantined != 2 {
		t.Errorf("got %+v, want the span %v", e, want)
	}
	if n := strings.Count(log.String(), "an event was refused and quarantined"); n != 2 ||
		!strings.Contains(log.String(), `err="HTTP 422: bad" batch=7`) {
		t.Errorf("said %d times: %s", n, log.String())
	}
}

// TestJudgement: what becomes of events that were refused alone.
func TestJudgement(t *testing.T) {
	for _, c := range []struct {
		name    string
		alone   int64 // refused alone, of all batches
		taken   int64 // since the first of them
		others  bool  // there is another event to try
		answer  error
		aside   bool // quarantined
		doubt   bool
		weight  bool // goes aside
		uploads int
	}{
		{"few", 19, 0, true, refusal(400, "no"), true, false, false, 0},
		{"many, others are taken", 99, 1, true, refusal(400, "no"), true, false, false, 0},
		{"many, another is taken", 20, 0, true, nil, true, false, false, 1},
		{"many, another is refused", 20, 0, true, refusal(400, "no"), false, true, false, 1},
		{"many, and no other", 20, 0, false, nil, false, true, true, 0},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			s := &timed{answer: func(int, string) error { return c.answer }}
			u := ledgerOnly(t, t.TempDir(), func(cfg *Config) {
				cfg.Sink = s
				cfg.Quarantine.FS = unsyncedAppendFS{}
			})
			d := idle(t, u, 3)
			if !c.others {
				d.b.items[2].done = true
			}
			u.taken.Store(5)
			d.since = 5 - c.taken
			u.alone.Store(c.alone)
			d.ranges = []itemRange{{from: 2, to: 3, backoff: time.Second}}
			d.refused = []refusedItem{{1, refusal(400, "no")}, {0, refusal(400, "no")}}
			if !d.judge(t.Context()) {
				t.Fatal("ended")
			}
			if got := len(quarantined(t, u.cfg.Dir)) == 2; got != c.aside || d.doubt != c.doubt ||
				(d.weight > 0) != c.weight || len(s.calls) != c.uploads {
				t.Errorf("quarantined %t, doubt %t, aside %t, %d uploads", got, d.doubt, d.weight > 0, len(s.calls))
			}
			if len(d.refused) != 0 {
				t.Errorf("held still: %+v", d.refused)
			}
			if !c.doubt {
				return
			}
			if got := spans(d.ranges); got != "0-1 1-2 2-3" || d.since != 5 {
				t.Errorf("parts %s, since %d", got, d.since)
			}
			for _, p := range d.ranges {
				if wait := time.Until(p.due); wait < 500*time.Millisecond || wait > time.Second ||
					p.due != d.ranges[0].due || p.backoff != 2*time.Second {
					t.Errorf("part %d is tried after %s, then %s", p.from, wait, p.backoff)
				}
			}
			if d.failures != 1 || d.entry.Error != "HTTP 400: no" {
				t.Errorf("%d failures noted, %q", d.failures, d.entry.Error)
			}
		})
	}

	inBubble(t, "the context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &timed{answer: func(int, string) error {
			cancel()
			return context.Canceled
		}}
		u := ledgerOnly(t, t.TempDir(), func(cfg *Config) { cfg.Sink = s })
		d := idle(t, u, 2)
		u.alone.Store(20)
		d.refused = []refusedItem{{0, refusal(400, "no")}}
		if d.judge(ctx) || d.doubt {
			t.Error("it was judged")
		}
	})
}

// TestTrialsInDoubt ask with another event where there is one, else with a part
// of the batch.
func TestTrialsInDoubt(t *testing.T) {
	for _, c := range []struct {
		name    string
		taken   bool // meanwhile
		others  bool
		answer  error
		doubt   bool
		ranges  string
		uploads []int // events
	}{
		{"others are taken", true, true, nil, false, "0-1 1-2 2-4", nil},
		{"another is taken", false, true, nil, false, "0-1 1-2 2-4", []int{2}},
		{"another is refused", false, true, refusal(400, "no"), true, "0-1 1-2 2-4", []int{2}},
		{"a part is taken", false, false, nil, false, "1-2 2-4", []int{0}},
		{"a part is refused", false, false, refusal(503, "away"), true, "0-1 1-2 2-4", []int{0}},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			s := &timed{answer: func(int, string) error { return c.answer }}
			u := ledgerOnly(t, t.TempDir(), func(cfg *Config) { cfg.Sink = s })
			d := idle(t, u, 4)
			d.ranges = []itemRange{
				{from: 0, to: 1, backoff: time.Second, due: time.Now().Add(time.Minute)},
				{from: 1, to: 2, backoff: time.Second, due: time.Now().Add(time.Minute)},
				{from: 2, to: 4, backoff: time.Second, due: time.Now().Add(time.Minute)},
			}
			d.doubt = true
			d.suspects.add(d.b.items, []refusedItem{{0, nil}, {1, nil}})
			if !c.others {
				d.suspects.add(d.b.items, []refusedItem{{2, nil}, {3, nil}})
			}
			if c.taken {
				u.taken.Add(1)
			}
			if !d.probeService(t.Context(), d.ranges[0]) {
				t.Fatal("ended")
			}
			if d.doubt != c.doubt || spans(d.ranges) != c.ranges || len(s.calls) != len(c.uploads) {
				t.Errorf("doubt %t, parts %s, uploads %q", d.doubt, spans(d.ranges), s.calls)
			}
			for i, id := range c.uploads {
				if !has(s.calls[i], id) || strings.Count(s.calls[i], "\n") != 1 {
					t.Errorf("uploaded %q, want event %d", s.calls[i], id)
				}
			}
			if atOnce := d.ranges[1].due.IsZero(); atOnce != (c.answer == nil && !c.taken) {
				t.Errorf("the next part is due at %s", d.ranges[1].due)
			}
			if c.doubt && d.ranges[2].backoff != 2*time.Second {
				t.Errorf("a back-off of %s, want 2s", d.ranges[2].backoff)
			}
		})
	}

	inBubble(t, "the context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &timed{answer: func(int, string) error {
			cancel()
			return context.Canceled
		}}
		u := ledgerOnly(t, t.TempDir(), func(cfg *Config) { cfg.Sink = s })
		d := idle(t, u, 2)
		d.doubt = true
		if d.probeService(ctx, d.ranges[0]) || d.failures != 0 {
			t.Error("it counts as a failure")
		}
	})
}

// TestTrialWithWhatWasTaken: an event that the service knows goes again, with
// its line end, and counts as an upload but not as an event.
func TestTrialWithWhatWasTaken(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := &timed{}
	u := ledgerOnly(t, t.TempDir(), func(c *Config) {
		c.Sink = s
		c.Metrics = reg
	})
	d := idle(t, u, 0)
	click := of(t, event.Click, "m9", 9, 1)[0]
	kept := append(click, "more"...)[:len(click)]
	u.remember(item{typ: event.Click, line: kept})
	tried, err := d.sendOther(t.Context())
	if err != nil || !tried || len(s.calls) != 1 || s.calls[0] != string(click)+"\n" {
		t.Errorf("got %v, %t, uploads %q", err, tried, s.calls)
	}
	if got := string(kept[:len(click)+4]); got != string(click)+"more" {
		t.Errorf("what is behind the line is written over: %q", got)
	}
	if g := gauges(t, reg); g["batches_total 200"] != 1 || g["events_total click"] != 0 ||
		u.taken.Load() != 1 || d.entry.Tries != 1 {
		t.Errorf("got %v, %d taken, %d tries", g, u.taken.Load(), d.entry.Tries)
	}

	s.answer = func(int, string) error { return refusal(400, "no") }
	if tried, err = d.sendOther(t.Context()); err == nil || !tried || u.taken.Load() != 1 || d.entry.Tries != 2 {
		t.Errorf("refused: got %v, %t, %d taken, %d tries", err, tried, u.taken.Load(), d.entry.Tries)
	}

	d = idle(t, u, 3) // each time another one
	s.calls = nil
	for range 4 {
		d.sendOther(t.Context())
	}
	if s.calls[0] == s.calls[1] || s.calls[1] == s.calls[2] || s.calls[0] == s.calls[2] {
		t.Errorf("tried the same: %q", s.calls)
	}
}
