package ingest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern/cmd/postern/demo/ingestd"
	"postern/tracking/event"
	"postern/tracking/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// sink answers as it is told and keeps what it took.
type sink struct {
	mu     sync.Mutex
	answer func(n int, ndjson string) error
	calls  []string
	taken  []string // lines
}

func (s *sink) Send(ctx context.Context, ndjson []byte) (string, int, error) {
	s.mu.Lock()
	n := len(s.calls)
	s.calls = append(s.calls, string(ndjson))
	s.mu.Unlock()
	if s.answer != nil {
		if err := s.answer(n, string(ndjson)); err != nil {
			return "", 0, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken = append(s.taken, strings.Split(strings.TrimSuffix(string(ndjson), "\n"), "\n")...)
	return fmt.Sprint("id", n), len(ndjson), nil
}

func (s *sink) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.taken...)
}

// line is an event with an id, and perhaps other things.
func line(t testing.TB, id int, change func(*event.Event)) []byte {
	t.Helper()
	e := &event.Event{Type: event.Open, ID: fmt.Sprint(id), MessageID: "m", Timestamp: event.Timestamp{Time: time.Now()}, DelvMethod: "esmtp", RcptTo: "Reader@example.net"}
	if change != nil {
		change(e)
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type rig struct {
	dir   string
	spool *spool.Spool
	sink  *sink
	up    *Uploader
	stop  func()

	stopping <-chan struct{} // closed when stop has told Serve
}

// start opens a spool with some events and an uploader, and serves.
func start(t *testing.T, dir string, s *sink, change func(*Config), lines ...[]byte) *rig {
	t.Helper()
	sp, err := spool.Open(spool.Config{
		Dir:     filepath.Join(dir, "events"),
		Readers: []string{"r"},
		Keep:    time.Hour,
		FS:      unsyncedFS{},
		Log:     quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) > 0 {
		if err := sp.Append(context.Background(), lines...); err != nil {
			t.Fatal(err)
		}
	}
	c := Config{
		Dir:        filepath.Join(dir, "events"),
		Batch:      BatchConfig{Bytes: 1 << 20, Age: 20 * time.Millisecond},
		Uploads:    UploadConfig{MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond},
		Ledger:     LedgerConfig{FS: unsyncedFS{}},
		Quarantine: QuarantineConfig{FS: unsyncedAppendFS{}},
		Log:        quiet,
	}
	if s != nil {
		c.Sink = s
	}
	if change != nil {
		change(&c)
	}
	up, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	src, err := sp.Reader("r")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- up.Serve(ctx, src) }()
	r := &rig{dir: c.Dir, spool: sp, sink: s, up: up, stopping: ctx.Done()}
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
			if err := errors.Join(up.Close(), sp.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		<-tick.C
	}
}

// settled waits until the cursor has passed everything.
func (r *rig) settled(t *testing.T) {
	t.Helper()
	wait(t, "the cursor", func() bool { return spool.Cursor(r.dir, "r") == r.spool.Newest() })
}

func refusal(status int, words string) error { return &Refusal{Status: status, Words: words} }

func TestAnswers(t *testing.T) {
	t.Parallel()

	poison := func(bad ...string) func(int, string) error {
		return func(_ int, ndjson string) error {
			for _, b := range bad {
				if strings.Contains(ndjson, `"event_id":"`+b+`"`) {
					return refusal(400, "invalid event "+b)
				}
			}
			return nil
		}
	}
	for _, c := range []struct {
		name   string
		answer func(int, string) error
		taken  int
		aside  int
		status string
	}{
		{"taken at once", nil, 9, 0, Sent},
		{"no answer, then taken", func(n int, _ string) error {
			if n < 3 {
				return errors.New("connection reset")
			}
			return nil
		}, 9, 0, Sent},
		{"429 and 503", func(n int, _ string) error {
			if n < 2 {
				return refusal(429+n*74, "slow down")
			}
			return nil
		}, 9, 0, Sent},
		{"a refused key pauses and loses nothing", func(n int, _ string) error {
			if n < 3 {
				return refusal(401, "who are you")
			}
			return nil
		}, 9, 0, Sent},
		{"413 is split", func(_ int, s string) error {
			if strings.Count(s, "\n") > 2 {
				return refusal(413, "too large")
			}
			return nil
		}, 9, 0, Sent},
		{"a poison event is quarantined alone", poison("5"), 8, 1, Partly},
		{"two of them", poison("1", "9"), 7, 2, Partly},
		{"all of them", func(int, string) error { return refusal(422, "no") }, 0, 9, Partly},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			var lines [][]byte
			for i := 1; i <= 9; i++ {
				lines = append(lines, line(t, i, nil))
			}
			r := start(t, t.TempDir(), &sink{answer: c.answer}, nil, lines...)
			r.settled(t)
			r.stop()
			if got := r.sink.lines(); len(got) != c.taken {
				t.Errorf("%d events were taken, want %d", len(got), c.taken)
			}
			aside := readAside(t, r.dir)
			if strings.Count(aside, "\n") != c.aside {
				t.Errorf("quarantined: %s", aside)
			}
			entries, err := Batches(r.dir)
			if err != nil || len(entries) != 1 || entries[0].Status != c.status || entries[0].Events != 9 ||
				entries[0].Quarantined != c.aside {
				t.Errorf("ledger %+v, %v", entries, err)
			}
		})
	}
}

func readAside(t *testing.T, dir string) string {
	t.Helper()
	var out bytes.Buffer
	files, _ := filepath.Glob(filepath.Join(dir, "rejected", "*.ndjson"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	return out.String()
}

func TestFilter(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		old := func(e *event.Event) { e.Timestamp.Time = time.Now().Add(-25 * time.Hour) }
		clicked := func(e *event.Event) {
			e.Type, e.TargetLinkURL, e.TargetLinkName = event.Click, "http://x.example/", "x"
		}
		r := start(t, t.TempDir(), &sink{}, func(c *Config) { c.Filter.Types, c.Filter.HashRecipients = map[event.Type]bool{event.Open: true}, true },
			line(t, 1, nil), line(t, 2, clicked), line(t, 3, old), []byte("no event"), line(t, 4, nil))
		r.settled(t)
		r.stop()
		got := r.sink.lines()
		if len(got) != 2 {
			t.Fatalf("taken: %v", got)
		}
		for _, l := range got {
			e, err := event.Decode([]byte(l))
			if err != nil || e.RcptTo != "" || e.RcptDomain != "example.net" ||
				e.RcptHash != "gN3oX/dr42gxKyDAaPy+nl+86aI=" {
				t.Errorf("%s, %v", l, err)
			}
		}
		if aside := readAside(t, r.dir); !strings.Contains(aside, `"reason":"expired"`) ||
			!strings.Contains(aside, `"reason":"unreadable"`) || strings.Count(aside, "\n") != 2 {
			t.Errorf("quarantined: %s", aside)
		}
	})
}

// TestMachines: what no person did is uploaded as the configuration says, and
// never with what stands beside the API's object.
func TestMachines(t *testing.T) {
	t.Parallel()

	by := func(typ event.Type, kind string) func(*event.Event) {
		return func(e *event.Event) {
			e.Type, e.Class, e.IsPrefetched = typ, event.Class{Kind: kind, Reason: "test"}, typ == event.Open
			e.UserAgentParsed = nil
			if typ == event.LinkUnsubscribe {
				e.TargetLinkURL, e.UserAgent, e.IPAddress = "https://x.example/", "x", ""
			}
		}
	}
	for _, c := range []struct {
		name     string
		machines map[string]string
		want     string // ids, with + where the event is marked
	}{
		{"default", nil, "1 2+ 3+"},
		{"prefetch as a person's", map[string]string{event.Prefetch: Person}, "1 2 3+"},
		{"scanners dropped", map[string]string{event.Prefetch: Mark, event.Scanner: Drop}, "1 2+"},
		{"scanners as persons: they unsubscribe", map[string]string{event.Scanner: Person}, "1 2+ 3 4"},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			r := start(t, t.TempDir(), &sink{}, func(u *Config) { u.Filter.Machines = c.machines },
				line(t, 1, nil), line(t, 2, by(event.Open, event.Prefetch)), line(t, 3, by(event.Open, event.Scanner)), line(t, 4, by(event.LinkUnsubscribe, event.Scanner)))
			r.settled(t)
			r.stop()
			var got []string
			for _, l := range r.sink.lines() {
				e, err := event.Decode([]byte(l))
				if err != nil || strings.Contains(l, "postern") {
					t.Fatalf("%s: %v", l, err)
				}
				mark := ""
				if e.IsPrefetched {
					mark = "+"
				}
				got = append(got, e.ID+mark)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("uploaded %v, want %s", got, c.want)
			}
		})
	}
}

// TestCrash: the service takes a batch and its answer is lost; after a restart
// the batch goes again with the same bytes, whatever came behind it.
func TestCrash(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		gone := make(chan struct{})
		first := &sink{answer: func(int, string) error { close(gone); return errors.New("answer lost") }}
		r := start(t, dir, first, func(c *Config) { c.Uploads.MinBackoff, c.Uploads.MaxBackoff = time.Hour, time.Hour }, line(t, 1, nil), line(t, 2, nil))
		<-gone
		r.stop()
		second := &sink{}
		r = start(t, dir, second, nil, line(t, 3, nil))
		r.settled(t)
		r.stop()
		if len(second.calls) != 2 || second.calls[0] != first.calls[0] {
			t.Errorf("first %q\nthen %q", first.calls, second.calls)
		}
		entries, err := Batches(r.dir)
		if err != nil || len(entries) != 2 || entries[0].Batch == entries[1].Batch {
			t.Errorf("ledger %+v, %v", entries, err)
		}
	})
}

// TestTakenAndNotCommitted: the service took a batch, the ledger says so, and
// the cursor was not written; after a restart the batch does not go again.
func TestTakenAndNotCommitted(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := start(t, dir, &sink{}, nil, line(t, 1, nil), line(t, 2, nil))
		r.settled(t)
		r.stop()
		cursor := filepath.Join(r.dir, "cursor-r")
		if err := os.Remove(cursor); err != nil {
			t.Fatal(err)
		}
		second := &sink{}
		r = start(t, dir, second, nil, line(t, 3, nil))
		r.settled(t)
		r.stop()
		if got := second.lines(); len(got) != 1 || !strings.Contains(got[0], `"event_id":"3"`) {
			t.Errorf("went again: %q", got)
		}
		if _, err := os.Stat(cursor); err != nil {
			t.Error(err)
		}
	})
}

// TestOrder has several uploads in flight; the cursor waits for the first.
func TestOrder(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &sink{answer: func(_ int, ndjson string) error {
			if strings.Contains(ndjson, `"event_id":"1"`) {
				<-release
			}
			return nil
		}}
		r := start(t, t.TempDir(), s, func(c *Config) { c.Batch.Bytes = 1 }, line(t, 1, nil), line(t, 2, nil), line(t, 3, nil))
		wait(t, "the later batches", func() bool { return len(s.lines()) == 2 })
		if at := spool.Cursor(r.dir, "r"); at != (spool.Position{}) {
			t.Errorf("the cursor went past a batch that is under way: %+v", at)
		}
		close(release)
		r.settled(t)
		r.stop()
	})
}

func TestSignals(t *testing.T) {
	t.Parallel()

	const key = "0123456789012345678901234567890123456789"
	server := &ingestd.Server{Key: key}
	var n int
	var mode string
	var mu sync.Mutex
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n++
		m := mode
		mu.Unlock()
		switch m {
		case "late":
			io.Copy(io.Discard, r.Body) // or the server does not see the client go
			<-r.Context().Done()
		case "cut":
			panic(http.ErrAbortHandler)
		case "html":
			w.Write([]byte("<html>"))
		case "slow down":
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(429)
			w.Write([]byte(`{"errors":[{"message":"slow down"}]}`))
		default:
			server.ServeHTTP(w, r)
		}
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(quiet.Handler(), slog.LevelInfo)
	defer srv.Close()
	s := &Signals{URL: srv.URL, APIKey: key, Client: &http.Client{Transport: srv.Client().Transport}}
	body := append(line(t, 1, nil), '\n')
	for _, c := range []struct {
		mode, key string
		want      string
		after     time.Duration
	}{
		{mode: "", want: ""},
		{mode: "", key: "wrong", want: "HTTP 401: wrong API key"},
		{mode: "late", want: "Client.Timeout"},
		{mode: "cut", want: "EOF"},
		{mode: "html", want: "without a batch id"},
		{mode: "slow down", want: "HTTP 429: slow down", after: 7 * time.Second},
	} {
		t.Run(c.mode+c.key, func(t *testing.T) {
			mu.Lock()
			mode = c.mode
			mu.Unlock()
			s.APIKey = cmp.Or(c.key, key)
			s.Client.Timeout = time.Minute
			if c.mode == "late" {
				s.Client.Timeout = 20 * time.Millisecond
			}
			_, _, err := s.Send(context.Background(), body)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if strings.Contains(fmt.Sprint(err), key) {
				t.Error("the key is in the error")
			}
			var r *Refusal
			if errors.As(err, &r) && r.RetryAfter != c.after {
				t.Errorf("Retry-After %s", r.RetryAfter)
			}
		})
	}
	if got := server.Events(); len(got) != 1 || got[0].ID != "1" {
		t.Errorf("the service has %v", got)
	}
}

// TestClockJump moves our clock a day ahead while events wait: the service's
// own clock decides what is too old, so nothing is quarantined.
func TestClockJump(t *testing.T) {
	t.Parallel()

	const key = "0123456789012345678901234567890123456789"
	for _, jump := range []time.Duration{25 * time.Hour, -25 * time.Hour} {
		server := &ingestd.Server{Key: key}
		srv := httptest.NewServer(server)
		var now atomic.Int64
		s := &Signals{URL: srv.URL, APIKey: key, Client: srv.Client()}
		r := start(t, t.TempDir(), nil, func(c *Config) {
			c.Sink = s
			c.Now = func() time.Time { return time.Now().Add(time.Duration(now.Load())) }
		}, line(t, 1, nil))
		r.settled(t)
		now.Store(int64(jump))
		if err := r.spool.Append(context.Background(), line(t, 2, nil)); err != nil {
			t.Fatal(err)
		}
		r.settled(t)
		r.stop()
		if got := server.Events(); len(got) != 2 || got[0].ID != "1" || got[1].ID != "2" {
			t.Errorf("jump of %s: the service has %d events; quarantined: %s", jump, len(got), readAside(t, r.dir))
		}
		srv.Close()
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()

	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == "/api/v1/events/ingest" {
			fmt.Fprintf(w, `{"results":[{"type":"success","batch_id":%q,"number_succeeded":1,"number_failed":1,"number_duplicates":0}]}`, r.URL.Query().Get("batch_ids"))
			return
		}
		io.WriteString(w, `{"results":{"id":"b-1"}}`)
	}))
	defer srv.Close()
	s := &Signals{URL: srv.URL + "/api/v1/ingest/events", APIKey: "k", Client: srv.Client()}
	r := start(t, t.TempDir(), nil, func(c *Config) { c.Sink, c.PollOutcomes = s, true }, line(t, 1, nil), line(t, 2, nil))
	r.settled(t)
	if err := r.up.pollOnce(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	r.stop()
	entries, err := Batches(r.dir)
	if err != nil || len(entries) != 1 || len(entries[0].Outcomes) != 1 ||
		entries[0].Outcomes[0].Failed != 1 || entries[0].Status != Sent {
		t.Errorf("%+v, %v", entries, err)
	}
}

// TestMany uploads many events; POSTERN_EVENTS says how many.
func TestMany(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("POSTERN_EVENTS"))
	if err != nil {
		n = 20_000
	}
	s := &counting{}
	r := start(t, t.TempDir(), nil, func(c *Config) { c.Sink, c.Batch.Bytes = s, 4<<20 })
	begin := time.Now()
	for i := 0; i < n; i += 1000 {
		lines := make([][]byte, 1000)
		for j := range lines {
			lines[j] = line(t, i+j, nil)
		}
		if err := r.spool.Append(context.Background(), lines...); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, "all events", func() bool { return int(s.events.Load()) == n })
	took := time.Since(begin)
	r.settled(t)
	r.stop()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d events appended and uploaded in %s, %d MiB from the system", n, took.Round(time.Millisecond), m.Sys>>20)
	if m.Sys > 512<<20 {
		t.Errorf("%d MiB", m.Sys>>20)
	}
}

type counting struct{ events atomic.Int64 }

func (c *counting) Send(_ context.Context, ndjson []byte) (string, int, error) {
	c.events.Add(int64(bytes.Count(ndjson, []byte("\n"))))
	return "x", len(ndjson), nil
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()

	now := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{"": 0, "5": 5 * time.Second, "-5": 0, "x": 0, "999999999": time.Hour, "Tue, 24 Nov 2026 08:01:00 GMT": time.Minute, "Tue, 24 Nov 2026 07:00:00 GMT": 0} {
		if got := retryAfter(v, now); got != want {
			t.Errorf("%q: %s, want %s", v, got, want)
		}
	}
}

func BenchmarkUpload(b *testing.B) {
	dir := b.TempDir()
	sp, err := spool.Open(spool.Config{Dir: filepath.Join(dir, "events"), Readers: []string{"r"}, Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer sp.Close()
	lines := make([][]byte, 1000)
	for i := range lines {
		lines[i] = line(b, i, nil)
	}
	up, err := New(Config{Dir: filepath.Join(dir, "events"), Sink: &discard{}, Batch: BatchConfig{Bytes: 4 << 20, Age: time.Second}, Log: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer up.Close()
	src, _ := sp.Reader("r")
	g := &gatherer{u: up, src: src}
	n := 0
	for b.Loop() {
		if n%1000 == 0 {
			b.StopTimer()
			if err := sp.Append(context.Background(), lines...); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		r, err := g.read(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		up.add(&batch{}, r)
		n++
	}
}

type discard struct{}

func (discard) Send(context.Context, []byte) (string, int, error) { return "x", 0, nil }
