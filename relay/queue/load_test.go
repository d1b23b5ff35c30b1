package queue

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/spool"
)

// encoded returns records as they are on disk.
func encoded(t *testing.T, kind byte, v any) []byte {
	t.Helper()
	r, err := encodeJSON(kind, v)
	if err != nil {
		t.Fatal(err)
	}

	return r
}

func encodedTransaction(t *testing.T, tr *Transaction) []byte {
	t.Helper()
	r, err := encodeTransaction(tr)
	if err != nil {
		t.Fatal(err)
	}

	return r
}

// TestManyRecipientsSurviveARestart uses a transaction whose JSON is longer
// than what is first read of it.
func TestManyRecipientsSurviveARestart(t *testing.T) {
	for _, n := range []int{1, 5, 100} {
		run(t, fmt.Sprint(n, " recipients"), func(t *testing.T) {
			disk := newDisk(t)
			q := open(t, disk, nil)
			var to []string
			for i := range n {
				to = append(to, fmt.Sprint("to", i))
			}
			put(t, q, transaction("t1", to...), transaction("t2", "b"))
			finish(t, q)

			q = open(t, disk, nil)
			if got := q.Len(); got != n+1 {
				t.Errorf("%d copies wait after the restart, want %d", got, n+1)
			}
			d := newFake()
			stop := serve(q, d)
			wait(t, "an empty queue", func() bool { return q.Len() == 0 })
			stop()
			finish(t, q)
			for _, local := range to {
				if got := d.got[local]; len(got) != 1 || got[0] != bytesOf("t1", local) {
					t.Errorf("%s: sent %q", local, got)
				}
			}
		})
	}
}

// TestLoadAsksForTheWhole checks that load asks for the rest of a record only
// if the beginning of a transaction is too short.
func TestLoadAsksForTheWhole(t *testing.T) {
	record := encodedTransaction(t, transaction("t1", "a"))
	end := headEnd(record)
	for _, c := range []struct {
		name      string
		beginning []byte
		enough    bool
		waiting   int
		broken    int
	}{
		{"the whole", record, true, 1, 0},
		{"all but the last byte", record[:len(record)-1], true, 1, 0},
		{"to the end of the JSON", record[:end+2], true, 1, 0},
		{"into the end of the JSON", record[:end+1], false, 0, 0},
		{"half of the JSON", record[:end/2], false, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := newDisk(t)
			q := open(t, disk, nil)
			put(t, q, transaction("other", "b"))
			if got := q.load(spool.Position{Segment: 1}, c.beginning, len(record)); got != c.enough {
				t.Errorf("enough: got %v, want %v", got, c.enough)
			}
			if got := q.Len() - 1; got != c.waiting {
				t.Errorf("%d copies wait, want %d", got, c.waiting)
			}
			if got := len(disk.names(".broken")); got != c.broken {
				t.Errorf("%d records are quarantined, want %d", got, c.broken)
			}
			finish(t, q)
		})
	}
}

// TestBrokenRecordWhoseBytesAreGone checks that its segment is kept if it
// cannot be quarantined.
func TestBrokenRecordWhoseBytesAreGone(t *testing.T) {
	disk, book := newDisk(t), &logBook{}
	q := open(t, disk, nil)
	if err := q.spool.Append(t.Context(), []byte("X what")); err != nil {
		t.Fatal(err)
	}
	finish(t, q)

	opened := 0
	disk.set(func(_ int, call, name string) error {
		if call == "open" && name == firstSegment {
			if opened++; opened > 2 { // the spool's own, and the scan's
				return syscall.EMFILE
			}
		}
		return nil
	})
	reg := prometheus.NewRegistry()
	q = open(t, disk, func(c *Config) { c.Log, c.Metrics = book.logger(), reg })
	disk.set(nil)
	if n := book.count(`record quarantined" file="its segment" segment=1 offset=0`); n != 1 {
		t.Errorf("it is told %d times, want once:\n%s", n, book.buf.String())
	}
	if n := values(t, reg)["postern_queue_broken_records_total"]; n != 1 {
		t.Errorf("%v broken records are counted, want 1", n)
	}
	d := newFake()
	stop := serve(q, d)
	wait(t, "the segment to go", func() bool { return len(disk.names(".seg")) == 0 })
	stop()
	finish(t, q)
	if got := disk.names(".broken"); !slices.Contains(got, firstSegment+".broken") {
		t.Errorf("%v are kept, want the segment", got)
	}
}

// TestLaterRecordTakesThePlaceOfTheEarlier reads the records in either order.
func TestLaterRecordTakesThePlaceOfTheEarlier(t *testing.T) {
	record := encodedTransaction(t, transaction("t1", "a"))
	at := func(segment uint64, offset int64) spool.Position {
		return spool.Position{Segment: segment, Offset: offset}
	}
	for _, c := range []struct {
		name          string
		first, second spool.Position
		want          spool.Position
	}{
		{"in order", at(1, 0), at(2, 0), at(2, 0)},
		{"in one segment", at(1, 0), at(1, 500), at(1, 500)},
		{"the earlier read late", at(2, 0), at(1, 0), at(2, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := open(t, newDisk(t), nil)
			for _, p := range []spool.Position{c.first, c.second} {
				if !q.load(p, record, len(record)) {
					t.Errorf("the record at %v was not enough", p)
				}
			}
			if e := q.entries["t1"]; e == nil || e.at != c.want || e.size != len(record) || e.weight != int64(len(record)) {
				t.Errorf("got %+v, want it at %v", e, c.want)
			}
			if q.live != int64(len(record)) || len(q.segments) != 1 {
				t.Errorf("%d bytes in %d segments, want %d in 1", q.live, len(q.segments), len(record))
			}
			finish(t, q)
		})
	}
}

// TestUnreadSegment checks that what happened to the copies of an unread
// segment is applied when it is read, and then forgotten.
func TestUnreadSegment(t *testing.T) {
	early := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	later := early.Add(time.Hour)
	record := encodedTransaction(t, transaction("t1", "waits", "ended", "fresh"))
	state := func(tries int, lastTry time.Time) []byte {
		return encoded(t, kindState, stateRecord{
			ID:       "t1",
			Copy:     "t1-waits",
			Tries:    tries,
			Next:     lastTry.Add(time.Hour),
			Away:     true,
			Reply:    fmt.Sprint("450 ", tries),
			LastTry:  lastTry,
			Upstream: "up",
		})
	}
	done := encoded(t, kindDone, doneRecord{"t1", "t1-ended", "sent"})
	alike := encoded(t, kindDone, doneRecord{"t2", "t1-fresh", "sent"})

	for _, c := range []struct {
		name    string
		records [][]byte
	}{
		{"records behind the unread segment", [][]byte{state(3, later), done, alike, record, state(2, early)}},
		{"the latest of its states comes later", [][]byte{state(2, early), done, alike, record, state(3, later)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := open(t, newDisk(t), nil)
			q.index().Unread(spool.Position{Segment: 1})
			for i, r := range c.records {
				q.load(spool.Position{Segment: 2, Offset: int64(i)}, r, len(r))
			}

			if q.Len() != 2 {
				t.Errorf("%d copies wait, want 2: %+v", q.Len(), q.List(9))
			}
			s := q.find(copyKey{"t1", "t1-waits"})
			if s == nil {
				t.Fatal("the copy does not wait")
			}
			if s.tries != 3 || !s.lastTry.Equal(later) || s.reply != "450 3" || s.upstream != "up" || !s.isAway ||
				!s.next.Equal(later.Add(time.Hour)) || len(q.away) != 1 {
				t.Errorf("got %+v, want the state of the third try", s)
			}
			if f := q.find(copyKey{"t1", "t1-fresh"}); f == nil || f.tries != 0 {
				t.Errorf("got %+v, want a copy without a state", f)
			}

			q.loadUnread() // there is no such segment
			if q.late.unread != nil || q.late.ended != nil || q.late.states != nil {
				t.Errorf("kept after all was read: %+v", q.late)
			}
			finish(t, q)
		})
	}
}

// TestSeveralUnreadSegments checks that they are read in order, each from where
// reading stopped.
func TestSeveralUnreadSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		small := func(c *Config) { c.segmentBytes = 1 }
		q := open(t, disk, small)
		for i := range 4 {
			put(t, q, transaction(fmt.Sprint("t", i), "a"))
		}
		finish(t, q)

		bad := map[string]bool{"0000000000000001.seg": true, "0000000000000003.seg": true}
		disk.set(func(_ int, call, name string) error {
			if call == "open" && bad[name] {
				return syscall.EMFILE
			}
			return nil
		})
		q = open(t, disk, small)
		if q.Len() != 2 || len(q.late.unread) != 2 {
			t.Errorf("%d copies wait and %v is unread, want 2 and 2", q.Len(), q.late.unread)
		}
		q.mu.Lock()
		if segment, empty := q.needed(); segment != 1 || empty {
			t.Errorf("needed from segment %d, empty %v; want from 1", segment, empty)
		}
		q.mu.Unlock()

		q.loadUnread()
		if len(q.late.unread) != 2 {
			t.Errorf("unread %v, want still both", q.late.unread)
		}
		delete(bad, "0000000000000001.seg")
		q.loadUnread()
		if q.Len() != 3 || len(q.late.unread) != 1 || q.late.unread[0].Segment != 3 || q.late.ended == nil {
			t.Errorf("%d copies wait and %v is unread, want 3 and segment 3", q.Len(), q.late.unread)
		}
		disk.set(nil)
		q.loadUnread()
		if q.Len() != 4 || len(q.late.unread) != 0 {
			t.Errorf("%d copies wait and %v is unread, want 4 and none", q.Len(), q.late.unread)
		}
		finish(t, q)
	})
}

// TestEndWhileSegmentsAreUnread checks that the end is not lost when the
// transaction is read.
func TestEndWhileSegmentsAreUnread(t *testing.T) {
	q := open(t, newDisk(t), nil)
	tr := transaction("t1", "a")
	put(t, q, tr)
	q.index().Unread(spool.Position{Segment: 9})
	if err := q.Drop("t1-a"); err != nil {
		t.Fatal(err)
	}
	record := encodedTransaction(t, tr)
	q.load(spool.Position{Segment: 9}, record, len(record))
	if q.Len() != 0 {
		t.Errorf("%d copies wait, want none: the copy was dropped", q.Len())
	}
	q.loadUnread()
	finish(t, q)
}

// TestDoneAndStateOfUnknownCopies checks that such records change nothing.
func TestDoneAndStateOfUnknownCopies(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, nil)
	put(t, q, transaction("t1", "a"))
	for _, r := range [][]byte{
		encoded(t, kindState, stateRecord{ID: "t1", Copy: "t1-b", Tries: 7}),
		encoded(t, kindState, stateRecord{ID: "t2", Copy: "t1-a", Tries: 7}),
		encoded(t, kindDone, doneRecord{"t1", "t1-b", "sent"}),
		encoded(t, kindDone, doneRecord{"t2", "t1-a", "sent"}),
	} {
		if !q.load(spool.Position{Segment: 1}, r, len(r)) {
			t.Errorf("%s was not enough", r)
		}
	}
	if l := q.List(9); len(l) != 1 || l[0].Tries != 0 {
		t.Errorf("got %+v, want one copy without a try", l)
	}
	if q.late.states != nil || q.late.ended != nil {
		t.Errorf("kept though all segments are read: %+v", q.late)
	}
	if kept := disk.names(".broken"); len(kept) != 0 {
		t.Errorf("quarantined %v", kept)
	}
	finish(t, q)
}

// TestStateSurvivesARestart checks each field, also after a retry by the
// operator.
func TestStateSurvivesARestart(t *testing.T) {
	for _, retried := range []bool{false, true} {
		run(t, fmt.Sprint("retried ", retried), func(t *testing.T) {
			disk := newDisk(t)
			hours := func(c *Config) { c.RetryAfter = []time.Duration{time.Millisecond, time.Hour} }
			q := open(t, disk, hours)
			d := newFake()
			d.answers["a"] = []Verdict{{Reply: "450 first"}, {Reply: "451 4.4.1 second", Upstream: "up:25", Away: true}}
			d.unreachable = true
			tr := transaction("t1", "a")
			tr.Session = "s.1"
			put(t, q, tr)
			stop := serve(q, d)
			wait(t, "two attempts", func() bool { l := q.List(1); return l[0].Tries == 2 })
			stop()
			if retried {
				pass(time.Minute)
				if n, err := q.Retry("t1-a"); n != 1 || err != nil {
					t.Errorf("retry: got %d, %v", n, err)
				}
			}
			before, upstream := q.List(9), q.find(copyKey{"t1", "t1-a"}).upstream
			finish(t, q)

			q = open(t, disk, hours)
			after := q.List(9)
			if len(after) != 1 || len(before) != 1 {
				t.Fatalf("%d copies wait, and %d did", len(after), len(before))
			}
			b, a := before[0], after[0]
			if !a.Created.Equal(b.Created) || !a.LastTry.Equal(b.LastTry) || !a.Next.Equal(b.Next) || a.LastTry.IsZero() {
				t.Errorf("times: got %+v, want %+v", a, b)
			}
			a.Created, a.LastTry, a.Next = b.Created, b.LastTry, b.Next
			want := Waiting{
				ID:        "t1",
				MessageID: "t1-a",
				Session:   "s.1",
				From:      "s@example.com",
				Recipient: "a@example.net",
				Created:   b.Created,
				Tries:     2,
				LastTry:   b.LastTry,
				Next:      b.Next,
				Away:      true,
				Reply:     "451 4.4.1 second",
				Size:      len(encodedTransaction(t, tr)),
			}
			if a != want || b != want {
				t.Errorf("got %+v, before it was %+v, want %+v", a, b, want)
			}
			if got := q.find(copyKey{"t1", "t1-a"}).upstream; got != "up:25" || upstream != "up:25" {
				t.Errorf("upstream %q, before it was %q, want up:25", got, upstream)
			}
			if due := !a.Next.After(time.Now()); due != retried {
				t.Errorf("due now: %v, want %v", due, retried)
			}
			finish(t, q)
		})
	}
}

// TestCopiesAreListedByWhenTheyAreDue checks the order and the limit of List.
func TestCopiesAreListedByWhenTheyAreDue(t *testing.T) {
	q := open(t, newDisk(t), nil)
	var to []string
	for i := range 20 {
		to = append(to, fmt.Sprint("to", i))
	}
	put(t, q, transaction("t1", to...))
	q.mu.Lock()
	for i, local := range to {
		c := q.entries["t1"].copies["t1-"+local]
		c.next = time.Unix(int64(i*7%20), 0)
		q.schedule(c)
	}
	q.mu.Unlock()
	l := q.List(15)
	if len(l) != 15 {
		t.Errorf("%d are listed, want 15", len(l))
	}
	for i, w := range l {
		if w.Next.Unix() != int64(i) {
			t.Errorf("place %d: due at %d", i, w.Next.Unix())
		}
	}
	if n := len(q.List(99)); n != 20 {
		t.Errorf("%d are listed, want all 20", n)
	}
	finish(t, q)
}

// TestShowFails checks the error for a copy that cannot be read.
func TestShowFails(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, nil)
	put(t, q, transaction("t1", "a"))
	disk.set(func(_ int, call, _ string) error {
		if call == "read" {
			return syscall.EIO
		}
		return nil
	})
	if msg, err := q.Show("t1-a"); err == nil || msg != nil {
		t.Errorf("got %q, %v, want an error", msg, err)
	}
	disk.set(nil)
	if msg, err := q.Show("t1-a"); err != nil || string(msg) != bytesOf("t1", "a") {
		t.Errorf("got %q, %v", msg, err)
	}
	if _, err := q.Show("t1-b"); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v, want %v", err, ErrUnknown)
	}
	finish(t, q)
}

// TestRetryAndAFullDisk checks that Retry succeeds although the state cannot be
// recorded, and returns other errors of the disk.
func TestRetryAndAFullDisk(t *testing.T) {
	for _, c := range []struct {
		name string
		fail error
		want string
	}{
		{"full", syscall.ENOSPC, ""},
		{"broken", syscall.EIO, syscall.EIO.Error()},
	} {
		run(t, c.name, func(t *testing.T) {
			disk := newDisk(t)
			q := open(t, disk, func(c *Config) { c.RetryAfter = []time.Duration{time.Hour} })
			tr := transaction("t1", "a", "b")
			tr.Copies[0].Tried = &Verdict{Reply: "450 later"}
			put(t, q, tr)
			disk.set(func(_ int, call, _ string) error {
				switch call {
				case "create", "write", "allocate", "sync":
					return c.fail
				}
				return nil
			})
			n, err := q.Retry("t1-a")
			if n != 1 || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %d, %v, want 1 and an error with %q", n, err, c.want)
			}
			if next := q.find(copyKey{"t1", "t1-a"}).next; next.After(time.Now()) {
				t.Errorf("due at %v, want now", next)
			}
			disk.set(nil)
			if n, err := q.Retry(""); n != 2 || err != nil {
				t.Errorf("all: got %d, %v, want 2", n, err)
			}
			finish(t, q)
		})
	}
}
