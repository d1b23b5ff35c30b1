package spool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCursor: a slot that is torn or damaged leaves the other, an older
// version's file is read, and what is not a cursor is quarantined.
func TestCursor(t *testing.T) {
	for _, tc := range []struct {
		name    string
		damage  func([]byte) []byte
		want    string // the first record that is read
		broken  int
		damaged bool // and said
	}{
		{"whole", func(b []byte) []byte { return b }, "c", 0, false},
		{"newest slot damaged", func(b []byte) []byte { b[slotBytes+12] ^= 1; return b }, "b", 0, true},
		{"older slot damaged", func(b []byte) []byte { b[12] ^= 1; return b }, "c", 0, true},
		{"both damaged", func(b []byte) []byte { b[12] ^= 1; b[slotBytes+12] ^= 1; return b }, "a", 1, true},
		{"cut", func(b []byte) []byte { return b[:slotBytes+9] }, "b", 0, true},
		{"empty", func([]byte) []byte { return nil }, "a", 0, false},
		{"older version", func([]byte) []byte { return appendLine(nil, []byte(`{"Segment":1,"Offset":11}`)) }, "b", 0, false},
		{"text", func([]byte) []byte { return []byte("text\n") }, "a", 1, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, log := logged(t, &faultFS{})
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
			if damaged := strings.Contains(log.String(), "damaged cursor"); damaged != tc.damaged {
				t.Errorf("the log says\n%s", log)
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
	line := encodeSlot(slot{3, Position{1, 2}})
	f.Add(line)
	f.Add(append(line, line...))
	f.Fuzz(func(t *testing.T, data []byte) {
		newest, at, _ := newestSlot(data)
		if at < 0 {
			return
		}
		line := encodeSlot(newest)
		if again, _, damaged := newestSlot(line); again != newest || damaged {
			t.Fatalf("%+v is read back as %+v", newest, again)
		}
	})
}

// TestCommitSurvivesAPowerCut cuts the power at each call of a reader's life, on
// segments that were there before, so that no other file's fsync helps. What
// Commit acknowledged is where reading goes on.
func TestCommitSurvivesAPowerCut(t *testing.T) {
	calls := 0
	for cut := 1; ; cut++ {
		p := newPowerFS()
		s, err := Open(powerConfig(t, p))
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, "a", "b", "c")
		s.Close()
		for name := range p.files {
			if strings.HasPrefix(name, "cursor-") { // it was another reader's
				delete(p.files, name)
				delete(p.synced, name)
			}
		}
		p.calls, p.cutAt = 0, cut

		var committed, begun Position
		s, err = Open(powerConfig(t, p))
		if err == nil {
			r := reader(t, s)
			for range 3 {
				begun = next(t, r).Next
				if err := r.Commit(begun); err == nil {
					committed = begun
				}
			}
			s.Close()
		}

		for _, tail := range []int{0, 1, 1000} {
			again, err := Open(powerConfig(t, p.restart(tail)))
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			if got := again.cursors["r"]; before(got, committed) || before(begun, got) {
				t.Errorf("cut at %d, tail %d: reading goes on at %v, want %v to %v", cut, tail, got, committed, begun)
			}
			again.Close()
		}
		calls = p.calls
		if calls < cut {
			break
		}
	}
	if calls < 10 {
		t.Errorf("only %d calls were cut", calls)
	}
}

func before(p, q Position) bool {
	return p.Segment < q.Segment || p.Segment == q.Segment && p.Offset < q.Offset
}

// TestCursorIsPreparedAtTheStart: a commit on a full disk, or without a
// descriptor left, writes in place.
func TestCursorIsPreparedAtTheStart(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	fsys.note()
	s := open(t, c)
	calls := strings.Join(fsys.noted(), ", ")
	const want = "open cursor-r, create cursor-r, write cursor-r, sync cursor-r, syncdir"
	if !strings.Contains(calls, want) {
		t.Errorf("calls %s; want %s", calls, want)
	}
	if info, err := os.Stat(s.cursorFile("r")); err != nil || info.Size() != cursorBytes {
		t.Errorf("got %v, %v, want %d bytes", info, err, cursorBytes)
	}

	put(t, s, "a", "b")
	r := reader(t, s)
	first, second := next(t, r).Next, next(t, r).Next
	fsys.note()
	for _, p := range []Position{first, second} {
		if err := r.Commit(p); err != nil {
			t.Fatal(err)
		}
	}
	calls = strings.Join(fsys.noted(), ", ")
	if want := "writeat cursor-r, sync cursor-r, writeat cursor-r, sync cursor-r"; calls != want {
		t.Errorf("two commits make %s; want %s", calls, want)
	}
	s.Close()

	fsys.note()
	open(t, c)
	for _, call := range fsys.noted() {
		if call == "create cursor-r" || call == "write cursor-r" || call == "writeat cursor-r" {
			t.Errorf("a whole cursor file is written anew: %s", call)
		}
	}
}

// TestCommitGoesOnAfterAFailure of each call: the position before is kept until
// one is durable.
func TestCommitGoesOnAfterAFailure(t *testing.T) {
	for _, call := range []string{"writeat", "sync"} {
		t.Run(call, func(t *testing.T) {
			fsys := &faultFS{}
			c := config(t.TempDir())
			c.FS = fsys
			s := open(t, c)
			put(t, s, "a", "b", "c")
			r := reader(t, s)
			kept := next(t, r).Next
			if err := r.Commit(kept); err != nil {
				t.Fatal(err)
			}
			failed := next(t, r).Next
			fsys.set(func(_ int, made, name string) error {
				if made == call && name == "cursor-r" {
					return syscall.EIO
				}
				return nil
			})
			if err := r.Commit(failed); !errors.Is(err, syscall.EIO) {
				t.Errorf("got %v, want EIO", err)
			}
			if s.cursors["r"] != kept {
				t.Errorf("the cursor is at %v, want %v", s.cursors["r"], kept)
			}
			if n := fsys.opened(c.Dir); n != 2 { // the segment, for the reader and the writer
				t.Errorf("%d files are open, want the cursor closed", n)
			}
			fsys.set(func(_ int, made, name string) error {
				if made == "open" && name == "cursor-r" {
					return syscall.EMFILE
				}
				return nil
			})
			if err := r.Commit(failed); !errors.Is(err, syscall.EMFILE) {
				t.Errorf("without a descriptor: got %v, want EMFILE", err)
			}
			fsys.set(nil)
			last := next(t, r).Next
			if err := r.Commit(last); err != nil {
				t.Fatal(err)
			}
			if got := Cursor(c.Dir, "r"); got != last {
				t.Errorf("committed %v, want %v", got, last)
			}
		})
	}
}

// TestCursorThatCannotBeMade: the spool opens, each commit says why it fails and
// leaves no part of a file, and the next one tries again.
func TestCursorThatCannotBeMade(t *testing.T) {
	for _, c := range []struct {
		name, call string
		nth        int // of the calls on the cursor
	}{
		{"open", "open", 2},
		{"create", "create", 1},
		{"write", "write", 1},
		{"sync", "sync", 1},
		{"folder", "syncdir", 2},
		{"opened again", "open", 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			fsys := &faultFS{}
			cfg, log := logged(t, fsys)
			n := 0
			fsys.set(func(_ int, call, name string) error {
				if call != c.call || call != "syncdir" && name != "cursor-r" {
					return nil
				}
				if n++; n >= c.nth && n < 100 {
					return syscall.EIO
				}
				return nil
			})
			s := open(t, cfg)
			fsys.set(nil)
			if !strings.Contains(log.String(), "cannot prepare cursor") {
				t.Errorf("the log says\n%s", log)
			}
			if got := files(t, cfg.Dir, "cursor-*"); len(got) != 0 {
				t.Errorf("%v was left", got)
			}

			put(t, s, "a")
			r := reader(t, s)
			end := next(t, r).Next
			fsys.set(func(_ int, call, name string) error {
				if call == "create" && name == "cursor-r" {
					return syscall.EMFILE
				}
				return nil
			})
			if err := r.Commit(end); !errors.Is(err, syscall.EMFILE) {
				t.Errorf("got %v, want EMFILE", err)
			}
			fsys.set(nil)
			if err := r.Commit(end); err != nil {
				t.Fatal(err)
			}
			if got := Cursor(cfg.Dir, "r"); got != end {
				t.Errorf("committed %v, want %v", got, end)
			}
		})
	}
}

// TestNewestSlot holds the form on the disk, which other versions have to read.
func TestNewestSlot(t *testing.T) {
	line := func(n uint64, seg uint64, off int64) []byte {
		return encodeSlot(slot{n, Position{seg, off}})
	}
	two := func(a, b []byte) []byte { return append(append([]byte(nil), a...), b...) }
	empty := bytes.Repeat([]byte{' '}, slotBytes)
	zeros := make([]byte, slotBytes)
	text := append([]byte("text\n"), empty[5:]...)
	noPosition := append(appendLine(nil, []byte("[1]")), empty[lineExtra+3:]...)
	for _, c := range []struct {
		name    string
		data    []byte
		want    Position
		at      int
		damaged bool
	}{
		{"no file", nil, Position{}, -1, false},
		{"two empty slots", two(empty, empty), Position{}, -1, false},
		{"zeros, as a crash may leave", two(zeros, zeros), Position{}, -1, false},
		{"the first", two(line(1, 2, 3), empty), Position{2, 3}, 0, false},
		{"the second", two(empty, line(1, 2, 3)), Position{2, 3}, 1, false},
		{"the first is newer", two(line(5, 9, 9), line(4, 8, 8)), Position{9, 9}, 0, false},
		{"the second is newer", two(line(4, 8, 8), line(5, 9, 9)), Position{9, 9}, 1, false},
		{"numbers count, not positions", two(line(5, 1, 1), line(4, 8, 8)), Position{1, 1}, 0, false},
		{"numbers of older versions", two(line(0, 1, 1), line(0, 8, 8)), Position{1, 1}, 0, false},
		{"the first is text", two(text, line(1, 2, 3)), Position{2, 3}, 1, true},
		{"the second is not a position", two(line(1, 2, 3), noPosition), Position{2, 3}, 0, true},
		{"both are text", two(text, text), Position{}, -1, true},
		{"what stands behind the two", two(two(empty, line(1, 2, 3)), line(9, 9, 9)), Position{2, 3}, 1, false},
		{"one slot alone", line(1, 2, 3), Position{2, 3}, 0, false},
		{"one line alone", line(1, 2, 3)[:60], Position{2, 3}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			newest, at, damaged := newestSlot(c.data)
			if newest.Position != c.want || at != c.at || damaged != c.damaged {
				t.Errorf("got %v in slot %d, damaged %v; want %v in %d, %v", newest.Position, at, damaged, c.want, c.at, c.damaged)
			}
		})
	}

	const want = `{"n":7,"Segment":18,"Offset":52}`
	got := line(7, 18, 52)
	if record, ok := parseLine(bytes.TrimRight(got, " \n")); !ok || string(record) != want || len(got) != slotBytes {
		t.Errorf("%d bytes: %s; want %s padded to %d", len(got), record, want, slotBytes)
	}
	if slotBytes != 4096 || cursorBytes != 8192 {
		t.Errorf("slots of %d bytes in files of %d; want 4096 and 8192, as files have them", slotBytes, cursorBytes)
	}
}

// TestCursorFileThatIsNoneIsQuarantined, or the spool does not open: it would be
// written over.
func TestCursorFileThatIsNoneIsQuarantined(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	name := filepath.Join(c.Dir, "cursor-r")
	if err := os.WriteFile(name, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, failed := range []string{"rename", "syncdir"} {
		fsys.set(func(_ int, call, _ string) error {
			if call == failed && len(files(t, c.Dir, "lock")) > 0 {
				return syscall.EIO
			}
			return nil
		})
		if _, err := Open(c); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s fails: got %v, want EIO", failed, err)
		}
	}
	fsys.set(nil)
	open(t, c)
	if got, err := os.ReadFile(name + brokenSuffix); err != nil || string(got) != "precious" {
		t.Errorf("quarantined %q, %v", got, err)
	}
}

func TestFree(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS, c.SegmentBytes, c.Readers = fsys, 1, []string{"r", "slow"}
	s := open(t, c)
	put(t, s, "a", "b", "c", "d")
	if err := s.Free("nobody", Position{Segment: 2}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a reader that is not configured: got %v", err)
	}
	free := func(reader string, p Position, writes bool, left ...uint64) {
		t.Helper()
		fsys.note()
		if err := s.Free(reader, p); err != nil {
			t.Fatal(err)
		}
		if wrote := slices.Contains(fsys.noted(), "writeat cursor-"+reader); wrote != writes {
			t.Errorf("up to %v: wrote %v, want %v", p, wrote, writes)
		}
		if got := segments(s); !slices.Equal(got, left) {
			t.Errorf("up to %v: segments %v are left, want %v", p, got, left)
		}
	}

	free("slow", Position{Segment: 4}, true, 1, 2, 3, 4)
	free("r", Position{Segment: 1, Offset: 5}, true, 1, 2, 3, 4) // the cursor was at 0
	free("r", Position{Segment: 1, Offset: 11}, false, 1, 2, 3, 4)
	free("r", Position{Segment: 3, Offset: 7}, true, 3, 4)
	free("r", Position{Segment: 3, Offset: 9}, false, 3, 4)
	free("r", Position{Segment: 2}, false, 3, 4)
	if got := Cursor(c.Dir, "r"); got != (Position{Segment: 3}) {
		t.Errorf("the cursor is at %v, want the beginning of segment 3", got)
	}

	fsys.set(func(_ int, call, _ string) error {
		if call == "sync" {
			return syscall.EIO
		}
		return nil
	})
	if err := s.Free("r", Position{Segment: 4}); !errors.Is(err, syscall.EIO) {
		t.Errorf("a cursor that is not durable: got %v", err)
	}
	if got := segments(s); len(got) != 2 {
		t.Errorf("segments %v are left, want two", got)
	}
}

func TestCursorOfAnotherProcess(t *testing.T) {
	if got := Cursor(t.TempDir(), "r"); got != (Position{}) {
		t.Errorf("without a file: got %v", got)
	}
	if got := Cursor(filepath.Join(t.TempDir(), "missing"), "r"); got != (Position{}) {
		t.Errorf("without a folder: got %v", got)
	}
}
