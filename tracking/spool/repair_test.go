package spool

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestTornTailIsCutOff on the disk, whatever its length, and kept beside it.
func TestTornTailIsCutOff(t *testing.T) {
	const block = 64 << 10
	first := appendLine(nil, []byte("first"))
	for _, before := range [][]byte{nil, first} {
		for _, n := range []int{1, 8, 9, block - len(first) - 1, block - len(first), block - 1, block, block + 1, 3*block + 7} {
			t.Run(fmt.Sprintf("%d behind %d", n, len(before)), func(t *testing.T) {
				c, log := logged(t, &faultFS{})
				tail := bytes.Repeat([]byte{'z'}, n)
				s := openOn(t, c, append(slices.Clone(before), tail...))
				if got, err := os.ReadFile(s.path(1)); err != nil || !bytes.Equal(got, before) {
					t.Errorf("%d bytes are left, %v, want %d", len(got), err, len(before))
				}
				if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "torn last record quarantined") {
					t.Errorf("the log says\n%s", got)
				}
				if got := s.SegmentSize(1); got != int64(len(before)) {
					t.Errorf("the segment counts %d bytes, want %d", got, len(before))
				}
				kept := files(t, c.Dir, "*.broken")
				if want := fmt.Sprintf("%016x-%016x.broken", 1, len(before)); len(kept) != 1 || kept[0] != want {
					t.Fatalf("kept %v, want %s", kept, want)
				}
				if got, err := os.ReadFile(filepath.Join(c.Dir, kept[0])); err != nil || !bytes.Equal(got, tail) {
					t.Errorf("kept %d bytes, %v, want %d", len(got), err, n)
				}
			})
		}
	}
}

// TestSegmentWithoutLineEndsNearTheBlock: no line is lost for where a block of
// the search ends.
func TestSegmentWithLinesNearTheBlock(t *testing.T) {
	const block = 64 << 10
	for size := block - 2; size <= block+2; size++ {
		c := config(t.TempDir())
		record := bytes.Repeat([]byte{'x'}, size-lineExtra)
		segment := appendLine(nil, record)
		s := openOn(t, c, append(segment, "torn"...))
		got, _, _ := rest(t, s)
		want(t, got, string(record))
		s.Close()
	}
}

// TestRepairIsMadeDurable: a line end that was written is fsynced, or one more
// cut makes the record unfinished again.
func TestRepairIsMadeDurable(t *testing.T) {
	line := appendLine(nil, []byte("last"))
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS = fsys
	fsys.note()
	openOn(t, c, line[:len(line)-1])
	calls := strings.Join(fsys.noted(), ", ")
	if want := "writeat 0000000000000001.seg, sync 0000000000000001.seg"; !strings.Contains(calls, want) {
		t.Errorf("calls %s; want %s", calls, want)
	}
}

// TestRepairThatFails loses no record, and the spool opens.
func TestRepairThatFails(t *testing.T) {
	line := appendLine(nil, []byte("last"))
	damagedEnd := append(slices.Clone(line[:len(line)-1]), 'J')
	for _, c := range []struct {
		name, call string
		nth        int // of the calls on the segment
		tail       []byte
		want       []string
		broken     int
		logged     string
	}{
		{"line end not written", "writeat", 1, damagedEnd, []string{"first", "last"}, 0, "cannot complete last line"},
		{"line end not synced", "sync", 1, damagedEnd, []string{"first", "last"}, 0, "cannot complete last line"},
		{"not opened to end it", "open", 2, damagedEnd, []string{"first", "last"}, 0, "cannot complete last line"},
		{"torn, not opened to cut it", "open", 2, []byte("torn"), []string{"first"}, 1, "cannot truncate segment"},
		{"torn, not cut", "truncate", 1, []byte("torn"), []string{"first"}, 1, "cannot truncate segment"},
		{"never read at the start", "read", 1, []byte("torn"), []string{"first"}, 1, "cannot check segment"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log strings.Builder
			n := 0
			fsys := &faultFS{fail: func(_ int, call, name string) error {
				if call != c.call || name != "0000000000000001.seg" {
					return nil
				}
				if n++; n >= c.nth {
					return syscall.EIO
				}
				return nil
			}}
			cfg := config(t.TempDir())
			cfg.FS, cfg.Log = fsys, slog.New(slog.NewTextHandler(&log, nil))
			s := openOn(t, cfg, append(appendLine(nil, []byte("first")), c.tail...))
			fsys.set(nil)
			put(t, s, "new")
			got, _, _ := rest(t, s)
			want(t, got, append(c.want, "new")...)
			if kept := files(t, cfg.Dir, "*.broken"); len(kept) != c.broken {
				t.Errorf("quarantined %v, want %d files", kept, c.broken)
			}
			if !strings.Contains(log.String(), c.logged) {
				t.Errorf("the log does not say %q:\n%s", c.logged, log.String())
			}
		})
	}
}

// TestTornTailThatCannotBeKeptIsCutOffNevertheless, and said.
func TestTornTailThatCannotBeKeptIsCutOffNevertheless(t *testing.T) {
	for _, failed := range []string{"create", "write", "sync", "syncdir"} {
		t.Run(failed, func(t *testing.T) {
			var log strings.Builder
			cfg := config(t.TempDir())
			cfg.Readers, cfg.Log = nil, slog.New(slog.NewTextHandler(&log, nil))
			cfg.FS = &faultFS{fail: func(_ int, call, name string) error {
				if call == failed && (call == "syncdir" || strings.HasSuffix(name, brokenSuffix)) {
					return syscall.EIO
				}
				return nil
			}}
			s := openOn(t, cfg, append(appendLine(nil, []byte("first")), "torn"...))
			if kept := files(t, cfg.Dir, "*.broken"); len(kept) != 0 {
				t.Errorf("%v was left, want nothing that may be a part", kept)
			}
			if got := s.SegmentSize(1); got != lineExtra+5 || !strings.Contains(log.String(), "cannot quarantine torn last record") {
				t.Errorf("%d bytes; the log says\n%s", got, log.String())
			}
		})
	}
}

// TestManyRecordsWithoutLineEnds at the end of a segment are all ended.
func TestManyRecordsWithoutLineEnds(t *testing.T) {
	var tail []byte
	for _, r := range []string{"a", "b", "c"} {
		line := appendLine(nil, []byte(r))
		line[len(line)-1] = 'J'
		tail = append(tail, line...)
	}
	cfg := config(t.TempDir())
	s := openOn(t, cfg, tail)
	got, _, _ := rest(t, s)
	want(t, got, "a", "b", "c")
	if data, err := os.ReadFile(s.path(1)); err != nil || bytes.Count(data, []byte("\n")) != 3 {
		t.Errorf("on the disk: %q, %v", data, err)
	}
}

// TestLine holds the form of a record's line on the disk.
func TestLine(t *testing.T) {
	line := appendLine([]byte("before "), []byte("123456789"))
	if want := "before e3069283 123456789\n"; string(line) != want { // the check value of CRC-32C
		t.Errorf("got %q, want %q", line, want)
	}
	for _, c := range []struct {
		line   string
		record string
		ok     bool
	}{
		{"e3069283 123456789", "123456789", true},
		{"E3069283 123456789", "123456789", true},
		{"00000000 ", "", true},
		{"00000000", "", false},
		{"0000000 ", "", false},
		{"", "", false},
		{"e3069283x123456789", "", false},
		{"e3069284 123456789", "", false},
		{"e306928g 123456789", "", false},
		{"+3069283 123456789", "", false},
		{"e3069283 12345678", "", false},
	} {
		got, ok := parseLine([]byte(c.line))
		if string(got) != c.record || ok != c.ok {
			t.Errorf("%q: got %q, %v, want %q, %v", c.line, got, ok, c.record, c.ok)
		}
	}
}

func TestRecordEnd(t *testing.T) {
	const whole = "e3069283 123456789"
	for _, c := range []struct {
		name, text string
		want       int
	}{
		{"nothing", "", 0},
		{"no checksum", "123456789", 0},
		{"no space", "e3069283x123456789", 0},
		{"no digits", "x3069283 123456789", 0},
		{"the record alone", whole, len(whole)},
		{"and a byte", whole + "J", len(whole)},
		{"and a line", whole + "Je3069283 123456789", len(whole)},
		{"and the beginning of a line", whole + "J0123ab", len(whole)},
		{"and eight digits", whole + "J0123abcd", len(whole)},
		{"and nine digits", whole + "J0123abcd9", 0},
		{"and text", whole + "Jtext", 0},
		{"and letters behind f", whole + "Jg", 0},
		{"and a slash", whole + "J/", 0},
		{"and a colon", whole + "J:", 0},
		{"and a backquote", whole + "J`", 0},
		{"and a digit", whole + "J9", len(whole)},
		{"and a zero", whole + "J0", len(whole)},
		{"and an a", whole + "Ja", len(whole)},
		{"and an f", whole + "Jf", len(whole)},
		{"an empty record", "00000000 ", 9},
		{"torn", whole[:len(whole)-1], 0},
	} {
		if got := recordEnd([]byte(c.text)); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestTakeLine(t *testing.T) {
	const whole = "e3069283 123456789"
	for _, c := range []struct {
		name, line string
		record     string
		n          int
		ok         bool
	}{
		{"good", whole, "123456789", len(whole) + 1, true},
		{"two, the end of the first damaged", whole + "J" + whole, "123456789", len(whole) + 1, true},
		{"and a line that is damaged", whole + "Je3069283 x23456789", "123456789", len(whole) + 1, true},
		{"and a single byte", whole + "J", "", len(whole) + 2, false},
		{"and two bytes", whole + "J0", "123456789", len(whole) + 1, true},
		{"damaged", "e3069283 x23456789", "", len(whole) + 1, false},
		{"empty", "", "", 1, false},
	} {
		record, n, ok := takeLine([]byte(c.line))
		if string(record) != c.record || n != c.n || ok != c.ok {
			t.Errorf("%s: got %q, %d, %v, want %q, %d, %v", c.name, record, n, ok, c.record, c.n, c.ok)
		}
	}
}

// TestRecordsThatCouldNotBeEnded are read and scanned where the disk let no line
// end be written.
func TestRecordsThatCouldNotBeEnded(t *testing.T) {
	const whole = "e3069283 123456789"
	for _, c := range []struct {
		name, tail string
		want       []string
		broken     int
	}{
		{"one", whole, []string{"123456789"}, 0},
		{"one, damaged end", whole + "J", []string{"123456789"}, 0},
		{"two, damaged ends", whole + "J" + whole + "J", []string{"123456789", "123456789"}, 0},
		{"one and a torn line", whole + "J0123abcd to", []string{"123456789"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t.TempDir())
			fsys := &faultFS{fail: func(_ int, call, name string) error {
				if (call == "writeat" || call == "truncate") && strings.HasSuffix(name, suffix) {
					return syscall.EIO
				}
				return nil
			}}
			cfg.FS = fsys
			s := openOn(t, cfg, append(appendLine(nil, []byte("first")), c.tail...))
			fsys.set(nil)
			put(t, s, "new")
			expected := append(append([]string{"first"}, c.want...), "new")

			var scanned []string
			err := s.Scan("r", Index{
				Head:   100,
				Length: func([]byte) int { return 0 },
				Load: func(_ Position, beginning []byte, _ int) bool {
					scanned = append(scanned, string(beginning))
					return true
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			want(t, scanned, expected...)

			r := reader(t, s)
			for i, w := range expected {
				rec := next(t, r)
				if string(rec.Data) != w {
					t.Errorf("record %d is %q, want %q", i, rec.Data, w)
				}
				if w == "new" {
					continue
				}
				if got, err := s.ReadAt(rec.At, len(rec.Data)); err != nil || string(got) != w {
					t.Errorf("at %v: %q, %v, want %q", rec.At, got, err, w)
				}
			}
			if kept := files(t, cfg.Dir, "*.broken"); len(kept) != c.broken {
				t.Errorf("quarantined %v, want %d files", kept, c.broken)
			}
			if err := r.Commit(r.at); err != nil {
				t.Fatal(err)
			}
			s.do(s.sweep)
			if got := segments(s); len(got) != 1 {
				t.Errorf("segments %v are left, want the open one", got)
			}
		})
	}
}
