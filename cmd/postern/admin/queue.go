package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"postern/relay/queue"
)

// QueueRoutes lets `postern queue` reach a running gateway's retry spool. What
// changes it wants a header that no web page of another origin can send.
func (a *Server) QueueRoutes(q *queue.Queue) {
	a.Mux.HandleFunc("GET /queue", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Query().Get("n"))
		if err != nil || n < 1 {
			n = 1000
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(q.List(n))
	})
	a.Mux.HandleFunc("GET /queue/{id}", func(w http.ResponseWriter, r *http.Request) {
		msg, err := q.Show(r.PathValue("id"))
		if err != nil {
			queueError(w, err)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Write(msg)
	})
	change := func(f func(id string) (string, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get(Header) == "" {
				http.Error(w, Header+" is missing", http.StatusForbidden)
				return
			}
			said, err := f(r.PathValue("id"))
			if err != nil {
				queueError(w, err)
				return
			}
			fmt.Fprintln(w, said)
		}
	}
	retry := func(id string) (string, error) {
		n, err := q.Retry(id)
		return fmt.Sprintf("%d due now", n), err
	}
	a.Mux.HandleFunc("POST /queue/retry", change(retry))
	a.Mux.HandleFunc("POST /queue/{id}/retry", change(retry))
	a.Mux.HandleFunc("POST /queue/{id}/drop", change(func(id string) (string, error) {
		return id + " dropped", q.Drop(id)
	}))
}

// Header has to be in requests that change something. A web page of another
// origin cannot send it.
const Header = "X-Postern-Admin"

func queueError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, queue.ErrUnknown):
		status = http.StatusNotFound
	case errors.Is(err, queue.ErrInFlight):
		status = http.StatusConflict
	}
	http.Error(w, err.Error(), status)
}
