package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(dir string) Config {
	return Config{
		Dir:     dir,
		Readers: []string{"r"},
		FS:      &faultFS{},
		Log:     slog.New(slog.DiscardHandler),
	}
}

func open(t testing.TB, c Config) *Spool {
	t.Helper()
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		leavesNothing(t, s)
	})
	return s
}

// leavesNothing holds a spool that is closed to what it has to give back: its
// files, and its place on the disk.
func leavesNothing(t testing.TB, s *Spool) {
	t.Helper()
	if fs, ok := s.fs.(*faultFS); ok {
		if n := fs.opened(s.cfg.Dir); n != 0 {
			t.Errorf("%d files of the spool are still open", n)
		}
	}

	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.disk.writing != 0 && len(s.disk.spools) == 0 {
		t.Errorf("%d bytes are still to be written", s.disk.writing)
	}
	if _, ok := s.disk.apart[s]; ok || slices.Contains(s.disk.spools, s) {
		t.Error("the disk still knows the spool")
	}
}

func put(t testing.TB, s *Spool, records ...string) {
	t.Helper()
	for _, r := range records {
		if err := s.Append(context.Background(), []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
}

// rest reads what is there without waiting.
func rest(t testing.TB, s *Spool) (got []string, end Position, r *Reader) {
	t.Helper()
	r, err := s.Reader("r")
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		rec, err := r.Next(ended)
		if err != nil {
			return got, end, r
		}
		got, end = append(got, string(rec.Data)), rec.Next
	}
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestResume(t *testing.T) {
	dir := t.TempDir()
	s := open(t, config(dir))
	put(t, s, "a", "b")
	got, end, r := rest(t, s)
	want(t, got, "a", "b")
	if err := r.Commit(end); err != nil {
		t.Fatal(err)
	}
	put(t, s, "c")
	s.Close()
	s = open(t, config(dir))
	put(t, s, "d")
	got, _, _ = rest(t, s)
	want(t, got, "c", "d")
}

func TestDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		want   []string
	}{
		{"torn last line", func(b []byte) []byte { return append(b, "1234abcd hal"...) }, []string{"a", "b", "c", "new"}},
		{"cut in the last line", func(b []byte) []byte { return b[:len(b)-2] }, []string{"a", "b", "new"}},
		{"flipped bit", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, []string{"a", "c", "new"}},
		{"empty file", func([]byte) []byte { return nil }, []string{"new"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, config(dir))
			put(t, s, "a", "b", "c")
			s.Close()
			files, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
			if len(files) != 1 {
				t.Fatalf("segments %v", files)
			}
			data, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(files[0], c.damage(data), 0o600); err != nil {
				t.Fatal(err)
			}
			s = open(t, config(dir))
			put(t, s, "new")
			got, _, _ := rest(t, s)
			want(t, got, c.want...)
		})
	}
}

func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, config(dir))
	if _, err := Open(config(dir)); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
}

func TestSegmentsGoWhenPassed(t *testing.T) {
	c := config(t.TempDir())
	c.SegmentBytes = 1 // every commit ends its segment
	s := open(t, c)
	put(t, s, "a", "b", "c")
	files := func() int { f, _ := filepath.Glob(filepath.Join(c.Dir, "*.seg")); return len(f) }
	if n := files(); n != 3 {
		t.Fatalf("%d segments before anything was read, want 3", n)
	}
	_, end, r := rest(t, s)
	if err := r.Commit(end); err != nil {
		t.Fatal(err)
	}
	put(t, s, "d") // acknowledged before the sweep, so ask after Close
	s.Close()
	if n := files(); n != 1 {
		t.Errorf("%d segments after all but one was committed, want 1", n)
	}
}

func TestManyWriters(t *testing.T) {
	s := open(t, config(t.TempDir()))
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 50 {
				if err := s.Append(context.Background(), fmt.Appendf(nil, "%d-%d", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, _, _ := rest(t, s)
	seen := map[string]int{}
	for _, g := range got {
		seen[g]++
	}
	if len(got) != 800 || len(seen) != 800 {
		t.Errorf("%d records, %d different, want 800", len(got), len(seen))
	}
}

// failing fails the next calls of one kind.
type failing struct {
	OS
	sync, short int
	free        uint64
}

type failingFile struct {
	File
	fs *failing
}

func (f *failing) Create(name string) (File, error) {
	file, err := f.OS.Create(name)
	return &failingFile{file, f}, err
}

func (f *failing) Free(string) (uint64, error) { return f.free, nil }

var errInjected = errors.New("injected")

func (f *failingFile) Sync() error {
	if f.fs.sync > 0 {
		f.fs.sync--
		return errInjected
	}
	return f.File.Sync()
}

func (f *failingFile) Write(b []byte) (int, error) {
	if f.fs.short > 0 {
		f.fs.short--
		n, _ := f.File.Write(b[:len(b)/2])
		return n, errInjected
	}
	return f.File.Write(b)
}

func TestFailedSyncMovesToANewSegment(t *testing.T) {
	c := config(t.TempDir())
	fs := &failing{}
	c.FS = fs
	s := open(t, c)
	put(t, s, "a")
	fs.sync = 1
	put(t, s, "b", "c")
	got, _, _ := rest(t, s)
	want(t, got, "a", "b", "c")
}

func TestShortWriteIsNotGluedTo(t *testing.T) {
	c := config(t.TempDir())
	fs := &failing{}
	c.FS = fs
	s := open(t, c)
	put(t, s, "a")
	fs.short = 1
	put(t, s, "again, in a new segment", "b")
	s.Close()
	s = open(t, c)
	got, _, _ := rest(t, s)
	want(t, got, "a", "again, in a new segment", "b")
}

func TestReserve(t *testing.T) {
	c := config(t.TempDir())
	c.Reserve = 100
	c.FS = &failing{free: 300}
	s := open(t, c)
	r, err := s.Reserve(150)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reserve(100); !errors.Is(err, ErrNoSpace) {
		t.Errorf("got %v, want ErrNoSpace", err)
	}
	r.Release()
	r.Release()
	if _, err := s.Reserve(200); err != nil {
		t.Errorf("after release: %v", err)
	}
}

// TestLongRecordsOfManyWriters are written as they are, each at its position.
func TestLongRecordsOfManyWriters(t *testing.T) {
	s := open(t, config(t.TempDir()))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			record := bytes.Repeat([]byte{byte('a' + w)}, maxJoined/2+w)
			for range 4 {
				at, err := s.AppendAt(context.Background(), []byte("small"), record)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := s.ReadAt(at[1], len(record))
				if err != nil || !bytes.Equal(got, record) {
					t.Errorf("writer %d: %d bytes at %v, %v", w, len(got), at[1], err)
				}
			}
		})
	}
	wg.Wait()
	if got, _, _ := rest(t, s); len(got) != 64 {
		t.Errorf("%d records, want 64", len(got))
	}
}

func FuzzLine(f *testing.F) {
	f.Add([]byte("00000000 "))
	f.Add(bytes.TrimSuffix(appendLine(nil, []byte("{}")), []byte("\n")))
	f.Add(append(bytes.Replace(appendLine(nil, []byte("{}")), []byte("\n"), []byte("J"), 1), "00000000 "...))
	f.Fuzz(func(t *testing.T, line []byte) {
		if record, ok := parseLine(line); ok {
			back := bytes.TrimSuffix(appendLine(nil, record), []byte("\n"))
			if !bytes.EqualFold(back, line) {
				t.Fatalf("%q reads as %q, which writes %q", line, record, back)
			}
		}

		record, n, ok := takeLine(line)
		if n < 1 || n > len(line)+1 {
			t.Fatalf("%q: %d bytes of %d taken", line, n, len(line))
		}
		if back := appendLine(nil, record); ok && !bytes.EqualFold(back[:len(back)-1], line[:n-1]) {
			t.Fatalf("%q begins with %q, which writes %q", line, record, back)
		}
	})
}

// BenchmarkAppend gives durable records a second; BenchmarkFsync what the disk
// alone does.
func BenchmarkAppend(b *testing.B) {
	record := bytes.Repeat([]byte("x"), 500)
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			dir := b.TempDir()
			s, err := Open(Config{Dir: dir, Disk: NewDisk(nil, dir, 0), Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			var wg sync.WaitGroup
			n := b.N
			b.ResetTimer()
			for w := range writers {
				wg.Go(func() {
					for range (n + writers - 1 - w) / writers {
						if err := s.Append(context.Background(), record); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkFsync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "x"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	record := bytes.Repeat([]byte("x"), 500)
	for b.Loop() {
		f.Write(record)
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}
