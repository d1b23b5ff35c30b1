package main

import (
	"context"
	"io"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// admin is the operators' side. Its socket answers the commands, which read and
// change the queue and the events; who may use it the file system decides. Its
// listener answers anybody who reaches it, with metrics and health alone.
type admin struct {
	mux   *http.ServeMux // of the socket
	open  *http.ServeMux // of the listener
	ready atomic.Bool
	check mailCheck
	alive func() error // names the parts that are stuck
}

// mailCheck returns nil where mail is taken now, and then what is wrong all the
// same, "" where nothing is.
type mailCheck func(context.Context) (note string, err error)

const readyTimeout = 5 * time.Second

func newAdmin(reg *prometheus.Registry, check mailCheck, alive func() error) *admin {
	a := &admin{
		mux:   http.NewServeMux(),
		open:  http.NewServeMux(),
		check: check,
		alive: alive,
	}
	for _, mux := range []*http.ServeMux{a.mux, a.open} {
		mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
		mux.HandleFunc("GET "+healthPath, a.healthz)
		mux.HandleFunc("GET "+readyPath, a.readyz)
	}
	a.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	a.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	a.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return a
}

// healthz says 503, and names the part, where one shows no sign of life.
func (a *admin) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := a.alive(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}

	_, _ = w.Write([]byte("ok\n"))
}

// readyz says 503 before the listeners are open, while the gateway drains, while
// a part of it is stuck, and while mail is not taken.
func (a *admin) readyz(w http.ResponseWriter, r *http.Request) {
	if !a.ready.Load() {
		http.Error(w, "starting or stopping", http.StatusServiceUnavailable)
		return
	}
	if err := a.alive(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}

	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	note, err := a.check(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}

	body := "ready\n"
	if note != "" {
		body = "ready: " + note + "\n"
	}
	_, _ = io.WriteString(w, body)
}
