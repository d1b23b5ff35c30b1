package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/gzip"
)

// answers is a service that answers as it is told, and sees whether answers are
// closed.
type answers struct {
	status   int
	header   http.Header
	body     io.Reader
	err      error
	requests []*http.Request
	bodies   []string // of the requests, as they came
	open     int
}

type countedBody struct {
	io.Reader
	a *answers
}

func (b countedBody) Close() error {
	b.a.open--
	return nil
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	a.requests = append(a.requests, r)
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		a.bodies = append(a.bodies, string(b))
	}
	if a.err != nil {
		return nil, a.err
	}
	if a.header == nil {
		a.header = http.Header{}
	}
	a.open++

	return &http.Response{StatusCode: a.status, Header: a.header, Body: countedBody{a.body, a}, Request: r}, nil
}

// asked is Signals with that service behind it.
func asked(a *answers) *Signals {
	return &Signals{
		URL:    "https://ingest.example/api/v1/ingest/events",
		APIKey: testKey,
		Client: &http.Client{Transport: a},
	}
}

// TestUploadRequest is what the service's documentation asks for.
func TestUploadRequest(t *testing.T) {
	a := &answers{status: 200, body: strings.NewReader(`{"results":{"id":"b-1"}}`)}
	s := asked(a)
	for i, text := range []string{"first\n", strings.Repeat("second\n", 1000)} {
		a.body = strings.NewReader(`{"results":{"id":"b-1"}}`)
		id, wire, err := s.Send(t.Context(), []byte(text))
		if err != nil || id != "b-1" || wire != len(a.bodies[i]) || wire == 0 {
			t.Errorf("got %s, %d bytes, %v, want b-1 and %d bytes", id, wire, err, len(a.bodies[i]))
		}
		z, err := gzip.NewReader(strings.NewReader(a.bodies[i]))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(z); err != nil || string(got) != text {
			t.Errorf("uploaded %.40q, %v, want %.40q", got, err, text)
		}
	}
	r := a.requests[0]
	if r.Method != http.MethodPost || r.URL.String() != s.URL {
		t.Errorf("got %s %s", r.Method, r.URL)
	}
	for name, want := range map[string]string{
		"Authorization":    testKey,
		"Content-Type":     "application/x-ndjson",
		"Content-Encoding": "gzip",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if a.open != 0 {
		t.Errorf("%d answers are open at the end", a.open)
	}
}

// TestAnswersToAnUpload and what is made of them.
func TestAnswersToAnUpload(t *testing.T) {
	broken := func(text string) io.Reader {
		return io.MultiReader(strings.NewReader(text), iotest.ErrReader(errors.New("cut off")))
	}
	long := strings.Repeat("x", 64<<10)
	for _, c := range []struct {
		name   string
		status int
		body   io.Reader
		err    error
		want   string // error, "" for none
	}{
		{"taken", 200, strings.NewReader(`{"results":{"id":"b"}}`), nil, ""},
		{"accepted", 202, strings.NewReader(`{"results":{"id":"b"}}`), nil, ""},
		{"as long as is read", 200, strings.NewReader(`{"results":{"id":"b"},"x":"` + long[:len(long)-29] + `"}`), nil, ""},
		{"longer", 200, strings.NewReader(`{"results":{"id":"b"},"x":"` + long[:len(long)-28] + `"}`), nil, "HTTP 200 without a batch id"},
		{"without an id", 200, strings.NewReader(`{"results":{}}`), nil, `HTTP 200 without a batch id: "{\"results\":{}}"`},
		{"a page", 200, strings.NewReader("<html>" + long), nil, `HTTP 200 without a batch id: "<html>` + long[:194] + `"`},
		{"cut off", 200, broken(`{"results":{"id":"b"}}`), nil, "cut off"},
		{"refused", 400, strings.NewReader(`{"errors":[{"message":"bad event"}]}`), nil, "HTTP 400: bad event"},
		{"refused, and cut off", 413, broken("too lar"), nil, `HTTP 413: "too lar"`},
		{"redirected", 302, strings.NewReader(""), nil, `HTTP 302: ""`},
		{"no answer", 0, nil, errors.New("connection reset"), "connection reset"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &answers{status: c.status, body: c.body, err: c.err}
			id, wire, err := asked(a).Send(t.Context(), []byte("{}\n"))
			switch {
			case c.want == "" && (err != nil || id != "b"):
				t.Errorf("got %s, %v, want b", id, err)
			case c.want != "" && (err == nil || id != "" || !strings.HasSuffix(err.Error(), c.want) &&
				!strings.HasPrefix(err.Error(), c.want)):
				t.Errorf("got %s, %.300v, want %.300s", id, err, c.want)
			}
			if wire == 0 || a.open != 0 {
				t.Errorf("%d bytes over the wire, %d answers open", wire, a.open)
			}
			var r *Refusal
			if got := errors.As(err, &r); got != strings.HasPrefix(c.want, "HTTP") && c.status/100 != 2 {
				t.Errorf("a refusal: %t", got)
			}
		})
	}

	s := asked(&answers{})
	s.URL = ":"
	if _, wire, err := s.Send(t.Context(), []byte("{}\n")); err == nil || wire == 0 {
		t.Errorf("no address: got %d bytes, %v", wire, err)
	}
}

func TestWords(t *testing.T) {
	for answer, want := range map[string]string{
		`{"errors":[{"message":"one"},{"message":"two"}]}`: "one",
		`{"errors":[{"message":""}]}`:                      `"{\"errors\":[{\"message\":\"\"}]}"`,
		`{"errors":[]}`:                                    `"{\"errors\":[]}"`,
		`{"errors":[{"message":"one"}]`:                    `"{\"errors\":[{\"message\":\"one\"}]"`,
		strings.Repeat("x", 201):                           `"` + strings.Repeat("x", 200) + `"`,
	} {
		if got := words([]byte(answer)); got != want {
			t.Errorf("%s: got %s, want %s", answer, got, want)
		}
	}
}

// TestRetryAfterIsKept of a refusal.
func TestRetryAfterIsKept(t *testing.T) {
	a := &answers{status: 429, header: http.Header{"Retry-After": {"90"}}, body: strings.NewReader("")}
	_, _, err := asked(a).Send(t.Context(), []byte("{}\n"))
	var r *Refusal
	if !errors.As(err, &r) || r.RetryAfter != 90*time.Second || r.Status != 429 {
		t.Errorf("got %+v, want 90s", err)
	}

	now := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"0": 0, "1": time.Second, "3600": time.Hour, "3601": time.Hour,
		"Tue, 24 Nov 2026 09:00:00 GMT": time.Hour, "Tue, 24 Nov 2026 09:00:01 GMT": time.Hour,
	} {
		if got := retryAfter(v, now); got != want {
			t.Errorf("%q: got %s, want %s", v, got, want)
		}
	}
}

// TestServiceTime: the dates that are believed, to the second.
func TestServiceTime(t *testing.T) {
	const taken = `{"results":{"id":"b"}}`
	for _, c := range []struct {
		name   string
		status int
		off    time.Duration
		known  bool
	}{
		{"48 hours ahead, in an answer that took a batch", 200, 48 * time.Hour, true},
		{"a second more", 200, 48*time.Hour + time.Second, false},
		{"48 hours behind", 200, -48 * time.Hour, true},
		{"a second more", 200, -48*time.Hour - time.Second, false},
		{"an hour ahead, in another", 503, time.Hour, true},
		{"a second more", 503, time.Hour + time.Second, false},
		{"an hour behind", 503, -time.Hour, true},
		{"a second more", 503, -time.Hour - time.Second, false},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			a := &answers{status: c.status, body: strings.NewReader(taken), header: http.Header{}}
			a.header.Set("Date", time.Now().Add(c.off).UTC().Format(http.TimeFormat))
			s := asked(a)
			if got, known := s.ServiceTime(time.Now()); known || !got.Equal(time.Now()) {
				t.Errorf("before an answer: got %s, %t", got, known)
			}
			_, _, err := s.Send(t.Context(), []byte("{}\n"))
			if (err == nil) != (c.status == 200) {
				t.Fatal(err)
			}
			time.Sleep(90 * time.Second)
			want := time.Now()
			if c.known {
				want = want.Add(c.off)
			}
			if got, known := s.ServiceTime(time.Now()); known != c.known || !got.Equal(want) {
				t.Errorf("got %s, %t, want %s, %t", got, known, want, c.known)
			}
		})
	}

	inBubble(t, "our clock jumps", func(t *testing.T) {
		s := &Signals{}
		s.noteDate(http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}, time.Now())
		for _, c := range []struct {
			jump  time.Duration
			known bool
		}{{48 * time.Hour, true}, {48*time.Hour + 1, false}, {-48 * time.Hour, true}, {-48*time.Hour - 1, false}} {
			ours := time.Now().Add(c.jump)
			want := time.Now()
			if !c.known {
				want = ours
			}
			if got, known := s.ServiceTime(ours); known != c.known || !got.Equal(want) {
				t.Errorf("by %s: got %s, %t, want %s, %t", c.jump, got, known, want, c.known)
			}
		}
	})

	inBubble(t, "a better date stays", func(t *testing.T) {
		s := &Signals{}
		now := time.Now()
		date := func(off time.Duration) http.Header {
			return http.Header{"Date": {now.Add(off).UTC().Format(http.TimeFormat)}}
		}
		s.noteOtherDate(date(time.Minute), now)
		s.noteOtherDate(date(2*time.Minute), now)
		if got, _ := s.ServiceTime(now); got.Sub(now) != time.Minute {
			t.Errorf("got %s ahead, want that of the first", got.Sub(now))
		}
		s.noteDate(date(3*time.Minute), now)
		s.noteOtherDate(date(4*time.Minute), now)
		if got, _ := s.ServiceTime(now); got.Sub(now) != 3*time.Minute {
			t.Errorf("got %s ahead, want that of the service", got.Sub(now))
		}
		s.noteDate(http.Header{"Date": {"yesterday"}}, now)
		if got, known := s.ServiceTime(now); !known || got.Sub(now) != 3*time.Minute {
			t.Errorf("got %s ahead, want that of the service still", got.Sub(now))
		}
	})
}

// TestHTTPClient: none but one with a time-out, and one's own as it is.
func TestHTTPClient(t *testing.T) {
	c := (&Signals{}).client()
	if c.Timeout != time.Minute || !errors.Is(c.CheckRedirect(nil, nil), http.ErrUseLastResponse) {
		t.Errorf("got a time-out of %s", c.Timeout)
	}

	own := &http.Client{Timeout: time.Hour}
	c = (&Signals{Client: own}).client()
	if c.Timeout != time.Hour || !errors.Is(c.CheckRedirect(nil, nil), http.ErrUseLastResponse) ||
		own.CheckRedirect != nil {
		t.Errorf("got a time-out of %s; the caller's client follows %t", c.Timeout, own.CheckRedirect == nil)
	}
	other := errors.New("other")
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return other }
	if c = (&Signals{Client: own}).client(); !errors.Is(c.CheckRedirect(nil, nil), other) {
		t.Error("the caller's own rule is lost")
	}
}

// TestOutcomesRequest asks where the service tells of batches, and says why it
// learned nothing.
func TestOutcomesRequest(t *testing.T) {
	a := &answers{status: 200, body: strings.NewReader(`{"results":[{"type":"error","batch_id":"a","number_succeeded":1,` +
		`"number_failed":2,"number_duplicates":3,"error_type":"validation","retryable":true}]}`)}
	got, err := asked(a).Outcomes(t.Context(), []string{"a", "b c"})
	want := Outcome{Type: "error", BatchID: "a", Succeeded: 1, Failed: 2, Duplicates: 3, ErrorType: "validation", Retryable: true}
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	r := a.requests[0]
	if u := r.URL.String(); r.Method != http.MethodGet ||
		u != "https://ingest.example/api/v1/events/ingest?batch_ids=a%2Cb+c" {
		t.Errorf("got %s %s", r.Method, u)
	}
	if got := r.Header.Get("Authorization"); got != testKey || a.open != 0 {
		t.Errorf("got the key %q, %d answers open", got, a.open)
	}

	long := `{"results":[],"x":"` + strings.Repeat("x", 1<<20-21) + `"}`
	for _, c := range []struct {
		name   string
		status int
		body   io.Reader
		err    error
		want   string
	}{
		{"refused", 404, strings.NewReader(`{"errors":[{"message":"nowhere"}]}`), nil, "HTTP 404: nowhere"},
		{"not as asked", 206, strings.NewReader(`{}`), nil, "HTTP 206"},
		{"a page", 200, strings.NewReader("<html>"), nil, "ingest: outcomes: invalid"},
		{"cut off", 200, iotest.ErrReader(errors.New("cut off")), nil, "cut off"},
		{"no answer", 0, nil, errors.New("connection reset"), "connection reset"},
		{"as long as is read", 200, strings.NewReader(long), nil, ""},
		{"longer", 200, strings.NewReader(long[:20] + "x" + long[20:]), nil, "ingest: outcomes: unexpected end"},
	} {
		a := &answers{status: c.status, body: c.body, err: c.err}
		_, err := asked(a).Outcomes(t.Context(), []string{"a"})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
		if a.open != 0 {
			t.Errorf("%s: %d answers are open", c.name, a.open)
		}
	}
	s := asked(&answers{})
	s.URL = ":"
	if _, err := s.Outcomes(t.Context(), nil); err == nil {
		t.Error("no address: got no error")
	}
	s.URL = "x://y"
	if _, err := s.Outcomes(nil, nil); err == nil { //nolint:staticcheck // that is what cannot be asked with
		t.Error("no context: got no error")
	}
}

// TestWhichOutcomesAreExpected: of batches of the last 24 hours that are done
// with, those that are not known.
func TestWhichOutcomesAreExpected(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name string
		e    Entry
		want int
	}{
		{"sent", Entry{At: now, Status: Sent, IDs: []string{"a", "b"}}, 2},
		{"partly", Entry{At: now, Status: Partly, IDs: []string{"a"}}, 1},
		{"planned", Entry{At: now, Status: Planned, IDs: []string{"a"}}, 0},
		{"failing", Entry{At: now, Status: Failing, IDs: []string{"a"}}, 0},
		{"one is known", Entry{At: now, Status: Sent, IDs: []string{"a", "b"}, Outcomes: []Outcome{{BatchID: "a"}}}, 1},
		{"nearly a day old", Entry{At: now.Add(-24*time.Hour + 1), Status: Sent, IDs: []string{"a"}}, 1},
		{"a day old", Entry{At: now.Add(-24 * time.Hour), Status: Sent, IDs: []string{"a"}}, 0},
	} {
		o := &outcomes{}
		o.expect(c.e, now)
		if o.len() != c.want {
			t.Errorf("%s: got %d, want %d", c.name, o.len(), c.want)
		}
		if c.want == 0 {
			continue
		}
		if got := o.next(1, c.e.At.Add(24*time.Hour-1)); len(got) != 1 || o.len() != c.want-1 {
			t.Errorf("%s: took %d, %d are left", c.name, len(got), o.len())
		}
		o.back([]pending{{"z", &c.e}})
		if got := o.next(9, c.e.At.Add(24*time.Hour)); len(got) != 0 || o.len() != 0 {
			t.Errorf("%s: a day later: took %d, %d are left, want none", c.name, len(got), o.len())
		}
	}

	o := &outcomes{}
	ids := make([]string, 100_001)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	o.expect(Entry{At: now, Status: Sent, IDs: ids}, now)
	if o.len() != 100_000 || o.pending[0].id != "1" {
		t.Errorf("%d are expected from %s on, want the newest 100000", o.len(), o.pending[0].id)
	}
}

// asking is a sink that answers questions about outcomes.
type asking struct {
	*sink
	times  []time.Time
	ids    [][]string
	answer func(ids []string) ([]Outcome, error)
}

func (a *asking) Outcomes(_ context.Context, ids []string) ([]Outcome, error) {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.times = append(a.times, time.Now())
	a.ids = append(a.ids, append([]string(nil), ids...))
	return a.answer(ids)
}

// asked returns how often it was asked.
func (a *asking) asked() int {
	a.mu.Lock()
	defer a.mu.Unlock()

	return len(a.times)
}

// firstPending is the upload that is asked for next.
func firstPending(u *Uploader) string {
	u.outcomes.mu.Lock()
	defer u.outcomes.mu.Unlock()

	return u.outcomes.pending[0].id
}

// set changes what it answers.
func (a *asking) set(answer func(ids []string) ([]Outcome, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.answer = answer
}

// TestOutcomesArePolled each minute, and what was refused is said.
func TestOutcomesArePolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logged
		var fails atomic.Bool
		fails.Store(true)
		a := &asking{sink: &sink{}}
		a.answer = func(ids []string) (out []Outcome, err error) {
			if fails.Load() {
				return nil, errors.New("not now")
			}
			return []Outcome{
				{BatchID: "a", Type: "success", Succeeded: 1},
				{BatchID: "b", Type: "success", Failed: 1},
				{BatchID: "c", Type: "error", ErrorType: "validation"},
			}, nil
		}
		u := ledgerOnly(t, t.TempDir(), func(c *Config) {
			c.Sink = a
			c.PollOutcomes = true
			c.Log = textLog(&log)
		})
		u.outcomes.expect(Entry{Batch: 3, At: time.Now(), Status: Sent, IDs: []string{"a", "b", "c", "d"}}, time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			u.poll(ctx, pollEvery)
		}()

		time.Sleep(time.Minute - 1)
		synctest.Wait()
		if a.asked() != 0 {
			t.Errorf("asked before a minute is over")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if a.asked() != 1 || u.outcomes.len() != 4 || !strings.Contains(log.String(), "not now") {
			t.Errorf("asked %d times, %d are open, log %q", a.asked(), u.outcomes.len(), log.String())
		}
		fails.Store(false)
		log.Reset()
		time.Sleep(time.Minute)
		synctest.Wait()
		if a.asked() != 2 || u.outcomes.len() != 1 || firstPending(u) != "d" {
			t.Errorf("asked %d times, %d are open, want d", a.asked(), u.outcomes.len())
		}
		e := onlyBatch(t, u.cfg.Dir)
		if len(e.Outcomes) != 3 || e.Batch != 3 || ledgerRecords(t, u.cfg.Dir) != 1 {
			t.Errorf("got %+v in %d records, want three outcomes in one", e, ledgerRecords(t, u.cfg.Dir))
		}
		if n := strings.Count(log.String(), "did not accept all"); n != 2 ||
			!strings.Contains(log.String(), "id=b failed=1") ||
			!strings.Contains(log.String(), "id=c failed=0 error_type=validation") {
			t.Errorf("got log %q, want a word of b and of c", log.String())
		}

		log.Reset()
		a.set(func([]string) ([]Outcome, error) {
			cancel()
			return nil, ctx.Err()
		})
		time.Sleep(time.Minute)
		<-done
		if log.String() != "" {
			t.Errorf("at the end: got log %q", log.String())
		}
	})
}

// TestOutcomesInPieces: fifty uploads in a question, twenty questions.
func TestOutcomesInPieces(t *testing.T) {
	a := &asking{sink: &sink{}, answer: func([]string) ([]Outcome, error) { return nil, nil }}
	u := ledgerOnly(t, t.TempDir(), func(c *Config) { c.Sink = a })
	ids := make([]string, 1020)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	u.outcomes.expect(Entry{At: time.Now(), Status: Sent, IDs: ids}, time.Now())
	if err := u.pollOnce(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if len(a.ids) != 20 || len(a.ids[0]) != 50 || len(a.ids[19]) != 50 || a.ids[0][0] != "0" {
		t.Errorf("%d questions of %d uploads, want 20 of 50", len(a.ids), len(a.ids[0]))
	}
	if u.outcomes.pending[0].id != "1000" || u.outcomes.len() != 1020 {
		t.Errorf("%d are open, %s next, want all from 1000 on", u.outcomes.len(), u.outcomes.pending[0].id)
	}

	a.answer = func([]string) ([]Outcome, error) { return nil, errors.New("not now") }
	if err := u.pollOnce(t.Context(), a); err == nil || len(a.ids) != 21 || u.outcomes.len() != 1020 {
		t.Errorf("got %v after %d questions, %d are open; want the error at once, and all", err, len(a.ids)-20, u.outcomes.len())
	}
}

// TestOutcomesAreNotPolled where nobody wants them, or nobody can tell.
func TestOutcomesAreNotPolled(t *testing.T) {
	for name, c := range map[string]struct {
		sink Sink
		poll bool
	}{
		"not wanted": {&asking{sink: &sink{}}, false},
		"no sink":    {&sink{}, true},
	} {
		u := ledgerOnly(t, t.TempDir(), func(cfg *Config) { cfg.Sink, cfg.PollOutcomes = c.sink, c.poll })
		u.poll(t.Context(), time.Hour) // returns at once
		if t.Context().Err() != nil {
			t.Errorf("%s: it waited", name)
		}
	}
}
