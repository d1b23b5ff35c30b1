package queue

import (
	"context"
	"sync"
	"time"
)

const (
	// bufferStep divides the capacity of each buffer.
	bufferStep = 64 << 10

	// tooLong is how many times larger than needed a buffer may be.
	tooLong = 8

	// askEvery is how often the budget is asked again while others use it.
	askEvery = 100 * time.Millisecond
)

// memory lends buffers for the copies that are being sent. Their bytes are
// reserved from the budget of the process, and remain so while a buffer is kept
// for the next copy, since garbage that is not collected yet is memory too.
type memory struct {
	budget Budget // nil: no limit

	mu       sync.Mutex
	lent     int
	kept     [][]byte
	used     bool          // since the last trim
	returned chan struct{} // closed and replaced when a buffer comes back
}

func newMemory(b Budget) *memory { return &memory{budget: b, returned: make(chan struct{})} }

// lease is a buffer on loan.
type lease struct {
	buf     []byte
	counted bool // reserved from the budget
}

// get lends a buffer of n bytes. While the budget is spent it waits for other
// copies; a buffer is always lent if no other is. The only error is that of ctx.
func (m *memory) get(ctx context.Context, n int) (lease, error) {
	for {
		l, wait := m.lend(n)
		if wait == nil {
			return l, nil
		}

		select {
		case <-wait:
		case <-time.After(askEvery):
		case <-ctx.Done():
			return lease{}, ctx.Err()
		}
	}
}

// lend returns a buffer, or a channel to wait for before the next try.
func (m *memory) lend(n int) (lease, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.used = true
	if buf := m.takeKept(n); buf != nil {
		m.lent++
		return lease{buf: buf[:n], counted: true}, nil
	}

	size := (n + bufferStep - 1) / bufferStep * bufferStep // rounded up
	ok := m.reserve(int64(size))
	if !ok && len(m.kept) > 0 {
		m.dropKept()
		ok = m.reserve(int64(size))
	}
	if !ok && m.lent > 0 {
		return lease{}, m.returned
	}
	m.lent++

	return lease{buf: make([]byte, n, size), counted: ok}, nil
}

// takeKept returns the smallest kept buffer that holds n bytes and is not much
// larger, or nil. m.mu must be held.
func (m *memory) takeKept(n int) []byte {
	best := -1
	for i, b := range m.kept {
		fits := cap(b) >= n && cap(b) <= max(tooLong*n, bufferStep)
		if fits && (best < 0 || cap(b) < cap(m.kept[best])) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}

	buf := m.kept[best]
	last := len(m.kept) - 1
	m.kept[best] = m.kept[last]
	m.kept = m.kept[:last]

	return buf
}

// put returns a buffer that was lent.
func (m *memory) put(l lease) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.lent--
	if l.counted {
		m.kept = append(m.kept, l.buf)
	}

	close(m.returned)
	m.returned = make(chan struct{})
}

// tryReserve reports whether it could reserve n bytes. If necessary it drops the
// kept buffers.
func (m *memory) tryReserve(n int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()

	if m.reserve(n) {
		return true
	}
	m.dropKept()

	return m.reserve(n)
}

// release releases what was reserved.
func (m *memory) release(n int64) {
	if m.budget != nil {
		m.budget.Release(n)
	}
}

func (m *memory) reserve(n int64) bool { return m.budget == nil || m.budget.Reserve(n) }

// dropKept leaves the kept buffers to the garbage collector. m.mu must be held.
func (m *memory) dropKept() {
	for _, b := range m.kept {
		m.release(int64(cap(b)))
	}
	m.kept = nil
}

// trim drops the kept buffers if none was used since it was called last.
func (m *memory) trim() {
	m.mu.Lock()
	defer m.mu.Unlock()

	if !m.used && m.lent == 0 {
		m.dropKept()
	}
	m.used = false
}
