package ingest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/cmd/postern/demo/ingestd"
	"postern/tracking/event"
	"postern/tracking/spool"
)

const testKey = "0123456789012345678901234567890123456789"

// TestWrongDateThrowsNothingAside: an answer of the service, or of something on
// the way, has a Date that is wrong.
func TestWrongDateThrowsNothingAside(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name   string
		status int
		date   time.Duration // from now
	}{
		{"two days ahead in a 503", 503, 48 * time.Hour},
		{"25 hours ahead in a 503", 503, 25 * time.Hour},
		{"25 hours ahead in a 404", 404, 25 * time.Hour},
		{"25 hours ahead in a 200", 200, 25 * time.Hour},
		{"a year ahead in a 200", 200, 365 * 24 * time.Hour},
		{"a year behind in a 200", 200, -365 * 24 * time.Hour},
		{"25 hours behind in a 503", 503, -25 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := &ingestd.Server{Key: testKey}
			var requests atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) > 1 {
					server.ServeHTTP(w, r)
					return
				}
				w.Header().Set("Date", time.Now().Add(c.date).UTC().Format(http.TimeFormat))
				w.WriteHeader(c.status)
				fmt.Fprint(w, `{"results":{"id":"first"}}`)
			}))
			defer srv.Close()

			s := &Signals{URL: srv.URL, APIKey: testKey, Client: srv.Client()}
			r := start(t, t.TempDir(), nil, func(u *Config) { u.Sink, u.Batch.Bytes, u.Uploads.AtOnce = s, 1, 1 }, of(t, event.Open, "m%", 1, 3)...)
			r.settled(t)
			r.stop()

			want := 3
			if c.status == 200 {
				want = 2
			}
			if got := server.Events(); len(got) != want {
				t.Errorf("the service has %d events, want %d", len(got), want)
			}
			if got := readAside(t, r.dir); got != "" {
				t.Errorf("quarantined: %s", got)
			}
		})
	}
}

// TestDateOfAPageIsNotBelieved: a page that says 200 and takes no batch is
// not the service, and its clock counts for nothing.
func TestDateOfAPageIsNotBelieved(t *testing.T) {
	t.Parallel()

	answer := "<html>Back soon</html>"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(30*time.Hour).UTC().Format(http.TimeFormat))
		fmt.Fprint(w, answer)
	}))
	defer srv.Close()

	s := &Signals{URL: srv.URL, APIKey: testKey, Client: srv.Client()}
	if _, _, err := s.Send(t.Context(), []byte("{}\n")); err == nil {
		t.Error("a page counts as a batch that was taken")
	}
	if got, known := s.ServiceTime(time.Now()); known {
		t.Errorf("the service's time is %s, by a page", got)
	}

	answer = `{"results":{"id":"1"}}`
	if _, _, err := s.Send(t.Context(), []byte("{}\n")); err != nil {
		t.Error(err)
	}
	if got, known := s.ServiceTime(time.Now()); !known || time.Until(got) < 29*time.Hour {
		t.Errorf("the service's time is %s, known %t, want that of its answer", got, known)
	}
}

// TestTooOldByBothClocks: what the service would refuse is quarantined without
// asking for each event, once its answer agrees with our clock.
func TestTooOldByBothClocks(t *testing.T) {
	t.Parallel()

	server := &ingestd.Server{Key: testKey}
	srv := httptest.NewServer(server)
	defer srv.Close()

	var lines [][]byte
	for i := 1; i <= 50; i++ {
		lines = append(lines, line(t, i, func(e *event.Event) { e.Timestamp.Time = time.Now().Add(-25 * time.Hour) }))
	}
	lines = append(lines, of(t, event.Open, "m%", 51, 10)...)

	s := &Signals{URL: srv.URL, APIKey: testKey, Client: srv.Client()}
	r := start(t, t.TempDir(), nil, func(u *Config) { u.Sink = s }, lines...)
	r.settled(t)
	r.stop()

	if got := server.Events(); len(got) != 10 {
		t.Errorf("the service has %d events, want 10", len(got))
	}
	if got := readAside(t, r.dir); strings.Count(got, `"reason":"expired"`) != 50 {
		t.Errorf("in quarantine: %s", got)
	}
	if n := len(server.Faults()); n > 2 {
		t.Errorf("%d requests were refused", n)
	}
}

// TestRedirectionIsNotFollowed: events and key go to the configured address
// alone.
func TestRedirectionIsNotFollowed(t *testing.T) {
	t.Parallel()

	for _, status := range []int{301, 302, 303, 307, 308} {
		var elsewhere atomic.Int64
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			elsewhere.Add(1)
			fmt.Fprint(w, `{"results":{"id":"x"}}`)
		}))
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(status)
		}))

		s := &Signals{URL: srv.URL, APIKey: testKey, Client: srv.Client()}
		_, _, err := s.Send(context.Background(), []byte("{}\n"))
		if want := fmt.Sprintf("HTTP %d", status); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if elsewhere.Load() != 0 {
			t.Errorf("status %d was followed", status)
		}
		other.Close()
		srv.Close()
	}
}

// silent is a service that knows the outcome of some uploads only.
type silent struct {
	asked map[string]int
	knows func(id string) bool
}

func (s *silent) Outcomes(_ context.Context, ids []string) (out []Outcome, err error) {
	for _, id := range ids {
		s.asked[id]++
		if s.knows(id) {
			out = append(out, Outcome{Type: "success", BatchID: id, Succeeded: 1})
		}
	}
	return out, nil
}

// TestOutcomesOfAllAreAskedFor: uploads of which the service never tells keep
// nobody from asking for newer ones.
func TestOutcomesOfAllAreAskedFor(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		up := ledgerOnly(t, t.TempDir(), func(c *Config) { c.PollOutcomes = true })
		now := time.Now()
		const n = 3*pollAtATime*pollRounds + 7
		for i := range n {
			up.outcomes.expect(Entry{Batch: uint64(i + 1), At: now, Status: Sent, IDs: []string{fmt.Sprint("id", i)}}, now)
		}

		s := &silent{asked: map[string]int{}, knows: func(id string) bool { return id == fmt.Sprint("id", n-1) }}
		for range 4 {
			if err := up.pollOnce(context.Background(), s); err != nil {
				t.Fatal(err)
			}
		}
		if len(s.asked) != n {
			t.Errorf("%d uploads were asked for, want %d", len(s.asked), n)
		}
		entries, err := Batches(up.cfg.Dir)
		if err != nil || len(entries) != 1 || entries[0].Batch != n || len(entries[0].Outcomes) != 1 {
			t.Errorf("ledger %+v, %v; want the outcome of the newest", entries, err)
		}

		for _, p := range up.outcomes.pending {
			p.entry.At = now.Add(-pollFor)
		}
		if err := up.pollOnce(context.Background(), s); err != nil || up.outcomes.len() != 0 {
			t.Errorf("%v, %d uploads are still asked for after %s", err, up.outcomes.len(), pollFor)
		}
	})
}

// ledgerOnly is an uploader that does not serve.
func ledgerOnly(t *testing.T, dir string, change func(*Config)) *Uploader {
	t.Helper()

	c := Config{Dir: dir, Sink: &sink{}, Batch: BatchConfig{Bytes: 1000, Age: time.Millisecond}, Ledger: LedgerConfig{FS: unsyncedFS{}}, Log: quiet}
	if change != nil {
		change(&c)
	}
	up, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := up.Close(); err != nil {
			t.Error(err)
		}
	})

	return up
}

// TestLedgerOfAnotherLog: an operator removed segments and cursor, and left the
// ledger; positions begin again, and what is there now is not what was sent.
func TestLedgerOfAnotherLog(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := start(t, dir, &sink{}, nil, of(t, event.Open, "m%", 101, 9)...)
		r.settled(t)
		r.stop()
		for _, glob := range []string{"*.seg", "cursor-*"} {
			removeAll(t, r.dir, glob)
		}

		second := &sink{}
		r = start(t, dir, second, nil, of(t, event.Open, "m%", 201, 9)...) // as many bytes
		r.settled(t)
		r.stop()

		if got := second.ids(); len(got) != 9 {
			t.Errorf("%d events taken, want 9", len(got))
		}
		entries, err := Batches(r.dir)
		if err != nil || len(entries) != 2 || entries[0].Batch == entries[1].Batch {
			t.Errorf("ledger %+v, %v; want two batches", entries, err)
		}
	})
}

// TestEarlierBatchesAreForgotten: of the ledger only that is kept in memory
// which is ahead.
func TestEarlierBatchesAreForgotten(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := start(t, dir, &sink{}, func(c *Config) { c.Batch.Bytes = 1000 }, of(t, event.Open, "m%", 1, 50)...)
		r.settled(t)
		r.stop()

		at := spool.Cursor(r.dir, "r")
		up := ledgerOnly(t, r.dir, func(c *Config) { c.From = at })
		if len(up.earlier) != 0 || up.last == 0 {
			t.Errorf("%d batches behind the cursor are kept, the newest is %d", len(up.earlier), up.last)
		}

		var e []Entry
		for i := range 10 {
			e = append(e, Entry{From: spool.Position{Segment: 1, Offset: int64(10 * i)}, To: spool.Position{Segment: 1, Offset: int64(10*i + 10)}})
		}
		slices.Reverse(e)
		sortEntries(e)
		up.earlier = e
		if _, ok := up.earlierAt(spool.Position{Segment: 1, Offset: 45}); ok || len(up.earlier) != 5 {
			t.Errorf("found %v, %d are left, want 5", ok, len(up.earlier))
		}
		if got, ok := up.earlierAt(spool.Position{Segment: 1, Offset: 50}); !ok || got.From.Offset != 50 ||
			len(up.earlier) != 4 {
			t.Errorf("found %v %+v, %d are left, want 4", ok, got, len(up.earlier))
		}
	})
}

// TestFilterChangedBetweenRuns: what was sent of a batch stays sent, whatever
// is uploaded of it now.
func TestFilterChangedBetweenRuns(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		lines := append(of(t, event.Open, "m%", 1, 5), of(t, event.Click, "m%", 6, 5)...)
		first := &sink{answer: func(_ int, ndjson string) error {
			if has(ndjson, 3) {
				return refusal(500, "oops")
			}
			return nil
		}}
		r := start(t, dir, first, func(c *Config) { c.Filter.Types = map[event.Type]bool{event.Open: true} }, lines...)
		wait(t, "the others", func() bool { return len(first.ids()) == 4 })
		r.stop()

		second := &sink{}
		r = start(t, dir, second, nil)
		r.settled(t)
		r.stop()
		got := second.ids()
		for _, id := range []string{"1", "2", "4", "5"} {
			if got[id] != 0 {
				t.Errorf("event %s was sent again", id)
			}
		}
		if got["3"] != 1 {
			t.Errorf("taken %v, want event 3", got)
		}
	})
}

// TestReadHead agrees with event.Decode.
func TestReadHead(t *testing.T) {
	t.Parallel()

	for _, l := range [][]byte{
		line(t, 1, nil),
		line(t, 2, func(e *event.Event) { e.Class = event.Class{Kind: event.Scanner, Reason: "test"} }),
		line(t, 3, func(e *event.Event) { e.MessageID = `a"b\c` }),
		line(t, 4, func(e *event.Event) { e.UserAgent = `"timestamp":"1"}}}` }),
		line(t, 5, func(e *event.Event) { e.GeoIP = &event.GeoIP{Country: "DE"} }),
		[]byte(` {"msys": {"track_event": {"type":"open","event_id":"6","message_id":"m","timestamp":"7","delv_method":"x","rcpt_to":"a@b"}}}`),
	} {
		e, err := event.Decode(l)
		if err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		h, err := readHead(l)
		if err != nil || h.typ != e.Type || !h.time.Equal(e.Timestamp.Time) ||
			h.beside != (e.Class != event.Class{} || e.Local != event.Local{}) {
			t.Errorf("%s: %+v, %v; want %+v", l, h, err, e)
		}
	}
	for _, bad := range []string{"", "{}", `{"msys":{"track_event":{"type":"open"}}}`, `{"msys":{"track_event":{"type":"x","event_id":"6","message_id":"m","timestamp":"7"}}}`} {
		if h, err := readHead([]byte(bad)); err == nil {
			t.Errorf("%s: %+v", bad, h)
		}
	}
}

func removeAll(t *testing.T, dir, glob string) {
	t.Helper()

	names, err := filepath.Glob(filepath.Join(dir, glob))
	if err != nil || len(names) == 0 {
		t.Fatalf("%v, %d files", err, len(names))
	}
	for _, n := range names {
		if err := os.Remove(n); err != nil {
			t.Fatal(err)
		}
	}
}
