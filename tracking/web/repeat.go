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

// maxRemembered bounds the requests that are remembered of one second. What is
// beyond is not remembered: its repeats make events of their own, for a first
// one is never dropped.
const maxRemembered = 1 << 17

// requestKey is a digest of what makes two requests the same: method, token,
// client, User-Agent and the header fields in which a program says that it
// fetches ahead.
type requestKey [sha256.Size]byte

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

	return sha256.Sum256(parts)
}

// attempt is the writing of one event, which the repeats of its request wait
// for.
type attempt struct {
	at   time.Time
	done chan struct{} // closed once err is set
	err  error
}

func (a *attempt) covers(now time.Time) bool { return now.Sub(a.at).Abs() < sameWithin }

// repeats remembers the requests of the last second, in two generations. The
// zero value is ready for use, and safe for concurrent use.
type repeats struct {
	mu     sync.Mutex
	turned time.Time
	now    map[requestKey]*attempt
	before map[requestKey]*attempt
}

// errAborted is what repeats get where the first request's writing panicked.
var errAborted = errors.New("web: the writing of the event was broken off")

// once calls write for the first of the same requests within a second; the
// others wait for it and return its error. A request whose write fails is
// forgotten: the next one is a first one again.
func (r *repeats) once(ctx context.Context, key requestKey, now time.Time, write func() error) (repeated bool, err error) {
	a, first := r.begin(key, now)
	if !first {
		select {
		case <-a.done:
			return true, a.err
		case <-ctx.Done():
			return true, ctx.Err()
		}
	}

	err = errAborted
	defer func() { r.end(key, a, err) }()
	err = write()

	return false, err
}

func (r *repeats) begin(key requestKey, now time.Time) (a *attempt, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.now == nil || now.Sub(r.turned).Abs() >= sameWithin {
		r.now, r.before = map[requestKey]*attempt{}, r.now
		r.turned = now
	}

	if a := r.now[key]; a != nil && a.covers(now) {
		return a, false
	}
	if a := r.before[key]; a != nil && a.covers(now) {
		return a, false
	}

	a = &attempt{at: now, done: make(chan struct{})}
	if len(r.now) < maxRemembered {
		r.now[key] = a
	}
	return a, true
}

func (r *repeats) end(key requestKey, a *attempt, err error) {
	a.err = err
	close(a.done)
	if err == nil {
		return
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	for _, known := range []map[requestKey]*attempt{r.now, r.before} {
		if known[key] == a {
			delete(known, key)
		}
	}
}
