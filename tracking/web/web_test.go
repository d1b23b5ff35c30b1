package web

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/tracking/event"
	"postern/tracking/token"
)

// TestMain looks for goroutines that are left. net/http has closed connections
// linger for half a second.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// memory is a Recorder that keeps what it accepts.
type memory struct {
	mu     sync.Mutex
	events []*event.Event
	err    error
}

func (m *memory) Record(_ context.Context, e ...*event.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.events = append(m.events, e...)
	return nil
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) all() []*event.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.events)
}

func setup(t *testing.T) (*Handler, *memory, *token.Keys) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys")
	if _, err := token.AddKey(file, time.Now()); err != nil {
		t.Fatal(err)
	}
	keys, err := token.ReadKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{}
	return New(Config{Keys: keys, Events: m, IDs: event.NewIDs(), Expiry: 24 * time.Hour, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}), m, keys
}

func TestHandler(t *testing.T) {
	h, m, keys := setup(t)
	seal := func(kind token.Kind, age time.Duration, target string) string {
		return token.PathPrefix + keys.Seal(token.Token{Kind: kind, MessageID: keys.NewID(time.Now().Add(-age)), Recipient: "r@example.org", Target: target})
	}
	click := seal(token.Click, 0, "https://x.example/?a=1&b=%20#f")
	for _, c := range []struct {
		name, method, path string
		status             int
		location           string
		event              event.Type
	}{
		{"click", "GET", click, 302, "https://x.example/?a=1&b=%20#f", event.Click},
		{"HEAD is not counted", "HEAD", click, 302, "https://x.example/?a=1&b=%20#f", ""},
		{"international target", "GET", seal(token.Click, 0, "https://bücher.example/ü"), 302, "https://xn--bcher-kva.example/%C3%BC", event.Click},
		{"pixel", "GET", seal(token.Open, 0, ""), 200, "", event.Open},
		{"initial pixel", "GET", seal(token.InitialOpen, 0, ""), 200, "", event.InitialOpen},
		{"expired", "GET", seal(token.Click, 48*time.Hour, "https://x.example/"), 410, "", ""},
		{"only http and https", "GET", seal(token.Click, 0, "javascript:alert(1)"), 404, "", ""},
		{"made up", "GET", token.PathPrefix + "AAAA", 404, "", ""},
		{"other path", "GET", "/", 404, "", ""},
		{"method", "POST", click, 405, "", ""},
		{"OPTIONS is not counted", "OPTIONS", click, 405, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.events, h.cfg.State = nil, NewState()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
			if w.Code != c.status || w.Header().Get("Location") != c.location {
				t.Errorf("got %d to %q", w.Code, w.Header().Get("Location"))
			}
			for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s: %q", name, got)
				}
			}
			if c.status == 302 && w.Body.Len() > 0 {
				t.Errorf("a redirect with a body: %q", w.Body)
			}
			if c.status == 200 && (w.Body.Len() != 43 || w.Header().Get("Content-Type") != "image/gif") {
				t.Errorf("pixel of %d bytes", w.Body.Len())
			}
			switch {
			case c.event == "" && len(m.events) > 0:
				t.Errorf("event %s", m.events[0].Type)
			case c.event != "":
				if len(m.events) != 1 || m.events[0].Type != c.event {
					t.Fatalf("events %v", m.events)
				}
				line, err := m.events[0].Encode()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := event.Decode(line); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			}
		})
	}
}

func TestRedirectsWhenTheSpoolIsFull(t *testing.T) {
	h, m, keys := setup(t)
	m.err = errors.New("disk full")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", token.PathPrefix+keys.Seal(token.Token{Kind: token.Click, MessageID: keys.NewID(time.Now()), Target: "http://x.example/"}), nil))
	if w.Code != 302 {
		t.Errorf("got %d", w.Code)
	}
}

func TestListUnsubscribe(t *testing.T) {
	h, m, keys := setup(t)
	path := token.PathPrefix + keys.Seal(token.Token{Kind: token.ListUnsubscribe, MessageID: keys.NewID(time.Now()), Recipient: "r@example.org"})
	open := token.PathPrefix + keys.Seal(token.Token{Kind: token.Open, MessageID: keys.NewID(time.Now()), Recipient: "r@example.org"})
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		event                    bool
	}{
		{"page", "GET", path, "", 200, false},
		{"HEAD", "HEAD", path, "", 200, false},
		{"one click", "POST", path, "List-Unsubscribe=One-Click", 200, true},
		{"one click with a query behind the token", "POST", path + "?fbclid=1", "List-Unsubscribe=One-Click", 200, true},
		{"one click in the query alone", "POST", path + "?List-Unsubscribe=One-Click", "", 400, false},
		{"another form", "POST", path, "a=b", 400, false},
		{"no form", "POST", path, "", 400, false},
		{"a large body", "POST", path, "List-Unsubscribe=One-Click&x=" + strings.Repeat("y", 10000), 400, false},
		{"another kind", "POST", open, "List-Unsubscribe=One-Click", 405, false},
		{"no token", "POST", token.PathPrefix + "x", "List-Unsubscribe=One-Click", 404, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.events, h.cfg.State = nil, NewState()
			r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.status || (len(m.events) == 1) != c.event {
				t.Fatalf("%d, %d events: %s", w.Code, len(m.events), w.Body)
			}
			if c.event {
				line, err := m.events[0].Encode()
				if err != nil {
					t.Fatal(err)
				}
				if e, err := event.Decode(line); err != nil || e.Type != event.ListUnsubscribe || e.RcptTo != "r@example.org" {
					t.Errorf("%s, %v", line, err)
				}
			}
		})
	}
}

// TestServerLimits: an endless URL or header is refused, and a peer that crawls
// has a deadline.
func TestServerLimits(t *testing.T) {
	h, m, keys := setup(t)
	s := NewServer(h, slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 {
		t.Errorf("without a deadline: %+v", s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	defer func() { s.Close(); <-done }()
	click := token.PathPrefix + keys.Seal(token.Token{Kind: token.Click, MessageID: keys.NewID(time.Now()), Recipient: "r@example.org", Target: "https://x.example/"})
	for name, c := range map[string]struct {
		request string
		status  string
	}{
		"plain":       {"GET " + click + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "302"},
		"long URL":    {"GET " + click + "?" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "431"},
		"long header": {"GET " + click + " HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431"},
		"two lengths": {"GET " + click + " HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "302"},
	} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		conn.Write([]byte(c.request))
		b, _ := io.ReadAll(conn)
		conn.Close()
		if got := string(b); len(got) < 12 || got[9:12] != c.status || strings.Count(got, "HTTP/1.1 ") != 1 {
			t.Errorf("%s: %.200q", name, got)
		}
	}
	if len(m.events) == 0 {
		t.Error("no event of the plain one")
	}
}
