package queue

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/spool"
)

// TestSegmentOfACopyIsGone checks that the copy is logged and removed, and that
// others are sent.
func TestSegmentOfACopyIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, book := newDisk(t), &logBook{}
		q := open(t, disk, func(c *Config) { c.Log, c.segmentBytes = book.logger(), 1 })
		put(t, q, transaction("t1", "a"))
		put(t, q, transaction("t2", "b"))
		if err := disk.Remove(disk.dir + "/" + firstSegment); err != nil {
			t.Fatal(err)
		}
		d := newFake()
		stop := serve(q, d)
		wait(t, "an empty queue", func() bool { return q.Len() == 0 })
		stop()
		if d.attempted("a") != 0 || d.attempted("b") != 1 {
			t.Errorf("sent %v, want b", d.got)
		}
		if kept := disk.names(".broken"); len(kept) != 0 {
			t.Errorf("quarantined %v, want nothing", kept)
		}
		if book.count("message_id=t1-a") == 0 {
			t.Errorf("the log does not name the copy:\n%s", book.buf.String())
		}
		finish(t, q)
	})
}

// TestCopyThatCannotBeReadNow checks that it is tried again after 10 s, and
// that the attempt does not count; likewise for a damaged copy that cannot be
// quarantined.
func TestCopyThatCannotBeReadNow(t *testing.T) {
	for _, broken := range []bool{false, true} {
		run(t, fmt.Sprint("broken ", broken), func(t *testing.T) {
			disk := newDisk(t)
			q := open(t, disk, nil)
			put(t, q, transaction("t1", "a"))
			if broken {
				data := disk.read(t, firstSegment)
				data[100] ^= 1
				disk.write(firstSegment, data)
			}
			var reads []time.Duration
			start := time.Now()
			disk.set(func(_ int, call, name string) error {
				if call != "read" || name != firstSegment {
					return nil
				}
				reads = append(reads, time.Since(start))
				if broken && len(reads)%2 == 1 { // the attempt reads it, the quarantine cannot
					return nil
				}
				return syscall.EIO
			})
			stop := serve(q, newFake())
			pass(25 * time.Second)
			want := []time.Duration{0, 10 * time.Second, 20 * time.Second}
			if !slices.Equal(slices.Compact(reads), want) {
				t.Errorf("read at %v, want at %v", reads, want)
			}
			if l := q.List(9); len(l) != 1 || l[0].Tries != 0 {
				t.Errorf("got %+v, want the copy without a try", l)
			}
			disk.set(nil)
			pass(10 * time.Second)
			if q.Len() != 0 {
				t.Errorf("%d copies wait, want none", q.Len())
			}
			if kept := disk.names(".broken"); (len(kept) == 1) != broken {
				t.Errorf("quarantined %v", kept)
			}
			stop()
			finish(t, q)
		})
	}
}

// TestCopyThatMovedIsReadAgain checks that it is due at once, at its new
// position.
func TestCopyThatMovedIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newDisk(t)
		q := open(t, disk, nil)
		put(t, q, transaction("t1", "a"))
		old := spool.Position{Segment: 1, Offset: 12345}
		c := q.find(copyKey{"t1", "t1-a"})
		taken, _ := q.takeDue()
		if taken != c || !c.busy {
			t.Fatalf("took %+v, want the copy", taken)
		}
		q.handleUnreadable(c, old, 10, spool.ErrCorrupt)
		if c.busy || c.next.After(time.Now()) || q.Len() != 1 {
			t.Errorf("busy %v, due at %v, want it due now", c.busy, c.next)
		}
		if kept := disk.names(".broken"); len(kept) != 0 {
			t.Errorf("quarantined %v", kept)
		}
		finish(t, q)
	})
}

// TestRecordOfAnother checks that a record of another transaction, where a
// copy's should be, is quarantined.
func TestRecordOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, reg := newDisk(t), prometheus.NewRegistry()
		q := open(t, disk, func(c *Config) { c.Metrics = reg })
		put(t, q, transaction("t1", "a"))
		put(t, q, transaction("t2", "b"))
		q.entries["t1"].at = q.entries["t2"].at
		d := newFake()
		stop := serve(q, d)
		wait(t, "an empty queue", func() bool { return q.Len() == 0 })
		stop()
		metrics := values(t, reg)
		if metrics["postern_queue_broken_records_total"] != 1 || metrics["postern_queue_attempts_total unreadable"] != 1 {
			t.Errorf("counted %v, want a broken record", metrics)
		}
		if d.attempted("a") != 0 || d.attempted("b") != 1 || !slices.Equal(disk.names(".broken"), []string{"t1.broken"}) {
			t.Errorf("sent %v, quarantined %v; want b sent and t1 quarantined", d.got, disk.names(".broken"))
		}
		finish(t, q)
	})
}
