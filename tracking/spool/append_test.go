package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestAppendGroups(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s := open(t, c)
	put(t, s, "first")
	fsys.note()

	var groups []Group
	for i := range 5 {
		groups = append(groups, Group{Records: [][]byte{fmt.Appendf(nil, "%d a", i), fmt.Appendf(nil, "%d b", i)}})
	}
	groups[2].Records = nil
	errs := s.AppendGroups(context.Background(), groups)
	if len(errs) != len(groups) || errors.Join(errs...) != nil {
		t.Errorf("got %v, want five times nil", errs)
	}
	got, _, _ := rest(t, s)
	want(t, got, "first", "0 a", "0 b", "1 a", "1 b", "3 a", "3 b", "4 a", "4 b")
	if n := count(t, s.metrics.appended); n != 9 {
		t.Errorf("%v records are counted, want 9", n)
	}
}

// TestAppendGroupsTellsEachItsError: a class that does not fit says nothing of
// another.
func TestAppendGroupsTellsEachItsError(t *testing.T) {
	const headroom = 4000
	fsys := &faultFS{}
	fsys.free.Store(1 << 30)
	c := config(t.TempDir())
	c.FS, c.Disk = fsys, NewDisk(fsys, t.TempDir(), headroom)
	s := open(t, c)
	fsys.free.Store(headroom)

	record := [][]byte{[]byte("x")}
	errs := s.AppendGroups(context.Background(), []Group{
		{Ordinary, record},
		{Internal, record},
		{Ordinary, nil},
		{Essential, record},
	})
	if !errors.Is(errs[0], ErrNoSpace) || errs[1] != nil || errs[2] != nil || errs[3] != nil {
		t.Errorf("got %v, want ErrNoSpace for the first alone", errs)
	}
	if n := count(t, s.metrics.refused); n != 1 {
		t.Errorf("%v records are counted as refused, want 1", n)
	}

	s.Close()
	for i, err := range s.AppendGroups(context.Background(), []Group{{Ordinary, record}, {Ordinary, nil}}) {
		if closed := i == 0; errors.Is(err, ErrClosed) != closed {
			t.Errorf("group %d of a closed spool: got %v", i, err)
		}
	}
}

func TestAppendAtReturnsWhereEachRecordIs(t *testing.T) {
	s := open(t, config(t.TempDir()))
	put(t, s, "before")
	records := [][]byte{[]byte("a"), {}, []byte("longer"), []byte("z")}
	at, err := s.AppendAt(context.Background(), records...)
	if err != nil || len(at) != len(records) {
		t.Fatalf("got %v, %v", at, err)
	}
	offset := int64(len("before") + lineExtra)
	for i, r := range records {
		if want := (Position{1, offset}); at[i] != want {
			t.Errorf("record %d is at %v, want %v", i, at[i], want)
		}
		offset += int64(len(r) + lineExtra)
		if got, err := s.ReadAt(at[i], len(r)); err != nil || !bytes.Equal(got, r) {
			t.Errorf("record %d: got %q, %v, want %q", i, got, err, r)
		}
	}
	if s.Newest() != (Position{1, offset}) || s.Size() != offset || s.SegmentSize(1) != offset {
		t.Errorf("newest %v, %d bytes, %d in the segment; want %d", s.Newest(), s.Size(), s.SegmentSize(1), offset)
	}
}

func TestNewRequestTakesOnePieceOfMemory(t *testing.T) {
	r := newRequest(Internal, [][]byte{[]byte("abc"), {}, []byte("z")})
	if len(r.lines) != cap(r.lines) || len(r.lines) != 4+3*lineExtra {
		t.Errorf("%d bytes in %d", len(r.lines), cap(r.lines))
	}
	if want := []int{0, 3 + lineExtra, 3 + 2*lineExtra}; !slices.Equal(r.offsets, want) || r.class != Internal {
		t.Errorf("got offsets %v, class %v; want %v", r.offsets, r.class, want)
	}
}

// hang has the writer of a spool wait in a call, until release.
func hang(t *testing.T, s *Spool) (release func()) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		s.do(func() {
			close(stopped)
			<-stop
		})
	}()
	<-stopped

	return func() { close(stop) }
}

// TestAppendWaitsNoLongerThanItsContext where the writer hangs and its queue is
// full; what was queued is written nevertheless.
func TestAppendWaitsNoLongerThanItsContext(t *testing.T) {
	s := open(t, config(t.TempDir()))
	release := hang(t, s)
	var queued []*request
	for len(s.queue) < cap(s.queue) {
		r := newRequest(Ordinary, [][]byte{[]byte("queued")})
		queued = append(queued, r)
		s.queue <- r
	}

	if len(queued) != 1024 {
		t.Errorf("%d requests are queued, want 1024", len(queued))
	}

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Append(ended, []byte("late")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	errs := s.AppendGroups(ended, []Group{{Records: [][]byte{[]byte("late")}}})
	if !errors.Is(errs[0], context.Canceled) {
		t.Errorf("group: got %v, want the context's end", errs[0])
	}

	release()
	for _, r := range queued {
		if err := s.wait(r); err != nil {
			t.Fatal(err)
		}
	}
	got, _, _ := rest(t, s)
	if len(got) != len(queued) {
		t.Errorf("%d records, want %d", len(got), len(queued))
	}
}

// TestCloseWritesWhatIsQueued, and refuses what comes later.
func TestCloseWritesWhatIsQueued(t *testing.T) {
	c := config(t.TempDir())
	s := open(t, c)
	release := hang(t, s)
	var queued []*request
	for range 3 {
		r := newRequest(Ordinary, [][]byte{[]byte("queued")})
		queued = append(queued, r)
		s.queue <- r
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	<-s.quit
	release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	for _, r := range queued {
		if err := s.wait(r); err != nil {
			t.Errorf("got %v, want it written", err)
		}
	}

	late := newRequest(Ordinary, [][]byte{[]byte("late")})
	for range 50 { // which of several the select takes is random
		if err := s.Append(context.Background(), []byte("late")); !errors.Is(err, ErrClosed) {
			t.Fatalf("after Close: got %v, want ErrClosed", err)
		}
		if err := s.wait(late); !errors.Is(err, ErrClosed) {
			t.Fatalf("not written: got %v, want ErrClosed", err)
		}
		late.done <- errPower
		if err := s.wait(late); !errors.Is(err, errPower) {
			t.Fatalf("answered just before: got %v, want the answer", err)
		}
	}
	s.do(func() { t.Error("the writer has ended, and something ran") })
	s.Rotate()

	got, _, _ := rest(t, open(t, c))
	want(t, got, "queued", "queued", "queued")
}

func TestTailAndNewest(t *testing.T) {
	c := config(t.TempDir())
	s := open(t, c)
	check := func(step string, tail uint64, newest Position) {
		t.Helper()
		if s.Tail() != tail || s.Newest() != newest {
			t.Errorf("%s: tail %d, newest %v; want %d, %v", step, s.Tail(), s.Newest(), tail, newest)
		}
	}
	check("empty", 1, Position{})
	put(t, s, "a")
	check("open segment", 1, Position{1, lineExtra + 1})
	s.Rotate()
	check("ended", 2, Position{1, lineExtra + 1})
	s.Rotate()
	check("nothing to end", 2, Position{1, lineExtra + 1})
	put(t, s, "b")
	check("the next", 2, Position{2, lineExtra + 1})
	s.Close()
	s = open(t, c)
	check("after a restart", 3, Position{2, lineExtra + 1})
	if s.SegmentSize(2) != lineExtra+1 || s.SegmentSize(3) != 0 || s.Size() != 2*lineExtra+2 {
		t.Errorf("got %d, %d, %d bytes", s.SegmentSize(2), s.SegmentSize(3), s.Size())
	}
}

// TestNumbersGoOnAfterARestart, though the segments or all of them are gone: a
// number that a cursor or an index knows is not used again.
func TestNumbersGoOnAfterARestart(t *testing.T) {
	for _, c := range []struct {
		name   string
		passed int // segments of three
	}{{"two are gone", 2}, {"all are gone", 3}} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t.TempDir())
			cfg.SegmentBytes = 1
			s := open(t, cfg)
			put(t, s, "a", "b", "c")
			r := reader(t, s)
			var end Position
			for range c.passed {
				end = next(t, r).Next
			}
			if err := r.Commit(end); err != nil {
				t.Fatal(err)
			}
			s.do(func() {})
			if got := segments(s); len(got) != 3-c.passed {
				t.Fatalf("segments %v are left", got)
			}
			s.Close()
			s = open(t, cfg)
			put(t, s, "d")
			if got := s.Newest().Segment; got != 4 {
				t.Errorf("the next is segment %d, want 4", got)
			}
		})
	}
}

// TestNumberOfACursorThatNobodyWrote does not use up the numbers.
func TestNumberOfACursorThatNobodyWrote(t *testing.T) {
	for number, want := range map[uint64]uint64{maxSegment: maxSegment + 1, maxSegment + 1: 1} {
		c := config(t.TempDir())
		line := encodeSlot(slot{1, Position{number, 0}})
		if err := os.WriteFile(filepath.Join(c.Dir, "cursor-r"), line, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := open(t, c).Tail(); got != want {
			t.Errorf("behind a cursor in segment %x: the next is %x, want %x", number, got, want)
		}
	}
}

// TestHighestNumberIsRead, and one above it is not a segment.
func TestHighestNumberIsRead(t *testing.T) {
	c := config(t.TempDir())
	for name, text := range map[string]string{"4000000000000000.seg": "the highest", "4000000000000001.seg": "one above"} {
		if err := os.WriteFile(filepath.Join(c.Dir, name), appendLine(nil, []byte(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, c)
	got, _, _ := rest(t, s)
	want(t, got, "the highest")
	if kept := files(t, c.Dir, "*.broken"); len(kept) != 1 || kept[0] != "4000000000000001.seg.broken" {
		t.Errorf("quarantined: %v", kept)
	}
}

// TestOpenFailsWhereAFileCannotBeQuarantined: it may be a segment.
func TestOpenFailsWhereAFileCannotBeQuarantined(t *testing.T) {
	for _, failed := range []string{"rename", "syncdir"} {
		c := config(t.TempDir())
		if err := os.WriteFile(filepath.Join(c.Dir, "copy.seg"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		c.FS = &faultFS{fail: func(_ int, call, _ string) error {
			if call == failed {
				return syscall.EIO
			}
			return nil
		}}
		if _, err := Open(c); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s fails: got %v, want EIO", failed, err)
		}
	}
}

func TestReadInto(t *testing.T) {
	if got := LineBytes(7); got != 17 {
		t.Errorf("LineBytes(7) = %d, want 17", got)
	}
	const record = "a record"
	for _, c := range []struct {
		name string
		size int64 // of the file, from the end of the record's line
		ok   bool
	}{
		{"whole", 0, true},
		{"without its line end", -1, true},
		{"without its last byte", -2, false},
		{"without anything", -int64(len(record)) - lineExtra, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, config(t.TempDir()))
			at, err := s.AppendAt(context.Background(), []byte(record), []byte("to come"))
			if err != nil {
				t.Fatal(err)
			}
			line := make([]byte, LineBytes(len(record)))
			if got, err := s.ReadInto(at[0], line); err != nil || string(got) != record {
				t.Fatalf("got %q, %v", got, err)
			}
			if err := os.Truncate(s.path(1), at[1].Offset+c.size); err != nil {
				t.Fatal(err)
			}

			got, err := s.ReadInto(at[0], line) // what the buffer holds is no evidence
			if c.ok && (err != nil || string(got) != record) {
				t.Errorf("got %q, %v, want the record", got, err)
			}
			if !c.ok && !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %q, %v, want ErrCorrupt", got, err)
			}
			if n := count(t, s.metrics.corrupt); n != 0 == c.ok {
				t.Errorf("%v counted as corrupt", n)
			}
		})
	}
}

// TestReadAtTellsWhatIsForGood from what the machine cannot do now.
func TestReadAtTellsWhatIsForGood(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s := open(t, c)
	at, err := s.AppendAt(context.Background(), []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	for i, failed := range []string{"open", "read"} {
		fsys.set(func(_ int, call, _ string) error {
			if call == failed {
				return syscall.EIO
			}
			return nil
		})
		_, err := s.ReadAt(at[0], 1)
		if !errors.Is(err, syscall.EIO) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrGone) {
			t.Errorf("%s fails: got %v, want EIO", failed, err)
		}
		if n := count(t, s.metrics.readErrors); n != float64(i+1) {
			t.Errorf("%v errors are counted, want %d", n, i+1)
		}
	}
	fsys.set(nil)
	if err := os.Remove(s.path(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadAt(at[0], 1); !errors.Is(err, ErrGone) {
		t.Errorf("removed: got %v, want ErrGone", err)
	}
	if n := count(t, s.metrics.corrupt); n != 0 {
		t.Errorf("%v counted as corrupt", n)
	}
}

// TestAliveAtOnce: a spool that was just opened has shown a sign of life.
func TestAliveAtOnce(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // the writer has not run yet
	began := time.Now()
	if at := open(t, config(t.TempDir())).Alive(); at.Before(began) {
		t.Errorf("seen at %s, before %s", at, began)
	}
}
