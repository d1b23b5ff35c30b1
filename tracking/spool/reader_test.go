package spool

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestReaderThatIsNotConfigured(t *testing.T) {
	s := open(t, config(t.TempDir()))
	if _, err := s.Reader("nobody"); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("got %v", err)
	}
}

// TestReaderWaitsForARecord that is appended later, in the same segment or in
// the next.
func TestReaderWaitsForARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, config(t.TempDir()))
		r := reader(t, s)
		got := make(chan string)
		go func() {
			defer close(got)
			for range 3 {
				rec, err := r.Next(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				got <- string(rec.Data)
			}
		}()
		for i, text := range []string{"a", "b", "c"} {
			synctest.Wait() // the reader waits
			put(t, s, text)
			if i == 1 {
				s.Rotate()
			}
			if g := <-got; g != text {
				t.Errorf("got %q, want %q", g, text)
			}
		}
		synctest.Wait()
	})
}

// TestReaderGoesToTheNextSegmentWhenOneEnds: who waited at the end of the one is
// woken.
func TestReaderGoesToTheNextSegmentWhenOneEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, config(t.TempDir()))
		put(t, s, "a")
		size, next, grown := s.look(Position{Segment: 1})
		if size != lineExtra+1 || next != 0 {
			t.Errorf("got %d bytes, next %d", size, next)
		}
		s.Rotate()
		select {
		case <-grown:
		default:
			t.Error("whoever waits was not woken")
		}
		put(t, s, "b")
		for p, want := range map[Position]uint64{{Segment: 0}: 1, {Segment: 1}: 2, {Segment: 2}: 0, {Segment: 3}: 0} {
			if _, next, _ := s.look(p); next != want {
				t.Errorf("behind segment %d comes %d, want %d", p.Segment, next, want)
			}
		}
	})
}

func TestRewind(t *testing.T) {
	s := open(t, config(t.TempDir()))
	put(t, s, "a", "b", "c")
	r := reader(t, s)
	first := next(t, r)
	if err := r.Commit(first.Next); err != nil {
		t.Fatal(err)
	}
	next(t, r) // and "c" is read ahead
	r.Rewind()
	for _, want := range []string{"b", "c"} {
		rec := next(t, r)
		if string(rec.Data) != want || want == "b" && rec.At != first.Next {
			t.Errorf("got %q at %v, want %q", rec.Data, rec.At, want)
		}
	}
}

// TestRecordsOutliveTheReadersBuffer: what Next returned stays as it is.
func TestRecordsOutliveTheReadersBuffer(t *testing.T) {
	s := open(t, config(t.TempDir()))
	put(t, s, "a", "b")
	r := reader(t, s)
	first := next(t, r)
	first.Data[0] = 'X'
	_ = append(first.Data, "YYYYYYYYYYYY"...)
	if rec := next(t, r); string(rec.Data) != "b" {
		t.Errorf("got %q, want b", rec.Data)
	}
}

// TestReaderPausesBetweenTries: 10 ms, twice as long each time, at most five
// seconds, and from the start after a success. The log is told at first, now and
// then, and at the end.
func TestReaderPausesBetweenTries(t *testing.T) {
	for _, c := range []struct {
		name   string
		fails  int
		pauses time.Duration
		errors int
		again  int
	}{
		{"one", 1, 10 * time.Millisecond, 1, 0},
		{"five", 5, 310 * time.Millisecond, 1, 0},
		{"six", 6, 630 * time.Millisecond, 1, 0},
		{"seven, the last pause is less than a second", 7, 1270 * time.Millisecond, 1, 0},
		{"eight, the last is more", 8, 2550 * time.Millisecond, 1, 1},
		{"nine", 9, 5110 * time.Millisecond, 1, 1},
		{"ten, the last is five seconds", 10, 10110 * time.Millisecond, 1, 1},
		{"twelve", 12, 20110 * time.Millisecond, 3, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fsys := &faultFS{}
				cfg, log := logged(t, fsys)
				s := open(t, cfg)
				put(t, s, "a")
				r := reader(t, s)
				fails := c.fails
				fsys.set(func(_ int, call, name string) error {
					if call != "read" || name != segmentName(1) || fails == 0 {
						return nil
					}
					fails--
					return syscall.EIO
				})
				fsys.note()
				began := time.Now()
				next(t, r)
				opened := slices.DeleteFunc(fsys.noted(), func(call string) bool { return call != "open "+segmentName(1) })
				if want := c.fails + 1; len(opened) < want { // the writer looks at it, too
					t.Errorf("opened %d times, want it anew for each try, %d", len(opened), want)
				}
				if took := time.Since(began); took != c.pauses {
					t.Errorf("took %s, want %s", took, c.pauses)
				}
				if n := strings.Count(log.String(), "cannot read segment"); n != c.errors {
					t.Errorf("%d errors are logged, want %d", n, c.errors)
				}
				if n := strings.Count(log.String(), "readable again"); n != c.again {
					t.Errorf("%d times the log says that it is readable again, want %d", n, c.again)
				}

				put(t, s, "b")
				fails = 1
				began = time.Now()
				next(t, r)
				if took := time.Since(began); took != minReadPause {
					t.Errorf("the next failure costs %s, want %s", took, minReadPause)
				}
			})
		})
	}
}

// TestReaderEndsWithTheSpool where it waits to try again.
func TestReaderEndsWithTheSpool(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s := open(t, c)
	put(t, s, "a")
	r := reader(t, s)
	fsys.set(func(_ int, call, _ string) error {
		if call == "read" {
			return syscall.EIO
		}
		return nil
	})
	s.Close()
	if _, err := r.Next(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// TestSegmentRemovedForRoomWhileItIsRead is no damage, and not counted as gone.
func TestSegmentRemovedForRoomWhileItIsRead(t *testing.T) {
	t.Run("before it is opened", func(t *testing.T) {
		fsys := &faultFS{}
		c := config(t.TempDir())
		c.FS, c.SegmentBytes = fsys, 1
		s := open(t, c)
		put(t, s, "a", "b")
		fsys.set(func(_ int, call, name string) error {
			if call != "open" || name != segmentName(1) {
				return nil
			}
			s.mu.Lock()
			s.segs = s.segs[1:]
			s.mu.Unlock()
			return fs.ErrNotExist
		})
		got, _, _ := rest(t, s)
		want(t, got, "b")
		if gone, bad := count(t, s.metrics.gone), count(t, s.metrics.corrupt); gone != 0 || bad != 0 {
			t.Errorf("%v gone, %v corrupt; want none", gone, bad)
		}
	})
	t.Run("in the middle of a record", func(t *testing.T) {
		fsys := &faultFS{}
		c := config(t.TempDir())
		c.FS, c.SegmentBytes = fsys, readAhead
		s := open(t, c)
		put(t, s, "a", strings.Repeat("x", readAhead), "b")
		r := reader(t, s)
		next(t, r) // and half of the next
		s.do(func() { s.sacrifice(1, 0) })
		if n := fsys.opened(c.Dir); n != 2 { // the cursor and the open segment
			t.Errorf("%d files are open, want the removed one closed", n)
		}
		if rec := next(t, r); string(rec.Data) != "b" {
			t.Errorf("got %d bytes, want b", len(rec.Data))
		}
		if gone, bad := count(t, s.metrics.gone), count(t, s.metrics.corrupt); gone != 0 || bad != 0 {
			t.Errorf("%v gone, %v corrupt; want none", gone, bad)
		}
		if kept := files(t, c.Dir, "*.broken"); len(kept) > 0 {
			t.Errorf("quarantined %v", kept)
		}
	})
}

// TestSegmentCutInARecord: what is left of it is kept, and reading goes on
// behind.
func TestSegmentCutInARecord(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS, c.SegmentBytes = fsys, readAhead
	s := open(t, c)
	put(t, s, "a", strings.Repeat("x", readAhead), "b")
	if err := os.Truncate(s.path(1), 100); err != nil {
		t.Fatal(err)
	}
	r := reader(t, s)
	for _, want := range []string{"a", "b"} {
		if rec := next(t, r); string(rec.Data) != want {
			t.Errorf("got %d bytes, want %s", len(rec.Data), want)
		}
	}
	if gone, bad := count(t, s.metrics.gone), count(t, s.metrics.corrupt); gone != 1 || bad != 1 {
		t.Errorf("%v gone, %v corrupt; want one each", gone, bad)
	}
	kept := files(t, c.Dir, "*.broken")
	if len(kept) != 1 || kept[0] != "0000000000000001-000000000000000b.broken" {
		t.Fatalf("quarantined %v", kept)
	}
	if info, err := os.Stat(filepath.Join(c.Dir, kept[0])); err != nil || info.Size() != 100-lineExtra-1 {
		t.Errorf("kept %v, %v, want what was left", info, err)
	}
	if n := fsys.opened(c.Dir); n != 3 { // the cursor, the open segment twice
		t.Errorf("%d files are open, want 3", n)
	}
}

// TestReaderReadsAhead: a large record costs a few reads, and small ones one for
// many.
func TestReaderReadsAhead(t *testing.T) {
	fsys := &countingFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s := open(t, c)
	const size = 16 * readAhead
	put(t, s, strings.Repeat("x", size))
	for range 100 {
		put(t, s, "small")
	}
	r := reader(t, s)
	fsys.reads.Store(0)
	for range 101 {
		next(t, r)
	}
	if n := fsys.reads.Load(); n > 7 {
		t.Errorf("%d reads, want 6 of growing length and one for the rest", n)
	}
}

// TestReaderClosesWhatItHasRead.
func TestReaderClosesWhatItHasRead(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS, c.SegmentBytes = fsys, 1
	s := open(t, c)
	for range 10 {
		put(t, s, "a")
	}
	r := reader(t, s)
	for range 10 {
		next(t, r)
	}
	if n := fsys.opened(c.Dir); n != 2 {
		t.Errorf("%d files are open, want the cursor and the last segment", n)
	}

	s.do(func() { // one that is empty yet
		if err := s.newSegment(); err != nil {
			t.Error(err)
		}
	})
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Next(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want to wait", err)
	}
	if n := fsys.opened(c.Dir); n != 2 {
		t.Errorf("%d files are open, want the cursor and the writer's segment", n)
	}
}

// TestReaderClosesWhatIsGone though nothing follows.
func TestReaderClosesWhatIsGone(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s := open(t, c)
	put(t, s, "a")
	if err := os.Truncate(s.path(1), 0); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := reader(t, s).Next(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want to wait", err)
	}
	if n := fsys.opened(c.Dir); n != 2 {
		t.Errorf("%d files are open, want the cursor and the writer's segment", n)
	}
	if n := count(t, s.metrics.gone); n != 1 {
		t.Errorf("%v counted as gone, want 1", n)
	}
}
