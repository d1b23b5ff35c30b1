package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
	"postern/tracking/spool"
)

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// at is a position of a log whose records have ten bytes each.
func at(record int) spool.Position { return spool.Position{Segment: 1, Offset: int64(10 * record)} }

// batchOf is a batch of n events, each of a message of its own.
func batchOf(t *testing.T, n int) *batch {
	t.Helper()

	b := &batch{Entry: Entry{Batch: 7, From: at(0), To: at(n), Events: n, Raw: 100, Status: Planned}}
	for i, l := range of(t, event.Open, "m%", 0, n) {
		b.items = append(b.items, item{
			line: l,
			typ:  event.Open,
			time: time.Now(),
			span: Span{From: at(i), To: at(i + 1)},
		})
	}

	return b
}

// idle is a delivery that nobody runs, with one slot of its own.
func idle(t *testing.T, u *Uploader, n int) *delivery {
	t.Helper()

	slots := make(chan struct{}, 1)
	slots <- struct{}{}
	d := u.newDelivery(batchOf(t, n), slots)
	d.hasSlot = true

	return d
}

// spans are the parts of a delivery, as from-to.
func spans(ranges []itemRange) string {
	var out []string
	for _, p := range ranges {
		out = append(out, fmt.Sprintf("%d-%d", p.from, p.to))
	}

	return strings.Join(out, " ")
}

// gauges are the values of all metrics, by name and label.
func gauges(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()

	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "postern_ingest_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}

	return out
}

func TestFaults(t *testing.T) {
	for status, want := range map[int]fault{
		400: faultEvents, 413: faultEvents, 422: faultEvents,
		429: faultRate,
		408: faultService, 425: faultService, 500: faultService, 503: faultService, 599: faultService,
		301: faultAccess, 401: faultAccess, 403: faultAccess, 404: faultAccess, 499: faultAccess, 600: faultAccess,
	} {
		if got := faultOf(fmt.Errorf("upload: %w", refusal(status, ""))); got != want {
			t.Errorf("%d: got fault %d, want %d", status, got, want)
		}
		if got := statusLabel(refusal(status, "")); got != fmt.Sprint(status) {
			t.Errorf("%d: counted as %s", status, got)
		}
	}
	if got := faultOf(errors.New("EOF")); got != faultService {
		t.Errorf("no answer: got fault %d, want %d", got, faultService)
	}
	if a, b := statusLabel(nil), statusLabel(errors.New("EOF")); a != "200" || b != "error" {
		t.Errorf("counted as %s and %s, want 200 and error", a, b)
	}
	if got := refusal(429, "slow down").Error(); got != "HTTP 429: slow down" {
		t.Errorf("got %q", got)
	}
}

// TestRangesAfterARestart: what is done of a batch is left out, and the rest is
// in the parts in which it was sent before.
func TestRangesAfterARestart(t *testing.T) {
	for _, c := range []struct {
		name string
		done string // a letter an item
		want string
	}{
		{"nothing is done", "........", "0-8"},
		{"all is done", "xxxxxxxx", ""},
		{"the first half", "xxxx....", "4-8"},
		{"the second half", "....xxxx", "0-4"},
		{"the first", "x.......", "1-2 2-4 4-8"},
		{"the last", ".......x", "0-4 4-6 6-7"},
		{"one in the middle", "...x....", "0-2 2-3 4-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := ledgerOnly(t, t.TempDir(), nil)
			u.taken.Store(5)
			b := batchOf(t, len(c.done))
			for i := range b.items {
				b.items[i].done = c.done[i] == 'x'
			}
			d := u.newDelivery(b, nil)
			if got := spans(d.ranges); got != c.want {
				t.Errorf("got parts %q, want %q", got, c.want)
			}
			for _, p := range d.ranges {
				if p.backoff != time.Second || p.taken != 5 || p.failed != 0 {
					t.Errorf("got %+v, want a new part", p)
				}
			}
		})
	}
}

// TestProbes: a part that fails again and again while nothing else is taken is
// tried in smaller pieces, every other time.
func TestProbes(t *testing.T) {
	u := ledgerOnly(t, t.TempDir(), nil)
	d := idle(t, u, 8)
	items := []int{0, 1, 2, 3, 4, 5, 6, 7}
	for _, c := range []struct {
		failed int
		want   []int
	}{
		{0, nil}, {1, nil}, {2, nil}, {4, nil}, {6, nil}, {8, nil},
		{3, []int{0, 1, 2, 3}}, {5, []int{0, 1}}, {7, []int{0}},
		{9, []int{4}}, {11, []int{5}}, {13, []int{6}}, {15, []int{7}}, {17, []int{0}},
	} {
		got, ok := d.probe(itemRange{failed: c.failed}, items)
		if ok != (c.want != nil) || !slices.Equal(got, c.want) {
			t.Errorf("after %d failures: got %v, %t, want %v", c.failed, got, ok, c.want)
		}
	}

	if got, _ := d.probe(itemRange{failed: 3}, items[:2]); !slices.Equal(got, []int{0}) {
		t.Errorf("of two: got %v, want the first", got)
	}
	if got, ok := d.probe(itemRange{failed: 3}, items[:1]); ok {
		t.Errorf("of one: got %v, want none", got)
	}
	for _, last := range []fault{faultRate, faultAccess} {
		if got, ok := d.probe(itemRange{failed: 3, last: last}, items); ok {
			t.Errorf("of a fault that is not the service's: got %v, want none", got)
		}
	}
	u.taken.Store(1)
	if got, ok := d.probe(itemRange{failed: 3}, items); ok {
		t.Errorf("while others are taken: got %v, want none", got)
	}
	if _, ok := d.probe(itemRange{failed: 3, taken: 1}, items); !ok {
		t.Error("with none taken since: got none")
	}
}

func TestBisect(t *testing.T) {
	u := ledgerOnly(t, t.TempDir(), nil)
	u.taken.Store(3)
	d := idle(t, u, 9)
	got := d.bisect(itemRange{from: 2, to: 7, failed: 9, backoff: time.Hour}, 2)
	want := []itemRange{
		{from: 2, to: 4, failed: 2, taken: 3, backoff: time.Second},
		{from: 4, to: 7, failed: 2, taken: 3, backoff: time.Second},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestWhichRangeIsNext: the one that is due first, else the one that was tried
// longest ago, else the first.
func TestWhichRangeIsNext(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name   string
		ranges []itemRange
		want   int // from, -1: none
	}{
		{"none", nil, -1},
		{"the only one", []itemRange{{from: 1, due: now}}, 1},
		{"due first", []itemRange{{from: 1, due: now}, {from: 2, due: now.Add(-1)}, {from: 3, due: now}}, 2},
		{"tried first", []itemRange{{from: 1, tried: now}, {from: 2, tried: now.Add(-1)}, {from: 3, tried: now}}, 2},
		{"due goes before tried", []itemRange{{from: 1, due: now, tried: now}, {from: 2, due: now.Add(1)}}, 1},
		{"the first of equals", []itemRange{{from: 1}, {from: 2}}, 1},
	} {
		d := &delivery{ranges: c.ranges}
		got := -1
		if p := d.nextDue(); p != nil {
			got = p.from
		}
		if got != c.want {
			t.Errorf("%s: got part %d, want %d", c.name, got, c.want)
		}
	}
}

// TestBackoffOfARange holds when a part is tried again, and what it counts.
func TestBackoffOfARange(t *testing.T) {
	inBubble(t, "doubles up to the limit", func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), nil)
		d := idle(t, u, 4)
		limits := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}
		for i, seconds := range limits {
			backoff := seconds * time.Second
			if d.ranges[0].backoff != backoff {
				t.Errorf("failure %d: a back-off of %s, want %s", i+1, d.ranges[0].backoff, backoff)
			}
			d.retryLater(d.ranges[0], refusal(503, "away"))
			p := d.ranges[0]
			if wait := time.Until(p.due); wait < backoff/2 || wait > backoff {
				t.Errorf("failure %d: tried again after %s, want %s to %s", i+1, wait, backoff/2, backoff)
			}
			if !p.tried.Equal(time.Now()) || p.failed != i+1 || p.last != faultService {
				t.Errorf("failure %d: got %+v", i+1, p)
			}
		}
	})

	inBubble(t, "what was taken is noted with the first failure", func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), nil)
		d := idle(t, u, 4)
		for i, c := range []struct {
			err  error
			want int64
		}{{refusal(429, "slow down"), 0}, {refusal(503, "away"), 2}, {refusal(503, "away"), 2}} {
			u.taken.Store(int64(i + 1))
			d.retryLater(d.ranges[0], c.err)
			if got := d.ranges[0].taken; got != c.want {
				t.Errorf("failure %d: got %d, want %d", i+1, got, c.want)
			}
		}
	})

	inBubble(t, "as the service asks", func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), nil)
		for range 20 {
			d := idle(t, u, 4)
			d.retryLater(d.ranges[0], &Refusal{Status: 429, RetryAfter: time.Minute})
			p := d.ranges[0]
			if wait := time.Until(p.due); wait < time.Minute || wait > time.Minute+500*time.Millisecond {
				t.Errorf("tried again after %s, want 60 to 60.5 s", wait)
			}
			if p.failed != 0 || p.last != faultRate {
				t.Errorf("got %+v, want no failure counted", p)
			}
			d.retryLater(p, &Refusal{Status: 503, RetryAfter: time.Millisecond})
			if wait := time.Until(d.ranges[0].due); wait < time.Second {
				t.Errorf("tried again after %s, want a second at least", wait)
			}
		}
	})

	inBubble(t, "others wait as well from the second on", func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), nil)
		d := idle(t, u, 6)
		d.ranges = []itemRange{
			{from: 0, to: 2, backoff: time.Second},
			{from: 2, to: 4, backoff: time.Second},
			{from: 4, to: 6, backoff: time.Second, due: time.Now().Add(time.Hour)},
		}
		d.retryLater(d.ranges[0], refusal(503, "away"))
		if !d.ranges[1].due.IsZero() {
			t.Errorf("after one failure: the next is due at %s, want at once", d.ranges[1].due)
		}
		d.retryLater(d.ranges[0], refusal(503, "away"))
		if got, want := d.ranges[1].due, d.ranges[0].due.Add(-1); !got.Equal(want) {
			t.Errorf("after two: the next is due at %s, want %s", got, want)
		}
		if got := time.Until(d.ranges[2].due); got != time.Hour {
			t.Errorf("one that is due later: after %s, want an hour", got)
		}
	})

	inBubble(t, "others do not wait where something was taken between", func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), nil)
		d := idle(t, u, 4)
		d.ranges = d.bisect(d.ranges[0], 0)
		for range 5 {
			u.taken.Add(1)
			d.retryLater(d.ranges[0], refusal(429, "slow down"))
		}
		if !d.ranges[1].due.IsZero() {
			t.Errorf("the next is due at %s, want at once", d.ranges[1].due)
		}
	})
}

// TestBatchesAreCut once they have failed three times while others were taken,
// and then hold up no other.
func TestBatchesAreCut(t *testing.T) {
	for _, c := range []struct {
		name   string
		failed int
		taken  int64 // when it failed first, of 5
		items  int
		want   string
		aside  bool
	}{
		{"three times", 3, 4, 4, "0-2 2-4", true},
		{"twice", 2, 4, 4, "0-4", false},
		{"with nothing taken", 3, 5, 4, "0-4", false},
		{"one event", 3, 4, 1, "0-1", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			reg := prometheus.NewRegistry()
			u := ledgerOnly(t, t.TempDir(), func(cfg *Config) {
				cfg.Log = textLog(&log)
				cfg.Metrics = reg
			})
			u.taken.Store(5)
			d := idle(t, u, c.items)
			d.ranges = []itemRange{{from: 0, to: c.items, failed: c.failed, taken: c.taken, backoff: time.Hour}}
			d.bisectFailing()
			if got := spans(d.ranges); got != c.want {
				t.Errorf("got parts %q, want %q", got, c.want)
			}
			if c.items > 1 && c.aside {
				want := itemRange{from: 0, to: 2, failed: 2, taken: 5, backoff: time.Second}
				if d.ranges[0] != want {
					t.Errorf("got %+v, want %+v", d.ranges[0], want)
				}
			}
			if got := len(d.slots) == 0 && !d.hasSlot && d.weight > 0 &&
				gauges(t, reg)["aside_batches"] == 1; got != c.aside {
				t.Errorf("aside: %t, want %t", got, c.aside)
			}
			if got := strings.Contains(log.String(), "others pass it"); got != c.aside {
				t.Errorf("log %q, want a word of it: %t", log.String(), c.aside)
			}

			log.Reset()
			d.bisectFailing()
			if strings.Contains(log.String(), "others pass it") {
				t.Error("said twice")
			}
			d.leave()
			if got := gauges(t, reg)["aside_batches"]; got != 0 || u.aside.bytes != 0 || len(d.slots) != 0 {
				t.Errorf("at the end %v batches are aside, with %d bytes, and %d slots are held", got, u.aside.bytes, len(d.slots))
			}
		})
	}
}

// TestRoomAside: sixteen times a batch, 1024 batches, and one in any case.
func TestRoomAside(t *testing.T) {
	a := newAside(100, newMetrics(nil))
	for _, step := range []struct {
		bytes int
		want  bool
	}{{5000, true}, {1, false}} {
		if got := a.enter(step.bytes); got != step.want {
			t.Errorf("%d bytes: got %t, want %t", step.bytes, got, step.want)
		}
	}
	a.shrink(4000)
	if a.enter(601) || !a.enter(600) || a.enter(1) {
		t.Errorf("the limit is not 1600 bytes: %d are aside", a.bytes)
	}
	a.leave(1000)
	a.leave(600)
	if a.batches != 0 || a.bytes != 0 {
		t.Errorf("%d batches and %d bytes are aside at the end", a.batches, a.bytes)
	}

	for i := range 1025 {
		if got := a.enter(1); got != (i < 1024) {
			t.Errorf("batch %d: got %t, want %t", i+1, got, i < 1024)
		}
	}
	if cap(a.inFlight) != 2 {
		t.Errorf("%d uploads at once, want 2", cap(a.inFlight))
	}
}

// TestWeightOfABatch: what is waited for, and what each item takes up.
func TestWeightOfABatch(t *testing.T) {
	u := ledgerOnly(t, t.TempDir(), nil)
	d := idle(t, u, 4)
	one := len(d.b.items[0].line) + 1
	if got, want := d.size(), 1+4*one+4*128; got != want {
		t.Errorf("got %d bytes, want %d", got, want)
	}
	if !d.goAside() || d.hasSlot || len(d.slots) != 0 || d.weight != 1+4*one+4*128 {
		t.Errorf("aside with %d bytes, slot %t", d.weight, d.hasSlot)
	}
	if !d.goAside() || u.aside.batches != 1 {
		t.Errorf("twice: %d batches are aside, want 1", u.aside.batches)
	}

	d.ranges = d.bisect(d.ranges[0], 0)
	d.b.items[1].done = true
	d.b.items[3].done = true
	d.ranges[1].failed = 2
	d.shrink()
	if got, want := d.weight, 1+2*one+2*128; got != want || u.aside.bytes != want || len(d.b.items) != 2 {
		t.Errorf("got %d bytes of %d items, want %d of 2", got, len(d.b.items), want)
	}
	if got := spans(d.ranges); got != "0-1 1-2" || d.ranges[1].failed != 2 {
		t.Errorf("got parts %+v, want one for each item", d.ranges)
	}

	d.b.items[0].done = true
	d.shrink()
	if got := spans(d.ranges); got != "0-1" || d.ranges[0].failed != 2 || len(d.b.items) != 1 {
		t.Errorf("got parts %+v of %d items, want the other one", d.ranges, len(d.b.items))
	}
	d.leave()
	d.leave()
	if u.aside.batches != 0 || u.aside.bytes != 0 {
		t.Errorf("%d batches and %d bytes are aside at the end", u.aside.batches, u.aside.bytes)
	}
	d.shrink() // not aside: nothing is given back
	if u.aside.bytes != 0 {
		t.Errorf("%d bytes are aside", u.aside.bytes)
	}
}

// TestItemsAreKept while a part is to be cut, or an event is held.
func TestItemsAreKept(t *testing.T) {
	u := ledgerOnly(t, t.TempDir(), nil)
	d := idle(t, u, 4)
	d.ranges = d.bisect(d.ranges[0], 0)
	d.b.items[0].done = true
	d.compact()
	if len(d.b.items) != 4 || spans(d.ranges) != "0-2 2-4" {
		t.Errorf("a part of two: %d items, parts %s", len(d.b.items), spans(d.ranges))
	}
	d.b.items[2].done = true
	d.refused = []refusedItem{{item: 3}}
	d.compact()
	if len(d.b.items) != 4 {
		t.Errorf("an event is held: %d items", len(d.b.items))
	}
	d.refused = nil
	first := d.b.items[1].line
	d.compact()
	if len(d.b.items) != 2 || !bytes.Equal(d.b.items[0].line, first) {
		t.Errorf("%d items, want 2", len(d.b.items))
	}
}

// TestLedgerOfADelivery: a step for each part but the last, and the end.
func TestLedgerOfADelivery(t *testing.T) {
	inBubble(t, "sent in parts", func(t *testing.T) {
		var log bytes.Buffer
		now := time.Now()
		u := ledgerOnly(t, t.TempDir(), func(c *Config) {
			c.PollOutcomes = true
			c.LogEach = true
			c.Log = textLog(&log)
		})
		d := idle(t, u, 5)
		u.ledger.note(record{Entry: &d.b.Entry})
		d.done([]int{0, 1, 3}, step{ID: "one", Wire: 10})
		e := onlyBatch(t, u.cfg.Dir)
		want := []Span{{at(0), at(2)}, {at(3), at(4)}}
		if !slices.Equal(e.Done, want) || e.Wire != 10 || !slices.Equal(e.IDs, []string{"one"}) ||
			e.Status != Planned {
			t.Errorf("got %+v, want the spans %v", e, want)
		}
		if d.b.items[0].line != nil || !d.b.items[3].done || d.b.items[2].done {
			t.Error("what is done is not forgotten, or what is not")
		}

		d.done([]int{2}, step{Quarantined: 1})
		n := ledgerRecords(t, u.cfg.Dir)
		d.done([]int{4}, step{ID: "two", Wire: 5}) // the last: noted in the end
		if got := ledgerRecords(t, u.cfg.Dir); got != n || n != 3 {
			t.Errorf("%d and then %d records, want 3", n, got)
		}
		time.Sleep(time.Minute)
		d.finish()
		e = onlyBatch(t, u.cfg.Dir)
		if e.Status != Partly || e.Wire != 15 || e.Quarantined != 1 || !slices.Equal(e.IDs, []string{"one", "two"}) ||
			!e.At.Equal(now.Add(time.Minute)) {
			t.Errorf("got %+v", e)
		}
		if got := u.summary; got != (summary{events: 4, batches: 1, raw: 100, wire: 15}) {
			t.Errorf("got summary %+v", got)
		}
		if u.outcomes.len() != 2 {
			t.Errorf("%d uploads are asked for, want 2", u.outcomes.len())
		}
		if want := "Transferred 4 events in batch 7 successfully (id=one)"; !strings.Contains(log.String(), want) {
			t.Errorf("got log %q, want %q", log.String(), want)
		}
	})

	for _, c := range []struct {
		name          string
		events, aside int
		want          string
	}{
		{"sent", 3, 0, Sent},
		{"empty", 0, 0, Empty},
		{"unreadable alone", 0, 2, Partly},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			u := ledgerOnly(t, t.TempDir(), func(cfg *Config) {
				cfg.LogEach = true
				cfg.Log = textLog(&log)
			})
			d := idle(t, u, 0)
			d.entry.Events, d.entry.Quarantined = c.events, c.aside
			d.finish()
			if got := onlyBatch(t, u.cfg.Dir).Status; got != c.want || u.summary.events != max(0, c.events-c.aside) {
				t.Errorf("got %s with %d events, want %s", got, u.summary.events, c.want)
			}
			if got := log.Len() > 0; got != (c.events > 0) {
				t.Errorf("got log %q", log.String())
			}
			if u.outcomes.len() != 0 {
				t.Errorf("%d uploads are asked for, want none", u.outcomes.len())
			}
		})
	}
}

// TestErrorsAreCut at 500 bytes, and noted after ten minutes at the latest.
func TestErrorsAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), nil)
		d := idle(t, u, 1)
		u.ledger.note(record{Entry: &d.b.Entry})
		for i, c := range []struct {
			after time.Duration
			want  int
		}{
			{0, 2}, {0, 3}, {10*time.Minute - 1, 3}, {1, 4}, {10 * time.Minute, 5}, {10*time.Minute - 1, 5}, {0, 5}, {0, 6},
		} {
			time.Sleep(c.after)
			d.noteFailure(errors.New(strings.Repeat("x", 501)))
			if got := ledgerRecords(t, u.cfg.Dir); got != c.want {
				t.Errorf("failure %d: %d records, want %d", i+1, got, c.want)
			}
		}
		if got := onlyBatch(t, u.cfg.Dir).Error; len(got) != 500 {
			t.Errorf("%d bytes of the error, want 500", len(got))
		}
	})
}

// TestWordsOfAFailure say whose trouble it is.
func TestWordsOfAFailure(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("EOF"), "upload failed, events stay on disk"},
		{refusal(503, ""), "upload failed, events stay on disk"},
		{refusal(401, ""), "THE API KEY IS REFUSED"},
		{refusal(403, ""), "THE API KEY IS REFUSED"},
		{refusal(402, ""), "UPLOADS ARE REFUSED"},
		{refusal(404, ""), "UPLOADS ARE REFUSED"},
	} {
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		u := ledgerOnly(t, t.TempDir(), func(cfg *Config) {
			cfg.Log = textLog(&log)
			cfg.Metrics = reg
		})
		d := idle(t, u, 3)
		d.logFailure(d.ranges[0], c.err, 1500*time.Millisecond)
		for _, want := range []string{c.want, "batch=7", "events=3", "aside=false", "again_in_seconds=1.5", "level=ERROR"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%v: got log %q, want %q in it", c.err, log.String(), want)
			}
		}
		if u.summary.failures != 1 || gauges(t, reg)["failing"] != 1 {
			t.Errorf("%v: %d failures, gauge %v, want 1", c.err, u.summary.failures, gauges(t, reg)["failing"])
		}

		u.metrics.failing.Set(0)
		log.Reset()
		d.weight = 1
		d.logFailure(d.ranges[0], c.err, 0)
		if gauges(t, reg)["failing"] != 0 || !strings.Contains(log.String(), "aside=true") {
			t.Errorf("%v: of a batch aside: gauge %v, log %q", c.err, gauges(t, reg)["failing"], log.String())
		}
	}
}

// TestCandidates are events of another type and message than those that were
// refused, else of another message.
func TestCandidates(t *testing.T) {
	u := ledgerOnly(t, t.TempDir(), nil)
	d := idle(t, u, 4)
	click := of(t, event.Click, "m9", 9, 1)[0]
	d.b.items[2].typ, d.b.items[2].line = event.Click, click
	d.refused = []refusedItem{{item: 0}, {item: 1}}
	d.suspects.add(d.b.items, d.refused)
	if want := map[string]bool{"m0": true, "m1": true}; !reflect.DeepEqual(d.suspects.messages, want) ||
		len(d.suspects.types) != 1 {
		t.Errorf("got suspects %+v", d.suspects)
	}

	items := func() (out []int) {
		for _, c := range d.candidates() {
			out = append(out, c.item)
		}
		return out
	}
	if got := items(); !slices.Equal(got, []int{2}) {
		t.Errorf("got %v, want the click", got)
	}
	d.b.items[2].done = true
	if got := items(); !slices.Equal(got, []int{3}) {
		t.Errorf("got %v, want the open of another message", got)
	}
	u.remember(item{typ: event.Click, line: click})
	if got := items(); !slices.Equal(got, []int{-1}) {
		t.Errorf("got %v, want the click that was taken before", got)
	}
	d.suspects.messages["m9"] = true
	d.b.items[3].done = true
	if got := items(); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
	if got := messageID([]byte("{")); got != "" {
		t.Errorf("got %q of no event", got)
	}
}

// TestCandidatesAreFew: a thousand events are looked at.
func TestCandidatesAreFew(t *testing.T) {
	u := ledgerOnly(t, t.TempDir(), nil)
	d := idle(t, u, 1001)
	if got := len(d.candidates()); got != 1000 {
		t.Errorf("got %d, want 1000", got)
	}
}

// TestHeldEventsAreCounted unless their age is a reason.
func TestHeldEventsAreCounted(t *testing.T) {
	now := time.Now()
	u := ledgerOnly(t, t.TempDir(), func(c *Config) { c.Now = func() time.Time { return now } })
	u.taken.Store(3)
	d := idle(t, u, 3)
	d.b.items[0].time = now.Add(-24 * time.Hour)
	d.b.items[1].time = now.Add(-24*time.Hour - 1)
	d.addRefused(0, errors.New("no"))
	if u.alone.Load() != 1 || d.since != 3 {
		t.Errorf("24 hours old: %d counted, since %d, want 1 and 3", u.alone.Load(), d.since)
	}
	u.taken.Store(4)
	d.addRefused(1, errors.New("no"))
	if u.alone.Load() != 1 || d.since != 3 || len(d.refused) != 2 {
		t.Errorf("older: %d counted, since %d, %d held, want 1, 3 and 2", u.alone.Load(), d.since, len(d.refused))
	}
	u.noteTaken(true)
	if u.alone.Load() != 0 || u.taken.Load() != 5 {
		t.Errorf("once another was taken: %d counted", u.alone.Load())
	}
}
