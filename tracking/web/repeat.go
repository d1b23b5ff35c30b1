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

// sameWithin is how long requests that are the same in all of requestKey make
// one event.
const sameWithin = time.Second

// clockSetBack is how far behind the others a request's time is not for its
// event's having been written slowly, but for the clock's having been set back.
const clockSetBack = time.Minute

// maxRemembered bounds the requests that are remembered of one second. What is
// beyond is not remembered: its repeats make events of their own, for a first
// one is never dropped.
const maxRemembered = 1 << 17

// requestKey is a digest of what makes two requests the same: method, token,
// client, User-Agent and the header fields in which a program says that it
// fetches ahead.
type requestKey [16]byte

// keyOf digests a request. Every part has its length in front, so that no two
// requests write the same bytes.
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

// attempt is the writing of one event, which the repeats of its request wait
// for.
type attempt struct {
	at   int64         // Unix nanoseconds
	done chan struct{} // closed once err is set
	err  error
}

// same reports whether two requests at these times, in Unix nanoseconds, are
// within a second of each other.
func same(a, b int64) bool { return time.Duration(a-b).Abs() < sameWithin }

// repeats remembers the requests whose events are being written, and those of the
// last second whose events are, in two generations. The zero value is ready for
// use, and safe for concurrent use.
type repeats struct {
	mu      sync.Mutex
	pending map[requestKey]*attempt
	turned  int64
	now     map[requestKey]int64 // when they came; without pointers, which the collector would follow
	before  map[requestKey]int64
}

// errAborted is what repeats get where the first request's writing panicked.
var errAborted = errors.New("web: the writing of the event was broken off")

// once calls write for the first of the same requests within a second; the
// others wait for it and return its error. A request whose write fails is
// forgotten: the next one is a first one again.
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

// begin returns the attempt to write a request's event, and whether it is the
// caller's own; nil where the event is written already.
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

// end gives the waiting requests the outcome, and remembers a request whose
// event is written.
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
