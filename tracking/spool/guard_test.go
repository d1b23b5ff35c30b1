package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// logText is the text of a log, which may be read while it is written.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.text.String()
}

// logged is a configuration whose log can be read.
func logged(t *testing.T, fsys FS) (Config, *logText) {
	t.Helper()
	log := &logText{}
	c := config(t.TempDir())
	c.FS, c.Log = fsys, slog.New(slog.NewTextHandler(log, nil))

	return c, log
}

// TestFullDiskIsSaidOnce when it begins, and once when it ends.
func TestFullDiskIsSaidOnce(t *testing.T) {
	fsys := &faultFS{}
	c, log := logged(t, fsys)
	s := open(t, c)
	for _, free := range []int64{0, 0, 1, 1, 0, 0, 1} {
		fsys.free.Store(free)
		s.do(s.logFull)
	}
	if full, again := strings.Count(log.String(), "records are refused"), strings.Count(log.String(), "accepted again"); full != 2 || again != 1 {
		t.Errorf("said %d and %d times, want 2 and 1:\n%s", full, again, log)
	}
}

// TestFreeSpaceIsLookedAt every tenth of a second while records come, and every
// second where none do.
func TestFreeSpaceIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := &faultFS{}
		c, log := logged(t, fsys)
		s := open(t, c)
		said := func(step string, want int) {
			t.Helper()
			if got := strings.Count(log.String(), "records are refused"); got != want {
				t.Errorf("%s: said %d times, want %d", step, got, want)
			}
		}
		put(t, s, "a") // looks
		fsys.free.Store(1)
		put(t, s, "b")
		said("at once", 0)
		time.Sleep(99 * time.Millisecond)
		put(t, s, "c")
		said("before a tenth of a second is over", 0)
		time.Sleep(time.Millisecond)
		put(t, s, "d")
		said("after a tenth of a second", 1)

		fsys.free.Store(0)
		time.Sleep(2 * time.Second)
		fsys.free.Store(1)
		time.Sleep(time.Second)
		synctest.Wait()
		said("nothing comes", 2)
	})
}

// TestSegmentsStayFor the time that is configured, counted from their last
// record, and then go without that anything happens.
func TestSegmentsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config(t.TempDir())
		c.SegmentBytes, c.Keep = 2*(lineExtra+1), 10*time.Minute
		s := open(t, c)
		put(t, s, "a")
		time.Sleep(30 * time.Second)
		put(t, s, "b")
		time.Sleep(30 * time.Second)
		put(t, s, "c")
		r := reader(t, s)
		for range 2 {
			next(t, r)
		}
		if err := r.Commit(next(t, r).Next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Minute - 31*time.Second)
		synctest.Wait()
		if got := segments(s); len(got) != 2 {
			t.Errorf("before their time is over %v are left", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := segments(s); !slices.Equal(got, []uint64{2}) {
			t.Errorf("segments %v are left, want the one that ended by age", got)
		}
	})
}

// TestSegmentsOfAPreviousRunStayByTheirTime on the disk.
func TestSegmentsOfAPreviousRunStayByTheirTime(t *testing.T) {
	c := config(t.TempDir())
	c.SegmentBytes, c.Readers, c.Keep = 1, nil, time.Hour
	s := open(t, c)
	put(t, s, "old", "young")
	s.Close()
	old := time.Now().Add(-61 * time.Minute)
	if err := os.Chtimes(s.path(1), old, old); err != nil {
		t.Fatal(err)
	}
	s = open(t, c)
	s.do(s.sweep)
	if got := segments(s); !slices.Equal(got, []uint64{2}) {
		t.Errorf("segments %v are left, want the young one", got)
	}
}

// TestSegmentWaitsForEveryReader, to its very end.
func TestSegmentWaitsForEveryReader(t *testing.T) {
	c := config(t.TempDir())
	c.SegmentBytes, c.Readers = 1, []string{"a", "b"}
	s := open(t, c)
	put(t, s, "x", "y")
	const end = lineExtra + 1
	for _, step := range []struct {
		name string
		a, b Position
		left int
	}{
		{"neither", Position{}, Position{}, 2},
		{"one", Position{1, end}, Position{}, 2},
		{"the other not quite", Position{1, end}, Position{1, end - 1}, 2},
		{"both", Position{1, end}, Position{1, end}, 1},
		{"one is ahead", Position{3, 0}, Position{2, end - 1}, 1},
		{"both are ahead", Position{3, 0}, Position{2, end}, 0},
	} {
		for name, p := range map[string]Position{"a": step.a, "b": step.b} {
			if err := s.commit(name, p); err != nil {
				t.Fatal(err)
			}
		}
		s.do(s.sweep)
		if got := segments(s); len(got) != step.left {
			t.Errorf("%s: segments %v are left, want %d", step.name, got, step.left)
		}
	}
}

// TestSegmentThatCannotBeRemoved stays in order with those behind it, and is
// tried again after a second.
func TestSegmentThatCannotBeRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := &faultFS{}
		c, log := logged(t, fsys)
		c.SegmentBytes = 1
		s := open(t, c)
		put(t, s, "a", "b", "c", "d")
		var tries atomic.Int64
		fsys.set(func(_ int, call, name string) error {
			if call == "remove" && name == segmentName(2) {
				tries.Add(1)
				return syscall.EIO
			}
			return nil
		})
		if err := s.Free("r", Position{Segment: 4}); err != nil {
			t.Fatal(err)
		}
		if got := segments(s); !slices.Equal(got, []uint64{2, 3, 4}) {
			t.Errorf("segments %v are left, want 2, 3 and 4", got)
		}
		s.do(func() {})
		if tries.Load() != 1 {
			t.Errorf("tried %d times at once", tries.Load())
		}
		if !strings.Contains(log.String(), "cannot remove segment") {
			t.Errorf("the log says\n%s", log)
		}
		time.Sleep(time.Second - time.Millisecond)
		s.do(func() {})
		if tries.Load() != 1 {
			t.Errorf("tried %d times before a second is over", tries.Load())
		}
		time.Sleep(time.Millisecond)
		s.do(func() {})
		if tries.Load() != 2 {
			t.Errorf("tried %d times after a second, want 2", tries.Load())
		}

		fsys.set(func(_ int, call, name string) error {
			if call == "remove" && name == segmentName(2) {
				return fs.ErrNotExist // somebody else did
			}
			return nil
		})
		time.Sleep(time.Second)
		s.do(func() {})
		if got := segments(s); !slices.Equal(got, []uint64{4}) {
			t.Errorf("segments %v are left, want 4", got)
		}
	})
}

// TestOpenSegmentThatIsThereIsNotLeft, nor one that cannot be opened just now;
// one that was removed is, and said.
func TestOpenSegmentIsLeftOnlyWhereItIsGone(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		tail uint64
	}{{"there", nil, 1}, {"not to be opened now", syscall.EMFILE, 1}, {"gone", fs.ErrNotExist, 2}} {
		t.Run(c.name, func(t *testing.T) {
			fsys := &faultFS{}
			cfg, log := logged(t, fsys)
			s := open(t, cfg)
			put(t, s, "a")
			fsys.set(func(_ int, call, name string) error {
				if call == "open" && name == segmentName(1) {
					return c.err
				}
				return nil
			})
			s.do(s.endUnlinked)
			if got := s.Tail(); got != c.tail {
				t.Errorf("the next record is in segment %d, want %d", got, c.tail)
			}
			if gone := strings.Contains(log.String(), "removed by another program"); gone != (c.tail == 2) {
				t.Errorf("the log says\n%s", log)
			}
			if n := fsys.opened(cfg.Dir); n > 2 {
				t.Errorf("%d files are open", n)
			}
			fsys.set(nil)
			s.Rotate()
			s.do(s.endUnlinked) // without an open segment
		})
	}
}

// TestRelieveFreesNoMoreThanIsMissing, and says so every ten seconds at most.
func TestRelieveFreesNoMoreThanIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const headroom = 1 << 20
		fsys := &faultFS{}
		c, log := logged(t, fsys)
		c.Disk = NewDisk(fsys, c.Dir, headroom)
		c.SegmentBytes, c.Keep = 1000, time.Hour
		s := open(t, c)
		for range 8 {
			put(t, s, strings.Repeat("x", 1000-lineExtra))
		}
		if err := s.commit("r", Position{Segment: 7}); err != nil { // six are passed
			t.Fatal(err)
		}
		for _, step := range []struct {
			name string
			free int64
			n    int64
			left int
			said int
		}{
			{"room", headroom + 1, 0, 8, 0},
			{"just room", headroom, 0, 8, 0},
			{"just room for more", headroom + 10, 10, 8, 0},
			{"a byte is missing", headroom - 1, 0, 7, 1},
			{"as many as a segment has", headroom - 1000, 0, 6, 1},
			{"one more", headroom - 500, 501, 4, 1},
			{"more than is passed", headroom - 100_000, 0, 2, 1},
			{"nothing to free", headroom - 1, 0, 2, 1},
		} {
			fsys.free.Store(step.free)
			s.do(func() { s.relieve(step.n) })
			if got := segments(s); len(got) != step.left {
				t.Errorf("%s: segments %v are left, want %d", step.name, got, step.left)
			}
			if got := strings.Count(log.String(), "removing read segments early"); got != step.said {
				t.Errorf("%s: said %d times, want %d", step.name, got, step.said)
			}
		}

		if err := s.commit("r", Position{Segment: 8}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10*time.Second - time.Millisecond)
		s.do(func() { s.relieve(0) })
		if got := strings.Count(log.String(), "removing read segments early"); got != 1 {
			t.Errorf("said %d times before ten seconds are over", got)
		}
		fsys.free.Store(0)
		put(t, s, strings.Repeat("x", 1000))
		if err := s.commit("r", Position{Segment: 10}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		fsys.free.Store(1)
		s.do(func() { s.relieve(0) })
		if got := strings.Count(log.String(), "removing read segments early"); got != 2 {
			t.Errorf("said %d times after ten seconds, want 2", got)
		}
	})
}

// TestRelieveCountsWhatIsPromised to others.
func TestRelieveCountsWhatIsPromised(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS, c.Disk = fsys, NewDisk(fsys, c.Dir, 1000)
	c.SegmentBytes, c.Keep = 1, time.Hour
	s := open(t, c)
	put(t, s, "a", "b")
	if err := s.commit("r", Position{Segment: 3}); err != nil {
		t.Fatal(err)
	}
	reserved, err := s.Reserve(500)
	if err != nil {
		t.Fatal(err)
	}
	defer reserved.Release()
	fsys.free.Store(1500)
	s.do(func() { s.relieve(0) })
	if got := segments(s); len(got) != 2 {
		t.Errorf("segments %v are left, want both: there is room", got)
	}
	fsys.free.Store(1499)
	s.do(func() { s.relieve(0) })
	if got := segments(s); len(got) != 1 {
		t.Errorf("segments %v are left, want one", got)
	}
}

// TestOpenSegmentIsEndedForRoom where nothing in it waits.
func TestOpenSegmentIsEndedForRoom(t *testing.T) {
	const end = lineExtra + 1
	for _, c := range []struct {
		name    string
		readers []string
		at      Position
		age     time.Duration
		left    int
	}{
		{"passed", []string{"r"}, Position{1, end}, 0, 0},
		{"not quite", []string{"r"}, Position{1, end - 1}, time.Hour, 1},
		{"no readers, too young", nil, Position{}, 2*time.Second - time.Nanosecond, 1},
		{"no readers, of some age", nil, Position{}, 2 * time.Second, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fsys := &faultFS{}
				cfg := config(t.TempDir())
				cfg.FS, cfg.Readers = fsys, c.readers
				cfg.Keep, cfg.SegmentAge = 48*time.Hour, 48*time.Hour
				s := open(t, cfg)
				put(t, s, "a")
				if c.readers != nil {
					if err := s.commit("r", c.at); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(c.age)
				fsys.free.Store(1)
				s.do(func() { s.relieve(0) })
				if got := segments(s); len(got) != c.left {
					t.Errorf("segments %v are left, want %d", got, c.left)
				}
			})
		})
	}
}

// TestEmptyOpenSegmentStays: to end it frees nothing, and the next one begins.
func TestEmptyOpenSegmentStays(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s := open(t, c)
	s.do(func() {
		if err := s.newSegment(); err != nil {
			t.Error(err)
		}
	})
	if err := s.commit("r", Position{Segment: 5}); err != nil {
		t.Fatal(err)
	}
	fsys.free.Store(1)
	s.do(func() { s.relieve(0) })
	if got := s.Tail(); got != 1 {
		t.Errorf("the next record is in segment %d, want 1", got)
	}
}

// TestUnreadSegmentsAreSacrificed no more than are needed, oldest first, each
// counted and said, and where the free space cannot be told none.
func TestUnreadSegmentsAreSacrificed(t *testing.T) {
	for _, c := range []struct {
		name          string
		missing, free int64
		left          []uint64
	}{
		{"a byte", 1, 0, []uint64{2, 3, 4}},
		{"a segment", 1000, 0, []uint64{2, 3, 4}},
		{"a byte more", 1001, 0, []uint64{3, 4}},
		{"all that is closed", 3000, 0, []uint64{4}},
		{"more than that", 3001, 0, []uint64{1, 2, 3, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, log := logged(t, &faultFS{})
			cfg.SegmentBytes = 1000
			s := open(t, cfg)
			for range 3 {
				put(t, s, strings.Repeat("x", 1000-lineExtra))
			}
			put(t, s, "open")
			s.do(func() { s.sacrifice(c.missing, 7) })
			if got := segments(s); !slices.Equal(got, c.left) {
				t.Errorf("segments %v are left, want %v", got, c.left)
			}
			removed := 4 - len(c.left)
			if n := count(t, s.metrics.sacrificed); n != float64(removed) || strings.Count(log.String(), "its events are lost") != removed {
				t.Errorf("%v are counted, want %d, and each said:\n%s", n, removed, log)
			}
			if list := files(t, cfg.Dir, "*.seg"); len(list) != len(c.left) {
				t.Errorf("files %v are left, want %d", list, len(c.left))
			}
		})
	}
}

// TestMinFreeIsKept to the byte, and again only when what was removed had time
// to be free.
func TestMinFreeIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const least = 2 << 20
		fsys := &faultFS{}
		c := config(t.TempDir())
		c.FS, c.SegmentBytes, c.MinFree = fsys, 1, least
		s := open(t, c)
		put(t, s, "a", "b", "c", "d", "e")
		lookAt := func(free int64, after time.Duration, left int) {
			t.Helper()
			time.Sleep(after)
			fsys.free.Store(free)
			s.do(func() {
				s.w.guarded = time.Time{}
				s.guard()
			})
			if got := segments(s); len(got) != left {
				t.Errorf("segments %v are left, want %d", got, left)
			}
		}
		lookAt(least, 10*time.Second, 5)
		lookAt(least-1, 0, 4)
		fsys.free.Store(0)
		lookAt(least-1, 5*time.Second-time.Millisecond, 4)
		fsys.free.Store(0)
		lookAt(least-1, time.Millisecond, 3)
	})
}

// TestFreeSpaceThatCannotBeTold removes nothing.
func TestFreeSpaceThatCannotBeTold(t *testing.T) {
	fsys := &noFree{}
	c := config(t.TempDir())
	c.FS, c.SegmentBytes, c.MinFree, c.Keep = fsys, 1, 0, time.Hour
	s := open(t, c)
	put(t, s, "a", "b")
	if err := s.commit("r", Position{Segment: 3}); err != nil {
		t.Fatal(err)
	}
	s.do(func() {
		fsys.err = syscall.EIO
		s.cfg.MinFree, s.w.guarded = 1000, time.Time{}
		s.guard()
		s.relieve(1000)
	})
	if got := segments(s); len(got) != 2 {
		t.Errorf("segments %v are left, want both", got)
	}
	if _, err := s.Reserve(1); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrNoSpace) {
		t.Errorf("reserve: got %v, want EIO", err)
	}
	if err := s.Err(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Err: got %v, want EIO", err)
	}
	if n := s.InternalRoom(); n != 0 {
		t.Errorf("room for %d internal bytes, want none", n)
	}
}

// TestHealthyLifeSaysNothing: what an operator reads in the log wants something.
func TestHealthyLifeSaysNothing(t *testing.T) {
	c, log := logged(t, &faultFS{})
	c.SegmentBytes = 60
	for range 2 {
		s := open(t, c)
		s.Hold(1000)
		r := reader(t, s)
		for i := range 20 {
			put(t, s, fmt.Sprint("record ", i))
			if err := r.Commit(next(t, r).Next); err != nil {
				t.Fatal(err)
			}
			s.do(func() {
				s.w.guarded = time.Time{}
				s.guard()
			})
		}
		reserved, err := s.Reserve(100)
		if err != nil {
			t.Fatal(err)
		}
		reserved.Release()
		if err := s.Scan("r", (&scanned{head: 100}).index()); err != nil {
			t.Fatal(err)
		}
		s.Rotate()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if log.String() != "" {
		t.Errorf("the log says\n%s", log)
	}
	if left := files(t, c.Dir, "*.broken"); len(left) > 0 {
		t.Errorf("quarantined %v", left)
	}
}
