// Package health detects parts of a process that are stuck.
//
// An idle part is alive. A part is stuck when one unit of its work takes longer
// than its limit. All types are safe for concurrent use.
package health

import (
	"container/list"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Part is a part of a process that can be watched.
type Part interface {
	// Alive returns when the part last made progress, or the current time if it
	// is idle.
	Alive() time.Time
}

// Registry is a set of watched parts. The zero value is empty.
type Registry struct {
	mu    sync.Mutex
	parts []watched
}

type watched struct {
	name  string
	part  Part
	limit time.Duration
}

// Watch adds a part, which is stuck once it has made no progress for longer than
// limit.
func (r *Registry) Watch(name string, p Part, limit time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.parts = append(r.parts, watched{name: name, part: p, limit: limit})
}

// Check returns an error that names all parts that are stuck, or nil.
func (r *Registry) Check() error {
	r.mu.Lock()
	parts := r.parts
	r.mu.Unlock()

	var errs []error
	for _, w := range parts {
		age := time.Since(w.part.Alive())
		if age > w.limit {
			errs = append(errs, fmt.Errorf("%s: no sign of life for %v", w.name, age.Round(time.Second)))
		}
	}

	return errors.Join(errs...)
}

// Work is a Part that consists of units of work, any number of them at once. The
// zero value is idle.
type Work struct {
	mu     sync.Mutex
	begins list.List // of time.Time, the oldest in front
}

// Begin records the start of a unit of work. The caller must call end when it is
// complete.
func (w *Work) Begin() (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()

	e := w.begins.PushBack(time.Now())
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.begins.Remove(e)
	}
}

// Alive implements Part. It returns the start of the oldest unit that is not
// complete.
func (w *Work) Alive() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()

	if oldest := w.begins.Front(); oldest != nil {
		return oldest.Value.(time.Time)
	}

	return time.Now()
}

// Listener is a net.Listener, and a Part that is stuck while nobody calls Accept.
type Listener struct {
	net.Listener
	left atomic.Pointer[time.Time] // when Accept returned; nil: a call is in progress
}

// NewListener returns a Listener that accepts from l.
func NewListener(l net.Listener) *Listener { return &Listener{Listener: l} }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	l.left.Store(nil)

	c, err := l.Listener.Accept()
	if err != nil { // the caller stops, or waits for file descriptors
		return nil, err
	}

	now := time.Now()
	l.left.Store(&now)
	return c, nil
}

// Alive implements Part.
func (l *Listener) Alive() time.Time {
	if left := l.left.Load(); left != nil {
		return *left
	}

	return time.Now()
}
