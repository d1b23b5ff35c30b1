package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
	"postern/tracking/token"
)

var errDiskFull = errors.New("disk full")

// path is the path of a new token.
func path(keys *token.Keys, t token.Token) string {
	if t.MessageID == (token.ID{}) {
		t.MessageID = keys.NewID(time.Now().Add(-time.Hour))
	}
	if t.Recipient == "" {
		t.Recipient = "r@example.org"
	}
	return token.PathPrefix + keys.Seal(t)
}

func oneClick(h http.Handler, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, strings.NewReader("List-Unsubscribe=One-Click"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

func TestListUnsubscribeIsAnsweredOnceItIsDurable(t *testing.T) {
	h, m, keys := setup(t)
	path := path(keys, token.Token{Kind: token.ListUnsubscribe})

	m.fail(errDiskFull)
	for range 2 {
		w := oneClick(h, path)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("disk full: got %d, Retry-After %q; want 503 with one", w.Code, w.Header().Get("Retry-After"))
		}
		if strings.Contains(w.Body.String(), "You are unsubscribed") {
			t.Errorf("disk full: the page says %q", w.Body)
		}
	}

	m.fail(nil)
	if w := oneClick(h, path); w.Code != http.StatusOK {
		t.Errorf("with room again: got %d, want 200", w.Code)
	}
	if w := oneClick(h, path); w.Code != http.StatusOK {
		t.Errorf("the same again: got %d, want 200", w.Code)
	}
	if got := m.all(); len(got) != 1 || got[0].Type != event.ListUnsubscribe {
		t.Errorf("events %v, want one of type list", got)
	}
}

func TestListUnsubscribeNeedsNoContentType(t *testing.T) {
	h, m, keys := setup(t)
	r := httptest.NewRequest("POST", path(keys, token.Token{Kind: token.ListUnsubscribe}), strings.NewReader("List-Unsubscribe=One-Click"))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK || len(m.all()) != 1 {
		t.Errorf("got %d and %d events, want 200 and 1", w.Code, len(m.all()))
	}
}

// TestOneClickIsReadFromTheBodyAlone, in both forms that RFC 8058 allows.
func TestOneClickIsReadFromTheBodyAlone(t *testing.T) {
	const (
		form      = "application/x-www-form-urlencoded"
		multipart = "multipart/form-data; boundary=b"
		parts     = "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n"
	)
	for _, c := range []struct {
		name, kind, query, body string
		status                  int
	}{
		{"form", form, "", "List-Unsubscribe=One-Click", 200},
		{"form with a line end", form, "", "List-Unsubscribe=One-Click\r\n", 200},
		{"form, encoded", form, "", "List%2DUnsubscribe=One%2DClick", 200},
		{"form beside another field that is broken", form, "", "a=%zz&List-Unsubscribe=One-Click", 200},
		{"form behind a broken query", form, "?a=%zz", "List-Unsubscribe=One-Click", 200},
		{"parts", multipart, "", parts, 200},
		{"parts behind a query", multipart, "?utm_source=x", parts, 200},
		{"parts behind a query with a semicolon", multipart, "?a=b;c=d", parts, 200},
		{"parts behind a broken query", multipart, "?a=%zz", parts, 200},
		{"parts that are cut off", multipart, "", parts[:len(parts)-6], 400},
		{"parts behind a query that says it", multipart, "?List-Unsubscribe=One-Click", "--b--\r\n", 400},
		{"another word", form, "", "List-Unsubscribe=Two-Clicks", 400},
		{"another form", "text/plain", "", "List-Unsubscribe=One-Click", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, m, keys := setup(t)
			r := httptest.NewRequest("POST", path(keys, token.Token{Kind: token.ListUnsubscribe})+c.query, strings.NewReader(c.body))
			r.Header.Set("Content-Type", c.kind)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.status || (len(m.all()) == 1) != (c.status == 200) {
				t.Errorf("got %d and %d events, want %d", w.Code, len(m.all()), c.status)
			}
		})
	}
}

// gate is a Recorder that waits for its outcome.
type gate struct {
	outcome chan error
	calls   int
}

func (g *gate) Record(context.Context, ...*event.Event) error {
	g.calls++
	return <-g.outcome
}

// TestConcurrentUnsubscribesGetOneAnswer has repeats of an unsubscribe request
// wait for the first one's record.
func TestConcurrentUnsubscribesGetOneAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		status int
	}{
		{"written", nil, http.StatusOK},
		{"refused", errDiskFull, http.StatusServiceUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, _, keys := setup(t)
				g := &gate{outcome: make(chan error)}
				h.cfg.Events = g
				path := path(keys, token.Token{Kind: token.ListUnsubscribe})

				const n = 5
				status := make(chan int, n)
				for range n {
					go func() { status <- oneClick(h, path).Code }()
				}
				synctest.Wait()
				if len(status) != 0 || g.calls != 1 {
					t.Fatalf("%d answered before the record, %d records begun; want 0 and 1", len(status), g.calls)
				}

				g.outcome <- c.err
				for range n {
					if got := <-status; got != c.status {
						t.Errorf("got %d, want %d", got, c.status)
					}
				}
				if g.calls != 1 {
					t.Errorf("%d records, want 1", g.calls)
				}
			})
		})
	}
}

// TestRepeats says which of two requests within a second is one of its own.
func TestRepeats(t *testing.T) {
	h, m, keys := setup(t)
	now := time.Now()
	h.cfg.Now = func() time.Time { return now }
	const agent = "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Firefox/115.0"
	id := keys.NewID(now.Add(-time.Hour))
	link := func(target, name string) string {
		return path(keys, token.Token{Kind: token.Click, MessageID: id, Target: target, LinkName: name})
	}
	base := link("https://x.example/a", "")
	text := strings.TrimPrefix(base, token.PathPrefix)

	for _, c := range []struct {
		name   string
		after  time.Duration
		path   string
		change func(*http.Request)
		events int
	}{
		{"the same", 0, base, nil, 1},
		{"the same, nearly a second later", 999 * time.Millisecond, base, nil, 1},
		{"a second later", time.Second, base, nil, 2},
		{"another path in front of the token", 0, "/t/x/y/" + text, nil, 1},
		{"another query", 0, base + "?fbclid=2", nil, 1},
		{"another link", 0, link("https://x.example/b", ""), nil, 2},
		{"another link to the same target", 0, link("https://x.example/a", "top"), nil, 2},
		{"another client", 0, base, func(r *http.Request) { r.RemoteAddr = "198.51.100.7:1" }, 2},
		{"another port of the client", 0, base, func(r *http.Request) { r.RemoteAddr = "192.0.2.1:7" }, 1},
		{"another program", 0, base, func(r *http.Request) { r.Header.Set("User-Agent", iphone) }, 2},
		{"a prefetch", 0, base, func(r *http.Request) { r.Header.Set("Sec-Purpose", "prefetch") }, 2},
		{"a check with HEAD", 0, base, func(r *http.Request) { r.Method = "HEAD" }, 1},
		{"another language", 0, base, func(r *http.Request) { r.Header.Set("Accept-Language", "de") }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, order := range []string{"after", "before"} {
				m.events, h.cfg.State = nil, NewState()
				start := now
				ask := func(path string, change func(*http.Request)) {
					r := httptest.NewRequest("GET", path, nil)
					r.Header.Set("User-Agent", agent)
					if change != nil {
						change(r)
					}
					w := httptest.NewRecorder()
					if h.ServeHTTP(w, r); w.Code != http.StatusFound {
						t.Errorf("%s: got %d, want 302", order, w.Code)
					}
				}
				if order == "before" {
					ask(c.path, c.change)
				} else {
					ask(base, nil)
				}
				now = now.Add(c.after)
				if order == "before" {
					ask(base, nil)
				} else {
					ask(c.path, c.change)
				}
				now = start.Add(time.Minute)

				if got := len(m.all()); got != c.events {
					t.Errorf("%s: got %d events, want %d", order, got, c.events)
				}
			}
		})
	}
}

// TestNoFirstEventIsDropped asks for many links from one address within a
// second, as the image proxy of a large provider does.
func TestNoFirstEventIsDropped(t *testing.T) {
	h, m, keys := setup(t)
	now := time.Now()
	h.cfg.Now = func() time.Time { return now }
	const n = 10000
	for i := range n {
		get(h, path(keys, token.Token{Kind: token.Open, Recipient: fmt.Sprintf("r%d@example.org", i)}))
	}
	if got := len(m.all()); got != n {
		t.Errorf("got %d events, want %d", got, n)
	}
}

func TestMemoryOfRepeatsIsBounded(t *testing.T) {
	var r repeats
	now := time.Now()
	const beyond = 1000
	for i := range maxRemembered + beyond {
		key := requestKey{byte(i), byte(i >> 8), byte(i >> 16)}
		if repeated, _ := r.once(t.Context(), key, now, func() error { return nil }); repeated {
			t.Fatalf("request %d is taken for a repeat", i)
		}
	}
	if got := len(r.now); got != maxRemembered {
		t.Errorf("%d remembered of one second, want %d", got, maxRemembered)
	}
	if got := len(r.before) + len(r.pending); got != 0 {
		t.Errorf("%d remembered besides, want none", got)
	}

	r.once(t.Context(), requestKey{1}, now.Add(2*time.Second), func() error { return nil })
	r.once(t.Context(), requestKey{1}, now.Add(4*time.Second), func() error { return nil })
	if got := len(r.now) + len(r.before); got > 2 {
		t.Errorf("%d remembered seconds later, want at most 2", got)
	}
}

// TestRepeatsWhenTheClockJumps has the clock go back and forth: no first event
// is dropped.
func TestRepeatsWhenTheClockJumps(t *testing.T) {
	var r repeats
	now := time.Now()
	for _, d := range []time.Duration{0, -24 * time.Hour, 48 * time.Hour, -2 * time.Second} {
		now = now.Add(d)
		if repeated, _ := r.once(t.Context(), requestKey{1}, now, func() error { return nil }); repeated {
			t.Errorf("after a jump of %v a request is taken for a repeat", d)
		}
	}
}

func TestWaitersAreFreedWhenTheWriterPanics(t *testing.T) {
	var r repeats
	now := time.Now()
	func() {
		defer func() { recover() }()
		r.once(t.Context(), requestKey{1}, now, func() error { panic("broken") })
	}()
	if repeated, err := r.once(t.Context(), requestKey{1}, now, func() error { return nil }); repeated || err != nil {
		t.Errorf("got repeated %v, %v; want a first one", repeated, err)
	}
}

// TestUnreportedUnsubscribes: what a message's filter keeps back are its opens
// and clicks.
func TestUnreportedUnsubscribes(t *testing.T) {
	for _, c := range []struct {
		kind token.Kind
		want int
	}{
		{token.Open, 0},
		{token.Click, 0},
		{token.LinkUnsubscribe, 1},
		{token.ListUnsubscribe, 1},
	} {
		t.Run(c.kind.String(), func(t *testing.T) {
			h, m, keys := setup(t)
			path := path(keys, token.Token{Kind: c.kind, Target: "https://x.example/", Unreported: true})
			if c.kind == token.ListUnsubscribe {
				oneClick(h, path)
			} else {
				get(h, path)
			}
			if got := len(m.all()); got != c.want {
				t.Errorf("got %d events, want %d", got, c.want)
			}
		})
	}
}

// TestOpensAndClicksAreServedWhenTheDiskIsFull, and counted as lost; the event
// of an unsubscribe link waits.
func TestOpensAndClicksAreServedWhenTheDiskIsFull(t *testing.T) {
	for _, c := range []struct {
		kind          token.Kind
		status        int
		lost, waiting float64
	}{
		{token.Open, http.StatusOK, 1, 0},
		{token.Click, http.StatusFound, 1, 0},
		{token.LinkUnsubscribe, http.StatusFound, 0, 1},
	} {
		t.Run(c.kind.String(), func(t *testing.T) {
			h, m, keys := setup(t)
			m.fail(errDiskFull)
			if w := get(h, path(keys, token.Token{Kind: c.kind, Target: "https://x.example/"})); w.Code != c.status {
				t.Errorf("got %d, want %d", w.Code, c.status)
			}
			if got := value(t, h.cfg.State.lost); got != c.lost {
				t.Errorf("%v lost, want %v", got, c.lost)
			}
			if got := value(t, h.cfg.State.retries.waiting); got != c.waiting {
				t.Errorf("%v waiting, want %v", got, c.waiting)
			}
		})
	}
}

// TestStalledDisk: a disk that does not answer keeps nobody from where a link
// leads, and what it takes in the end is not lost.
func TestStalledDisk(t *testing.T) {
	for _, c := range []struct {
		name    string
		outcome error
		lost    float64
	}{
		{"written in the end", nil, 0},
		{"refused in the end", errDiskFull, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, _, keys := setup(t)
				g := &gate{outcome: make(chan error)}
				h.cfg.Events = g
				start := time.Now()
				w := get(h, path(keys, token.Token{Kind: token.Click, Target: "https://x.example/"}))
				if took := time.Since(start); w.Code != http.StatusFound || took != clickWaits {
					t.Errorf("got %d after %v, want 302 after %v", w.Code, took, clickWaits)
				}
				g.outcome <- c.outcome
				synctest.Wait()
				if lost := value(t, h.cfg.State.lost); lost != c.lost {
					t.Errorf("%v lost, want %v", lost, c.lost)
				}
			})
		})
	}
}

func TestStalledDiskRefusesUnsubscribes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, keys := setup(t)
		g := &gate{outcome: make(chan error)}
		h.cfg.Events = g
		path := path(keys, token.Token{Kind: token.ListUnsubscribe})
		if w := oneClick(h, path); w.Code != http.StatusServiceUnavailable {
			t.Errorf("got %d, want 503", w.Code)
		}
		g.outcome <- nil
		synctest.Wait()
	})
}

// TestWritingIsBounded: no more than so many wait for a stalled disk; one more
// is served and lost.
func TestWritingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, m, keys := setup(t)
		h.cfg.State.writing = make(chan struct{}, 1)
		h.cfg.State.writing <- struct{}{}
		if w := get(h, path(keys, token.Token{Kind: token.Click, Target: "https://x.example/"})); w.Code != http.StatusFound {
			t.Errorf("got %d, want 302", w.Code)
		}
		if lost := value(t, h.cfg.State.lost); lost != 1 || len(m.all()) != 0 {
			t.Errorf("%v lost, %d events, want 1 and 0", lost, len(m.all()))
		}
	})
}

// broken is a Recorder that panics.
type broken struct{}

func (broken) Record(context.Context, ...*event.Event) error { panic("broken") }

func TestRecorderThatPanicsIsAFailure(t *testing.T) {
	h, _, keys := setup(t)
	h.cfg.Events = broken{}
	if w := oneClick(h, path(keys, token.Token{Kind: token.ListUnsubscribe})); w.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d, want 503", w.Code)
	}
	if w := get(h, path(keys, token.Token{Kind: token.Click, Target: "https://x.example/"})); w.Code != http.StatusFound {
		t.Errorf("got %d, want 302", w.Code)
	}
}

// serving is a tracker whose State is served; stop ends it.
func serving(t *testing.T) (h *Handler, m *memory, keys *token.Keys, stop func()) {
	t.Helper()
	h, m, keys = setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { h.cfg.State.Serve(ctx, slog.New(slog.DiscardHandler)) })
	return h, m, keys, func() { cancel(); wg.Wait() }
}

func TestUnsubscribeLinksAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, m, keys, stop := serving(t)
		defer stop()
		m.fail(errDiskFull)
		link := path(keys, token.Token{Kind: token.LinkUnsubscribe, Target: "https://x.example/"})
		for range 3 { // a person who tries again is one event
			get(h, link)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if got := m.all(); len(got) != 0 {
			t.Fatalf("events %v while the disk is full", got)
		}

		m.fail(nil)
		time.Sleep(longestPause)
		synctest.Wait()
		got := m.all()
		if len(got) != 1 || got[0].Type != event.LinkUnsubscribe || got[0].RcptTo != "r@example.org" {
			t.Errorf("events %v, want the one of the link", got)
		}
		if lost := value(t, h.cfg.State.lost); lost != 0 {
			t.Errorf("%v lost, want 0", lost)
		}
	})
}

func TestUnsubscribeLinksAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, m, keys, stop := serving(t)
		defer stop()
		m.fail(errDiskFull)
		get(h, path(keys, token.Token{Kind: token.LinkUnsubscribe, Target: "https://x.example/"}))
		time.Sleep(waitAtMost + 2*longestPause)
		synctest.Wait()
		if lost := value(t, h.cfg.State.lost); lost != 1 {
			t.Errorf("%v lost, want 1", lost)
		}
		if n := h.cfg.State.retries.length(); n != 0 {
			t.Errorf("%d waiting, want 0", n)
		}
	})
}

func TestUnsubscribeLinksAreFlushedAtStop(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		lost float64
	}{
		{"the disk has room", nil, 0},
		{"the disk is full", errDiskFull, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, m, keys, stop := serving(t)
				m.fail(errDiskFull)
				get(h, path(keys, token.Token{Kind: token.LinkUnsubscribe, Target: "https://x.example/"}))
				synctest.Wait()
				m.fail(c.err)
				stop()
				if lost := value(t, h.cfg.State.lost); lost != c.lost {
					t.Errorf("%v lost, want %v", lost, c.lost)
				}
				if got := float64(len(m.all())); got != 1-c.lost {
					t.Errorf("%v events, want %v", got, 1-c.lost)
				}
			})
		})
	}
}

// picky is a Recorder that refuses the events of one recipient.
type picky struct {
	memory
	refused string
}

func (p *picky) Record(ctx context.Context, e ...*event.Event) error {
	if e[0].RcptTo == p.refused {
		return errors.New("cannot be written")
	}
	return p.memory.Record(ctx, e...)
}

func TestUnsubscribeThatCannotBeWrittenHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _, keys, stop := serving(t)
		defer stop()
		p := &picky{refused: "bad@example.org"}
		p.fail(errDiskFull)
		h.cfg.Events = p
		for _, who := range []string{"bad@example.org", "a@example.org", "b@example.org"} {
			get(h, path(keys, token.Token{Kind: token.LinkUnsubscribe, Recipient: who, Target: "https://x.example/"}))
		}
		p.fail(nil)
		time.Sleep(2 * longestPause)
		synctest.Wait()
		if got := len(p.all()); got != 2 {
			t.Errorf("%d events, want those of the other two", got)
		}
	})
}

func TestWaitingUnsubscribesAreBounded(t *testing.T) {
	l := NewState().retries
	for i := range maxWaiting + 1 {
		key := requestKey{byte(i), byte(i >> 8), byte(i >> 16)}
		if got, want := l.add(key, &event.Event{}, nil), i < maxWaiting; got != want {
			t.Fatalf("event %d: added %v, want %v", i, got, want)
		}
	}
}

// TestZeroConfig: what is left out has a default.
func TestZeroConfig(t *testing.T) {
	_, m, keys := setup(t)
	h := New(Config{Keys: keys, Events: m})
	if w := get(h, path(keys, token.Token{Kind: token.Click, Target: "https://x.example/"})); w.Code != http.StatusFound {
		t.Errorf("got %d, want 302", w.Code)
	}
	if got := m.all(); len(got) != 1 || got[0].ID == "" || time.Since(got[0].Timestamp.Time).Abs() > time.Hour {
		t.Errorf("events %v, want one with an id and the time", got)
	}
}

// value is that of a counter or gauge.
func value(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	m := families[0].GetMetric()[0]
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}
