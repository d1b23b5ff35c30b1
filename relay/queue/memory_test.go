package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lent returns a buffer that must be available at once.
func lent(t *testing.T, m *memory, n int) lease {
	t.Helper()
	l, wait := m.lend(n)
	if wait != nil {
		t.Fatalf("%d bytes are not lent", n)
	}
	if len(l.buf) != n {
		t.Errorf("a buffer of %d bytes, want %d", len(l.buf), n)
	}

	return l
}

func TestBuffersAreCountedInSteps(t *testing.T) {
	if bufferStep != 65536 {
		t.Errorf("a step of %d bytes, want 65536", bufferStep)
	}

	for _, c := range []struct {
		name string
		n    int
		held int64
	}{
		{"one byte", 1, bufferStep},
		{"a step", bufferStep, bufferStep},
		{"a byte more", bufferStep + 1, 2 * bufferStep},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &testBudget{limit: 1 << 30}
			m := newMemory(b)
			l := lent(t, m, c.n)
			if b.held != c.held || int64(cap(l.buf)) != c.held {
				t.Errorf("%d bytes are counted for %d, want %d", b.held, cap(l.buf), c.held)
			}

			m.put(l)
			if b.held != c.held {
				t.Errorf("%d bytes are counted while the buffer is kept, want %d", b.held, c.held)
			}
			m.trim()
			if b.held != c.held {
				t.Errorf("a buffer that was just used is dropped: %d bytes, want %d", b.held, c.held)
			}
			m.trim()
			if b.held != 0 {
				t.Errorf("%d bytes are counted after it was unused for a while, want none", b.held)
			}
		})
	}
}

// TestTrimKeepsWhatIsNeeded checks that buffers are not dropped while another
// is lent.
func TestTrimKeepsWhatIsNeeded(t *testing.T) {
	b := &testBudget{limit: 1 << 30}
	m := newMemory(b)
	one, two := lent(t, m, 1), lent(t, m, 1)
	m.put(one)
	m.trim()
	m.trim()
	if b.held != 2*bufferStep {
		t.Errorf("%d bytes are counted while a buffer is lent, want %d", b.held, 2*bufferStep)
	}
	m.put(two)
	m.trim()
	if b.held != 0 {
		t.Errorf("%d bytes are counted at the end, want none", b.held)
	}
}

func TestFittingBuffer(t *testing.T) {
	const step = bufferStep
	for _, c := range []struct {
		name string
		kept []int
		n    int
		want int // capacity; 0: none
	}{
		{"none kept", nil, 10, 0},
		{"exactly as long", []int{step}, step, step},
		{"a byte too short", []int{step}, step + 1, 0},
		{"the shortest", []int{3 * step, step, 2 * step}, 30_000, step},
		{"the shortest, which is the first", []int{step, 3 * step, 2 * step}, 30_000, step},
		{"the shortest of those that do", []int{4 * step, step, 3 * step}, step + 1, 3 * step},
		{"the first of equals", []int{2 * step, 2 * step}, step, 2 * step},
		{"a step for a small one", []int{step}, 1, step},
		{"eight times as long", []int{8 * step}, step, 8 * step},
		{"more than eight times as long", []int{9 * step}, step, 0},
		{"two steps for a small one", []int{2 * step}, 100, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemory(nil)
			for _, n := range c.kept {
				m.kept = append(m.kept, make([]byte, n))
			}
			got := m.takeKept(c.n)
			if cap(got) != c.want {
				t.Errorf("a buffer of %d, want %d", cap(got), c.want)
			}

			left := map[int]int{}
			for _, n := range c.kept {
				left[n]++
			}
			left[c.want]--
			for _, b := range m.kept {
				left[cap(b)]--
			}
			delete(left, 0)
			for n, count := range left {
				if count != 0 {
					t.Errorf("buffers of %d: %d are missing", n, count)
				}
			}
		})
	}
}

// TestOneBufferIsAlwaysLent checks that one buffer, and no second one, is lent
// beyond the budget.
func TestOneBufferIsAlwaysLent(t *testing.T) {
	b := &testBudget{limit: bufferStep - 1}
	m := newMemory(b)
	l := lent(t, m, 10)
	if _, wait := m.lend(10); wait == nil {
		t.Error("a second buffer is lent beyond the budget")
	}
	m.put(l)
	if b.held != 0 || len(m.kept) != 0 {
		t.Errorf("%d bytes are counted and %d buffers kept, want none", b.held, len(m.kept))
	}
	m.put(lent(t, m, 10))
}

// TestKeptBuffersMakeRoom checks that kept buffers that are too small are
// dropped for a larger one.
func TestKeptBuffersMakeRoom(t *testing.T) {
	b := &testBudget{limit: 3 * bufferStep}
	m := newMemory(b)
	one, two := lent(t, m, bufferStep), lent(t, m, bufferStep)
	m.put(one)
	big := lent(t, m, 2*bufferStep)
	if b.held != 3*bufferStep || !big.counted {
		t.Errorf("%d bytes are counted, the new buffer %v; want %d", b.held, big.counted, 3*bufferStep)
	}
	m.put(two)
	m.put(big)

	if !m.tryReserve(2 * bufferStep) {
		t.Error("kept buffers leave no room for a move")
	}
	if b.held != 2*bufferStep {
		t.Errorf("%d bytes are counted, want %d", b.held, 2*bufferStep)
	}
	if m.tryReserve(bufferStep + 1) {
		t.Error("more is reserved than there is")
	}
	m.release(2 * bufferStep)
	if b.held != 0 {
		t.Errorf("%d bytes are counted at the end, want none", b.held)
	}
}

// TestMemoryWithoutBudget checks that there is no limit then.
func TestMemoryWithoutBudget(t *testing.T) {
	m := newMemory(nil)
	for range 10 {
		lent(t, m, 1<<20)
	}
	if !m.tryReserve(1 << 60) {
		t.Error("there is a limit without a budget")
	}
	m.release(1 << 60)
}

// TestWaitingForMemory checks that a waiter continues when another buffer is
// returned, and soon after others have released bytes of the budget.
func TestWaitingForMemory(t *testing.T) {
	for _, c := range []struct {
		name string
		free func(m *memory, b *testBudget, held lease)
		want time.Duration
	}{
		{"a buffer comes back", func(m *memory, _ *testBudget, held lease) { m.put(held) }, 30 * time.Millisecond},
		{"others release", func(_ *memory, b *testBudget, _ lease) { b.Release(bufferStep) }, 100 * time.Millisecond},
	} {
		run(t, c.name, func(t *testing.T) {
			b := &testBudget{limit: 2 * bufferStep}
			m := newMemory(b)
			held := lent(t, m, 10)
			if !b.Reserve(bufferStep) {
				t.Fatal("no room for another user of the budget")
			}
			start := time.Now()
			time.AfterFunc(30*time.Millisecond, func() { c.free(m, b, held) })
			l, err := m.get(context.Background(), 20)
			if took := time.Since(start); err != nil || len(l.buf) != 20 || took != c.want {
				t.Errorf("got %d bytes after %v, %v; want 20 after %v", len(l.buf), took, err, c.want)
			}
		})
	}
}

// TestWaitingForMemoryEndsWithTheContext checks that get returns the error of
// its context.
func TestWaitingForMemoryEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(&testBudget{limit: bufferStep})
		lent(t, m, 10)
		ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := m.get(ctx, 10)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != 250*time.Millisecond {
			t.Errorf("got %v after %v, want the context's end after 250ms", err, took)
		}
	})
}

// testBudget is a Budget that records the most that was reserved at once.
type testBudget struct {
	mu              sync.Mutex
	limit, held, at int64
}

func (b *testBudget) Reserve(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held+n > b.limit {
		return false
	}
	b.held += n
	b.at = max(b.at, b.held)

	return true
}

func (b *testBudget) Release(n int64) {
	b.mu.Lock()
	b.held -= n
	b.mu.Unlock()
}

// countingDeliverer counts concurrent attempts.
type countingDeliverer struct {
	*fakeDeliverer
	mu        sync.Mutex
	now, most int
	arrived   chan struct{}
	proceed   chan struct{}
}

func (c *countingDeliverer) Deliver(ctx context.Context, t *Transaction, i, tries int) Verdict {
	c.mu.Lock()
	c.now++
	c.most = max(c.most, c.now)
	c.mu.Unlock()
	c.arrived <- struct{}{}
	<-c.proceed
	defer func() {
		c.mu.Lock()
		c.now--
		c.mu.Unlock()
	}()

	return c.fakeDeliverer.Deliver(ctx, t, i, tries)
}

// TestWorkersKeepToTheBudget checks that as many copies are read as the budget
// allows, but at least one, and that all are sent.
func TestWorkersKeepToTheBudget(t *testing.T) {
	const size = 256 << 10
	for _, tc := range []struct {
		name  string
		limit int64
		most  int
	}{
		{"room for three", 3*(size+bufferStep) + 1000, 3},
		{"room for none", 1000, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := &testBudget{limit: tc.limit}
			q := open(t, newDisk(t), func(c *Config) { c.Budget = b })
			for i := range 12 {
				tr := transaction(fmt.Sprint("t", i), "a")
				tr.Shared[1] = make([]byte, size)
				put(t, q, tr)
			}
			d := &countingDeliverer{
				fakeDeliverer: newFake(),
				arrived:       make(chan struct{}, 100),
				proceed:       make(chan struct{}),
			}
			stop := serve(q, d)
			for range tc.most {
				<-d.arrived
			}
			close(d.proceed)
			wait(t, "an empty queue", func() bool { return q.Len() == 0 })
			wait(t, "the memory to come back", func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return b.held == 0
			})
			stop()
			finish(t, q)
			if d.most > tc.most || b.at > tc.limit {
				t.Errorf("%d copies at once, %d bytes; want at most %d, %d", d.most, b.at, tc.most, tc.limit)
			}
			if n := d.attempted("a"); n != 12 {
				t.Errorf("%d copies sent, want 12", n)
			}
		})
	}
}

// TestBuffersAreUsedAgain checks that sending messages one after another does
// not allocate their size each time.
func TestBuffersAreUsedAgain(t *testing.T) {
	m := newMemory(&testBudget{limit: 1 << 20})
	first, err := m.get(context.Background(), 300<<10)
	if err != nil {
		t.Fatal(err)
	}
	m.put(first)
	second, err := m.get(context.Background(), 200<<10)
	if err != nil {
		t.Fatal(err)
	}
	if &first.buf[0] != &second.buf[0] {
		t.Error("a second buffer was made")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.get(ctx, 1<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("while the budget is spent: %v, want the context's end", err)
	}
	m.put(second)
}
