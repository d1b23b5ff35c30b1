package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"postern/relay/queue"
)

// QueueRoutes lets `postern queue` reach a running gateway's retry spool.
// Requests that change it need Header.
func (a *Server) QueueRoutes(q *queue.Queue) {
	r := queueRoutes{q}
	a.Mux.HandleFunc("GET /queue", r.list)
	a.Mux.HandleFunc("GET /queue/{id}", r.show)
	a.Mux.HandleFunc("POST /queue/retry", change(r.retry))
	a.Mux.HandleFunc("POST /queue/{id}/retry", change(r.retry))
	a.Mux.HandleFunc("POST /queue/{id}/drop", change(r.drop))
}

type queueRoutes struct{ queue *queue.Queue }

// mostListed is how many copies are listed where the request does not say.
const mostListed = 1000

func (r queueRoutes) list(w http.ResponseWriter, req *http.Request) {
	n, err := strconv.Atoi(req.URL.Query().Get("n"))
	if err != nil || n < 1 {
		n = mostListed
	}

	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(r.queue.List(n)) // the client may have gone
}

func (r queueRoutes) show(w http.ResponseWriter, req *http.Request) {
	msg, err := r.queue.Show(req.PathValue("id"))
	if err != nil {
		queueError(w, err)
		return
	}

	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(msg)
}

func (r queueRoutes) retry(id string) (string, error) {
	n, err := r.queue.Retry(id)
	return fmt.Sprintf("%d due now", n), err
}

func (r queueRoutes) drop(id string) (string, error) {
	return id + " dropped", r.queue.Drop(id)
}

// change handles a request that changes something.
func change(f func(id string) (done string, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get(Header) == "" {
			http.Error(w, Header+" is missing", http.StatusForbidden)
			return
		}

		done, err := f(req.PathValue("id"))
		if err != nil {
			queueError(w, err)
			return
		}
		fmt.Fprintln(w, done)
	}
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
