package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/cmd/postern/admin"
)

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
			a := admin.New(prometheus.NewRegistry(), func(context.Context) (string, error) { return c.note, c.mail() }, c.alive)
			a.Ready.Store(c.ready)
			w := httptest.NewRecorder()

			a.Mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.path, nil))

			if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("got %d %q, want %d with %q", w.Code, w.Body.String(), c.status, c.body)
			}
		})
	}
}

// TestReadyMeansThatMailIsTaken asks gateways whose upstream is away.
func TestReadyMeansThatMailIsTaken(t *testing.T) {
	for _, c := range []struct {
		name, queue string
		status      int
		body        string
	}{
		{"queued first", "always", http.StatusOK, "ready: mail is queued, and cannot be handed on: "},
		{"handed on at once", "partial", http.StatusServiceUnavailable, "127.0.0.1:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeConfig(t, "", "")
			replaceIn(t, file, "[relay]\n", fmt.Sprintf("[relay]\nqueue = %q\n", c.queue))
			g, _ := startGateway(t, file)
			ask := func() *httptest.ResponseRecorder {
				w := httptest.NewRecorder()
				g.Admin.Open.ServeHTTP(w, httptest.NewRequest(http.MethodGet, admin.ReadyPath, nil))
				return w
			}

			if w := ask(); w.Code != http.StatusServiceUnavailable {
				t.Errorf("before the start: got %d %q, want 503", w.Code, w.Body)
			}
			g.Admin.Ready.Store(true)
			if w := ask(); w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("got %d %q, want %d with %q", w.Code, w.Body, c.status, c.body)
			}
			g.Health.Watch("a stuck part", stuckPart{}, time.Minute)
			if w := ask(); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "a stuck part") {
				t.Errorf("with a stuck part: got %d %q, want 503 and its name", w.Code, w.Body)
			}
		})
	}
}

type stuckPart struct{}

func (stuckPart) Alive() time.Time { return time.Now().Add(-time.Hour) }

// TestRoutesOfTheOperators: the socket has profiles, the listener has not, and
// neither takes anything but GET.
func TestRoutesOfTheOperators(t *testing.T) {
	a := admin.New(prometheus.NewRegistry(), nil, nil)
	for path, open := range map[string]bool{
		"/metrics":             true,
		admin.HealthPath:       true,
		admin.ReadyPath:        true,
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
	if admin.ReadyTimeout != 5*time.Second || admin.CommandTimeout != time.Minute {
		t.Errorf("got %v and %v, want 5 seconds and a minute", admin.ReadyTimeout, admin.CommandTimeout)
	}
}

// TestReadinessIsBounded: the check gets a deadline.
func TestReadinessIsBounded(t *testing.T) {
	var left time.Duration
	a := admin.New(prometheus.NewRegistry(), func(ctx context.Context) (string, error) {
		by, ok := ctx.Deadline()
		if !ok {
			return "", errors.New("no deadline")
		}
		left = time.Until(by)
		return "", nil
	}, func() error { return nil })
	a.Ready.Store(true)
	w := httptest.NewRecorder()
	a.Mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, admin.ReadyPath, nil))
	if w.Code != http.StatusOK || w.Body.String() != "ready\n" || left > admin.ReadyTimeout {
		t.Errorf("got %d %q with %v left, want ready", w.Code, w.Body, left)
	}
}
