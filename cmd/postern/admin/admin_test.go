package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"postern/cmd/postern/config"
	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/tracking/event"
	"postern/tracking/spool"
)

func TestQueueIsMeasured(t *testing.T) {
	dir := t.TempDir()
	q, err := queue.Open(queue.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	RegisterQueueAge(reg, q)
	if got := values(t, reg); got["postern_queue_oldest_seconds"] != 0 || got["postern_queue_waiting_bytes"] != 0 || len(got) != 2 {
		t.Errorf("empty: got %v, want 0", got)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}

	waitingCopies(t, dir)
	q, err = queue.Open(queue.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	reg = prometheus.NewRegistry()
	RegisterQueueAge(reg, q)
	got := values(t, reg)
	if age := got["postern_queue_oldest_seconds"]; age < 90 || age > 90+patience.Seconds() {
		t.Errorf("got an age of %v, want 90 seconds", age)
	}
	if size := got["postern_queue_waiting_bytes"]; size < float64(2*len("Subject: one\r\n\r\nbody\r\n")) {
		t.Errorf("got %v bytes, want those of two messages", size)
	}
}

// TestTotalsAddHistogramsAndCounters of both sides, whichever is there.
func TestTotalsAddHistogramsAndCounters(t *testing.T) {
	count := func(v float64) *dto.Metric { return &dto.Metric{Counter: &dto.Counter{Value: pointer(v)}} }
	now := count(3)
	addTo(now, count(4))
	if got := now.Counter.GetValue(); got != 7 {
		t.Errorf("counters: got %v, want 7", got)
	}
	addTo(now, &dto.Metric{})
	addTo(&dto.Metric{}, count(1))
	if got := now.Counter.GetValue(); got != 7 {
		t.Errorf("nothing added: got %v, want 7", got)
	}

	histogram := func(n uint64, sum float64, buckets ...uint64) *dto.Metric {
		h := &dto.Histogram{SampleCount: pointer(n), SampleSum: pointer(sum)}
		for _, b := range buckets {
			h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: pointer(b)})
		}
		return &dto.Metric{Histogram: h}
	}
	h := histogram(3, 1.5, 1, 3)
	addTo(h, histogram(4, 2.5, 2))
	if got := h.Histogram; got.GetSampleCount() != 7 || got.GetSampleSum() != 4 || got.Bucket[0].GetCumulativeCount() != 3 || got.Bucket[1].GetCumulativeCount() != 3 {
		t.Errorf("histograms: got %v", got)
	}
	addTo(h, &dto.Metric{})
	if got := h.Histogram.GetSampleCount(); got != 7 {
		t.Errorf("nothing added: got %v, want 7", got)
	}

	var m dto.Metric
	full := &dto.Metric{Label: []*dto.LabelPair{{}}, Counter: &dto.Counter{}, Gauge: &dto.Gauge{}, Histogram: &dto.Histogram{}, Summary: &dto.Summary{}, Untyped: &dto.Untyped{}}
	if err := (total{value: full}).Write(&m); err != nil || m.Counter == nil || m.Gauge == nil || m.Histogram == nil || m.Summary == nil || m.Untyped == nil || len(m.Label) != 1 {
		t.Errorf("got %v, %v, want every part of it", &m, err)
	}
}

func TestCollectedTakesMetrics(t *testing.T) {
	c := &Collected{}
	a, b := prometheus.NewCounter(prometheus.CounterOpts{Name: "a"}), prometheus.NewCounter(prometheus.CounterOpts{Name: "b"})
	if err := c.Register(a); err != nil {
		t.Fatal(err)
	}
	c.MustRegister(b)
	if c.Unregister(a) || !slices.Equal(c.list, []prometheus.Collector{a, b}) {
		t.Errorf("got %v, want both, in order", c.list)
	}
}

func TestHealthFollowsTheParts(t *testing.T) {
	none := func() error { return nil }
	stuck := func() error { return errors.New("event spool: no sign of life for 2m5s") }
	away := func() error { return errors.New("no upstream can be reached") }
	for _, c := range []struct {
		name, path  string
		alive, mail func() error
		ready       bool
		note        string
		status      int
		body        string
	}{
		{"alive", "/healthz", none, none, false, "", http.StatusOK, "ok"},
		{"stuck", "/healthz", stuck, none, true, "", http.StatusServiceUnavailable, "event spool: no sign of life for 2m5s"},
		{"the upstream is away", "/healthz", none, away, true, "", http.StatusOK, "ok"},
		{"ready", "/readyz", none, none, true, "", http.StatusOK, "ready"},
		{"not ready", "/readyz", none, none, false, "", http.StatusServiceUnavailable, "starting or stopping"},
		{"ready and stuck", "/readyz", stuck, none, true, "", http.StatusServiceUnavailable, "event spool"},
		{"ready and the upstream away", "/readyz", none, away, true, "", http.StatusServiceUnavailable, "no upstream"},
		{"ready, with a note", "/readyz", none, none, true, "mail is queued", http.StatusOK, "ready: mail is queued\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := New(prometheus.NewRegistry(), func(context.Context) (string, error) { return c.note, c.mail() }, c.alive)
			a.Ready.Store(c.ready)
			w := httptest.NewRecorder()

			a.Mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.path, nil))

			if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("got %d %q, want %d with %q", w.Code, w.Body.String(), c.status, c.body)
			}
		})
	}
}

// TestRoutesOfTheOperators: the socket has profiles, the listener has not, and
// neither takes anything but GET.
func TestRoutesOfTheOperators(t *testing.T) {
	a := New(prometheus.NewRegistry(), nil, nil)
	for path, open := range map[string]bool{
		"/metrics":             true,
		healthPath:             true,
		readyPath:              true,
		"/debug/pprof/":        false,
		"/debug/pprof/heap":    false,
		"/debug/pprof/profile": false,
		"/debug/pprof/trace":   false,
	} {
		want := "GET " + path
		if path == "/debug/pprof/heap" {
			want = "GET /debug/pprof/"
		}
		if _, got := a.Mux.Handler(httptest.NewRequest(http.MethodGet, path, nil)); got != want {
			t.Errorf("%s by the socket: got %q, want %q", path, got, want)
		}
		if _, got := a.Open.Handler(httptest.NewRequest(http.MethodGet, path, nil)); (got != "") != open {
			t.Errorf("%s by the listener: got %q, want it there: %v", path, got, open)
		}
		if _, got := a.Mux.Handler(httptest.NewRequest(http.MethodPost, path, nil)); got != "" {
			t.Errorf("POST %s: got %q, want nothing", path, got)
		}
	}
	if a.Ready.Load() {
		t.Error("ready before the start")
	}
	if readyTimeout != 5*time.Second || commandTimeout != time.Minute {
		t.Errorf("got %v and %v, want 5 seconds and a minute", readyTimeout, commandTimeout)
	}
}

// TestReadinessIsBounded: the check gets a deadline.
func TestReadinessIsBounded(t *testing.T) {
	var left time.Duration
	a := New(prometheus.NewRegistry(), func(ctx context.Context) (string, error) {
		by, ok := ctx.Deadline()
		if !ok {
			return "", errors.New("no deadline")
		}
		left = time.Until(by)
		return "", nil
	}, func() error { return nil })
	a.Ready.Store(true)
	w := httptest.NewRecorder()
	a.Mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, readyPath, nil))
	if w.Code != http.StatusOK || w.Body.String() != "ready\n" || left > readyTimeout {
		t.Errorf("got %d %q with %v left, want ready", w.Code, w.Body, left)
	}
}

func TestSocketErrorsSayWhatToDo(t *testing.T) {
	c := config.Default()
	c.Admin.Socket = "/var/lib/postern/admin.sock"
	grouped := *c
	grouped.Admin.SocketGroup = "mailops"
	for _, tc := range []struct {
		name string
		c    *config.Config
		err  error
		want string
	}{
		{"none runs", c, os.ErrNotExist, "no gateway answers on admin.socket: /var/lib/postern/admin.sock"},
		{"one was killed", c, syscall.ECONNREFUSED, "no gateway answers on admin.socket"},
		{"no group", c, syscall.EACCES, "[admin] socket_group names a group that may use it too"},
		{"not in the group", &grouped, syscall.EACCES, "members of group mailops (usermod -aG mailops USER)"},
		{"something else", c, io.ErrUnexpectedEOF, "admin.socket: unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := explainSocket(tc.c, tc.err).Error()
			if !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want it to hold %q", got, tc.want)
			}
		})
	}

	c.Admin.Socket = ""
	if _, err := Ask(context.Background(), c, http.MethodGet, "/queue", nil); !errors.Is(err, ErrNoGateway) {
		t.Errorf("without a socket: got %v, want ErrNoGateway", err)
	}
}

func TestWaitingEventsAreMeasured(t *testing.T) {
	s, err := spool.Open(spool.Config{Dir: t.TempDir(), Readers: []string{"ingest"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m := newBacklogMetrics(s, []string{"ingest"})
	m.now = func() time.Time { return time.Unix(1795500060, 0) }
	reg := prometheus.NewRegistry()
	reg.MustRegister(m)
	check := func(events, size, oldest float64) {
		t.Helper()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		for name, want := range map[string]float64{
			"postern_spool_waiting_events":         events,
			"postern_spool_waiting_bytes":          size,
			"postern_spool_waiting_oldest_seconds": oldest,
		} {
			if got[name] != want {
				t.Errorf("%s: got %v, want %v", name, got[name], want)
			}
		}
	}

	check(0, 0, 0)
	line := strings.TrimSuffix(replayed, "\n")
	if err := s.Append(context.Background(), []byte(line), []byte(line)); err != nil {
		t.Fatal(err)
	}
	check(2, float64(2*(len(line)+10)), 60)
}

// TestRoutesOfTheQueue asks as programs other than ours would.
func TestRoutesOfTheQueue(t *testing.T) {
	dir := t.TempDir()
	waitingCopies(t, dir)
	q, err := queue.Open(queue.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	a := &Server{Mux: http.NewServeMux()}
	a.QueueRoutes(q)

	ask := func(method, path string, header bool) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		if header {
			r.Header.Set(Header, "x")
		}
		w := httptest.NewRecorder()
		a.Mux.ServeHTTP(w, r)
		return w
	}
	for _, path := range []string{"/queue", "/queue?n=x", "/queue?n=0", "/queue?n=-1", "/queue?n=1000"} {
		var list []queue.Waiting
		w := ask(http.MethodGet, path, false)
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != 3 || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: got %d %s, %v, want three copies as JSON", path, w.Code, w.Body, err)
		}
	}
	var list []queue.Waiting
	if w := ask(http.MethodGet, "/queue?n=1", false); json.Unmarshal(w.Body.Bytes(), &list) != nil || len(list) != 1 {
		t.Errorf("/queue?n=1: got %s, want one copy", w.Body)
	}

	w := ask(http.MethodGet, "/queue/id%2Fa", false)
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a copy: got %d %v, want text that is taken for nothing else", w.Code, w.Header())
	}
	for _, path := range []string{"/queue/retry", "/queue/id%2Fa/retry", "/queue/id%2Fa/drop"} {
		if w := ask(http.MethodPost, path, false); w.Code != http.StatusForbidden || w.Body.String() != Header+" is missing\n" {
			t.Errorf("%s without the header: got %d %q, want 403", path, w.Code, w.Body)
		}
	}
	if q.Len() != 3 {
		t.Errorf("got %d copies, want all three still there", q.Len())
	}
	for _, path := range []string{"/queue/nobody/retry", "/queue/nobody/drop"} {
		if w := ask(http.MethodPost, path, true); w.Code != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404", path, w.Code)
		}
	}
	if w := ask(http.MethodGet, "/queue/nobody", false); w.Code != http.StatusNotFound {
		t.Errorf("a copy that is not there: got %d, want 404", w.Code)
	}
	if w := ask(http.MethodPost, "/queue/id%2Fa/drop", true); w.Code != http.StatusOK || w.Body.String() != "id/a dropped\n" {
		t.Errorf("drop: got %d %q", w.Code, w.Body)
	}
}

func TestQueueErrorsHaveTheirStatus(t *testing.T) {
	for err, want := range map[error]int{
		queue.ErrUnknown:        http.StatusNotFound,
		queue.ErrInFlight:       http.StatusConflict,
		errors.New("disk full"): http.StatusInternalServerError,
	} {
		w := httptest.NewRecorder()
		queueError(w, fmt.Errorf("x: %w", err))
		if w.Code != want || w.Body.String() != "x: "+err.Error()+"\n" {
			t.Errorf("%v: got %d %q, want %d", err, w.Code, w.Body, want)
		}
	}
}

func TestRouteOfEventsRefuses(t *testing.T) {
	s, err := spool.Open(spool.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	a := &Server{Mux: http.NewServeMux()}
	a.EventRoutes(s)
	post := func(header, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/events", strings.NewReader(body))
		if header != "" {
			r.Header.Set(Header, header)
		}
		w := httptest.NewRecorder()
		a.Mux.ServeHTTP(w, r)
		return w
	}

	click := string(storedEvent(t, event.Click, "m1"))
	if w := post("", click); w.Code != http.StatusForbidden || w.Body.String() != Header+" is missing\n" {
		t.Errorf("without the header: got %d %q, want 403", w.Code, w.Body)
	}
	if w := post("x", "{}"); w.Code != http.StatusBadRequest || !strings.HasPrefix(w.Body.String(), "1: ") {
		t.Errorf("no event: got %d %q, want 400 and the line", w.Code, w.Body)
	}
	n := 0
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if w := post("x", click); w.Code != http.StatusInsufficientStorage {
		t.Errorf("a spool that takes nothing: got %d %q, want 507", w.Code, w.Body)
	}
	if err := spool.ReadDir(t.TempDir(), func(spool.Record) bool { n++; return true }); err != nil || n != 0 {
		t.Errorf("got %d records, %v, want none", n, err)
	}
}

// TestReplayReadsLongLines: an event is as long as it is.
func TestReplayReadsLongLines(t *testing.T) {
	click := string(storedEvent(t, event.Click, "m1"))
	long := strings.Replace(click, "https://example.com/", "https://example.com/"+strings.Repeat("x", 1<<20), 1)
	if got, err := ReplayLines(strings.NewReader(long)); err != nil || len(got) != 1 {
		t.Errorf("got %d lines, %v, want one", len(got), err)
	}
	if _, err := ReplayLines(strings.NewReader(strings.Repeat("x", 9<<20))); err == nil {
		t.Error("a line of 9 MiB: got no error")
	}
	if got, err := ReplayLines(strings.NewReader("")); err != nil || got != nil {
		t.Errorf("nothing: got %v, %v", got, err)
	}
}

func TestReplayReadsEveryForm(t *testing.T) {
	stored := storedEvent(t, event.Click, "m2")
	ev, err := event.Decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ev.EncodePublic()
	if err != nil {
		t.Fatal(err)
	}

	for name, text := range map[string]string{
		"stored":      string(stored),
		"of tail":     string(public),
		"of a seg":    "01234567 " + string(stored),
		"quarantined": `{"reason":"refused","event":` + string(stored) + `}`,
	} {
		got, err := ReplayLines(strings.NewReader("\n" + text + "\n"))
		if err != nil || len(got) != 1 || string(got[0]) != string(stored) {
			t.Errorf("%s: got %q, %v, want %s", name, got, err, stored)
		}
	}

	if _, err := ReplayLines(strings.NewReader("\n{}\n")); err == nil || !strings.HasPrefix(err.Error(), "2: ") {
		t.Errorf("a line that is no event: %v", err)
	}
}

// patience is more than anything here takes.
const patience = time.Minute

// waitingCopies puts two messages into a retry spool, the second one for two
// recipients, and closes it again.
func waitingCopies(t *testing.T, dir string) {
	t.Helper()
	q, err := queue.Open(queue.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for id, to := range map[string][]string{"one": {"a"}, "two": {"b", "c"}} {
		tr := &queue.Transaction{
			ID:      id,
			Session: "session-" + id,
			Created: time.Now().Add(-90 * time.Second),
			From:    envelope.Address{Local: "s", Domain: "example.com"},
			Shared:  [][]byte{[]byte("Subject: " + id + "\r\n\r\nbody\r\n")},
		}
		for _, local := range to {
			tr.Copies = append(tr.Copies, queue.Copy{
				MessageID: "id/" + local,
				Recipient: envelope.Recipient{Address: envelope.Address{Local: local, Domain: "example.net"}},
				Own:       [][]byte{[]byte("X-Copy: " + local + "\r\n"), nil},
			})
		}
		if err := q.Put(t.Context(), tr); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(q.Flush(), q.Close()); err != nil {
		t.Fatal(err)
	}
}

// storedEvent is a line of the spool.
func storedEvent(t *testing.T, typ event.Type, id string) []byte {
	t.Helper()

	e := &event.Event{
		Type:           typ,
		ID:             "1",
		MessageID:      id,
		Timestamp:      event.Timestamp{Time: time.Unix(1795500000, 0)},
		DelvMethod:     "esmtp",
		RecvMethod:     "esmtp",
		RcptTo:         "a@example.net",
		RawReason:      "550 5.1.1 no",
		BounceClass:    "10",
		TargetLinkURL:  "https://example.com/",
		TargetLinkName: "x",
	}
	switch typ {
	case event.Click:
		e.RecvMethod = ""
		e.RawReason = ""
		e.BounceClass = ""
	default:
		e.TargetLinkURL = ""
		e.TargetLinkName = ""
	}

	line, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := event.Decode(line); err != nil {
		t.Fatal(err)
	}

	return line
}

// replayed is an event as it is stored.
const replayed = `{"msys":{"track_event":{"type":"click","event_id":"2","message_id":"m","timestamp":"1795500000",` +
	`"delv_method":"esmtp","rcpt_to":"r@c.example","target_link_url":"http://x.example/","target_link_name":"Raw URL"}}}` + "\n"
