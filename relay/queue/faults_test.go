package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"postern/tracking/spool"
)

// run is t.Run with a fake clock.
func run(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func put(t *testing.T, q *Queue, ts ...*Transaction) {
	t.Helper()
	if err := q.Put(context.Background(), ts...); err != nil {
		t.Fatal(err)
	}
}

// attempted returns how often each copy was given to a deliverer.
func (f *fakeDeliverer) attempted(local string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.got[local])
}

// TestEndsAreWrittenWhenThereIsRoomAgain checks that copies that were sent
// while nothing could be written are not sent again after an orderly restart.
func TestEndsAreWrittenWhenThereIsRoomAgain(t *testing.T) {
	for _, when := range []string{"before the end", "at the end"} {
		run(t, when, func(t *testing.T) {
			disk := newDisk(t)
			q := open(t, disk, nil)
			d := newFake()
			d.answers["stays"] = []Verdict{{Reply: "450 later"}}
			put(t, q, transaction("t1", "a", "b", "stays"), transaction("t2", "c"))
			disk.set(full)
			stop := serve(q, d)
			wait(t, "the copies to be sent", func() bool { return q.Len() == 1 && d.attempted("stays") > 1 })
			if when == "before the end" {
				disk.set(nil)
				wait(t, "the ends to be written", func() bool {
					q.mu.Lock()
					defer q.mu.Unlock()
					return len(q.ends) == 0
				})
			} else {
				time.AfterFunc(lastPause/2, func() { disk.set(nil) })
			}
			stop()
			finish(t, q)

			q = open(t, disk, nil)
			defer finish(t, q)
			if l := q.List(9); len(l) != 1 || l[0].MessageID != "t1-stays" || l[0].Tries < 2 {
				t.Errorf("after the restart: %+v", l)
			}
		})
	}
}

// TestEndsAreWrittenThoughStatesAreNot checks that states that cannot be
// written hold up no end.
func TestEndsAreWrittenThoughStatesAreNot(t *testing.T) {
	q := open(t, newDisk(t), func(c *Config) { c.Disk = spool.NewDisk(c.FS, c.Dir, 1<<62) })
	release := q.hold(t, 3*maxUnsaved)
	defer release()
	if err := q.Flush(); !errors.Is(err, spool.ErrNoSpace) {
		t.Errorf("got %v, want ErrNoSpace for the state", err)
	}
	if err := q.flush(noStates); err != nil {
		t.Errorf("nothing that can be written is left: %v", err)
	}
	if ends, changed := len(q.ends), len(q.changed); ends != 0 || changed != 1 {
		t.Errorf("%d ends and %d states are not written, want 0 and 1", ends, changed)
	}
}

// hold gives the queue n ends and one state to record.
func (q *Queue) hold(t *testing.T, n int) (release func()) {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(transaction("t", "a"), spool.Position{Segment: 1}, 100)
	q.markChanged(q.entries["t"].copies["t-a"])
	for i := range n {
		q.ends = append(q.ends, pendingEnd{doneRecord: doneRecord{"x", fmt.Sprint(i), "sent"}, segment: 1})
	}

	return func() {
		q.mu.Lock()
		clear(q.changed)
		q.mu.Unlock()
		q.Close()
	}
}

// TestUnwrittenStatesAreBounded checks that only the latest state of a copy is
// kept.
func TestUnwrittenStatesAreBounded(t *testing.T) { synctest.Test(t, testUnwrittenStatesAreBounded) }

func testUnwrittenStatesAreBounded(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, nil)
	d := newFake()
	d.answers["a"] = []Verdict{{Reply: "450 later"}}
	put(t, q, transaction("t1", "a"))
	disk.set(full)
	stop := serve(q, d)
	d.attempts(t, 100)
	if n := q.unsaved(); n > 1 {
		t.Errorf("%d records wait for one copy", n)
	}
	disk.set(nil)
	stop()
	if n := q.unsaved(); n != 0 {
		t.Errorf("%d records are not written at the end", n)
	}
	finish(t, q)
}

// TestFailuresOfCalls fails each file call in the life of a queue in turn,
// once, or from then on until the restart. Every copy that was accepted must be
// sent, and the queue must end empty.
func TestFailuresOfCalls(t *testing.T) {
	all := newDisk(t)
	synctest.Test(t, func(t *testing.T) { lifeWithFailures(t, all, 0) })
	for _, forGood := range []bool{false, true} {
		for n := 1; n <= all.calls; n++ {
			name := fmt.Sprintf("call %d once", n)
			if forGood {
				name = fmt.Sprintf("from call %d on", n)
			}
			t.Run(name, func(t *testing.T) {
				disk := newDisk(t)
				disk.set(func(i int, call, name string) error {
					if i != n && (!forGood || i < n) {
						return nil
					}
					if i == n {
						t.Logf("failed call: %s %s", call, name)
					}
					return syscall.EIO
				})
				most := 1
				if forGood {
					most = 4
				}
				synctest.Test(t, func(t *testing.T) { lifeWithFailures(t, disk, most) })
			})
		}
	}
}

// lifeWithFailures runs a queue, and restarts it without failures. At most so
// many calls of Put may fail.
func lifeWithFailures(t *testing.T, disk *memoryDisk, mostErrors int) {
	t.Helper()
	c := Config{
		Dir:          disk.dir,
		FS:           disk,
		RetryAfter:   []time.Duration{time.Hour},
		Log:          quiet,
		segmentBytes: 300,
		logEvery:     100 * time.Millisecond,
	}
	try := func() *Queue {
		q, err := Open(c)
		if err != nil {
			if mostErrors > 1 {
				disk.set(nil)
			}
			q, err = Open(c)
		}
		if err != nil {
			t.Fatal(err)
		}
		return q
	}

	q := try()
	var accepted []string
	errs := 0
	for i := range 4 {
		local := fmt.Sprint("first", i)
		if err := q.Put(context.Background(), transaction(local, local, "waits")); err != nil {
			errs++
			continue
		}
		accepted = append(accepted, local)
	}
	if errs > mostErrors {
		t.Errorf("%d errors, want at most %d", errs, mostErrors)
	}
	d := newFake()
	d.answers["waits"] = []Verdict{{Reply: "450 later"}, {Done: true}}
	stop := serve(q, d)
	if mostErrors > 1 { // whatever it gets done
		time.Sleep(5 * time.Second)
	} else {
		wait(t, "the first attempts", func() bool { return q.Len() == len(accepted) || retryAll(q) })
	}
	stop()
	q.Close()

	if mostErrors > 1 {
		disk.set(nil)
	}
	q = try()
	d.mu.Lock()
	d.answers["waits"] = nil
	d.mu.Unlock()
	stop = serve(q, d)
	wait(t, "an empty queue", func() bool {
		_, _ = q.Retry("") // a failure of it is one of those that are tested
		return q.Len() == 0
	})
	wait(t, "no segment", func() bool { return q.spool.Size() == 0 && len(disk.names(".seg")) == 0 })
	stop()
	q.Close()
	for _, local := range accepted {
		if len(d.got[local]) == 0 {
			t.Errorf("the copy for %s was accepted and never sent", local)
		}
	}
	if len(d.got["waits"]) < len(accepted) {
		t.Errorf("%d copies were sent of %d", len(d.got["waits"]), len(accepted))
	}
}

// retryAll makes copies due that wait only because they could not be read.
func retryAll(q *Queue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.entries {
		for _, c := range e.copies {
			if c.tries == 0 && !c.busy && c.next.After(time.Now()) {
				c.next = time.Now()
				q.schedule(c)
			}
		}
	}

	return false
}

const firstSegment = "0000000000000001.seg"

// TestFlippedBitIsQuarantined flips a bit at any position of a waiting
// transaction.
func TestFlippedBitIsQuarantined(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, nil)
	put(t, q, transaction("t1", "a"))
	finish(t, q)
	whole := disk.read(t, firstSegment)
	for at := 0; at < len(whole); at += 7 {
		broken := slices.Clone(whole)
		broken[at] ^= 1
		if broken[at] == '\n' {
			continue
		}
		run(t, fmt.Sprint("byte ", at), func(t *testing.T) {
			disk := newDisk(t)
			disk.write(firstSegment, broken)
			q := open(t, disk, nil)
			put(t, q, transaction("t2", "b"))
			d := newFake()
			stop := serve(q, d)
			wait(t, "an empty queue", func() bool { return q.Len() == 0 })
			wait(t, "no segment", func() bool { return q.spool.Size() == 0 })
			stop()
			finish(t, q)

			kept := disk.names(".broken")
			if len(kept) != 1 {
				t.Fatalf("quarantined %v, want one file", kept)
			}
			data := disk.read(t, kept[0])
			if !strings.Contains(string(broken), strings.TrimSpace(string(data))) || len(data) < 100 {
				t.Errorf("%s holds %q", kept[0], data)
			}
			if len(d.got["a"]) != 0 || len(d.got["b"]) != 1 {
				t.Errorf("sent %v, want b alone", d.got)
			}
		})
	}
}

// TestFlippedLineEndCostsNoMail checks that neither the record before nor the
// one after a flipped line end is lost.
func TestFlippedLineEndCostsNoMail(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, nil)
	put(t, q, transaction("t1", "a"))
	put(t, q, transaction("t2", "b"))
	put(t, q, transaction("t3", "c"))
	finish(t, q)
	whole := disk.read(t, firstSegment)

	ends := 0
	for at := range whole {
		if whole[at] != '\n' {
			continue
		}
		ends++
		broken := slices.Clone(whole)
		broken[at] ^= 1
		disk := newDisk(t)
		disk.write(firstSegment, broken)
		q := open(t, disk, nil)
		d := newFake()
		stop := serve(q, d)
		wait(t, "an empty queue", func() bool { return q.Len() == 0 })
		stop()
		finish(t, q)

		if len(d.got["a"]) != 1 || len(d.got["b"]) != 1 || len(d.got["c"]) != 1 {
			t.Errorf("flipped at %d: sent %v, want one each", at, d.got)
		}
		if kept := disk.names(".broken"); len(kept) > 0 {
			t.Errorf("flipped at %d: quarantined %v", at, kept)
		}
	}
	if ends != 3 {
		t.Errorf("%d line ends, want 3", ends)
	}
}

// TestRecordThatCannotBeDecodedIsQuarantined uses a record whose checksum is
// right.
func TestRecordThatCannotBeDecodedIsQuarantined(t *testing.T) {
	for _, record := range []string{"T 0000000020 {}\\nxx", "X what", "", "D", "T 0000000020 what", `T 0000000020 {"id":"x\`, "S", "T", "D ", "D {", `S {"id":\`, "x"} {
		run(t, record, func(t *testing.T) {
			disk := newDisk(t)
			q := open(t, disk, nil)
			if err := q.spool.Append(context.Background(), []byte(record)); err != nil {
				t.Fatal(err)
			}
			put(t, q, transaction("t", "a"))
			finish(t, q)
			q = open(t, disk, nil)
			defer finish(t, q)
			kept := disk.names(".broken")
			if len(kept) != 1 || q.Len() != 1 {
				t.Errorf("quarantined %v, %d copies wait, want one of each", kept, q.Len())
			}
		})
	}
}

// TestSegmentNotReadableAtTheStart checks that such a segment holds back those
// after it, that its copies are sent once it can be read, and that those that
// ended meanwhile are not sent again.
func TestSegmentNotReadableAtTheStart(t *testing.T) {
	synctest.Test(t, testSegmentNotReadableAtTheStart)
}

func testSegmentNotReadableAtTheStart(t *testing.T) {
	disk := newDisk(t)
	small := func(c *Config) { c.segmentBytes = 1 }
	q := open(t, disk, func(c *Config) { small(c); c.RetryAfter = []time.Duration{time.Hour} })
	put(t, q, transaction("t1", "a", "b", "ended"))
	put(t, q, transaction("t2", "c"))
	d := newFake()
	for _, local := range []string{"a", "b", "c"} {
		d.answers[local] = []Verdict{{Reply: "450 later"}}
	}
	stop := serve(q, d)
	wait(t, "the first attempts", func() bool {
		return q.Len() == 3 && d.attempted("a") == 1 && d.attempted("b") == 1 && d.attempted("c") == 1
	})
	stop()
	finish(t, q)

	disk.set(func(_ int, call, name string) error {
		if call == "open" && name == firstSegment {
			return syscall.EMFILE
		}
		return nil
	})
	q = open(t, disk, small)
	if l := q.List(9); len(l) != 1 || l[0].MessageID != "t2-c" {
		t.Errorf("with the segment unread: %+v", l)
	}
	d = newFake()
	stop = serve(q, d)
	if _, err := q.Retry(""); err != nil {
		t.Error(err)
	}
	wait(t, "the readable copy", func() bool { return q.Len() == 0 && q.unsaved() == 0 })
	if names := disk.names(".seg"); !slices.Contains(names, firstSegment) {
		t.Errorf("the unread segment is gone: %v", names)
	}
	disk.set(nil)
	wait(t, "the copies of the segment", func() bool { return q.Len() == 2 || d.attempted("a")+d.attempted("b") == 2 })
	if l := q.List(9); len(l) > 0 && l[0].Tries != 1 {
		t.Errorf("the copies have lost their state: %+v", l)
	}
	if _, err := q.Retry(""); err != nil {
		t.Error(err)
	}
	wait(t, "an empty queue", func() bool { return q.Len() == 0 })
	stop()
	finish(t, q)
	if d.attempted("a") != 1 || d.attempted("b") != 1 || d.attempted("c") != 1 || d.attempted("ended") != 0 {
		t.Errorf("sent %v", d.got)
	}
}

// TestCopyThatCannotBeReadIsTriedAgain checks that the attempt does not count.
func TestCopyThatCannotBeReadIsTriedAgain(t *testing.T) {
	synctest.Test(t, testCopyThatCannotBeReadIsTriedAgain)
}

func testCopyThatCannotBeReadIsTriedAgain(t *testing.T) {
	disk := newDisk(t)
	q := open(t, disk, nil)
	put(t, q, transaction("t1", "a"))
	disk.set(func(_ int, call, name string) error {
		if call == "open" && strings.HasSuffix(name, ".seg") {
			return syscall.EMFILE
		}
		return nil
	})
	d := newFake()
	stop := serve(q, d)
	wait(t, "the attempt to fail", func() bool { l := q.List(1); return len(l) == 1 && l[0].Next.After(time.Now()) })
	disk.set(nil)
	if l := q.List(1); l[0].Tries != 0 {
		t.Errorf("%d tries are counted", l[0].Tries)
	}
	if _, err := q.Retry(""); err != nil {
		t.Error(err)
	}
	wait(t, "an empty queue", func() bool { return q.Len() == 0 })
	stop()
	finish(t, q)
	if d.attempted("a") != 1 {
		t.Errorf("sent %v", d.got)
	}
}

// TestManySmallMessagesHoldNothingBack checks that segments are freed however
// many transactions wait in the oldest.
func TestManySmallMessagesHoldNothingBack(t *testing.T) {
	for _, n := range []int{10, movedEntries + 1, 1000} {
		run(t, fmt.Sprint(n), func(t *testing.T) {
			disk := newDisk(t)
			q := open(t, disk, func(c *Config) {
				c.segmentBytes = 128 << 10
				c.RetryAfter = []time.Duration{time.Hour}
			})
			d := newFake()
			d.answers["stays"] = []Verdict{{Reply: "450 later"}}
			var small []*Transaction
			for i := range n {
				small = append(small, transaction(fmt.Sprint("small", i), "stays"))
			}
			put(t, q, small...)
			stop := serve(q, d)
			wait(t, "the small ones to wait", func() bool { return d.attempted("stays") == n })
			for i := range 100 {
				big := transaction(fmt.Sprint("big", i), "goes")
				big.Shared[1] = make([]byte, 40<<10)
				put(t, q, big)
			}
			live := func() int64 { q.mu.Lock(); defer q.mu.Unlock(); return q.live }
			wait(t, "room", func() bool { return q.Len() == n && q.spool.Size() <= 2*live()+3*q.cfg.segmentBytes })
			stop()
			finish(t, q)

			q = open(t, disk, nil)
			defer finish(t, q)
			l := q.List(n + 1)
			if len(l) != n || l[0].Tries != 1 {
				t.Errorf("%d copies wait after the restart, want %d with one try", len(l), n)
			}
		})
	}
}

// TestOpenSegmentGoesWhenNothingWaits checks that the open segment is removed
// too.
func TestOpenSegmentGoesWhenNothingWaits(t *testing.T) {
	synctest.Test(t, testOpenSegmentGoesWhenNothingWaits)
}

func testOpenSegmentGoesWhenNothingWaits(t *testing.T) {
	disk := newDisk(t)
	q, d := open(t, disk, nil), newFake()
	stop := serve(q, d)
	put(t, q, transaction("t1", "a"))
	wait(t, "an empty folder", func() bool {
		return q.Len() == 0 && len(disk.names(".seg")) == 0
	})
	put(t, q, transaction("t2", "b"))
	wait(t, "an empty queue", func() bool { return q.Len() == 0 })
	stop()
	finish(t, q)
}
