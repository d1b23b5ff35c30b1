package web

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/http"
	"sync"
	"time"
)

// sameWithin is the time within which requests with equal keys are one event.
const sameWithin = time.Second

// clockSetBack is how far a request may be behind the others because its event was
// written slowly. If it is further behind, the clock has been set back.
const clockSetBack = time.Minute

// maxRemembered bounds the requests that are remembered of one second. Requests
// beyond it are recorded, and so are their repeats.
const maxRemembered = 1 << 17

// requestKey is a digest of the method, token, client, User-Agent and prefetch
// fields of a request. Requests with equal keys are repeats of each other.
type requestKey [16]byte

// keyOf returns the key of a request. Each part is digested with its length, so
// that different requests have different input.
func keyOf(r *http.Request, h hit) requestKey {
	parts := make([]byte, 0, 1024)
	add := func(s string) {
		parts = binary.AppendUvarint(parts, uint64(len(s)))
		parts = append(parts, s...)
	}

	add(r.Method)
	add(h.text)
	client, _ := h.client.MarshalBinary() // never fails
	add(string(client))
	add(r.UserAgent())
	for _, name := range prefetchFields {
		for _, v := range r.Header.Values(name) {
			add(name)
			add(v)
		}
	}

	sum := sha256.Sum256(parts)

	return requestKey(sum[:])
}

// attempt is an event that is being written, and repeats of its request wait for.
type attempt struct {
	at   int64         // Unix nanoseconds
	done chan struct{} // closed once err is set
	err  error
}

// same reports whether two times, in Unix nanoseconds, are less than sameWithin
// apart.
func same(a, b int64) bool { return time.Duration(a-b).Abs() < sameWithin }

// repeats remembers the requests whose events are being written, and those of the
// last second whose events have been written. The zero value is ready for use, and
// safe for concurrent use.
type repeats struct {
	mu      sync.Mutex
	pending map[requestKey]*attempt
	turned  int64                // when before became what now was, in Unix nanoseconds
	now     map[requestKey]int64 // times; no pointers that the garbage collector would follow
	before  map[requestKey]int64
}

// errAborted is the error of repeats whose first request panicked.
var errAborted = errors.New("web: panic while writing event")

// once calls write for the first of several requests with the same key within
// sameWithin. The others are repeated: they wait for it, and return its error. If
// write fails, the next request is a first one again.
func (r *repeats) once(
	ctx context.Context, key requestKey, now time.Time, write func() error,
) (repeated bool, err error) {
	a, first := r.begin(key, now.UnixNano())
	if a == nil {
		return true, nil
	}
	if !first {
		select {
		case <-a.done:
			return true, a.err
		case <-ctx.Done():
			return true, ctx.Err()
		}
	}

	a.err = errAborted
	defer r.end(key, a)
	a.err = write()

	return false, a.err
}

// begin returns the attempt to write the event of a request, and whether the
// request is the first, whose caller has to write. The attempt is nil if the event
// has been written.
func (r *repeats) begin(key requestKey, at int64) (a *attempt, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if a := r.pending[key]; a != nil && same(a.at, at) {
		return a, false
	}
	for _, known := range []map[requestKey]int64{r.now, r.before} {
		if t, ok := known[key]; ok && same(t, at) {
			return nil, false
		}
	}

	a = &attempt{at: at, done: make(chan struct{})}
	if r.pending == nil {
		r.pending = map[requestKey]*attempt{}
	}
	r.pending[key] = a

	return a, true
}

// end wakes the requests that wait for an attempt, and remembers the request if
// the attempt succeeded.
func (r *repeats) end(key requestKey, a *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()

	close(a.done)
	if r.pending[key] == a {
		delete(r.pending, key)
	}
	if a.err != nil {
		return
	}

	since := time.Duration(a.at - r.turned)
	if r.now == nil || since >= sameWithin || since < -clockSetBack {
		r.before = r.now
		r.now = map[requestKey]int64{}
		r.turned = a.at
	}
	if len(r.now) < maxRemembered {
		r.now[key] = a.at
	}
}
