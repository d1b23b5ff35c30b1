package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
		status      int
		body        string
	}{
		{"alive", "/healthz", none, none, false, http.StatusOK, "ok"},
		{"stuck", "/healthz", stuck, none, true, http.StatusServiceUnavailable, "event spool: no sign of life for 2m5s"},
		{"the upstream is away", "/healthz", none, away, true, http.StatusOK, "ok"},
		{"ready", "/readyz", none, none, true, http.StatusOK, "ready"},
		{"not ready", "/readyz", none, none, false, http.StatusServiceUnavailable, "starting or stopping"},
		{"ready and stuck", "/readyz", stuck, none, true, http.StatusServiceUnavailable, "event spool"},
		{"ready and the upstream away", "/readyz", none, away, true, http.StatusServiceUnavailable, "no upstream"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAdmin(prometheus.NewRegistry(), func(context.Context) error { return c.mail() }, c.alive)
			a.ready.Store(c.ready)
			w := httptest.NewRecorder()

			a.mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.path, nil))

			if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("got %d %q, want %d with %q", w.Code, w.Body.String(), c.status, c.body)
			}
		})
	}
}
