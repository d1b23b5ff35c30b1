package spool

import (
	"context"
	"os"
	"sync"
	"testing"
)

// together runs functions at the same time, each so many times.
func together(times int, list ...func()) {
	var wg sync.WaitGroup
	for _, f := range list {
		for range 2 {
			wg.Go(func() {
				for range times {
					f()
				}
			})
		}
	}
	wg.Wait()
}

// TestDiskCountsRightForMany who reserve, write and set apart at the same time.
func TestDiskCountsRightForMany(t *testing.T) {
	fsys := &bigFS{free: 1 << 40}
	d := NewDisk(fsys, "", 0)
	s, other := &Spool{disk: d}, &Spool{disk: d}
	reserve := func(s *Spool) func() {
		return func() {
			r, err := s.Reserve(7)
			if err != nil {
				t.Error(err)
				return
			}
			r.Release()
		}
	}
	together(200, reserve(s), reserve(other),
		func() { d.admit(3)() },
		func() { d.setApart(s, 1) },
		func() { d.setApart(other, 2) },
		func() { _ = s.Err() },
		func() { s.InternalRoom() },
	)
	if d.reserved != 0 || s.reserved != 0 || other.reserved != 0 || d.writing != 0 || d.apart[s] != 1 || d.apart[other] != 2 {
		t.Errorf("%d reserved (%d and %d), %d being written, %v set apart", d.reserved, s.reserved, other.reserved, d.writing, d.apart)
	}
}

// TestReservationIsReleasedOnce by many.
func TestReservationIsReleasedOnce(t *testing.T) {
	s := open(t, config(t.TempDir()))
	for range 20 {
		r, err := s.Reserve(10)
		if err != nil {
			t.Fatal(err)
		}
		together(3, r.Release, r.Release)
		if s.disk.reserved != 0 {
			t.Fatalf("%d bytes are reserved", s.disk.reserved)
		}
	}
}

func TestOneDiskForManyWhoAsk(t *testing.T) {
	var disks Disks
	want, err := disks.Of(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var again Disks
	first, err := again.Of("/proc")
	if err != nil {
		t.Fatal(err)
	}
	together(50,
		func() {
			if d, err := disks.Of("."); err != nil || d == first {
				t.Errorf("got %v, %v", d, err)
			}
		},
		func() {
			if d, err := again.Of("/proc"); err != nil || d != first {
				t.Errorf("got %v, %v", d, err)
			}
			if d, err := disks.Of("/proc"); err != nil || d == want {
				t.Errorf("got %v, %v", d, err)
			}
		},
	)
}

// TestSpoolIsSafeForConcurrentUse: all that it offers at the same time, while
// segments end, go, and are read.
func TestSpoolIsSafeForConcurrentUse(t *testing.T) {
	c := config(t.TempDir())
	c.SegmentBytes, c.Readers = 200, []string{"r", "owner"}
	s := open(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	const records = 2 * 2 * 40
	wg.Go(func() {
		r := reader(t, s)
		for range records {
			rec := next(t, r)
			if err := r.Commit(rec.Next); err != nil {
				t.Error(err)
			}
		}
		cancel()
	})
	together(40,
		func() { put(t, s, "a record") },
		func() {
			at, err := s.AppendAt(ctx, []byte("another"))
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := s.ReadAt(at[0], 7); err != nil {
				t.Error(err)
			}
		},
		func() {
			s.Size()
			s.Newest()
			s.Tail()
			s.SegmentSize(1)
			s.Alive()
			s.Hold(1)
			s.Hold(-1)
		},
		func() {
			if _, err := s.Backlog("owner"); err != nil {
				t.Error(err)
			}
		},
		s.Rotate,
	)
	wg.Wait()
	<-ctx.Done()
	if err := s.Free("owner", Position{Segment: s.Tail()}); err != nil {
		t.Fatal(err)
	}
	if got := segments(s); len(got) > 1 {
		t.Errorf("segments %v are left", got)
	}
}

// TestCommitsOfOneReaderAtTheSameTime leave a cursor that is whole.
func TestCommitsAtTheSameTime(t *testing.T) {
	c := config(t.TempDir())
	s := open(t, c)
	put(t, s, "a")
	together(40,
		func() {
			if err := s.commit("r", Position{1, 0}); err != nil {
				t.Error(err)
			}
		},
		func() {
			if err := s.commit("r", Position{1, lineExtra + 1}); err != nil {
				t.Error(err)
			}
		},
	)
	data, err := os.ReadFile(s.cursorFile("r"))
	if err != nil {
		t.Fatal(err)
	}
	if newest, _, damaged := newestSlot(data); damaged || newest.Number != 161 {
		t.Errorf("after 161 commits the newest is number %d, damaged %v", newest.Number, damaged)
	}
}
