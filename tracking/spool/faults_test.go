package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// faultFS is the machine's file system with calls that fail. fail is asked
// before each, by the call's name and the file's.
type faultFS struct {
	OS
	mu    sync.Mutex
	calls int
	fail  func(n int, call, name string) error
	free  atomic.Int64 // bytes to report, 0: many
}

func (f *faultFS) call(call, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.fail == nil {
		return nil
	}

	return f.fail(f.calls, call, filepath.Base(name))
}

func (f *faultFS) set(fail func(n int, call, name string) error) {
	f.mu.Lock()
	f.fail = fail
	f.mu.Unlock()
}

func (f *faultFS) Create(name string) (File, error) {
	if err := f.call("create", name); err != nil {
		return nil, err
	}
	file, err := f.OS.Create(name)
	if err != nil {
		return nil, err
	}

	return &faultFile{file, f, name}, nil
}

func (f *faultFS) Open(name string) (File, error) {
	if err := f.call("open", name); err != nil {
		return nil, err
	}
	file, err := f.OS.Open(name)
	if err != nil {
		return nil, err
	}

	return &faultFile{file, f, name}, nil
}

func (f *faultFS) Rename(from, to string) error {
	if err := f.call("rename", from); err != nil {
		return err
	}

	return f.OS.Rename(from, to)
}

func (f *faultFS) Remove(name string) error {
	if err := f.call("remove", name); err != nil {
		return err
	}

	return f.OS.Remove(name)
}

func (f *faultFS) List(dir string) ([]os.FileInfo, error) {
	if err := f.call("list", dir); err != nil {
		return nil, err
	}

	return f.OS.List(dir)
}

func (f *faultFS) SyncDir(dir string) error {
	if err := f.call("syncdir", dir); err != nil {
		return err
	}

	return f.OS.SyncDir(dir)
}

func (f *faultFS) Free(string) (uint64, error) {
	if n := f.free.Load(); n > 0 {
		return uint64(n), nil
	}

	return 1 << 40, nil
}

type faultFile struct {
	File
	fs   *faultFS
	name string
}

func (f *faultFile) Write(b []byte) (int, error) {
	if err := f.fs.call("write", f.name); err != nil {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, err
	}

	return f.File.Write(b)
}

func (f *faultFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.call("writeat", f.name); err != nil {
		n, _ := f.File.WriteAt(b[:20], off)
		return n, err
	}

	return f.File.WriteAt(b, off)
}

func (f *faultFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.fs.call("read", f.name); err != nil {
		return 0, err
	}

	return f.File.ReadAt(b, off)
}

func (f *faultFile) Sync() error {
	if err := f.fs.call("sync", f.name); err != nil {
		return err
	}

	return f.File.Sync()
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.fs.call("truncate", f.name); err != nil {
		return err
	}

	return f.File.Truncate(size)
}

func (f *faultFile) Allocate(offset, n int64) error {
	if err := f.fs.call("allocate", f.name); err != nil {
		return err
	}

	return f.File.Allocate(offset, n)
}

// next reads a record, which must come.
func next(t *testing.T, r *Reader) Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rec, err := r.Next(ctx)
	if err != nil {
		t.Fatalf("no record: %v", err)
	}

	return rec
}

func reader(t *testing.T, s *Spool) *Reader {
	t.Helper()
	r, err := s.Reader("r")
	if err != nil {
		t.Fatal(err)
	}

	return r
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i] = filepath.Base(list[i])
	}

	return list
}

// TestOneFailureOfEachCall fails each file call of a spool's life once, in
// turn. The spool goes on without a restart, and what was acknowledged is there,
// at the time and after a restart.
func TestOneFailureOfEachCall(t *testing.T) {
	seen := map[string]int{}
	for n := 1; ; n++ {
		failed := ""
		fs := &faultFS{fail: func(i int, call, name string) error {
			if i != n {
				return nil
			}
			failed = call + " " + name
			seen[call]++
			return syscall.EIO
		}}
		c := config(t.TempDir())
		c.FS, c.SegmentBytes = fs, 60
		oneFailure(t, c)
		if failed == "" {
			break
		}
		if t.Failed() {
			t.Fatalf("failed call %d: %s", n, failed)
		}
	}
	for _, call := range strings.Fields("create open remove list syncdir write writeat read sync truncate allocate") {
		if seen[call] == 0 {
			t.Errorf("no %s was failed", call)
		}
	}
}

// oneFailure is a spool's life in which at most one call may fail.
func oneFailure(t *testing.T, c Config) {
	t.Helper()
	s, err := Open(c)
	if err != nil {
		s = open(t, c)
	}
	s.Hold(100)

	errs, passed := 0, 0
	var acked []string
	r := reader(t, s)
	for i := range 12 {
		record := fmt.Sprintf("record %d", i)
		if err := s.Append(context.Background(), []byte(record)); err != nil {
			errs++
			continue
		}
		acked = append(acked, record)
		if i%4 == 3 {
			var rec Record
			for rec = next(t, r); string(rec.Data) != record; {
				rec = next(t, r)
			}
			passed = len(acked) // a commit that failed may have been made
			if err := r.Commit(rec.Next); err != nil {
				errs++
			}
		}
	}
	if errs > 1 {
		t.Errorf("%d errors of one failure", errs)
	}
	s.Rotate()
	if err := s.Close(); err != nil {
		t.Error(err)
	}

	s, err = Open(c)
	if err != nil {
		s = open(t, c)
	}
	if err := s.Append(context.Background(), []byte("last")); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	r = reader(t, s)
	have := map[string]bool{}
	for {
		record := string(next(t, r).Data)
		have[record] = true
		if record == "last" {
			break
		}
	}
	for _, record := range acked[passed:] {
		if !have[record] {
			t.Errorf("%q is gone", record)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestReaderWaitsWhileASegmentCannotBeRead: what the machine cannot do just now
// says nothing of the records.
func TestReaderWaitsWhileASegmentCannotBeRead(t *testing.T) {
	for _, tc := range []struct {
		call string
		err  error
	}{{"open", syscall.EMFILE}, {"open", syscall.EACCES}, {"open", syscall.ENOMEM}, {"read", syscall.EIO}} {
		t.Run(tc.call+" "+tc.err.Error(), func(t *testing.T) {
			tries := make(chan struct{}, 1000)
			fs := &faultFS{}
			c := config(t.TempDir())
			c.FS, c.Metrics = fs, prometheus.NewRegistry()
			s := open(t, c)
			put(t, s, "a", "b")
			fs.set(func(_ int, call, name string) error {
				if call != tc.call || !strings.HasSuffix(name, suffix) {
					return nil
				}
				tries <- struct{}{}
				return tc.err
			})

			ctx, cancel := context.WithCancel(context.Background())
			r := reader(t, s)
			ended := make(chan error, 1)
			go func() {
				_, err := r.Next(ctx)
				ended <- err
			}()
			for range 3 {
				<-tries
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the context's end", err)
			}
			if n := count(t, s.readErrors); n < 3 {
				t.Errorf("%v errors counted, want 3 and more", n)
			}

			fs.set(nil)
			for _, want := range []string{"a", "b"} {
				if got := string(next(t, r).Data); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

// TestReaderKeepsItsSegmentOpen: reading on needs no new descriptor.
func TestReaderKeepsItsSegmentOpen(t *testing.T) {
	fs := &faultFS{}
	c := config(t.TempDir())
	c.FS, c.SegmentBytes = fs, 64<<20
	s := open(t, c)
	big := strings.Repeat("x", readAhead)
	put(t, s, "a", big, big)
	r := reader(t, s)
	next(t, r)
	fs.set(func(_ int, call, _ string) error {
		if call == "open" {
			t.Error("opened anew")
		}
		return nil
	})
	next(t, r)
	next(t, r)
}

// TestSegmentThatIsGoneIsPassedOver, counted; the rest is read.
func TestSegmentThatIsGoneIsPassedOver(t *testing.T) {
	for _, how := range []string{"removed", "cut"} {
		t.Run(how, func(t *testing.T) {
			c := config(t.TempDir())
			c.SegmentBytes = 1
			s := open(t, c)
			put(t, s, "a", "b", "c")
			second := s.path(2)
			var err error
			if how == "removed" {
				err = os.Remove(second)
			} else {
				err = os.Truncate(second, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			got, _, _ := rest(t, s)
			want(t, got, "a", "c")
			if n := count(t, s.gone); n != 1 {
				t.Errorf("%v counted as gone, want 1", n)
			}
		})
	}
}

// TestSegmentNotReadableAtTheStart stays, and is read when it can be.
func TestSegmentNotReadableAtTheStart(t *testing.T) {
	for _, times := range []int{1, 1000} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			c := config(t.TempDir())
			s := open(t, c)
			put(t, s, "a")
			s.Close()
			fs := &faultFS{}
			fs.set(func(_ int, call, name string) error {
				if call == "open" && strings.HasSuffix(name, suffix) && times > 0 {
					times--
					return syscall.EMFILE
				}
				return nil
			})
			c.FS = fs
			s = open(t, c)
			put(t, s, "b")
			fs.set(nil)
			got, _, _ := rest(t, s)
			want(t, got, "a", "b")
			if kept := files(t, c.Dir, "*.broken"); len(kept) > 0 {
				t.Errorf("quarantined: %v", kept)
			}
		})
	}
}

// TestNumberIsUsedOnce: what stands in the way of a new segment is gone round.
func TestNumberIsUsedOnce(t *testing.T) {
	c := config(t.TempDir())
	if err := os.MkdirAll(filepath.Join(c.Dir, "0000000000000001.seg"), 0o700); err != nil { // not a file
		t.Fatal(err)
	}
	s := open(t, c)
	put(t, s, "a")
	got, _, _ := rest(t, s)
	want(t, got, "a")
	if s.Newest().Segment != 2 {
		t.Errorf("segment %d, want 2", s.Newest().Segment)
	}
}

// TestSegmentWithTheHighestNumber does not make the next one 0.
func TestSegmentWithTheHighestNumber(t *testing.T) {
	for _, name := range []string{"ffffffffffffffff.seg", "7fffffffffffffff.seg"} {
		t.Run(name, func(t *testing.T) {
			c := config(t.TempDir())
			s := open(t, c)
			put(t, s, "a")
			s.Close()
			if err := os.Rename(filepath.Join(c.Dir, "0000000000000001.seg"), filepath.Join(c.Dir, name)); err != nil {
				t.Fatal(err)
			}
			s = open(t, c)
			put(t, s, "b", "c")
			got, _, _ := rest(t, s)
			want(t, got, "b", "c")
			if kept := files(t, c.Dir, "*.broken"); len(kept) != 1 || kept[0] != name+brokenSuffix {
				t.Errorf("quarantined: %v, want %s", kept, name+brokenSuffix)
			}
		})
	}
}

// TestSegmentOfAnotherName: a file that looks like a segment and is not named
// like one is not read, and not left there without a word.
func TestSegmentOfAnotherName(t *testing.T) {
	for _, name := range []string{"00000000000000AA.seg", "copy of 0000000000000001.seg", "1.seg"} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			c := config(t.TempDir())
			c.Log = slog.New(slog.NewTextHandler(&log, nil))
			content := appendLine(nil, []byte("renamed"))
			if err := os.WriteFile(filepath.Join(c.Dir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}

			s := open(t, c)
			put(t, s, "new")
			got, _, _ := rest(t, s)
			want(t, got, "new")
			kept, err := os.ReadFile(filepath.Join(c.Dir, name+brokenSuffix))
			if err != nil || !bytes.Equal(kept, content) {
				t.Errorf("quarantined %q, %v, want %q", kept, err, content)
			}
			if !strings.Contains(log.String(), name+brokenSuffix) {
				t.Errorf("the log does not name %s:\n%s", name, log.String())
			}
		})
	}
}

// TestRemovedOpenSegmentIsLeft: a program that removes the segment that is being
// written costs what is in it, not what comes after.
func TestRemovedOpenSegmentIsLeft(t *testing.T) {
	c := config(t.TempDir())
	s := open(t, c)
	put(t, s, "removed")
	if err := os.Remove(s.path(1)); err != nil {
		t.Fatal(err)
	}
	s.do(func() { s.guarded = time.Time{} }) // as if some time had passed

	put(t, s, "later")
	s.Close()
	got, _, _ := rest(t, open(t, c))
	want(t, got, "later")
}

// TestReadDirPassesFolders over, whatever their names.
func TestReadDirPassesFolders(t *testing.T) {
	c := config(t.TempDir())
	s := open(t, c)
	put(t, s, "a")
	if err := os.Mkdir(s.path(9), 0o700); err != nil {
		t.Fatal(err)
	}

	var got []string
	err := ReadDir(c.Dir, func(r Record) bool {
		got = append(got, string(r.Data))
		return true
	})
	if err != nil {
		t.Error(err)
	}
	want(t, got, "a")
}

// TestCheckFindsDamage where no reader comes by.
func TestCheckFindsDamage(t *testing.T) {
	var log strings.Builder
	c := config(t.TempDir())
	c.Log, c.Readers = slog.New(slog.NewTextHandler(&log, nil)), nil
	s := open(t, c)
	put(t, s, "a", "damaged", strings.Repeat("long", 64<<10))
	flip(t, s.path(1), lineExtra+1+lineExtra)

	for range 2 {
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	}
	kept := files(t, c.Dir, "*.broken")
	if len(kept) != 1 || !strings.Contains(log.String(), kept[0]) {
		t.Errorf("quarantined %v, want one file, and its name in\n%s", kept, log.String())
	}
}

// flip changes a bit of a file.
func flip(t *testing.T, name string, at int) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 1
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedRecordIsQuarantined before its segment goes, once, with its name
// in the log.
func TestDamagedRecordIsQuarantined(t *testing.T) {
	var log strings.Builder
	c := config(t.TempDir())
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	c.SegmentBytes = 30
	s := open(t, c)
	put(t, s, "a", "damaged", "c", "d")
	flip(t, s.path(1), lineExtra+1+lineExtra)
	got, _, _ := rest(t, s)
	want(t, got, "a", "c", "d")
	got, end, r := rest(t, s)
	want(t, got, "a", "c", "d")
	if err := r.Commit(end); err != nil {
		t.Fatal(err)
	}
	s.Rotate()
	s.Close()
	if left := files(t, c.Dir, "*.seg"); len(left) != 0 {
		t.Errorf("segments left: %v", left)
	}
	kept := files(t, c.Dir, "*.broken")
	if len(kept) != 1 {
		t.Fatalf("quarantined: %v, want one", kept)
	}
	data, err := os.ReadFile(filepath.Join(c.Dir, kept[0]))
	if err != nil || !strings.HasSuffix(string(data), "maged") {
		t.Errorf("%s holds %q, %v", kept[0], data, err)
	}
	if !strings.Contains(log.String(), kept[0]) {
		t.Errorf("the log does not name %s:\n%s", kept[0], log.String())
	}
}

// TestDamageThatCannotBeCopiedKeepsTheSegment, and so does too much of it.
func TestDamageThatCannotBeCopiedKeepsTheSegment(t *testing.T) {
	for _, full := range []bool{true, false} {
		t.Run(fmt.Sprint(full), func(t *testing.T) {
			fs := &faultFS{}
			c := config(t.TempDir())
			c.FS = fs
			s := open(t, c)
			for range 2 * maxQuarantined {
				put(t, s, "damaged")
			}
			for i := range 2 * maxQuarantined {
				flip(t, s.path(1), i*(lineExtra+7)+lineExtra)
			}
			put(t, s, "good")
			if full {
				fs.set(func(_ int, call, name string) error {
					if call == "create" && strings.HasSuffix(name, brokenSuffix) {
						return syscall.ENOSPC
					}
					return nil
				})
			}
			got, end, _ := rest(t, s)
			want(t, got, "good")
			s.Close()
			s = open(t, c) // it is not read again
			if err := reader(t, s).Commit(end); err != nil {
				t.Fatal(err)
			}
			s.do(s.sweep)
			s.Close()
			if kept := files(t, c.Dir, "*.seg.broken"); len(kept) != 1 {
				t.Errorf("kept segments: %v, want one", kept)
			}
			if all := files(t, c.Dir, "*.broken"); len(all) > maxQuarantined+2 {
				t.Errorf("%d quarantined files", len(all))
			}
		})
	}
}

// TestCursor: a slot that is torn or damaged leaves the other, an older
// version's file is read, and what is no cursor is quarantined.
func TestCursor(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func([]byte) []byte
		want   string // the first record that is read
		broken int
	}{
		{"whole", func(b []byte) []byte { return b }, "c", 0},
		{"newest slot damaged", func(b []byte) []byte { b[slotBytes+12] ^= 1; return b }, "b", 0},
		{"older slot damaged", func(b []byte) []byte { b[12] ^= 1; return b }, "c", 0},
		{"both damaged", func(b []byte) []byte { b[12] ^= 1; b[slotBytes+12] ^= 1; return b }, "a", 1},
		{"cut", func(b []byte) []byte { return b[:slotBytes+9] }, "b", 0},
		{"empty", func([]byte) []byte { return nil }, "a", 0},
		{"older version", func([]byte) []byte { return appendLine(nil, []byte(`{"Segment":1,"Offset":11}`)) }, "b", 0},
		{"text", func([]byte) []byte { return []byte("text\n") }, "a", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := config(t.TempDir())
			c.Keep = time.Hour
			s := open(t, c)
			put(t, s, "a", "b", "c")
			r := reader(t, s)
			for range 2 {
				if err := r.Commit(next(t, r).Next); err != nil {
					t.Fatal(err)
				}
			}
			s.Close()
			name := filepath.Join(c.Dir, "cursor-r")
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, tc.damage(data), 0o600); err != nil {
				t.Fatal(err)
			}

			s = open(t, c)
			r = reader(t, s)
			rec := next(t, r)
			if string(rec.Data) != tc.want {
				t.Errorf("reads on at %q, want %q", rec.Data, tc.want)
			}
			if got := len(files(t, c.Dir, "*.broken")); got != tc.broken {
				t.Errorf("%d files quarantined, want %d", got, tc.broken)
			}
			if err := r.Commit(rec.Next); err != nil {
				t.Fatal(err)
			}
			if got := Cursor(c.Dir, "r"); got != rec.Next {
				t.Errorf("committed %v, want %v", got, rec.Next)
			}
			s.Close()
			if s = open(t, c); s.cursors["r"] != rec.Next {
				t.Errorf("after a restart %v, want %v", s.cursors["r"], rec.Next)
			}
		})
	}
}

func FuzzCursor(f *testing.F) {
	line, err := encodeSlot(slot{3, Position{1, 2}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add(append(line, line...))
	f.Fuzz(func(t *testing.T, data []byte) {
		newest, at, _ := newestSlot(data)
		if at < 0 {
			return
		}
		line, err := encodeSlot(newest)
		if err != nil {
			t.Fatal(err)
		}
		if again, _, damaged := newestSlot(line); again != newest || damaged {
			t.Fatalf("%+v is read back as %+v", newest, again)
		}
	})
}

// count reads a counter.
func count(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	metrics, err := reg.Gather()
	if err != nil || len(metrics) != 1 {
		t.Fatalf("%d metrics, %v", len(metrics), err)
	}

	return metrics[0].GetMetric()[0].GetCounter().GetValue()
}

// TestAlive: a write that hangs is seen from outside.
func TestAlive(t *testing.T) {
	hang, hanging := make(chan struct{}), make(chan struct{})
	fs := &faultFS{}
	c := config(t.TempDir())
	c.FS = fs
	c.SegmentAge = time.Millisecond // the writer looks around as often
	s := open(t, c)
	first := s.Alive()
	for !s.Alive().After(first) {
		runtime.Gosched()
	}

	fs.set(func(_ int, call, _ string) error {
		if call == "write" { // there is one
			close(hanging)
			<-hang
		}
		return nil
	})
	done := make(chan error)
	go func() { done <- s.Append(context.Background(), []byte("a")) }()
	<-hanging
	before := s.Alive()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	<-tick.C
	<-tick.C
	if now := s.Alive(); now != before {
		t.Errorf("a hanging writer was seen at %s, after %s", now, before)
	}
	close(hang)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
