// Package ingestd is an ingest endpoint for tests and the demo: it checks what
// is uploaded as SparkPost's Ingest API would (its documentation, "Events Ingest"), keeps the
// events, and fails where it is told to.
//
// A Server is safe for concurrent use.
package ingestd

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/tracking/event"
)

// maxBody is the API's limit on a request.
const maxBody = 5_000_000

// Stored is an event that was taken.
type Stored struct {
	*event.Event
	Line  []byte
	Batch string
	At    time.Time
}

// Server is the endpoint, an http.Handler.
type Server struct {
	Key string // what Authorization must be
	// Fail, where set, is asked for each request: a status other than 0 is the
	// answer, with its header; take says whether the batch is kept all the same.
	Fail func(n int, r *http.Request) (status int, header http.Header, take bool)
	// Forget keeps no event, for long runs.
	Forget bool
	// OnEvent hears of each new event.
	OnEvent func(Stored)

	mu         sync.Mutex
	requests   int
	events     []Stored
	seen       map[string]bool
	duplicates int
	faults     []string
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/events/ingest") {
		s.outcomes(w, r)
		return
	}

	s.mu.Lock()
	s.requests++
	n := s.requests
	s.mu.Unlock()

	status := 0
	take := true
	var header http.Header
	if s.Fail != nil {
		status, header, take = s.Fail(n, r)
	}
	if status == 0 || take {
		id, code, why := s.take(r)
		if code != http.StatusOK {
			s.mu.Lock()
			s.faults = append(s.faults, why)
			s.mu.Unlock()
			answer(w, code, fmt.Sprintf(`{"errors":[{"message":%q}]}`, why))
			return
		}
		if status == 0 {
			answer(w, code, fmt.Sprintf(`{"results":{"id":%q}}`, id))
			return
		}
	}
	for k, v := range header {
		w.Header()[k] = v
	}
	answer(w, status, `{"errors":[{"message":"made to fail"}]}`)
}

// outcomes answers a question about batches: none of them is known.
func (s *Server) outcomes(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != s.Key {
		answer(w, http.StatusUnauthorized, `{"errors":[{"message":"wrong API key"}]}`)
		return
	}

	answer(w, http.StatusOK, `{"results":[]}`)
}

func answer(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	io.WriteString(w, body+"\n")
}

// take checks a request and keeps its events.
func (s *Server) take(r *http.Request) (id string, code int, why string) {
	switch {
	case r.Method != http.MethodPost:
		return "", http.StatusMethodNotAllowed, "method is not POST"
	case r.Header.Get("Authorization") != s.Key:
		return "", http.StatusUnauthorized, "wrong API key"
	case r.Header.Get("Content-Type") != "application/x-ndjson":
		return "", http.StatusUnsupportedMediaType, "Content-Type is not application/x-ndjson"
	case r.Header.Get("Content-Encoding") != "gzip":
		return "", http.StatusUnsupportedMediaType, "Content-Encoding is not gzip"
	}

	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return "", http.StatusBadRequest, err.Error()
	}
	if len(body) > maxBody {
		return "", http.StatusRequestEntityTooLarge, "request larger than 5 MB"
	}

	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return "", http.StatusBadRequest, "decompression: " + err.Error()
	}

	id = rand.Text()
	sc := bufio.NewScanner(z)
	sc.Buffer(nil, maxBody)
	var batch []Stored

	for sc.Scan() {
		e, err := event.Decode(sc.Bytes())
		if err != nil {
			return "", http.StatusBadRequest, fmt.Sprintf("validation: line %d: %v", len(batch)+1, err)
		}
		if e.Class != (event.Class{}) {
			return "", http.StatusBadRequest, fmt.Sprintf("validation: line %d: unknown key postern", len(batch)+1)
		}
		if age := time.Since(e.Timestamp.Time); age > 24*time.Hour {
			why := fmt.Sprintf("validation: line %d is %s old", len(batch)+1, age.Round(time.Minute))
			return "", http.StatusBadRequest, why
		}
		batch = append(batch, Stored{Event: e, Line: slices.Clone(sc.Bytes()), Batch: id, At: time.Now()})
	}

	if err := sc.Err(); err != nil {
		return "", http.StatusBadRequest, "decompression: " + err.Error()
	}
	if len(batch) == 0 {
		return "", http.StatusBadRequest, "empty batch"
	}

	s.keep(batch)
	return id, http.StatusOK, ""
}

func (s *Server) keep(batch []Stored) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	if s.Forget {
		return
	}

	for _, e := range batch {
		if s.seen[e.ID] {
			s.duplicates++
			continue
		}
		s.seen[e.ID] = true
		s.events = append(s.events, e)
		if s.OnEvent != nil {
			s.OnEvent(e)
		}
	}
}

// Events are the events taken so far, without duplicates.
func (s *Server) Events() []Stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Faults says what was wrong with requests that were refused.
func (s *Server) Faults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

// Duplicates counts events that came again.
func (s *Server) Duplicates() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.duplicates
}
