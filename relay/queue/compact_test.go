package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/tracking/spool"
)

// inSegments opens a queue with one transaction in each segment, whose copies
// are due in an hour. The function that it returns must be called before the
// end of the test.
func inSegments(t *testing.T, disk *memoryDisk, change func(*Config), n int) *Queue {
	t.Helper()
	q := open(t, disk, func(c *Config) {
		c.segmentBytes = 1
		c.RetryAfter = []time.Duration{time.Hour}
		if change != nil {
			change(c)
		}
	})
	for i := range n {
		tr := transaction(fmt.Sprint("t", i), "a", "b")
		tr.Copies[0].Tried = &Verdict{Reply: "450 a"}
		put(t, q, tr)
	}

	return q
}

// drop removes copies as if they had been sent.
func drop(t *testing.T, q *Queue, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := q.Drop(id); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	if err := q.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestMovingBegins checks that compaction begins when more than half of the
// bytes on disk, and two segments more, are not needed.
func TestMovingBegins(t *testing.T) {
	for _, c := range []struct {
		name    string
		segment func(useless, live int64) int64 // bytes of a segment
		want    bool
	}{
		{"exactly", func(useless, live int64) int64 { return (useless - live) / 2 }, true},
		{"a byte too few", func(useless, live int64) int64 { return (useless-live)/2 + 1 }, false},
		{"long ago", func(int64, int64) int64 { return 1 }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := newDisk(t)
			q := inSegments(t, disk, nil, 9)
			for i := 1; i < 9; i++ {
				drop(t, q, fmt.Sprintf("t%d-a", i), fmt.Sprintf("t%d-b", i))
			}
			live := q.live
			if live != int64(q.entries["t0"].size) {
				t.Errorf("%d bytes wait, want those of one transaction", live)
			}
			useless := q.spool.Size() - live
			q.cfg.segmentBytes = c.segment(useless, live)
			if got := q.compact(); got != c.want {
				t.Errorf("moved: %v, want %v; %d bytes are useless, %d wait", got, c.want, useless, live)
			}
			if moved := q.entries["t0"].at.Segment > 9; moved != c.want {
				t.Errorf("the transaction is at %v", q.entries["t0"].at)
			}
			finish(t, q)
		})
	}
}

// TestNothingIsMoved checks that nothing is moved when nothing waits in the
// oldest segment, or anywhere.
func TestNothingIsMoved(t *testing.T) {
	q := inSegments(t, newDisk(t), nil, 9)
	for i := range 9 {
		drop(t, q, fmt.Sprintf("t%d-a", i), fmt.Sprintf("t%d-b", i))
	}
	if q.compact() {
		t.Error("something was moved")
	}
	if q.moveSome(1) {
		t.Error("something was moved out of a segment in which nothing waits")
	}
	finish(t, q)
}

// TestMovedTransaction checks that a moved transaction keeps its waiting copies
// and their states, also after a restart, and that copies that have ended do
// not come back.
func TestMovedTransaction(t *testing.T) {
	disk := newDisk(t)
	q := inSegments(t, disk, nil, 3)
	drop(t, q, "t0-b")
	before := q.List(9)
	if !q.moveSome(1) {
		t.Fatal("nothing was moved")
	}
	e := q.entries["t0"]
	if e.at.Segment <= 3 {
		t.Errorf("it is at %v, want it behind the others", e.at)
	}
	if e.weight <= int64(e.size) || q.segments[e.at.Segment].bytes != e.weight {
		t.Errorf("it weighs %d for %d bytes, want its state too", e.weight, e.size)
	}
	if q.segments[1] != nil {
		t.Error("the first segment is still needed")
	}
	if q.freeSegments() {
		t.Error("there is more to do")
	}
	if names := disk.names(".seg"); slices.Contains(names, firstSegment) {
		t.Errorf("the first segment is left: %v", names)
	}
	var moved []string
	for _, r := range records(t, disk) {
		if strings.Contains(r, `"t0`) {
			moved = append(moved, r)
		}
	}
	if len(moved) != 3 || moved[1][0] != kindTransaction || strings.Contains(moved[1], "t0-b") ||
		moved[2][0] != kindState {
		t.Errorf("records %q, want an end, the transaction without the copy that ended, and a state", moved)
	}
	finish(t, q)

	q = open(t, disk, nil)
	after := q.List(9)
	if len(after) != 5 || len(before) != 5 {
		t.Fatalf("%d copies wait, before %d; want 5", len(after), len(before))
	}
	for _, w := range after {
		i := slices.IndexFunc(before, func(b Waiting) bool { return b.MessageID == w.MessageID })
		if strings.HasSuffix(w.MessageID, "-a") && w.ID == "t0" && (i < 0 || w.Tries != 1 || !w.Next.Equal(before[i].Next)) {
			t.Errorf("got %+v, want its state of before: %+v", w, before)
		}
	}
	if msg, err := q.Show("t0-a"); err != nil || string(msg) != bytesOf("t0", "a") {
		t.Errorf("shows %q, %v", msg, err)
	}
	finish(t, q)
}

// TestCopyThatEndsWhileItIsMoved checks that such a copy does not come back
// with the new record.
func TestCopyThatEndsWhileItIsMoved(t *testing.T) {
	for _, c := range []struct {
		name  string
		ended []string
		left  int
	}{
		{"one of two", []string{"t0-a"}, 1},
		{"both", []string{"t0-a", "t0-b"}, 0},
		{"none", nil, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := newDisk(t)
			q := inSegments(t, disk, nil, 1)
			e := q.entries["t0"]
			tr, own, err := q.relocate(e)
			if err != nil || len(own) != 3 {
				t.Fatalf("%d records, %v; want 3", len(own), err)
			}
			drop(t, q, c.ended...)
			written := int64(0)
			for _, r := range own {
				written += int64(len(r))
			}
			placed := uint64(0)
			err = q.append(t.Context(), spool.Internal, own, func(at []spool.Position) {
				q.moved(relocation{e: e, t: tr, written: written}, at[0], len(own[0]))
				placed = at[0].Segment
			})
			if err != nil {
				t.Fatal(err)
			}
			q.dropEnds(placed) // those of segments before it
			if q.Len() != c.left {
				t.Errorf("%d copies wait, want %d", q.Len(), c.left)
			}
			finish(t, q)
			var moved []string
			for _, id := range c.ended {
				moved = append(moved, id+": moved")
			}
			got := slices.DeleteFunc(ends(t, disk), func(s string) bool { return !strings.HasSuffix(s, ": moved") })
			if !slices.Equal(got, moved) {
				t.Errorf("ends %q, want %q", got, moved)
			}

			q = open(t, disk, nil)
			if q.Len() != c.left {
				t.Errorf("%d copies wait after the restart, want %d", q.Len(), c.left)
			}
			finish(t, q)
		})
	}
}

// TestUnreadableTransactionIsNotMoved checks that it does not prevent others
// from being moved either.
func TestUnreadableTransactionIsNotMoved(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, func(c *Config) { c.RetryAfter = []time.Duration{time.Hour} })
	put(t, q, transaction("t0", "a"))
	put(t, q, transaction("t1", "b"))
	put(t, q, transaction("t2", "c"))
	drop(t, q, "t2-c")
	data := disk.read(t, firstSegment)
	data[q.entries["t0"].at.Offset+100] ^= 1
	disk.write(firstSegment, data)

	gone := &entry{id: "gone", at: q.entries["t1"].at, size: q.entries["t1"].size}
	if q.move([]*entry{q.entries["t0"], gone}) {
		t.Error("moved what is broken, or does not wait")
	}
	if !q.moveSome(1) {
		t.Fatal("nothing was moved")
	}
	if at := q.entries["t0"].at; at.Segment != 1 || at.Offset != 0 {
		t.Errorf("the broken one is at %v, want it where it was", at)
	}
	if at := q.entries["t1"].at; at.Segment == 1 && at.Offset < int64(len(data)) {
		t.Errorf("the other is at %v, want it moved", at)
	}
	drop(t, q, "t0-a")
	finish(t, q)
}

// TestMoveThatFails checks that the failure is logged, and that the index does
// not change.
func TestMoveThatFails(t *testing.T) {
	disk, book := newDisk(t), &logBook{}
	q := inSegments(t, disk, func(c *Config) { c.Log = book.logger() }, 2)
	at := q.entries["t0"].at
	disk.set(noWrites)
	if q.moveSome(1) {
		t.Error("moved though nothing can be written")
	}
	disk.set(nil)
	if q.entries["t0"].at != at || book.count("transactions not moved") != 1 || book.count("transactions=1") != 1 {
		t.Errorf("it is at %v, want %v; the log:\n%s", q.entries["t0"].at, at, book.buf.String())
	}
	finish(t, q)
}

// TestMovingKeepsToTheBudget checks that twice the bytes that are moved are
// reserved, and released.
func TestMovingKeepsToTheBudget(t *testing.T) {
	b := &testBudget{}
	q := inSegments(t, newDisk(t), func(c *Config) { c.Budget = b }, 2)
	need := 2 * int64(q.entries["t0"].size)
	b.limit = need - 1
	if q.moveSome(1) {
		t.Error("moved beyond the budget")
	}
	if b.held != 0 {
		t.Errorf("%d bytes are held, want none", b.held)
	}
	b.limit = need
	if !q.moveSome(1) {
		t.Error("not moved within the budget")
	}
	if b.held != 0 || b.at != need {
		t.Errorf("%d bytes are held and at most %d were, want none and %d", b.held, b.at, need)
	}
	finish(t, q)
}

// TestMovedAtATime checks the limits: 1 MiB and 256 transactions, but at least
// one transaction.
func TestMovedAtATime(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name    string
		sizes   []int
		entries int
		bytes   int64
	}{
		{"one", []int{10}, 1, 10},
		{"exactly a MiB", []int{mib / 2, mib / 2}, 2, mib},
		{"a byte more", []int{mib/2 + 1, mib/2 + 1}, 1, mib/2 + 1},
		{"a large one", []int{3 * mib}, 1, 3 * mib},
		{"256", slices.Repeat([]int{1}, 256), 256, 256},
		{"257", slices.Repeat([]int{1}, 257), 256, 256},
		{"none", nil, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := open(t, newDisk(t), nil)
			for i, n := range c.sizes {
				q.add(transaction(fmt.Sprint("t", i), "a"), spool.Position{Segment: 5, Offset: int64(i)}, n)
			}
			entries, bytes := q.pick(5)
			if len(entries) != c.entries || bytes != c.bytes {
				t.Errorf("got %d of %d bytes, want %d of %d", len(entries), bytes, c.entries, c.bytes)
			}
			checkIndex(t, q)
			q.Close()
		})
	}
}

// TestMovingOnAFullDisk checks that on a full disk a segment is moved only if
// that frees more than it takes, and if it fits into the headroom.
func TestMovingOnAFullDisk(t *testing.T) {
	disk := newDisk(t)
	disk.size = 8 << 20
	q := inSegments(t, disk, func(c *Config) { c.Disk = spool.NewDisk(disk, disk.dir, 1<<20) }, 2)
	size := q.spool.SegmentSize(1)
	if size%2 != 0 {
		size--
	}
	if !q.worthMovingWhenFull(1, size/2) {
		t.Error("not worth it where half of the segment waits")
	}
	if q.worthMovingWhenFull(1, size/2+1) {
		t.Error("worth it where more than half waits")
	}

	// A segment with a large transaction, of which little waits.
	big := transaction("big", "a")
	big.Shared[0] = make([]byte, 3<<20)
	put(t, q, big)
	segment := q.entries["big"].at.Segment
	room := q.spool.InternalRoom()
	for room >= q.spool.SegmentSize(segment) {
		disk.mu.Lock()
		disk.other += room - q.spool.SegmentSize(segment) + 1000
		disk.mu.Unlock()
		room = q.spool.InternalRoom()
	}
	if room <= 0 {
		t.Fatal("no room at all")
	}
	if !q.worthMovingWhenFull(segment, room/2) {
		t.Error("not worth it though it fits")
	}
	if q.worthMovingWhenFull(segment, room/2+1) {
		t.Error("worth it though it does not fit")
	}
	disk.unfill()
	q.Close()
}

// TestCleaningAFullDisk checks that on a full disk that rule alone decides, for
// the open segment too.
func TestCleaningAFullDisk(t *testing.T) {
	for _, c := range []struct {
		name string
		full bool
		want bool
	}{{"full", true, true}, {"with room", false, false}} {
		t.Run(c.name, func(t *testing.T) {
			disk := newDisk(t)
			disk.size = 16 << 20
			q := open(t, disk, func(c *Config) {
				c.Disk = spool.NewDisk(disk, disk.dir, 1<<20)
				c.segmentBytes = 8 << 20
				c.RetryAfter = []time.Duration{time.Hour}
			})
			put(t, q, transaction("stays", "a"))
			big := transaction("big", "b")
			big.Shared[0] = make([]byte, 1<<20)
			put(t, q, big)
			drop(t, q, "big-b")
			if c.full {
				disk.mu.Lock()
				disk.other = disk.free() - 1<<20
				disk.mu.Unlock()
			}
			if got := q.compact(); got != c.want {
				t.Errorf("moved: %v, want %v", got, c.want)
			}
			if moved := q.entries["stays"].at.Segment != 1; moved != c.want {
				t.Errorf("it is at %v", q.entries["stays"].at)
			}
			disk.unfill()
			finish(t, q)
		})
	}
}

// TestAppendHoldsItsSegment checks that a segment is not removed while a Put
// into it is in progress.
func TestAppendHoldsItsSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		q := open(t, disk, nil)
		put(t, q, transaction("t1", "a"))
		release := make(chan struct{})
		disk.set(func(_ int, call, _ string) error {
			if call == "sync" {
				<-release
			}
			return nil
		})
		done := make(chan error)
		go func() { done <- q.Put(context.Background(), transaction("t2", "b")) }()
		go func() { done <- q.Put(context.Background(), transaction("t3", "c")) }()
		synctest.Wait()
		q.mu.Lock()
		segment, empty := q.needed()
		if segment != 1 || empty || q.floors[1] != 2 {
			t.Errorf("needed from %d, empty %v, floors %v; want segment 1, held twice", segment, empty, q.floors)
		}
		q.mu.Unlock()
		disk.set(nil)
		close(release)
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if len(q.floors) != 0 {
			t.Errorf("floors %v, want none", q.floors)
		}
		drop(t, q, "t1-a", "t2-b", "t3-c")
		q.mu.Lock()
		if _, empty := q.needed(); !empty {
			t.Error("something is needed where nothing waits")
		}
		q.mu.Unlock()
		finish(t, q)
	})
}

// TestNeeded checks which is the first segment that is needed.
func TestNeeded(t *testing.T) {
	for _, c := range []struct {
		name                   string
		waits, putting, unread uint64 // segments; 0: none
		want                   uint64
		empty                  bool
	}{
		{"nothing", 0, 0, 0, 10, true},
		{"a copy waits", 3, 0, 0, 3, false},
		{"a Put is under way", 0, 4, 0, 4, false},
		{"a segment is unread", 0, 0, 5, 5, false},
		{"the copy is first", 3, 4, 5, 3, false},
		{"the Put is first", 5, 3, 4, 3, false},
		{"the unread segment is first", 5, 4, 3, 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := newDisk(t)
			q := open(t, disk, func(c *Config) { c.segmentBytes = 1 })
			for i := range 9 {
				put(t, q, transaction(fmt.Sprint("t", i), "a"))
			}
			q.mu.Lock()
			q.segments = map[uint64]*usage{}
			if c.waits != 0 {
				q.segments[c.waits] = &usage{}
			}
			if c.putting != 0 {
				q.floors[c.putting] = 1
			}
			if c.unread != 0 {
				q.late.unread = []spool.Position{{Segment: c.unread}}
			}
			segment, empty := q.needed()
			q.mu.Unlock()
			if segment != c.want || empty != c.empty {
				t.Errorf("got %d, empty %v; want %d, %v", segment, empty, c.want, c.empty)
			}
			q.Close()
		})
	}
}
