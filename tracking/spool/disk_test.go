package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestReservationsOfOneDiskAddUp: no spool gives away what another did.
func TestReservationsOfOneDiskAddUp(t *testing.T) {
	fs := &faultFS{}
	fs.free.Store(3 << 20)
	disk := NewDisk(fs, t.TempDir(), 1<<20)
	var reserved []*Reservation
	for i := range 3 {
		c := config(t.TempDir())
		c.FS, c.Disk = fs, disk
		s := open(t, c)
		r, err := s.Reserve(1245184)
		switch {
		case i == 0 && err != nil:
			t.Fatal(err)
		case i > 0 && !errors.Is(err, ErrNoSpace):
			t.Errorf("spool %d: got %v, want ErrNoSpace", i, err)
		case err == nil:
			reserved = append(reserved, r)
		}
	}
	for _, r := range reserved {
		r.Release()
		r.Release()
	}
	if disk.reserved != 0 {
		t.Errorf("%d bytes are still reserved", disk.reserved)
	}
}

// TestClassesOnANearlyFullDisk: who may use what.
func TestClassesOnANearlyFullDisk(t *testing.T) {
	const headroom = 400
	for _, tc := range []struct {
		name  string
		free  int64
		class Class
		own   int64 // reserved by this spool
		other int64 // reserved by another
		ok    bool
	}{
		{"ordinary, room", headroom + 200, Ordinary, 0, 0, true},
		{"ordinary, none", headroom + 50, Ordinary, 0, 0, false},
		{"ordinary, its own reservation", headroom + 150, Ordinary, 150, 0, true},
		{"ordinary, another's reservation", headroom + 150, Ordinary, 0, 150, false},
		{"internal, from the headroom", headroom - 50, Internal, 0, 0, true},
		{"internal, not the last of it", headroom / 4, Internal, 0, 0, false},
		{"internal, not what another reserved", headroom + 50, Internal, 0, 300, false},
		{"essential, the last of it", 1, Essential, 0, 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fs := &faultFS{}
			fs.free.Store(1 << 30)
			disk := NewDisk(fs, t.TempDir(), headroom)
			c := config(t.TempDir())
			c.FS, c.Disk = fs, disk
			s := open(t, c)
			c.Dir = t.TempDir()
			other := open(t, c)
			for _, r := range []struct {
				s *Spool
				n int64
			}{{s, tc.own}, {other, tc.other}} {
				if _, err := r.s.Reserve(r.n); err != nil {
					t.Fatal(err)
				}
			}
			fs.free.Store(tc.free)
			_, err := s.AppendAs(context.Background(), tc.class, make([]byte, 100-lineExtra))
			if tc.ok && err != nil || !tc.ok && !errors.Is(err, ErrNoSpace) {
				t.Errorf("got %v, want accepted: %v", err, tc.ok)
			}
		})
	}
}

// TestDisksTellsFileSystemsApart by their device.
func TestDisksTellsFileSystemsApart(t *testing.T) {
	var disks Disks
	dir := t.TempDir()
	first, err := disks.Of(filepath.Join(dir, "a", "not", "there"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := disks.Of(dir)
	if err != nil || second != first {
		t.Errorf("one file system has two disks: %v", err)
	}
	other, err := disks.Of("/proc")
	if err != nil || other == first {
		t.Errorf("two file systems have one disk: %v", err)
	}
}

// minFree is a spool of records that fill a segment each, whose disk has as
// much free as the test says.
func minFree(t *testing.T, readers ...string) (*Spool, *faultFS) {
	t.Helper()
	fs := &faultFS{}
	c := config(t.TempDir())
	c.FS, c.Readers = fs, readers
	c.SegmentBytes, c.MinFree = 1000, 2<<20
	c.Keep = time.Hour
	s := open(t, c)
	record := strings.Repeat("x", 1000-lineExtra-2)
	for i := range 4 {
		put(t, s, fmt.Sprint(i, "-", record[:len(record)-i/10]))
	}

	return s, fs
}

// look has the writer look at the free space as it does by itself.
func look(s *Spool) {
	s.do(func() {
		s.w.guarded, s.w.removed = time.Time{}, time.Time{}
		s.guard()
	})
}

func segments(s *Spool) (out []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segs {
		out = append(out, seg.seq)
	}

	return out
}

// TestMinFreeTakesWhatWasReadFirst, though its time is not over, and no more
// than is needed.
func TestMinFreeTakesWhatWasReadFirst(t *testing.T) {
	s, fs := minFree(t, "r")
	r := reader(t, s)
	next(t, r)
	next(t, r)
	if err := r.Commit(next(t, r).Next); err != nil {
		t.Fatal(err)
	}
	fs.free.Store(2<<20 - 1500)
	look(s)
	if got := segments(s); len(got) != 2 || got[0] != 3 {
		t.Errorf("segments %v are left, want 3 and 4", got)
	}
	if n := count(t, s.metrics.sacrificed); n != 0 {
		t.Errorf("%v unread segments were removed", n)
	}
}

// TestMinFreeTakesUnreadSegmentsOnlyWhereThatHelps.
func TestMinFreeTakesUnreadSegmentsOnlyWhereThatHelps(t *testing.T) {
	s, fs := minFree(t, "r")
	fs.free.Store(2<<20 - 10_000)
	look(s)
	if got := segments(s); len(got) != 4 {
		t.Errorf("segments %v are left of 4; removing them did not help", got)
	}
	if err := s.Append(context.Background(), []byte("x")); !errors.Is(err, ErrNoSpace) {
		t.Errorf("append: got %v, want ErrNoSpace", err)
	}
	if _, err := s.Reserve(1); !errors.Is(err, ErrNoSpace) {
		t.Errorf("reserve: got %v, want ErrNoSpace", err)
	}
	if err := s.Err(); !errors.Is(err, ErrNoSpace) {
		t.Errorf("Err: got %v, want ErrNoSpace", err)
	}

	fs.free.Store(2<<20 - 1500)
	look(s)
	if got := segments(s); len(got) != 2 || got[0] != 3 {
		t.Errorf("segments %v are left, want 3 and 4", got)
	}
	fs.free.Store(0)
	if err := s.Err(); err != nil {
		t.Errorf("with space again: %v", err)
	}
	got, _, _ := rest(t, s)
	if len(got) != 2 {
		t.Errorf("%d records are left, want 2", len(got))
	}
}

// TestMinFreeNeverTakesTheOpenSegment: what was just acknowledged stays.
func TestMinFreeNeverTakesTheOpenSegment(t *testing.T) {
	fs := &faultFS{}
	c := config(t.TempDir())
	c.FS, c.MinFree = fs, 2<<20
	s := open(t, c)
	put(t, s, "the only one")
	fs.free.Store(2<<20 - 1)
	look(s)
	look(s)
	got, _, _ := rest(t, s)
	want(t, got, "the only one")
}

// TestLateFreeSpaceCostsNoMoreSegments: a file system that frees later.
func TestLateFreeSpaceCostsNoMoreSegments(t *testing.T) {
	s, fs := minFree(t, "r")
	fs.free.Store(2<<20 - 500)
	look(s)
	s.do(func() { s.w.guarded = time.Time{}; s.guard() })
	s.do(func() { s.w.guarded = time.Time{}; s.guard() })
	if got := segments(s); len(got) != 3 {
		t.Errorf("segments %v are left, want 3 of 4", got)
	}
}

// TestReserveFreesWhatWasRead: mail is not refused for events that everybody
// has read, not even those of the open segment.
func TestReserveFreesWhatWasRead(t *testing.T) {
	fs := &faultFS{}
	disk := NewDisk(fs, t.TempDir(), 1<<20)
	c := config(t.TempDir())
	c.FS, c.Disk = fs, disk
	c.Keep = time.Hour
	events := open(t, c)
	c.Dir, c.Readers = t.TempDir(), nil
	mail := open(t, c)
	put(t, events, "a")
	r := reader(t, events)
	if err := r.Commit(next(t, r).Next); err != nil {
		t.Fatal(err)
	}

	fs.free.Store(1 << 20)
	fs.set(func(_ int, call, name string) error {
		if call == "remove" && strings.HasSuffix(name, suffix) {
			fs.free.Store(1 << 30)
		}
		return nil
	})
	if _, err := mail.Reserve(1000); err != nil {
		t.Errorf("got %v; left are %v", err, segments(events))
	}
}

// TestRecordsWithoutReadersGoForRoom, when they are of some age.
func TestRecordsWithoutReadersGoForRoom(t *testing.T) {
	fs := &faultFS{}
	c := config(t.TempDir())
	c.FS, c.Readers = fs, nil
	c.Keep = time.Hour
	s := open(t, c)
	put(t, s, "a")
	fs.free.Store(1 << 10)
	look(s)
	if n := len(segments(s)); n != 1 {
		t.Errorf("%d segments are left of a new one", n)
	}
	s.do(func() { s.w.began = s.w.began.Add(-minUnreadAge) })
	look(s)
	if got := segments(s); len(got) != 0 {
		t.Errorf("segments %v are left", got)
	}
}

// smallDisk is a file system of its own that can be filled.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })

	return dir
}

// fill takes all room of a disk, as another program may.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	f, err := os.CreateTemp(dir, "filler")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}

	return func() { os.Remove(f.Name()) }
}

// TestEssentialRecordsFitOnAFullDisk, whoever filled it, as far as Hold said,
// and after a restart; cursors too.
func TestEssentialRecordsFitOnAFullDisk(t *testing.T) {
	dir := smallDisk(t, "4m")
	c := config(filepath.Join(dir, "spool"))
	c.Disk = NewDisk(nil, dir, 1<<20)
	c.SegmentBytes = 16 << 10 // an end of a segment is not the end of its room
	s := open(t, c)
	record := make([]byte, 1000-lineExtra)
	for i := range record {
		record[i] = 'x'
	}
	s.Hold(300_000)
	put(t, s, "first")
	fill(t, dir)

	essential := func(n int) {
		t.Helper()
		for i := range n {
			if _, err := s.AppendAs(context.Background(), Essential, record); err != nil {
				t.Fatalf("essential record %d: %v", i, err)
			}
			s.Hold(-1000)
		}
	}
	if err := s.Append(context.Background(), record); !errors.Is(err, ErrNoSpace) {
		t.Errorf("ordinary: got %v, want ErrNoSpace", err)
	}
	essential(10)
	r := reader(t, s)
	if err := r.Commit(next(t, r).Next); err != nil {
		t.Errorf("commit: %v", err)
	}
	s.Close()

	s = open(t, c)
	s.Hold(290_000)
	essential(200)
	r = reader(t, s)
	for range 210 {
		if got := next(t, r); len(got.Data) != len(record) {
			t.Fatalf("got %q", got.Data)
		}
	}
}

// TestAllocatedRoomIsFreedOnce: what a previous run left allocated goes when
// the next has its own, and segments that had none keep their time.
func TestAllocatedRoomIsFreedOnce(t *testing.T) {
	c := config(t.TempDir())
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	blocks := func(name string) int64 {
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(c.Dir, name), &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	for i := range 3 {
		s := open(t, c)
		s.Hold(1 << 20)
		put(t, s, "a")
		s.Close()
		name := fmt.Sprintf("%016x.seg", i+1)
		if n := blocks(name); n < 1<<20 {
			t.Skipf("the file system allocates nothing ahead: %d bytes", n)
		}
		if err := os.Chtimes(filepath.Join(c.Dir, "0000000000000001.seg"), old, old); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			continue
		}
		if n := blocks(fmt.Sprintf("%016x.seg", i)); n > maxOverhead {
			t.Errorf("%d bytes are left of the segment before", n)
		}
	}
	s := open(t, c)
	s.Hold(1 << 20)
	put(t, s, "b")
	info, err := os.Stat(filepath.Join(c.Dir, "0000000000000001.seg"))
	if err != nil {
		t.Fatal(err)
	}
	if !info.ModTime().Equal(old) {
		t.Errorf("the first segment's time is %s, want %s", info.ModTime(), old)
	}
}

// TestNewFoldersAreDurable: their names are fsynced in their parents.
func TestNewFoldersAreDurable(t *testing.T) {
	base := t.TempDir()
	var synced []string
	fs := &syncedFS{names: &synced}
	c := config(filepath.Join(base, "a", "b"))
	c.FS = fs
	open(t, c)
	for _, want := range []string{base, filepath.Join(base, "a")} {
		if !strings.Contains(strings.Join(synced, "|")+"|", want+"|") {
			t.Errorf("%s was not fsynced, only %v", want, synced)
		}
	}
}

type syncedFS struct {
	OS
	names *[]string
}

func (s *syncedFS) SyncDir(dir string) error {
	*s.names = append(*s.names, dir)
	return s.OS.SyncDir(dir)
}

func TestDiskDefaults(t *testing.T) {
	d := NewDisk(nil, "/dir", 0)
	if d.keep != 1<<20 || d.fs != (OS{}) || d.dir != "/dir" {
		t.Errorf("got %d bytes, %T, %q; want 1 MiB of the machine's own", d.keep, d.fs, d.dir)
	}
	fsys := &faultFS{}
	if d := NewDisk(fsys, "/dir", 1); d.keep != 1 || d.fs != FS(fsys) {
		t.Errorf("got %d bytes, %T", d.keep, d.fs)
	}
	if got := NewDisk(nil, "", 4000).essentialFloor(); got != 1000 {
		t.Errorf("of 4000 bytes internal appends leave %d, want a quarter", got)
	}
}

func TestFreeOfADisk(t *testing.T) {
	fsys := &bigFS{free: 12345}
	d := NewDisk(fsys, "/dir", 0)
	if n, err := d.Free(); err != nil || n != 12345 {
		t.Errorf("got %d, %v", n, err)
	}
	fsys.free = 1<<64 - 1
	if n, err := d.Free(); err != nil || n != 1<<62 {
		t.Errorf("more than there is: got %d, %v", n, err)
	}
	fsys.err = syscall.EIO
	if _, err := d.Free(); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v, want EIO", err)
	}
}

type bigFS struct {
	OS
	free uint64
	err  error
}

func (b *bigFS) Free(string) (uint64, error) { return b.free, b.err }

func TestDiskOfWhatCannotBeLookedAt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var disks Disks
	if _, err := disks.Of(filepath.Join(file, "x")); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v, want ENOTDIR", err)
	}
	if d, err := disks.Of("spool-that-is-not-there"); err != nil || d.dir != "." {
		t.Errorf("a relative folder: got %v, %v", d, err)
	}
}

// TestReserveToTheByte of what the headroom, MinFree and others leave.
func TestReserveToTheByte(t *testing.T) {
	for _, c := range []struct {
		name     string
		headroom uint64
		minFree  uint64
		free     int64
		n        int64
		ok       bool
	}{
		{"just room", 1000, 0, 1500, 500, true},
		{"a byte less", 1000, 0, 1499, 500, false},
		{"min free is more", 1000, 2000, 2500, 500, true},
		{"a byte less than that", 1000, 2000, 2499, 500, false},
		{"min free is less", 1000, 10, 1499, 500, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := &faultFS{}
			cfg := config(t.TempDir())
			cfg.FS, cfg.Reserve, cfg.MinFree = fsys, c.headroom, c.minFree
			s := open(t, cfg)
			fsys.free.Store(c.free)
			r, err := s.Reserve(c.n)
			if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrNoSpace) {
				t.Fatalf("got %v, want ok %v", err, c.ok)
			}
			if err != nil {
				return
			}
			if s.disk.reserved != c.n || s.reserved != c.n {
				t.Errorf("%d and %d bytes are reserved, want %d", s.disk.reserved, s.reserved, c.n)
			}
			if _, err := s.Reserve(1); !errors.Is(err, ErrNoSpace) {
				t.Errorf("one more: got %v, want ErrNoSpace", err)
			}
			if err := s.Err(); !errors.Is(err, ErrNoSpace) {
				t.Errorf("what is reserved is not free: got %v", err)
			}
			r.Release()
			if s.disk.reserved != 0 || s.reserved != 0 {
				t.Errorf("%d and %d bytes are still reserved", s.disk.reserved, s.reserved)
			}
			if err := s.Err(); err != nil {
				t.Errorf("after the release: %v", err)
			}
		})
	}
}

// TestErrToTheByte.
func TestErrToTheByte(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS, c.Reserve = fsys, 1000
	s := open(t, c)
	for free, full := range map[int64]bool{1001: false, 1000: true, 999: true} {
		fsys.free.Store(free)
		if err := s.Err(); errors.Is(err, ErrNoSpace) != full {
			t.Errorf("%d bytes are free: got %v", free, err)
		}
	}
}

// TestRoom holds how the free bytes are shared out.
func TestRoom(t *testing.T) {
	const headroom = 4000 // of which internal appends leave 1000
	const lines = 16 * lineExtra
	for _, c := range []struct {
		name               string
		free               int64
		own, other         int64 // reserved
		writing, apart     int64
		ordinary, internal int64
	}{
		{"nothing is promised", 10_000, 0, 0, 0, 0, 6000, 9000},
		{"another reserved", 10_000, 0, 1000, 0, 0, 5000, 8000},
		{"something is written", 10_000, 0, 0, 500, 0, 5500, 8500},
		{"another has room set apart", 10_000, 0, 0, 0, 700, 5300, 8300},
		{"its own reservation, in part longer", 10_000, 1600, 0, 0, 0, 4400, 9000 - 1600 - 100 - lines},
		{"its own reservation on a full disk", 2100, 800, 0, 0, 0, 800 + 50 + lines, 1100 - 800 - 50 - lines},
		{"no more than internal appends may have", 1500, 800, 0, 0, 0, 500, 0},
		{"both", 5000, 320, 1000, 0, 0, 320 + 20 + lines, 3000 - 320 - 20 - lines},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := &faultFS{}
			d := NewDisk(fsys, "", headroom)
			s, other := &Spool{disk: d}, &Spool{disk: d}
			d.setApart(other, c.apart)
			fsys.free.Store(1 << 40)
			for _, r := range []struct {
				s *Spool
				n int64
			}{{s, c.own}, {other, c.other}} {
				if err := d.reserve(r.s, r.n); err != nil {
					t.Fatal(err)
				}
			}
			d.admit(c.writing)
			fsys.free.Store(c.free)
			ordinary, internal, err := d.room(s)
			if err != nil || ordinary != c.ordinary || internal != c.internal {
				t.Errorf("got %d and %d, %v; want %d and %d", ordinary, internal, err, c.ordinary, c.internal)
			}
			if got := s.InternalRoom(); got != max(0, c.internal) {
				t.Errorf("InternalRoom is %d, want %d", got, max(0, c.internal))
			}
		})
	}
}

// TestRoomSetApartForItself may be used by essential appends, and internal ones.
func TestRoomSetApartForItself(t *testing.T) {
	fsys := &faultFS{}
	d := NewDisk(fsys, "", 4000)
	s := &Spool{disk: d}
	d.setApart(s, 600)
	fsys.free.Store(5000)
	ordinary, internal, err := d.room(s)
	if err != nil || ordinary != 400 || internal != 4000 {
		t.Errorf("got %d and %d, %v; want 400 and 4000", ordinary, internal, err)
	}
	fsys.free.Store(10)
	if got := s.InternalRoom(); got != 0 {
		t.Errorf("InternalRoom is %d on a full disk, want 0", got)
	}
}

// TestFullDiskIsNotAskedAllTheTime: every tenth of a second all its spools are.
func TestFullDiskIsNotAskedAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := &faultFS{}
		d := NewDisk(fsys, t.TempDir(), 1000)
		for range 2 {
			c := config(t.TempDir())
			c.FS, c.Disk = fsys, d
			open(t, c)
		}
		fsys.free.Store(1)
		for i, step := range []struct {
			after time.Duration
			asked bool
		}{{time.Hour, true}, {0, false}, {99 * time.Millisecond, false}, {time.Millisecond, true}, {50 * time.Millisecond, false}} {
			time.Sleep(step.after)
			if got := d.relieve(1); got != step.asked {
				t.Errorf("step %d: asked %v, want %v", i, got, step.asked)
			}
		}
	})
}

// TestDiskForgetsClosedSpools, and no other.
func TestDiskForgetsClosedSpools(t *testing.T) {
	d := NewDisk(nil, t.TempDir(), 0)
	var spools []*Spool
	for range 3 {
		c := config(t.TempDir())
		c.Disk = d
		spools = append(spools, open(t, c))
	}
	spools[1].Close()
	if len(d.spools) != 2 || d.spools[0] != spools[0] || d.spools[1] != spools[2] {
		t.Errorf("%d spools are left, want the first and the third", len(d.spools))
	}
}
