package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roomFS notes what is allocated, and of which length.
type roomFS struct {
	faultFS
	room  []string // "offset+n", with the error where there was one
	limit int64    // to where there is room; 0: anywhere
	none  bool     // the file system cannot
}

type roomFile struct {
	File
	fs *roomFS
}

func (r *roomFS) Create(name string) (File, error) {
	f, err := r.faultFS.Create(name)
	if err != nil {
		return nil, err
	}

	return roomFile{f, r}, nil
}

func (f roomFile) Allocate(offset, n int64) error {
	switch {
	case f.fs.none:
		f.fs.room = append(f.fs.room, "unsupported")
		return errors.ErrUnsupported
	case f.fs.limit > 0 && offset+n > f.fs.limit:
		f.fs.room = append(f.fs.room, fmt.Sprintf("%d+%d full", offset, n))
		return syscall.ENOSPC
	}
	f.fs.room = append(f.fs.room, fmt.Sprintf("%d+%d", offset, n))

	return nil
}

func TestRoomBehindTheOpenSegment(t *testing.T) {
	const step = 256 << 10
	fsys := &roomFS{}
	disk := NewDisk(fsys, t.TempDir(), 1000)
	c := config(t.TempDir())
	c.FS, c.Disk = fsys, disk
	s := open(t, c)
	record := strings.Repeat("x", 1000-lineExtra)
	room := func(step string, apart int64, want ...string) {
		t.Helper()
		if !slices.Equal(fsys.room, want) {
			t.Errorf("%s: allocated %v, want %v", step, fsys.room, want)
		}
		if got := disk.apart[s]; got != apart {
			t.Errorf("%s: %d bytes are set apart on the disk, want %d", step, got, apart)
		}
		fsys.room = nil
	}

	put(t, s, record)
	room("nothing is held", 0)
	s.Hold(5000)
	put(t, s, record)
	room("held", 0, fmt.Sprintf("1000+%d", 1000+5000+step))
	put(t, s, record)
	room("what is allocated serves", 0)
	s.Hold(step)
	put(t, s, record) // ends at 4000, with 5000+step behind it
	room("held more", 0, fmt.Sprintf("%d+%d", 7000+step, 4000+5000+step+step-(7000+step)))
	s.Hold(-step - 5000)
	put(t, s, record)
	room("held no more", 0)
	s.Hold(700)
	s.Rotate()
	if got := disk.apart[s]; got != 700 {
		t.Errorf("without an open segment %d bytes are set apart, want 700", got)
	}
	if info, err := os.Stat(s.path(1)); err != nil || info.Size() != 5000 {
		t.Errorf("got %v, %v, want 5000 bytes", info, err)
	}
	put(t, s, record)
	room("a new segment gets its room first", 0, fmt.Sprintf("0+%d", 700+step))
	s.Close()
	if _, ok := disk.apart[s]; ok {
		t.Error("a closed spool has room set apart")
	}
}

// TestRoomThatIsNotThere refuses what is not essential.
func TestRoomThatIsNotThere(t *testing.T) {
	const held = 10_000
	for _, c := range []struct {
		name  string
		limit int64
		class Class
		ok    bool
		room  []string
	}{
		{"enough for what is held", 300_000, Ordinary, true, []string{"0+272144"}},
		{"no more than that", held + 100, Ordinary, true, []string{"0+272144 full", "0+10000", "10000+262244 full", "10000+100"}},
		{"a byte less", held + 99, Ordinary, false, []string{"0+272144 full", "0+10000", "10000+262244 full", "10000+100 full"}},
		{"a byte less, essential", held + 99, Essential, true, []string{"0+272144 full", "0+10000", "10000+262244 full", "10000+100 full"}},
		{"nothing, essential", 1, Essential, true, []string{"0+272144 full", "0+10000 full", "0+272244 full", "0+10100 full"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := &roomFS{limit: c.limit}
			cfg := config(t.TempDir())
			cfg.FS = fsys
			s := open(t, cfg)
			s.Hold(held)
			_, err := s.AppendAs(context.Background(), c.class, make([]byte, 100-lineExtra))
			if (err == nil) != c.ok || err != nil && (!errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC)) {
				t.Errorf("got %v, want ok %v", err, c.ok)
			}
			if !slices.Equal(fsys.room, c.room) {
				t.Errorf("allocated %v, want %v", fsys.room, c.room)
			}
		})
	}
}

// TestFileSystemThatCannotAllocate is asked once, and said once.
func TestFileSystemThatCannotAllocate(t *testing.T) {
	var log strings.Builder
	fsys := &roomFS{none: true}
	c := config(t.TempDir())
	c.FS, c.Log = fsys, slog.New(slog.NewTextHandler(&log, nil))
	s := open(t, c)
	s.Hold(1000)
	put(t, s, "a", "b")
	s.Rotate()
	put(t, s, "c")
	if got := s.disk.apart[s]; got != 1000 {
		t.Errorf("%d bytes are set apart on the disk, want what is held", got)
	}
	if len(fsys.room) != 1 || strings.Count(log.String(), "cannot allocate") != 1 {
		t.Errorf("asked %v; the log says\n%s", fsys.room, log.String())
	}
}

// TestRoomIsAllocatedAgainAfterAFailedWrite, whose truncation took it.
func TestRoomIsAllocatedAgainAfterAFailedWrite(t *testing.T) {
	fsys := &roomFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s := open(t, c)
	s.Hold(1000)
	put(t, s, "a")
	fsys.room = nil
	fsys.set(func(_ int, call, _ string) error {
		if call == "write" {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := s.Append(context.Background(), []byte("b")); !errors.Is(err, ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	if want := []string{"11+263144"}; !slices.Equal(fsys.room, want) {
		t.Errorf("allocated %v, want %v", fsys.room, want)
	}
	s.Hold(-1000)
	fsys.room = nil
	if err := s.Append(context.Background(), []byte("b")); !errors.Is(err, ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	if len(fsys.room) != 0 {
		t.Errorf("allocated %v, want nothing for nothing held", fsys.room)
	}
}

// TestOpenSegmentGoesOnWhereThereIsNoRoomForAnother with what is held.
func TestOpenSegmentGoesOnWhereThereIsNoRoomForAnother(t *testing.T) {
	const held, step = 10_000, 256 << 10
	for _, c := range []struct {
		name string
		free int64
		held int64
		none bool
		want uint64
	}{
		{"room", held + step, held, false, 2},
		{"a byte less", held + step - 1, held, false, 1},
		{"nothing is held", 1, 0, false, 2},
		{"a file system that cannot", 1, held, true, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := &roomFS{none: c.none}
			cfg := config(t.TempDir())
			cfg.FS, cfg.SegmentBytes = fsys, 1
			s := open(t, cfg)
			s.Hold(c.held)
			fsys.free.Store(c.free)
			put(t, s, "a")
			if got := s.Tail(); got != c.want {
				t.Errorf("the next record is in segment %d, want %d", got, c.want)
			}
			s.do(func() { s.w.began = s.w.began.Add(-time.Hour) })
			s.do(func() {})
			if got := s.Tail(); got != c.want {
				t.Errorf("by age: the next record is in segment %d, want %d", got, c.want)
			}
		})
	}
	t.Run("it cannot be told", func(t *testing.T) {
		fsys := &noFree{err: syscall.EIO}
		cfg := config(t.TempDir())
		cfg.FS, cfg.SegmentBytes = fsys, 1
		s := open(t, cfg)
		s.Hold(held)
		put(t, s, "a")
		if got := s.Tail(); got != 2 {
			t.Errorf("the next record is in segment %d, want 2", got)
		}
	})
}

// slackInfo is what a file says of itself.
type slackInfo struct {
	os.FileInfo
	size int64
	sys  any
}

func (i slackInfo) Size() int64 { return i.size }
func (i slackInfo) Sys() any    { return i.sys }

func TestHasSlack(t *testing.T) {
	const overhead = 128 << 10
	for _, c := range []struct {
		name string
		info slackInfo
		want bool
	}{
		{"none", slackInfo{size: 1000, sys: &syscall.Stat_t{Blocks: 2}}, false},
		{"what a file system may add", slackInfo{size: 512, sys: &syscall.Stat_t{Blocks: overhead/512 + 1}}, false},
		{"a block more", slackInfo{size: 512, sys: &syscall.Stat_t{Blocks: overhead/512 + 2}}, true},
		{"it cannot be told", slackInfo{size: 512}, true},
	} {
		if got := hasSlack(c.info); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// slack is a spool two of whose segments seem to have room behind them.
func slack(t *testing.T, fsys *faultFS) *Spool {
	t.Helper()
	c := config(t.TempDir())
	c.FS, c.SegmentBytes = fsys, 1
	s := open(t, c)
	put(t, s, "a", "b", "c")
	s.Close()
	s = open(t, c)
	s.mu.Lock()
	s.segs[0].slack, s.segs[2].slack = true, true
	s.mu.Unlock()
	fsys.note()

	return s
}

// TestSlackGoesWithTheFirstSegmentThatHoldsRoom, once, and not before: to free
// it changes a file's time.
func TestSlackGoesWithTheFirstSegmentThatHoldsRoom(t *testing.T) {
	fsys := &faultFS{}
	s := slack(t, fsys)
	truncated := func() (list []string) {
		for _, call := range fsys.noted() {
			if name, ok := strings.CutPrefix(call, "truncate "); ok && name < segmentName(4) {
				list = append(list, name)
			}
		}
		return list
	}
	put(t, s, "nothing is held")
	if got := truncated(); len(got) > 0 {
		t.Errorf("truncated %v, want none", got)
	}
	s.Hold(100)
	put(t, s, "held", "once")
	if got, want := truncated(), []string{segmentName(1), segmentName(3)}; !slices.Equal(got, want) {
		t.Errorf("truncated %v, want %v", got, want)
	}
	got, _, _ := rest(t, s)
	want(t, got, "a", "b", "c", "nothing is held", "held", "once")
}

// TestSlackMakesRoomForANewSegment on a full disk.
func TestSlackMakesRoomForANewSegment(t *testing.T) {
	for _, failed := range []string{"create", "syncdir", "allocate"} {
		t.Run(failed, func(t *testing.T) {
			var log strings.Builder
			fsys := &faultFS{}
			s := slack(t, fsys)
			s.log = slog.New(slog.NewTextHandler(&log, nil))
			s.Hold(100)
			freed := 0
			fsys.set(func(_ int, call, name string) error {
				switch {
				case call == "truncate" && name == segmentName(1):
					freed++
					return syscall.EIO // the other frees enough
				case call == "truncate" && name == segmentName(3):
					freed++
				case call == failed && freed == 0:
					return syscall.ENOSPC
				}
				return nil
			})
			put(t, s, "d")
			if freed != 2 {
				t.Errorf("%d segments were trimmed, want 2", freed)
			}
			if !strings.Contains(log.String(), "cannot trim segment") {
				t.Errorf("the failure is not logged:\n%s", log.String())
			}
		})
	}
}

// TestFullDiskIsTold where nothing is left to be freed.
func TestFullDiskIsTold(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s := open(t, c)
	s.Hold(100)
	creates := 0
	fsys.set(func(_ int, call, _ string) error {
		if call == "create" {
			creates++
			return syscall.ENOSPC
		}
		return nil
	})
	if err := s.Append(context.Background(), []byte("a")); !errors.Is(err, ErrNoSpace) {
		t.Errorf("got %v, want ErrNoSpace", err)
	}
	if creates != 1 {
		t.Errorf("%d segments were tried, want 1", creates)
	}
}

// TestNumbersInTheWay: a thousand are gone round, and then it is told.
func TestNumbersInTheWay(t *testing.T) {
	for _, c := range []struct {
		name  string
		taken int
		ok    bool
	}{{"999", 999, true}, {"1000", 1000, false}} {
		t.Run(c.name, func(t *testing.T) {
			fsys := &faultFS{}
			cfg := config(t.TempDir())
			cfg.FS = fsys
			s := open(t, cfg)
			n := 0
			fsys.set(func(_ int, call, _ string) error {
				if call != "create" {
					return nil
				}
				if n++; n <= c.taken {
					return fs.ErrExist
				}
				return nil
			})
			var err error
			s.do(func() { err = s.newSegment() })
			if (err == nil) != c.ok || err != nil && !errors.Is(err, fs.ErrExist) {
				t.Errorf("got %v, want ok %v", err, c.ok)
			}
		})
	}
}
