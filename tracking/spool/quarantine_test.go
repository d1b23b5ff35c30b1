package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

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

// quarantineAt appends records, and returns where they are.
func quarantineAt(t *testing.T, c Config, records ...string) (*Spool, []Position) {
	t.Helper()
	s := open(t, c)
	var list [][]byte
	for _, r := range records {
		list = append(list, []byte(r))
	}
	at, err := s.AppendAt(context.Background(), list...)
	if err != nil {
		t.Fatal(err)
	}

	return s, at
}

func TestQuarantine(t *testing.T) {
	c := config(t.TempDir())
	s, at := quarantineAt(t, c, "first", "second")
	kept, err := s.Quarantine(at[1], len("second"), "../elsewhere/m1") // a name that others chose
	if want := filepath.Join(c.Dir, "m1.broken"); err != nil || kept != want {
		t.Fatalf("got %q, %v, want %q", kept, err, want)
	}
	line := string(appendLine(nil, []byte("second")))
	if data, err := os.ReadFile(kept); err != nil || string(data) != line {
		t.Errorf("%s holds %q, %v, want %q", kept, data, err, line)
	}
	if n := count(t, s.metrics.quarantined); n != 1 {
		t.Errorf("%v counted, want 1", n)
	}

	again, err := s.Quarantine(at[1], len("second"), "m1")
	if err != nil || again != kept {
		t.Errorf("the same once more: got %q, %v, want %q", again, err, kept)
	}
	other, err := s.Quarantine(at[0], len("first"), "m1")
	if want := filepath.Join(c.Dir, "m1-1.broken"); err != nil || other != want {
		t.Errorf("another of that name: got %q, %v, want %q", other, err, want)
	}
	short, err := s.Quarantine(at[1], 1000, "m2") // more than there is
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(short); err != nil || string(data) != line {
		t.Errorf("%s holds %q, %v, want what there is", short, data, err)
	}
}

func TestQuarantineFailsOnlyWhereTheBytesCannotBeRead(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s, at := quarantineAt(t, c, "first", "second")
	for _, failed := range []string{"open", "read"} {
		fsys.set(func(_ int, call, name string) error {
			if call == failed && strings.HasSuffix(name, suffix) {
				return syscall.EIO
			}
			return nil
		})
		if _, err := s.Quarantine(at[0], 5, "m"); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrGone) {
			t.Errorf("%s fails: got %v, want EIO", failed, err)
		}
	}
	fsys.set(nil)
	if _, err := s.Quarantine(Position{Segment: 9}, 5, "m"); !errors.Is(err, ErrGone) {
		t.Errorf("a segment that is gone: got %v, want ErrGone", err)
	}
}

// TestQuarantineThatCannotWriteKeepsTheSegment, whichever call fails, over a
// restart, and leaves no part of a file.
func TestQuarantineThatCannotWriteKeepsTheSegment(t *testing.T) {
	for _, failed := range []string{"create", "write", "sync", "syncdir"} {
		t.Run(failed, func(t *testing.T) {
			fsys := &faultFS{}
			c := config(t.TempDir())
			c.FS = fsys
			s, at := quarantineAt(t, c, "first", "second")
			fsys.set(func(_ int, call, name string) error {
				if call == failed && (name == "m.broken" || call == "syncdir") {
					return syscall.EIO
				}
				return nil
			})
			want := filepath.Join(c.Dir, "0000000000000001.seg.broken")
			for range 2 {
				kept, err := s.Quarantine(at[0], 5, "m")
				if err != nil || kept != want {
					t.Errorf("got %q, %v, want %q", kept, err, want)
				}
			}
			if n := count(t, s.metrics.quarantined); n != 1 {
				t.Errorf("%v counted, want 1", n)
			}
			if left := files(t, c.Dir, "m*"); len(left) > 0 {
				t.Errorf("%v was left, want nothing that may be a part", left)
			}
			fsys.set(nil)

			s.Rotate()
			if err := s.Free("r", Position{Segment: 2}); err != nil {
				t.Fatal(err)
			}
			if left := files(t, c.Dir, "*.seg*"); len(left) != 1 || left[0] != filepath.Base(want) {
				t.Errorf("%v are left, want the segment kept, and its mark gone", left)
			}
		})
	}
}

// TestKeptSegmentIsKeptAfterARestart, for which its mark has to be durable.
func TestKeptSegmentIsKeptAfterARestart(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s, _ := quarantineAt(t, c, "first")
	fsys.note()
	s.QuarantineSegment(1)
	s.QuarantineSegment(1)
	s.QuarantineSegment(77) // which is not there
	const want = "create 0000000000000001.seg.keep, sync 0000000000000001.seg.keep, syncdir"
	if calls := strings.Join(fsys.noted(), ", "); !strings.HasPrefix(strings.Replace(calls, "write 0000000000000001.seg.keep, ", "", 1), want) || strings.Count(calls, "create") != 1 {
		t.Errorf("calls %s, want %s, once", calls, want)
	}
	s.Close()
	s = open(t, c)
	if err := s.Free("r", Position{Segment: 2}); err != nil {
		t.Fatal(err)
	}
	if left := files(t, c.Dir, "*.seg*"); len(left) != 1 || left[0] != "0000000000000001.seg.broken" {
		t.Errorf("%v are left, want the segment kept", left)
	}
}

// TestMarkThatCannotBeWrittenIsSaid: a restart would not know. One that is there
// already is not a failure.
func TestMarkThatCannotBeWrittenIsSaid(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		logged bool
	}{{"cannot be written", syscall.EIO, true}, {"is there", fs.ErrExist, false}} {
		t.Run(c.name, func(t *testing.T) {
			var log strings.Builder
			fsys := &faultFS{}
			cfg := config(t.TempDir())
			cfg.FS, cfg.Log = fsys, slog.New(slog.NewTextHandler(&log, nil))
			s, _ := quarantineAt(t, cfg, "first")
			fsys.set(func(_ int, call, name string) error {
				if call == "create" && strings.HasSuffix(name, keepSuffix) {
					return c.err
				}
				return nil
			})
			s.QuarantineSegment(1)
			if got := strings.Contains(log.String(), "a restart will not know"); got != c.logged {
				t.Errorf("the log says\n%s", log.String())
			}
		})
	}
}

// TestNumberOfQuarantinedFilesIsBounded: 16 of one segment, then the segment.
func TestNumberOfQuarantinedFilesIsBounded(t *testing.T) {
	c, log := logged(t, &faultFS{})
	s, _ := quarantineAt(t, c, "first")
	for i := range 17 {
		p := Position{Segment: 1, Offset: int64(i)}
		for range 2 { // the same place again counts once
			s.quarantineLine(p, []byte("damaged"), ErrCorrupt)
		}
		if kept := s.isDamaged(1); kept != (i == 16) {
			t.Errorf("after %d: the segment is kept: %v", i+1, kept)
		}
	}
	if n := strings.Count(log.String(), "damaged record quarantined"); n != 33 { // of a kept segment no more
		t.Errorf("%d records are logged, want 33", n)
	}
	if n := count(t, s.metrics.corrupt); n != 34 {
		t.Errorf("%v counted as corrupt, want each that was met, 34", n)
	}
	if got := s.quarantineBytes(Position{Segment: 99}, []byte("x"), "of no segment"); got != filepath.Join(c.Dir, "of no segment.broken") {
		t.Errorf("a record whose segment is gone: got %s", got)
	}
}

// TestNamesOfQuarantinedFiles: nothing that is there is written over, and the
// search for a name ends.
func TestNamesOfQuarantinedFiles(t *testing.T) {
	c := config(t.TempDir())
	s := open(t, c)
	name := filepath.Join(c.Dir, "x")
	for i := range 100 {
		if _, err := s.keepBytes(name, []byte(fmt.Sprint(i))); err != nil {
			t.Fatalf("file %d: %v", i, err)
		}
	}
	for i := range 100 {
		file := fmt.Sprintf("%s-%d.broken", name, i)
		if i == 0 {
			file = name + ".broken"
		}
		if data, err := os.ReadFile(file); err != nil || string(data) != fmt.Sprint(i) {
			t.Errorf("%s holds %q, %v, want %d", file, data, err, i)
		}
	}
	if got, err := s.keepBytes(name, []byte("42")); err != nil || got != name+"-42.broken" {
		t.Errorf("what is there: got %s, %v", got, err)
	}
	if _, err := s.keepBytes(name, []byte("one more")); err == nil || !strings.Contains(err.Error(), "100") {
		t.Errorf("one more: got %v, want an error", err)
	}

	for range 2 {
		if err := os.WriteFile(name, []byte("a file"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.quarantineFile(name); err == nil || !strings.Contains(err.Error(), "100") {
			t.Errorf("a file of 100: got %v, want an error", err)
		}
	}
	if err := os.Remove(name + "-99.broken"); err != nil {
		t.Fatal(err)
	}
	before := count(t, s.metrics.quarantined)
	if got, err := s.quarantineFile(name); err != nil || got != name+"-99.broken" {
		t.Errorf("got %s, %v, want the one name that is free", got, err)
	}
	if n := count(t, s.metrics.quarantined) - before; n != 1 {
		t.Errorf("%v counted, want 1", n)
	}
}

// TestSameContent compares all of it.
func TestSameContent(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s := open(t, c)
	name := filepath.Join(c.Dir, "x")
	if err := os.WriteFile(name, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"abc": true, "abd": false, "ab": false, "abcd": false, "": false} {
		if got := s.sameContent(name, []byte(text)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
	if s.sameContent(name+"missing", []byte("abc")) {
		t.Error("a file that is missing is the same")
	}
	fsys.set(func(_ int, call, _ string) error {
		if call == "read" {
			return syscall.EIO
		}
		return nil
	})
	if s.sameContent(name, []byte("abc")) {
		t.Error("a file that cannot be read is the same")
	}
}

// TestSegmentThatCannotBeKeptStays until it can.
func TestSegmentThatCannotBeKeptStays(t *testing.T) {
	for _, c := range []struct {
		name   string
		call   string
		err    error
		left   int
		logged string
	}{
		{"not renamed", "rename", syscall.EIO, 1, "cannot remove segment"},
		{"not durable", "syncdir", syscall.EIO, 1, "cannot remove segment"},
		{"gone", "rename", fs.ErrNotExist, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log strings.Builder
			fsys := &faultFS{}
			cfg := config(t.TempDir())
			cfg.FS, cfg.Log = fsys, slog.New(slog.NewTextHandler(&log, nil))
			s, _ := quarantineAt(t, cfg, "first")
			s.QuarantineSegment(1)
			s.Rotate()
			log.Reset()
			fsys.set(func(_ int, call, _ string) error {
				if call == c.call {
					return c.err
				}
				return nil
			})
			if err := s.Free("r", Position{Segment: 2}); err != nil {
				t.Fatal(err)
			}
			if got := segments(s); len(got) != c.left {
				t.Errorf("segments %v are left, want %d", got, c.left)
			}
			if !strings.Contains(log.String(), c.logged) || c.logged == "" && log.Len() > 0 {
				t.Errorf("the log says\n%s\nwant %q", log.String(), c.logged)
			}
		})
	}
}
