// Package health collects signs of life of the parts of a process.
//
// A part that has nothing to do is alive. It is stuck when it has been at one
// piece of work for longer than its bound. All types are safe for concurrent
// use.
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

// Part is a part that shows signs of life.
type Part interface {
	// Alive returns the time of the last sign of life. Where the part is idle
	// that is now.
	Alive() time.Time
}

// Registry is the set of parts that are watched. The zero value is empty.
type Registry struct {
	mu    sync.Mutex
	parts []watched
}

type watched struct {
	name  string
	part  Part
	bound time.Duration
}

// Watch adds a part, whose last sign of life may be as old as bound.
func (r *Registry) Watch(name string, p Part, bound time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.parts = append(r.parts, watched{name: name, part: p, bound: bound})
}

// Check returns an error that names the parts that are stuck.
func (r *Registry) Check() error {
	r.mu.Lock()
	parts := r.parts
	r.mu.Unlock()

	var errs []error
	for _, w := range parts {
		if age := time.Since(w.part.Alive()); age > w.bound {
			errs = append(errs, fmt.Errorf("%s: no sign of life for %v", w.name, age.Round(time.Second)))
		}
	}

	return errors.Join(errs...)
}

// Work is a part that is alive as long as each piece of its work ends in time.
// The zero value is idle.
type Work struct {
	mu     sync.Mutex
	begins list.List // of time.Time, the oldest in front
}

// Begin notes that a piece of work begins. The caller calls end once it is
// done.
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

// Alive implements Part: it is when the oldest work that has not ended began.
func (w *Work) Alive() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()

	if oldest := w.begins.Front(); oldest != nil {
		return oldest.Value.(time.Time)
	}

	return time.Now()
}

// Listener is a listener that shows whether its user goes on accepting.
type Listener struct {
	net.Listener
	left atomic.Pointer[time.Time] // when Accept returned; nil: somebody is in it
}

// NewListener returns a Listener on top of l.
func NewListener(l net.Listener) *Listener { return &Listener{Listener: l} }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	l.left.Store(nil)

	c, err := l.Listener.Accept()
	if err != nil { // the user ends, or waits for descriptors
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
