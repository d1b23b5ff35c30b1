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
			a := newAdmin(prometheus.NewRegistry(), func(context.Context) (string, error) { return c.note, c.mail() }, c.alive)
			a.ready.Store(c.ready)
			w := httptest.NewRecorder()

			a.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.path, nil))

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
				g.admin.open.ServeHTTP(w, httptest.NewRequest(http.MethodGet, readyPath, nil))
				return w
			}

			if w := ask(); w.Code != http.StatusServiceUnavailable {
				t.Errorf("before the start: got %d %q, want 503", w.Code, w.Body)
			}
			g.admin.ready.Store(true)
			if w := ask(); w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("got %d %q, want %d with %q", w.Code, w.Body, c.status, c.body)
			}
			g.health.Watch("a stuck part", stuckPart{}, time.Minute)
			if w := ask(); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "a stuck part") {
				t.Errorf("with a stuck part: got %d %q, want 503 and its name", w.Code, w.Body)
			}
		})
	}
}

type stuckPart struct{}

func (stuckPart) Alive() time.Time { return time.Now().Add(-time.Hour) }
