// Package admin is the operators' side of a gateway: metrics, health, and the
// requests of the commands, with the client that sends them.
package admin

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

// Server is the operators' side. Its socket answers the commands, which read and
// change the queue and the events; who may use it the file system decides. Its
// listener answers anybody who reaches it, with metrics and health alone.
type Server struct {
	Mux   *http.ServeMux // of the socket
	Open  *http.ServeMux // of the listener
	Ready atomic.Bool
	check mailCheck
	alive func() error // names the parts that are stuck
}

// mailCheck returns nil where mail is taken now, and then what is wrong all the
// same, "" where nothing is.
type mailCheck func(context.Context) (note string, err error)

const readyTimeout = 5 * time.Second

// New returns a Server without the routes of queue and events. check and alive
// are asked by the health pages.
func New(reg *prometheus.Registry, check mailCheck, alive func() error) *Server {
	a := &Server{
		Mux:   http.NewServeMux(),
		Open:  http.NewServeMux(),
		check: check,
		alive: alive,
	}

	for _, mux := range []*http.ServeMux{a.Mux, a.Open} {
		mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
		mux.HandleFunc("GET "+healthPath, a.healthz)
		mux.HandleFunc("GET "+readyPath, a.readyz)
	}

	a.Mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	a.Mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	a.Mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return a
}

// healthz says 503, and names the part, where one shows no sign of life.
func (a *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := a.alive(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}

	_, _ = w.Write([]byte("ok\n"))
}

// readyz says 503 before the listeners are open, while the gateway drains, while
// a part of it is stuck, and while mail is not taken.
func (a *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if !a.Ready.Load() {
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
