package web

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
	"postern/tracking/token"
)

// answer is a ResponseWriter that adds nothing: net/http and its recorder find a
// Content-Type by themselves where none is set.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// TestAnswers holds the status, every header field and the body of each kind of
// answer.
func TestAnswers(t *testing.T) {
	h, m, keys := setup(t)
	h.cfg.WellKnown = map[string][]byte{AssetLinksPath: []byte("[]"), AppleAppSitePath: {}}
	h.cfg.ExpiredURL = ""
	unsubscribe := path(keys, token.Token{Kind: token.ListUnsubscribe})
	click := path(keys, token.Token{Kind: token.Click, Target: "https://x.example/"})
	old := path(keys, token.Token{Kind: token.Click, Target: "https://x.example/", MessageID: keys.NewID(time.Now().Add(-48 * time.Hour))})
	pixelPath := path(keys, token.Token{Kind: token.AmpInitialOpen})

	fields := func(more ...string) http.Header {
		h := http.Header{"X-Robots-Tag": {"noindex"}, "Referrer-Policy": {"no-referrer"}, "Cache-Control": {"no-store"}}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = []string{more[i+1]}
		}
		return h
	}
	text := func(more ...string) http.Header {
		return fields(append(more, "Content-Type", "text/plain; charset=utf-8", "X-Content-Type-Options", "nosniff")...)
	}
	ownPage := func(more ...string) http.Header {
		return fields(append(more, "Content-Type", "text/html; charset=utf-8", "X-Content-Type-Options", "nosniff",
			"Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'")...)
	}
	pageBody := func(title, body string) string {
		return `<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>` + title +
			`</title><style>body{font:1.1rem system-ui,sans-serif;max-width:30rem;margin:20vh auto;padding:0 1rem}` +
			`button{font:inherit;padding:.5rem 1.5rem}</style><h1>` + title + `</h1>` + body + `</html>`
	}
	redirect := fields("Location", "https://x.example/", "Content-Length", "0")
	const gif = "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"

	for _, c := range []struct {
		name, method, path, body string
		diskFull                 bool
		status                   int
		header                   http.Header
		want                     string
	}{
		{"pixel", "GET", pixelPath, "", false, 200, fields("Content-Type", "image/gif", "Content-Length", "43"), gif},
		{"HEAD of a pixel", "HEAD", pixelPath, "", false, 200, fields("Content-Type", "image/gif", "Content-Length", "43"), ""},
		{"click", "GET", click, "", false, 302, redirect, ""},
		{"HEAD of a click", "HEAD", click, "", false, 302, redirect, ""},
		{"click with a body", "GET", click, "x", false, 302, fields("Location", "https://x.example/", "Content-Length", "0", "Connection", "close"), ""},
		{"expired", "GET", old, "", false, 410, text(), "Gone\n"},
		{"probe", "GET", path(keys, token.Token{Kind: token.Probe, Recipient: "NONCE", Host: token.Probing}), "", false, 200,
			fields("Content-Type", "text/plain; charset=utf-8"), "postern tracker NONCE\nhost example.com\n"},
		{"page", "GET", unsubscribe, "", false, 200, ownPage(), pageBody("Unsubscribe",
			`<p>Do you want to unsubscribe?</p><form method="post"><button name="List-Unsubscribe" value="One-Click">Unsubscribe</button></form>`)},
		{"one click while the disk is full", "POST", unsubscribe, "List-Unsubscribe=One-Click", true, 503,
			ownPage("Connection", "close", "Retry-After", "60"), pageBody("Not yet unsubscribed", "<p>Please try again in a minute.</p>")},
		{"one click", "POST", unsubscribe, "List-Unsubscribe=One-Click", false, 200, ownPage("Connection", "close"),
			pageBody("Unsubscribed", "<p>You are unsubscribed.</p>")},
		{"another form", "POST", unsubscribe, "x=y", false, 400, text("Connection", "close"), "Bad Request\n"},
		{"POST to a click", "POST", click, "List-Unsubscribe=One-Click", false, 405, text("Connection", "close", "Allow", "GET, HEAD"), "Method Not Allowed\n"},
		{"PUT", "PUT", click, "", false, 405, text("Connection", "close", "Allow", "GET, HEAD"), "Method Not Allowed\n"},
		{"no link", "GET", "/x", "", false, 404, text(), "Not Found\n"},
		{"a made-up token", "GET", token.PathPrefix + "x", "", false, 404, text(), "Not Found\n"},
		{"a target that is none", "GET", path(keys, token.Token{Kind: token.Click, Target: "x:y"}), "", false, 404, text(), "Not Found\n"},
		{"links of an app", "GET", AssetLinksPath, "", false, 200,
			fields("Content-Type", "application/json", "Cache-Control", "public, max-age=3600"), "[]"},
		{"an empty file", "GET", AppleAppSitePath, "", false, 404, text(), "Not Found\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.fail(nil)
			if c.diskFull {
				m.fail(errDiskFull)
			}
			r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
			w := &answer{header: http.Header{}}
			h.ServeHTTP(w, r)

			if w.status != c.status || w.body.String() != c.want {
				t.Errorf("got %d %q, want %d %q", w.status, &w.body, c.status, c.want)
			}
			if !reflect.DeepEqual(w.header, c.header) {
				t.Errorf("header\n%v\nwant\n%v", w.header, c.header)
			}
		})
	}
}

// TestExpiry: a link lives as long as configured, to the nanosecond; then it
// leads to the page for expired ones, if there is one, and makes no event.
func TestExpiry(t *testing.T) {
	const target, page = "https://x.example/", "https://x.example/expired"
	for _, c := range []struct {
		name     string
		expiry   time.Duration
		page     string
		age      time.Duration
		status   int
		location string
		events   int
	}{
		{"at its end", time.Hour, page, time.Hour, 302, target, 1},
		{"past its end", time.Hour, page, time.Hour + 1, 302, page, 0},
		{"past its end, without a page", time.Hour, "", time.Hour + 1, 410, "", 0},
		{"past its end, with a page that is none", time.Hour, "x:y", time.Hour + 1, 404, "", 0},
		{"without an end", 0, page, 20 * 365 * 24 * time.Hour, 302, target, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, m, keys := setup(t)
			made := time.UnixMilli(1795500000000)
			h.cfg.Expiry, h.cfg.ExpiredURL = c.expiry, c.page
			h.cfg.Now = func() time.Time { return made.Add(c.age) }

			w := get(h, path(keys, token.Token{Kind: token.Click, Target: target, MessageID: keys.NewID(made)}))
			if got := w.Header().Get("Location"); w.Code != c.status || got != c.location || len(m.all()) != c.events {
				t.Errorf("got %d to %q and %d events, want %d to %q and %d", w.Code, got, len(m.all()), c.status, c.location, c.events)
			}
		})
	}
}

// TestFormIsBounded: a body of 4096 bytes is read, one of 4097 is not.
func TestFormIsBounded(t *testing.T) {
	h, _, keys := setup(t)
	for n, want := range map[int]int{4096: 200, 4097: 400} {
		const form = "List-Unsubscribe=One-Click&x="
		r := httptest.NewRequest("POST", path(keys, token.Token{Kind: token.ListUnsubscribe}), strings.NewReader(form+strings.Repeat("y", n-len(form))))
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != want {
			t.Errorf("a body of %d bytes: got %d, want %d", n, w.Code, want)
		}
	}
}

func TestServerHasLimits(t *testing.T) {
	var log bytes.Buffer
	handler := http.NewServeMux()
	s := NewServer(handler, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	got := http.Server{
		Handler:                      s.Handler,
		ReadHeaderTimeout:            s.ReadHeaderTimeout,
		ReadTimeout:                  s.ReadTimeout,
		WriteTimeout:                 s.WriteTimeout,
		IdleTimeout:                  s.IdleTimeout,
		MaxHeaderBytes:               s.MaxHeaderBytes,
		DisableGeneralOptionsHandler: s.DisableGeneralOptionsHandler,
	}
	want := http.Server{
		Handler:                      handler,
		ReadHeaderTimeout:            10 * time.Second,
		ReadTimeout:                  15 * time.Second,
		WriteTimeout:                 30 * time.Second,
		IdleTimeout:                  time.Minute,
		MaxHeaderBytes:               16384,
		DisableGeneralOptionsHandler: true,
	}
	if !reflect.DeepEqual(&got, &want) {
		t.Errorf("got %+v, want %+v", &got, &want)
	}

	s.ErrorLog.Print("from the library")
	if got := log.String(); !strings.Contains(got, "level=DEBUG") || !strings.Contains(got, "from the library") {
		t.Errorf("logged %q, want what the library says, at level DEBUG", got)
	}
	NewServer(handler, nil).ErrorLog.Print("goes nowhere")
}

// TestProxiedListener: what is not TCP has no address to be trusted for.
func TestProxiedListener(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	p := Proxied(l, nil)
	if got := p.(*proxyproto.Listener).ReadHeaderTimeout; got != 10*time.Second {
		t.Errorf("a proxy has %v for its header, want 10s", got)
	}

	remote := make(chan string, 1)
	s := NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { remote <- r.RemoteAddr }), nil)
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(p) }()
	defer func() { s.Close(); <-done }()
	for header, want := range map[string]string{"": "200", "PROXY TCP4 192.0.2.7 192.0.2.1 4000 443\r\n": "400"} {
		conn, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		conn.Write([]byte(header + "GET / HTTP/1.0\r\n\r\n"))
		var answer bytes.Buffer
		answer.ReadFrom(conn)
		conn.Close()
		if got := statusesIn(answer.String()); got != want {
			t.Errorf("behind the header %q: got %q, want %s", header, got, want)
		}
	}
}

// TestMetrics names all that there are, with their labels.
func TestMetrics(t *testing.T) {
	_, m, keys := setup(t)
	reg := prometheus.NewPedanticRegistry()
	h := New(Config{Keys: keys, Events: m, Metrics: reg})
	get(h, path(keys, token.Token{Kind: token.Open}))

	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		got[f.GetName()] = f.GetType().String() + " " + strings.Join(labels, " ")
		if len(f.GetHelp()) < 20 || !strings.HasSuffix(f.GetHelp(), ".") {
			t.Errorf("%s: help %q", f.GetName(), f.GetHelp())
		}
	}
	want := map[string]string{
		"postern_web_requests_total":             "COUNTER outcome",
		"postern_web_duration_seconds":           "HISTOGRAM kind",
		"postern_web_repeated_total":             "COUNTER ",
		"postern_web_classes_total":              "COUNTER class reason",
		"postern_web_unknown_host_total":         "COUNTER ",
		"postern_web_forwarded_unreadable_total": "COUNTER ",
		"postern_web_events_lost_total":          "COUNTER ",
		"postern_web_waiting_unsubscribes":       "GAUGE ",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestClassesAreCounted, persons under their own name, and repeats apart.
func TestClassesAreCounted(t *testing.T) {
	h, _, keys := setup(t)
	human := (asked{what: "open"}).request(keys, keys.NewID(time.Now().Add(-time.Hour)))
	for range 3 {
		h.ServeHTTP(httptest.NewRecorder(), human)
	}
	robot := (asked{what: "open", agent: "python-requests/2.31.0"}).request(keys, keys.NewID(time.Now().Add(-time.Hour)))
	h.ServeHTTP(httptest.NewRecorder(), robot)

	for _, labels := range [][2]string{{"person", ""}, {event.Scanner, "robot"}} {
		if got := value(t, h.classes.WithLabelValues(labels[0], labels[1])); got != 1 {
			t.Errorf("%v of %v, want 1", got, labels)
		}
	}
	if got := value(t, h.repeated); got != 2 {
		t.Errorf("%v repeated, want 2", got)
	}
}

// TestLinkUnsubscribeHasNothingOfTheClient: no address, no place, no program
// that was recognized.
func TestLinkUnsubscribeHasNothingOfTheClient(t *testing.T) {
	h, m, keys := setup(t)
	geo, err := OpenGeo(geoFile(t, t.TempDir(), "London"), nil)
	if err != nil {
		t.Fatal(err)
	}
	h.cfg.Geo = geo
	for _, kind := range []token.Kind{token.LinkUnsubscribe, token.Click} {
		r := httptest.NewRequest("GET", path(keys, token.Token{Kind: kind, Target: "https://x.example/", LinkName: "bye", Subaccount: 7}), nil)
		r.RemoteAddr = "81.2.69.142:5"
		r.Header.Set("User-Agent", "python-requests/2.31.0")
		h.ServeHTTP(httptest.NewRecorder(), r)
	}

	got := m.all()
	if len(got) != 2 {
		t.Fatalf("%d events, want 2", len(got))
	}
	e := *got[0]
	want := event.Event{
		Type:          event.LinkUnsubscribe,
		ID:            e.ID,
		MessageID:     e.MessageID,
		Timestamp:     e.Timestamp,
		DelvMethod:    "esmtp",
		RcptTo:        "r@example.org",
		SubaccountID:  7,
		UserAgent:     "python-requests/2.31.0",
		TargetLinkURL: "https://x.example/",
		Class:         event.Class{Kind: event.Scanner, Reason: "robot"},
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("got %+v, want %+v", e, want)
	}
	if e.ID == "" || e.ID == got[1].ID || e.MessageID == "" {
		t.Errorf("ids %q and %q of message %q", e.ID, got[1].ID, e.MessageID)
	}

	click := got[1]
	if click.TargetLinkName != "bye" || click.IPAddress != "81.2.69.142" || click.GeoIP == nil || click.UserAgentParsed == nil || !click.IsPrefetched {
		t.Errorf("a click has %+v, want all of it", click)
	}
}

func TestLinksHaveNames(t *testing.T) {
	for _, c := range []struct {
		kind       token.Kind
		name, want string
	}{
		{token.Click, "top", "top"},
		{token.AmpClick, "top", "top"},
		{token.Click, "", event.DefaultLinkName},
		{token.AmpClick, "", event.DefaultLinkName},
		{token.LinkUnsubscribe, "top", ""},
		{token.Open, "", ""},
	} {
		h, m, keys := setup(t)
		get(h, path(keys, token.Token{Kind: c.kind, Target: "https://x.example/", LinkName: c.name}))
		if got := m.all(); len(got) != 1 || got[0].TargetLinkName != c.want {
			t.Errorf("%v named %q: events %+v, want the name %q", c.kind, c.name, got, c.want)
		}
	}
}

// TestEventTypes: each kind of link and pixel has an event type of its own.
func TestEventTypes(t *testing.T) {
	want := map[token.Kind]event.Type{
		token.Open:            "open",
		token.InitialOpen:     "initial_open",
		token.Click:           "click",
		token.LinkUnsubscribe: "link",
		token.AmpOpen:         "amp_open",
		token.AmpInitialOpen:  "amp_initial_open",
		token.AmpClick:        "amp_click",
	}
	for kind, want := range want {
		h, m, keys := setup(t)
		w := get(h, path(keys, token.Token{Kind: kind, Target: "https://x.example/"}))
		if got := m.all(); len(got) != 1 || got[0].Type != want || w.Code >= 400 {
			t.Errorf("%v: got %d and events %+v, want one of type %s", kind, w.Code, got, want)
		}
		if isLink(kind) != (w.Code == 302) {
			t.Errorf("%v is taken for a link: %v", kind, isLink(kind))
		}
	}
}

func TestUserAgentIsClipped(t *testing.T) {
	for _, c := range []struct{ sent, want string }{
		{strings.Repeat("x", 1024), strings.Repeat("x", 1024)},
		{strings.Repeat("x", 1025), strings.Repeat("x", 1024)},
		{"a\xffb", "a?b"},
	} {
		h, m, keys := setup(t)
		r := httptest.NewRequest("GET", path(keys, token.Token{Kind: token.Open}), nil)
		r.Header.Set("User-Agent", c.sent)
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got := m.all()[0].UserAgent; got != c.want {
			t.Errorf("sent %.20q of %d bytes: got %.20q of %d", c.sent, len(c.sent), got, len(got))
		}
	}
}

// logged is a handler's log.
func logged(h *Handler) *bytes.Buffer {
	var log bytes.Buffer
	h.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	return &log
}

// TestLostEventsAreLogged, at most once a minute, and counted each.
func TestLostEventsAreLogged(t *testing.T) {
	h, m, keys := setup(t)
	log := logged(h)
	now := time.Now()
	h.cfg.Now = func() time.Time { return now }
	m.fail(errDiskFull)
	lose := func() { get(h, path(keys, token.Token{Kind: token.Click, Target: "https://x.example/"})) }

	lose()
	now = now.Add(logEvery - 1)
	lose()
	got := log.String()
	if strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "events lost") ||
		!strings.Contains(got, `err="disk full"`) || !strings.Contains(got, "message_id=") || !strings.Contains(got, "type=click") {
		t.Errorf("logged %q, want one line with the error, message and type", got)
	}
	now = now.Add(1)
	lose()
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("%d lines a minute later, want 2", got)
	}
	if got := value(t, h.cfg.State.lost); got != 3 {
		t.Errorf("%v counted as lost, want 3", got)
	}
}

func TestRefusedUnsubscribesAreLogged(t *testing.T) {
	h, m, keys := setup(t)
	log := logged(h)
	oneClick(h, path(keys, token.Token{Kind: token.ListUnsubscribe}))
	if log.Len() > 0 {
		t.Errorf("an unsubscribe request that is written is logged: %s", log)
	}

	m.fail(errDiskFull)
	for range 2 {
		oneClick(h, path(keys, token.Token{Kind: token.ListUnsubscribe}))
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=ERROR") || !strings.Contains(got, `err="disk full"`) {
		t.Errorf("logged %q, want one line with the error", got)
	}
}

// TestRecorderThatPanicsIsLogged, with what it said and where.
func TestRecorderThatPanicsIsLogged(t *testing.T) {
	h, _, keys := setup(t)
	log := logged(h)
	h.cfg.Events = broken{}
	get(h, path(keys, token.Token{Kind: token.Open}))
	if got := log.String(); !strings.Contains(got, "web: record: panic: broken") || !strings.Contains(got, "broken.Record") {
		t.Errorf("logged %q, want the panic and its place", got)
	}
}

// TestZeroConfigHasNoLog: without a log nothing is said, and nothing breaks.
func TestZeroConfigHasNoLog(t *testing.T) {
	_, m, keys := setup(t)
	m.fail(errDiskFull)
	h := New(Config{Keys: keys, Events: m, Sites: []Site{{Host: "a.example"}, {Host: "b.example"}}})
	link := path(keys, token.Token{Kind: token.Click, Host: "a.example", Target: "https://x.example/"})
	for host, want := range map[string]int{"a.example": 302, "c.example": 404} {
		r := httptest.NewRequest("GET", link, nil)
		r.Host = host
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != want {
			t.Errorf("%s: got %d, want %d", host, w.Code, want)
		}
	}
	if got := value(t, h.cfg.State.lost); got != 1 {
		t.Errorf("%v lost, want 1", got)
	}
}

// TestWaiterWhoHangsUp: who asks again and goes does not wait for the disk.
func TestWaiterWhoHangsUp(t *testing.T) {
	var r repeats
	now := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	repeated, err := r.once(t.Context(), requestKey{1}, now, func() error {
		repeated, err := r.once(ctx, requestKey{1}, now, func() error { t.Error("written twice"); return nil })
		if !repeated || !errors.Is(err, context.Canceled) {
			t.Errorf("got repeated %v, %v, want true, %v", repeated, err, context.Canceled)
		}
		return nil
	})
	if repeated || err != nil {
		t.Errorf("got repeated %v, %v, want false, nil", repeated, err)
	}
}

// TestGenerationsOfRepeats: when the memory turns over, to the nanosecond.
func TestGenerationsOfRepeats(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		turns bool
	}{{0, false}, {time.Second - 1, false}, {time.Second, true}, {-time.Minute, false}, {-time.Minute - 1, true}} {
		var r repeats
		now := time.Unix(1795500000, 0)
		write := func() error { return nil }
		r.once(t.Context(), requestKey{1}, now, write)
		r.once(t.Context(), requestKey{2}, now.Add(c.after), write)
		if got := len(r.before) == 1 && len(r.now) == 1; got != c.turns {
			t.Errorf("%v later: turned over %v, want %v", c.after, got, c.turns)
		}
		if len(r.pending) != 0 {
			t.Errorf("%v later: %d are pending, want 0", c.after, len(r.pending))
		}
	}
}

func TestWellKnownFiles(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ name, data, want string }{
		{"at the limit", `"` + strings.Repeat("x", 128<<10-2) + `"`, ""},
		{"above the limit", `"` + strings.Repeat("x", 128<<10-1) + `"`, " is larger than 131072 bytes, which Apple ignores"},
		{"no JSON", "{", " is not JSON"},
		{"empty", "", " is not JSON"},
	} {
		file := writeFile(t, filepath.Join(dir, "f"), c.data)
		got, err := ReadWellKnown(file)
		if c.want == "" && (err != nil || string(got) != c.data) || c.want != "" && (err == nil || err.Error() != "web: "+file+c.want || got != nil) {
			t.Errorf("%s: got %d bytes, %v; want %q", c.name, len(got), err, c.want)
		}
	}
	if _, err := ReadWellKnown(filepath.Join(dir, "none")); err == nil || !strings.HasPrefix(err.Error(), "web: open ") {
		t.Errorf("no file: %v", err)
	}
}

func TestPeer(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:5":          "192.0.2.1",
		"[2001:db8::1]:5":      "2001:db8::1",
		"[::ffff:192.0.2.1]:5": "192.0.2.1",
		"[fe80::1%eth0]:5":     "fe80::1",
		"@":                    "invalid IP",
		"":                     "invalid IP",
		"localhost:5":          "invalid IP",
	} {
		if got := peer(&http.Request{RemoteAddr: remote}).String(); got != want {
			t.Errorf("%q comes from %s, want %s", remote, got, want)
		}
	}
}

// TestConfigIsKept: what is given takes the place of the defaults.
func TestConfigIsKept(t *testing.T) {
	_, m, keys := setup(t)
	c := Config{Keys: keys, Events: m, IDs: event.NewIDs(), State: NewState(), Log: slog.New(slog.DiscardHandler)}
	h := New(c)
	if h.cfg.IDs != c.IDs || h.cfg.State != c.State || h.cfg.Log != c.Log {
		t.Errorf("other ids, memory or log than were given: %+v", h.cfg)
	}
}

// TestRequestsThatDiffer have other keys, however their parts would run together.
func TestRequestsThatDiffer(t *testing.T) {
	request := func(method, agent string, fields ...string) *http.Request {
		r := httptest.NewRequest(method, "/", nil)
		r.Header.Set("User-Agent", agent)
		for i := 0; i < len(fields); i += 2 {
			r.Header.Add(fields[i], fields[i+1])
		}
		return r
	}
	client := netip.MustParseAddr("192.0.2.1")
	seen := map[requestKey]string{}
	for _, c := range []struct {
		name string
		r    *http.Request
		hit  hit
	}{
		{"the first", request("GET", "a"), hit{text: "x", client: client}},
		{"another method", request("HEAD", "a"), hit{text: "x", client: client}},
		{"another link", request("GET", "a"), hit{text: "y", client: client}},
		{"another client", request("GET", "a"), hit{text: "x", client: client.Next()}},
		{"no client", request("GET", "a"), hit{text: "x"}},
		{"another program", request("GET", "b"), hit{text: "x", client: client}},
		{"a program's name with a field in it", request("GET", "aPurposeprefetch"), hit{text: "x", client: client}},
		{"the field", request("GET", "a", "Purpose", "prefetch"), hit{text: "x", client: client}},
		{"another field", request("GET", "a", "X-Purpose", "prefetch"), hit{text: "x", client: client}},
		{"another value", request("GET", "a", "Purpose", "preview"), hit{text: "x", client: client}},
		{"two values", request("GET", "a", "Purpose", "prefetch", "Purpose", "preview"), hit{text: "x", client: client}},
	} {
		key := keyOf(c.r, c.hit)
		if other, ok := seen[key]; ok {
			t.Errorf("%s has the key of %s", c.name, other)
		}
		seen[key] = c.name
	}
}

// TestBusyDiskRefusesUnsubscribes: where too many events are being written, an
// unsubscribe request is asked to come again.
func TestBusyDiskRefusesUnsubscribes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, m, keys := setup(t)
		h.cfg.State.writing = make(chan struct{}, 1)
		h.cfg.State.writing <- struct{}{}
		if w := oneClick(h, path(keys, token.Token{Kind: token.ListUnsubscribe})); w.Code != http.StatusServiceUnavailable {
			t.Errorf("got %d, want 503", w.Code)
		}
		if n := len(m.all()); n != 0 {
			t.Errorf("%d events, want none", n)
		}
	})
}
