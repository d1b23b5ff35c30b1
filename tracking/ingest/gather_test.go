package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/agent"
	"postern/tracking/event"
	"postern/tracking/spool"
)

// list is a source of some records, which then waits. Reading and committing
// fail as often as they are told to.
type list struct {
	records     []spool.Record
	asked       []context.Context
	readErrs    int
	commitErrs  int
	commits     []spool.Position // that were tried
	commitTimes []time.Time
}

func (l *list) Next(ctx context.Context) (spool.Record, error) {
	l.asked = append(l.asked, ctx)
	if l.readErrs > 0 {
		l.readErrs--
		return spool.Record{}, errors.New("too many open files")
	}
	if len(l.records) == 0 {
		<-ctx.Done()
		return spool.Record{}, ctx.Err()
	}
	r := l.records[0]
	l.records = l.records[1:]

	return r, nil
}

func (l *list) Commit(p spool.Position) error {
	l.commits = append(l.commits, p)
	l.commitTimes = append(l.commitTimes, time.Now())
	if l.commitErrs > 0 {
		l.commitErrs--
		return errors.New("no space left on device")
	}

	return nil
}

// listOf is a source of lines, of ten bytes of the log each.
func listOf(lines ...[]byte) *list {
	l := &list{}
	for i, data := range lines {
		l.records = append(l.records, spool.Record{At: at(i), Next: at(i + 1), Data: data})
	}

	return l
}

// TestBatchesEnd where they are full, to the byte, or old, to the instant.
func TestBatchesEnd(t *testing.T) {
	two := func(t *testing.T) [][]byte {
		t.Helper()
		lines := of(t, event.Open, "m", 1, 3)
		if len(lines[0]) != len(lines[2]) {
			t.Fatal("lines differ in length")
		}
		return lines
	}
	inBubble(t, "as long as may be", func(t *testing.T) {
		lines := two(t)
		for less, want := range map[int]int{0: 2, 1: 1} {
			u := ledgerOnly(t, t.TempDir(), func(c *Config) {
				c.Batch.Bytes = 2*(len(lines[0])+1) - less
				c.Batch.Age = time.Minute
			})
			g := &gatherer{u: u, src: listOf(lines...)}
			b, err := g.next(t.Context())
			if err != nil || len(b.items) != want || b.Events != want || b.Raw != want*(len(lines[0])+1) {
				t.Errorf("%d bytes less: got %d events in %d bytes, %v, want %d", less, b.Events, b.Raw, err, want)
			}
			if b.From != at(0) || b.To != at(want) || b.Batch != 1 || b.Status != Planned || b.recalled ||
				b.Sum == 0 {
				t.Errorf("got %+v", b.Entry)
			}
			if b, err = g.next(t.Context()); err != nil || b.From != at(want) || b.Batch != 2 {
				t.Errorf("the next begins at %+v, %v, want %+v", b.From, err, at(want))
			}
		}
	})

	inBubble(t, "over as many records as may be", func(t *testing.T) {
		var lines [][]byte
		for range 20 {
			lines = append(lines, []byte("x")) // no event
		}
		u := ledgerOnly(t, t.TempDir(), func(c *Config) {
			c.Batch.Bytes = 2
			c.Batch.Age = time.Minute
		})
		g := &gatherer{u: u, src: listOf(lines...)}
		if b, err := g.next(t.Context()); err != nil || b.To != at(16) || len(b.items) != 16 {
			t.Errorf("got a batch up to %+v, %v, want 16 records", b.To, err)
		}
	})

	inBubble(t, "old", func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), func(c *Config) { c.Batch.Age = 5 * time.Second })
		g := &gatherer{u: u, src: listOf(line(t, 1, nil))}
		begun := time.Now()
		b, err := g.next(t.Context())
		if err != nil || b.Events != 1 || time.Since(begun) != 5*time.Second {
			t.Errorf("got %+v, %v after %s, want one event after 5s", b, err, time.Since(begun))
		}
		if !b.At.Equal(time.Now()) {
			t.Errorf("planned at %s, want now", b.At)
		}
	})

	inBubble(t, "at the end of the context", func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), func(c *Config) { c.Batch.Age = time.Hour })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		g := &gatherer{u: u, src: listOf(line(t, 1, nil))}
		if b, err := g.next(ctx); b != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %+v, %v, want no batch", b, err)
		}
		if b, err := g.next(ctx); b != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("again: got %+v, %v, want no batch", b, err)
		}
	})
}

// TestContextsEnd with what they are for, so that a source or sink that hangs on
// to them keeps nothing.
func TestContextsEnd(t *testing.T) {
	inBubble(t, "of reading", func(t *testing.T) {
		for _, earlier := range [][]Entry{nil, {{Batch: 9, From: at(0), To: at(3), Status: Planned}}} {
			u := ledgerOnly(t, t.TempDir(), func(c *Config) {
				c.Batch.Bytes = 1 << 20
				c.Batch.Age = time.Hour
			})
			u.earlier = earlier
			u.cfg.Batch.Bytes = 2 * len(line(t, 1, nil))
			src := listOf(of(t, event.Open, "m%", 1, 4)...)
			if _, err := (&gatherer{u: u, src: src}).next(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i, ctx := range src.asked[1:] { // the first waits for an event, without a time
				if ctx.Err() == nil {
					t.Errorf("%d batches earlier: that of read %d goes on", len(earlier), i+2)
				}
			}
		}
	})

	t.Run("of an upload", func(t *testing.T) {
		var upload context.Context
		u := ledgerOnly(t, t.TempDir(), func(c *Config) {
			c.Sink = sendFunc(func(ctx context.Context, _ []byte) (string, int, error) {
				upload = ctx
				return "id", 1, ctx.Err()
			})
		})
		if err := idle(t, u, 1).send(t.Context(), []int{0}); err != nil || upload.Err() == nil {
			t.Errorf("got %v, the upload's context ended with %v", err, upload.Err())
		}
	})
}

// sendFunc is a sink of one function.
type sendFunc func(context.Context, []byte) (string, int, error)

func (f sendFunc) Send(ctx context.Context, ndjson []byte) (string, int, error) {
	return f(ctx, ndjson)
}

// TestReadErrorsBackOff from a second to a minute, jittered.
func TestReadErrorsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), nil)
		src := listOf(line(t, 1, nil))
		src.readErrs = 8
		begun := time.Now()
		if _, err := (&gatherer{u: u, src: src}).read(t.Context()); err != nil {
			t.Fatal(err)
		}
		most := (1 + 2 + 4 + 8 + 16 + 32 + 60 + 60) * time.Second
		if took := time.Since(begun); took < most/2 || took > most {
			t.Errorf("eight errors took %s, want %s to %s", took, most/2, most)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		src.readErrs = 1
		if _, err := (&gatherer{u: u, src: src}).read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("at the end of the context: got %v", err)
		}
	})
}

// TestRecalledBatches are cut as the run before cut them.
func TestRecalledBatches(t *testing.T) {
	inBubble(t, "the same records", func(t *testing.T) {
		lines := of(t, event.Open, "m%", 1, 4)
		sum := uint32(0)
		for _, l := range lines[:3] {
			sum = addSum(sum, spool.Record{Data: l})
		}
		for _, c := range []struct {
			name     string
			old      Entry
			recalled bool
			batch    uint64
			status   string
		}{
			{"open", Entry{Batch: 9, Sum: sum, Status: Failing, At: time.Unix(5, 0), IDs: []string{"a"}, Wire: 3, Quarantined: 1, Tries: 4, Error: "away", Done: []Span{{at(0), at(1)}}}, true, 9, Planned},
			{"sent", Entry{Batch: 9, Sum: sum, Status: Sent}, false, 9, Sent},
			{"another log's", Entry{Batch: 9, Sum: sum + 1, Status: Sent}, false, 10, Planned},
			{"another log's, and open", Entry{Batch: 9, Sum: sum + 1, Status: Planned}, false, 10, Planned},
		} {
			u := ledgerOnly(t, t.TempDir(), nil)
			c.old.From, c.old.To = at(0), at(3)
			u.earlier, u.last = []Entry{c.old}, 9
			g := &gatherer{u: u, src: listOf(lines...)}
			b, err := g.next(t.Context())
			if err != nil || b.recalled != c.recalled || b.Batch != c.batch || b.Status != c.status ||
				b.From != at(0) || b.To != at(3) {
				t.Errorf("%s: got %+v, %v", c.name, b, err)
				continue
			}
			if c.status == Planned && (b.Events != 3 || b.Sum != sum || len(b.items) != 3) {
				t.Errorf("%s: got %d events, sum %x, want 3 and %x", c.name, b.Events, b.Sum, sum)
			}
			if c.recalled {
				if !b.At.Equal(time.Unix(5, 0)) || !slices.Equal(b.IDs, c.old.IDs) || b.Wire != 3 || b.Quarantined != 1 ||
					b.Tries != 4 || b.Error != "away" {
					t.Errorf("%s: got %+v, want what was known", c.name, b.Entry)
				}
				if !b.items[0].done || b.items[1].done || b.items[2].done {
					t.Errorf("%s: the items' state is not that of %v", c.name, c.old.Done)
				}
			}
			if b, err = g.next(t.Context()); err != nil || b.From != at(3) || b.Batch <= 9 {
				t.Errorf("%s: the next is %+v, %v", c.name, b, err)
			}
		}
	})

	inBubble(t, "records are missing", func(t *testing.T) {
		for _, age := range []time.Duration{time.Second, time.Minute} {
			u := ledgerOnly(t, t.TempDir(), func(c *Config) { c.Batch.Age = age })
			u.earlier = []Entry{{Batch: 9, From: at(0), To: at(3), Status: Planned}}
			g := &gatherer{u: u, src: listOf(of(t, event.Open, "m%", 1, 2)...)}
			begun := time.Now()
			b, err := g.next(t.Context())
			want := max(age, 5*time.Second)
			if err != nil || b.Events != 2 || time.Since(begun) != want {
				t.Errorf("got %+v, %v after %s, want two events after %s", b, err, time.Since(begun), want)
			}
		}
	})

	inBubble(t, "records behind are not taken", func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), nil)
		u.earlier = []Entry{{Batch: 9, From: at(0), To: at(3), Status: Planned}}
		src := listOf(of(t, event.Open, "m%", 1, 5)...)
		src.records = slices.Delete(src.records, 1, 3) // are gone
		src.records[0].Next = at(1)
		g := &gatherer{u: u, src: src}
		b, err := g.next(t.Context())
		if err != nil || b.Events != 1 || b.To != at(1) {
			t.Errorf("got %+v, %v, want the one that is there", b, err)
		}
		if b, err = g.next(t.Context()); err != nil || b.From != at(3) || b.Events != 2 {
			t.Errorf("the next: got %+v, %v, want it to begin behind", b, err)
		}
	})

	inBubble(t, "the context ends", func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), nil)
		u.earlier = []Entry{{Batch: 9, From: at(0), To: at(3), Status: Planned}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		g := &gatherer{u: u, src: listOf(of(t, event.Open, "m%", 1, 2)...)}
		if b, err := g.next(ctx); b != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %+v, %v, want no batch", b, err)
		}
	})

	inBubble(t, "a new batch ends where one begins", func(t *testing.T) {
		u := ledgerOnly(t, t.TempDir(), func(c *Config) { c.Batch.Bytes = 1 << 20 })
		u.earlier = []Entry{{Batch: 8, From: spool.Position{}, To: at(0)}, {Batch: 9, From: at(2), To: at(3), Status: Planned}}
		g := &gatherer{u: u, src: listOf(of(t, event.Open, "m%", 1, 5)...)}
		if b, err := g.next(t.Context()); err != nil || b.To != at(2) {
			t.Errorf("got %+v, %v, want two events", b, err)
		}
	})
}

// TestEarlierBatches are found where they begin, the newest of several.
func TestEarlierBatches(t *testing.T) {
	u := &Uploader{earlier: []Entry{
		{Batch: 1, From: at(1)}, {Batch: 2, From: at(2)}, {Batch: 3, From: at(2)}, {Batch: 4, From: at(4)},
	}}
	for i, want := range []bool{false, true, true, false, true, false} {
		if got := u.planned(at(i)); got != want {
			t.Errorf("planned at %d: got %t, want %t", i, got, want)
		}
	}
	if e, ok := u.earlierAt(at(2)); !ok || e.Batch != 3 || len(u.earlier) != 1 {
		t.Errorf("got %+v, %t, %d left, want batch 3 and one left", e, ok, len(u.earlier))
	}
	if e, ok := u.earlierAt(at(3)); ok || len(u.earlier) != 1 {
		t.Errorf("between them: got %+v, %d left", e, len(u.earlier))
	}
	if e, ok := u.earlierAt(at(4)); !ok || e.Batch != 4 || u.earlier != nil {
		t.Errorf("got %+v, %t, %d left, want batch 4 and none", e, ok, len(u.earlier))
	}
}

func TestOrderOfPositions(t *testing.T) {
	p := func(segment uint64, offset int64) spool.Position {
		return spool.Position{Segment: segment, Offset: offset}
	}
	for _, c := range []struct {
		a, b spool.Position
		want bool
	}{
		{p(1, 0), p(1, 0), false}, {p(1, 0), p(1, 1), true}, {p(1, 1), p(1, 0), false},
		{p(1, 9), p(2, 0), true}, {p(2, 0), p(1, 9), false},
	} {
		if got := before(c.a, c.b); got != c.want {
			t.Errorf("%v before %v: got %t", c.a, c.b, got)
		}
	}
	s := Span{at(2), at(4)}
	for i, want := range []bool{false, false, true, true, false} {
		if got := s.holds(at(i)); got != want {
			t.Errorf("record %d: got %t, want %t", i, got, want)
		}
		if got := isDone([]Span{{at(9), at(10)}, s}, at(i)); got != want {
			t.Errorf("record %d is done: got %t, want %t", i, got, want)
		}
	}

	entries := []Entry{{Batch: 3, From: at(2)}, {Batch: 1, From: at(1)}, {Batch: 2, From: at(2)}, {Batch: 0, From: at(0)}}
	sortEntries(entries)
	var got []uint64
	for _, e := range entries {
		got = append(got, e.Batch)
	}
	if !slices.Equal(got, []uint64{0, 1, 3, 2}) {
		t.Errorf("sorted: got %v, want the log's order and else the ledger's", got)
	}
}

// TestWhatBecomesOfARecord in a batch, and what is counted.
func TestWhatBecomesOfARecord(t *testing.T) {
	machine := func(e *event.Event) { e.Class = event.Class{Kind: event.Scanner, Reason: "test"} }
	odd := []byte(`{"msys":{"x":{"type":"open","event_id":"1","message_id":"m","timestamp":"1"}}}`)
	for _, c := range []struct {
		name       string
		hash       bool
		line       []byte
		events     int
		unreadable bool
		filtered   string
	}{
		{"an event", false, line(t, 1, nil), 1, false, ""},
		{"no event", false, []byte("x"), 0, true, ""},
		{"of a type that is not reported", false, of(t, event.Click, "m", 1, 1)[0], 0, false, "click"},
		{"of a machine that is dropped", false, line(t, 1, machine), 0, false, "open"},
		{"that cannot be hashed", true, odd, 0, true, ""},
		{"that is not looked into", false, odd, 1, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			u := ledgerOnly(t, t.TempDir(), func(cfg *Config) {
				cfg.Filter.Types = map[event.Type]bool{event.Open: true}
				cfg.Filter.HashRecipients = c.hash
				cfg.Filter.Machines = map[string]string{event.Scanner: Drop}
				cfg.Metrics = reg
			})
			b := &batch{}
			u.add(b, spool.Record{At: at(3), Next: at(4), Data: c.line})
			if b.To != at(4) || b.span != len(c.line) || b.Sum != addSum(0, spool.Record{Data: c.line}) {
				t.Errorf("got %+v with a span of %d bytes", b.Entry, b.span)
			}
			if b.Events != c.events || (b.Raw > 0) != (c.events > 0) {
				t.Errorf("got %d events in %d bytes, want %d", b.Events, b.Raw, c.events)
			}
			if c.events == 1 && (b.Raw != len(b.items[0].line)+1 || b.items[0].typ != event.Open ||
				b.items[0].time.IsZero() || b.items[0].span != (Span{at(3), at(4)})) {
				t.Errorf("got %+v in %d bytes", b.items[0], b.Raw)
			}
			if got := len(b.items) == 1 && b.items[0].unreadable != ""; got != c.unreadable {
				t.Errorf("unreadable: %t, want %t", got, c.unreadable)
			}
			if got := gauges(t, reg)["filtered_events_total "+c.filtered]; (got == 1) != (c.filtered != "") {
				t.Errorf("counted %v of %q", got, c.filtered)
			}
		})
	}
}

// TestPersonsAreNotMarked: what counts as a person's has no mark at all.
func TestPersonsAreNotMarked(t *testing.T) {
	u := &Uploader{cfg: Config{Filter: FilterConfig{Machines: map[string]string{event.Prefetch: Person}}}}
	marked := func() *event.Event {
		return &event.Event{
			Type:            event.Open,
			Class:           event.Class{Kind: event.Prefetch, Reason: "test"},
			IsPrefetched:    true,
			UserAgentParsed: &agent.Program{IsPrefetched: true},
		}
	}
	e := marked()
	if !u.machine(e) || e.IsPrefetched || e.UserAgentParsed.IsPrefetched || e.Class != (event.Class{}) {
		t.Errorf("got %+v with %+v", e, e.UserAgentParsed)
	}
	u.cfg.Filter.Machines = nil
	e = marked()
	if !u.machine(e) || !e.IsPrefetched || !e.UserAgentParsed.IsPrefetched || e.Class != (event.Class{}) {
		t.Errorf("marked: got %+v with %+v", e, e.UserAgentParsed)
	}
	e.Type = event.LinkUnsubscribe
	if u.machine(e) {
		t.Error("a machine unsubscribes")
	}
}

// TestScanHead reads only what event.Encode writes.
func TestScanHead(t *testing.T) {
	const whole = `{"msys":{"g":{"type":"open","event_id":"1","message_id":"m","timestamp":"7","x":1}}}`
	if h, err := scanHead([]byte(whole)); err != nil || h.typ != event.Open || h.time.Unix() != 7 || h.beside {
		t.Errorf("got %+v, %v", h, err)
	}
	for _, c := range [][2]string{
		{`{"msys":{"`, `{"msys": {"`},
		{`}}}`, `}},"postern":{}}`},
		{`"g":{"type`, `"g": {"type`},
		{`,"event_id`, `,"id":"2","event_id`},
		{`,"message_id`, `,"id":"2","message_id`},
		{`,"timestamp`, `,"id":"2","timestamp`},
		{`"open"`, `"op\u0065n"`},
		{`"open"`, `"clack"`},
		{`"7"`, `"x"`},
		{`"7"`, `7`},
		{`"7"`, `"7\"`},
		{`"event_id":"1"`, `"event_id":"1\""`},
	} {
		bad := strings.Replace(whole, c[0], c[1], 1)
		if h, err := scanHead([]byte(bad)); !errors.Is(err, errForm) || h != (head{}) {
			t.Errorf("%s: got %+v, %v, want %v", bad, h, err, errForm)
		}
	}
}

// FuzzReadHead agrees with event.Decode on all that it reads.
func FuzzReadHead(f *testing.F) {
	f.Add(`{"msys":{"track_event":{"type":"open","event_id":"1","message_id":"m","timestamp":"7","delv_method":"x","rcpt_to":"a@b"}}}`)
	f.Add(`{"msys":{"track_event":{"type":"open","event_id":"1","message_id":"m","timestamp":"7","delv_method":"x","rcpt_to":"a@b"}},"postern":{"session":"x"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := event.Decode([]byte(text))
		if err != nil {
			return
		}
		h, err := readHead([]byte(text))
		if err != nil || h.typ != e.Type || !h.time.Equal(e.Timestamp.Time) {
			t.Errorf("got %+v, %v, want %s at %s", h, err, e.Type, e.Timestamp)
		}
		if want := e.Class != (event.Class{}) || e.Local != (event.Local{}); want && !h.beside {
			t.Errorf("got nothing beside of %s", text)
		}
	})
}

// TestWindow: the cursor waits for the first open batch.
func TestWindow(t *testing.T) {
	w := newWindow()
	if p, behind := w.position(); behind || p != (spool.Position{}) {
		t.Errorf("at first: got %+v, %t", p, behind)
	}
	var batches []*batch
	for i := 1; i < 5; i++ {
		batches = append(batches, &batch{Entry: Entry{From: at(i), To: at(i + 1)}})
		w.begin(batches[i-1])
	}
	for _, step := range []struct {
		end    int
		p      spool.Position
		behind bool
	}{{1, at(1), false}, {0, at(3), true}, {3, at(3), true}, {2, at(5), true}} {
		w.end(batches[step.end])
		if p, behind := w.position(); p != step.p || behind != step.behind {
			t.Errorf("after the end of %d: got %+v, %t, want %+v, %t", step.end, p, behind, step.p, step.behind)
		}
	}
	if len(w.moved) != 1 {
		t.Error("nobody is told")
	}

	src := &list{commitErrs: 1}
	if err := w.advance(src); err == nil {
		t.Error("the error of the cursor is lost")
	}
	for range 2 {
		if err := w.advance(src); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(src.commits, []spool.Position{at(5), at(5)}) {
		t.Errorf("got commits %v, want one more after the one that failed", src.commits)
	}
	w.begin(&batch{Entry: Entry{From: at(5), To: at(6)}})
	if p, behind := w.position(); p != at(5) || behind {
		t.Errorf("got %+v, %t, want nothing behind", p, behind)
	}
}

// TestCursorBacksOff from a second to a minute, and is tried three times at the
// end.
func TestCursorBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := newWindow()
		src := &list{commitErrs: 9}
		b := &batch{Entry: Entry{From: at(0), To: at(1)}}
		w.begin(b)
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.commit(ctx, src, Config{Uploads: UploadConfig{MinBackoff: time.Second, MaxBackoff: time.Minute}, Log: quiet})
		}()
		synctest.Wait()
		if len(src.commits) != 0 {
			t.Errorf("%d commits before anything is done, want none", len(src.commits))
		}

		w.end(b)
		time.Sleep(time.Hour)
		synctest.Wait()
		var waits []string
		for i, seconds := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
			wait := src.commitTimes[i+1].Sub(src.commitTimes[i])
			waits = append(waits, wait.String())
			if backoff := seconds * time.Second; wait < backoff/2 || wait > backoff {
				t.Errorf("wait %d: %s, want %s to %s", i+1, wait, backoff/2, backoff)
			}
		}
		if len(src.commits) != 10 {
			t.Errorf("%d commits, want 10 (%v)", len(src.commits), waits)
		}

		src.commitErrs = 1 // the back-off begins anew
		next := &batch{Entry: Entry{From: at(1), To: at(2)}}
		w.begin(next)
		w.end(next)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(src.commits) != 12 {
			t.Errorf("%d commits a second after one failed, want 12", len(src.commits))
		}

		src.commitErrs = 100
		last := &batch{Entry: Entry{From: at(2), To: at(3)}}
		w.begin(last)
		w.end(last)
		synctest.Wait()
		before := len(src.commits)
		cancel()
		<-done
		if n := len(src.commits) - before; n != 4 {
			t.Errorf("%d commits at the end, want one and three more", n)
		}
		if n := fmt.Sprint(src.commits[before]); n != fmt.Sprint(at(3)) {
			t.Errorf("got %s, want %v", n, at(3))
		}
	})
}
