package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// scanned is an index that notes what Scan tells it.
type scanned struct {
	head    int
	lengths map[string]int // by the beginning; others: 0
	whole   map[string]bool
	loaded  []string // "offset beginning length"
	unread  []Position
}

func (x *scanned) index() Index {
	return Index{
		Head: x.head,
		Length: func(beginning []byte) int {
			return x.lengths[string(beginning)]
		},
		Load: func(at Position, beginning []byte, n int) bool {
			if x.whole[string(beginning)] {
				return false // wants all of it
			}
			x.loaded = append(x.loaded, fmt.Sprintf("%d/%d %s %d", at.Segment, at.Offset, beginning, n))
			return true
		},
		Unread: func(at Position) { x.unread = append(x.unread, at) },
	}
}

func TestScanReadsBeginnings(t *testing.T) {
	s := open(t, config(t.TempDir()))
	put(t, s, "abc", "abcd", "abcde", "vwxyz0123456789", "end")
	for _, c := range []struct {
		name string
		x    scanned
		want []string
	}{
		{
			"all in the head",
			scanned{head: 100},
			[]string{"1/0 abc 3", "1/13 abcd 4", "1/27 abcde 5", "1/42 vwxyz0123456789 15", "1/67 end 3"},
		},
		{ // the head and what a line has beside: a record that it just holds
			"beginnings",
			scanned{head: 4, lengths: map[string]int{"abcde": 5, "vwxyz": 15}},
			[]string{"1/0 abc 3", "1/13 abcd 4", "1/27 abcde 5", "1/42 vwxyz 15", "1/67 end 3"},
		},
		{
			"lengths that are not known",
			scanned{head: 4},
			[]string{"1/0 abc 3", "1/13 abcd 4", "1/27 abcde 5", "1/42 vwxyz0123456789 15", "1/67 end 3"},
		},
		{
			"lengths that are wrong",
			scanned{head: 4, lengths: map[string]int{"abcde": 4, "vwxyz": 14}},
			[]string{"1/0 abc 3", "1/13 abcd 4", "1/27 abcde 5", "1/42 vwxyz0123456789 15", "1/67 end 3"},
		},
		{
			"lengths behind the segment's end",
			scanned{head: 4, lengths: map[string]int{"abcde": 500, "vwxyz": 15 + 13 + 1}},
			[]string{"1/0 abc 3", "1/13 abcd 4", "1/27 abcde 5", "1/42 vwxyz0123456789 15", "1/67 end 3"},
		},
		{
			"lengths below nothing",
			scanned{head: 4, lengths: map[string]int{"abcde": -1, "vwxyz": -lineExtra}},
			[]string{"1/0 abc 3", "1/13 abcd 4", "1/27 abcde 5", "1/42 vwxyz0123456789 15", "1/67 end 3"},
		},
		{
			"a beginning that is not enough",
			scanned{head: 4, lengths: map[string]int{"vwxyz": 15}, whole: map[string]bool{"vwxyz": true}},
			[]string{"1/0 abc 3", "1/13 abcd 4", "1/27 abcde 5", "1/42 vwxyz0123456789 15", "1/67 end 3"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := s.Scan("r", c.x.index()); err != nil {
				t.Fatal(err)
			}
			want(t, c.x.loaded, c.want...)
			if n := count(t, s.metrics.corrupt); n != 0 || len(c.x.unread) != 0 {
				t.Errorf("%v counted as corrupt, %v as unread", n, c.x.unread)
			}
		})
	}
}

// TestScanReadsNoMoreThanItNeeds of a record whose length is known.
func TestScanReadsNoMoreThanItNeeds(t *testing.T) {
	fsys := &countingFS{}
	c := config(t.TempDir())
	c.FS = fsys
	s := open(t, c)
	put(t, s, strings.Repeat("x", 1<<20), "end")
	x := scanned{head: 10, lengths: map[string]int{strings.Repeat("x", 11): 1 << 20}}
	fsys.read.Store(0)
	if err := s.Scan("r", x.index()); err != nil {
		t.Fatal(err)
	}
	want(t, x.loaded, "1/0 xxxxxxxxxxx 1048576", "1/1048586 end 3")
	if n := fsys.read.Load(); n > 100 {
		t.Errorf("%d bytes were read", n)
	}
}

// countingFS counts the bytes that are read.
type countingFS struct {
	OS
	read  atomic.Int64
	reads atomic.Int64
}

type countingFile struct {
	File
	fs *countingFS
}

func (c *countingFS) Open(name string) (File, error) {
	f, err := c.OS.Open(name)
	if err != nil {
		return nil, err
	}

	return countingFile{f, c}, nil
}

func (f countingFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	f.fs.read.Add(int64(n))
	f.fs.reads.Add(1)

	return n, err
}

func TestScanBeginsAtTheCursor(t *testing.T) {
	c := config(t.TempDir())
	c.SegmentBytes, c.Keep = 24, time.Hour
	s := open(t, c)
	put(t, s, "aa", "bb", "cc", "dd", "ee") // two in a segment
	r := reader(t, s)
	for range 3 {
		next(t, r)
	}
	if err := r.Commit(r.at); err != nil {
		t.Fatal(err)
	}

	x := scanned{head: 100}
	if err := s.Scan("r", x.index()); err != nil {
		t.Fatal(err)
	}
	want(t, x.loaded, "2/12 dd 2", "3/0 ee 2")
	if err := s.Scan("nobody", x.index()); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a reader that is not configured: got %v", err)
	}
}

// TestScanGoesOnBehindWhatCannotBeRead, and tells where that is; ScanSegment
// reads it later.
func TestScanGoesOnBehindWhatCannotBeRead(t *testing.T) {
	for _, c := range []struct {
		name, call string
		nth        int // of the calls on the second segment
		want       []string
		unread     Position
		rest       []string
	}{
		{"not opened", "open", 1, []string{"1/0 aa 2", "1/12 bb 2", "3/0 ee 2"}, Position{2, 0}, []string{"2/0 cc 2", "2/12 dddddd 6"}},
		{"not read", "read", 1, []string{"1/0 aa 2", "1/12 bb 2", "3/0 ee 2"}, Position{2, 0}, []string{"2/0 cc 2", "2/12 dddddd 6"}},
		{"not read on", "read", 2, []string{"1/0 aa 2", "1/12 bb 2", "2/0 cc 2", "3/0 ee 2"}, Position{2, 12}, []string{"2/12 dddddd 6"}},
		{"line end not read", "read", 3, []string{"1/0 aa 2", "1/12 bb 2", "2/0 cc 2", "3/0 ee 2"}, Position{2, 12}, []string{"2/12 dddddd 6"}},
		{"long line not read", "read", 4, []string{"1/0 aa 2", "1/12 bb 2", "2/0 cc 2", "3/0 ee 2"}, Position{2, 12}, []string{"2/12 dddddd 6"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // no pause takes its time
				fsys := &faultFS{}
				cfg := config(t.TempDir())
				cfg.FS, cfg.SegmentBytes = fsys, 24
				s := open(t, cfg)
				put(t, s, "aa", "bb", "cc", "dddddd", "ee")
				n := 0
				fsys.set(func(_ int, call, name string) error {
					if call != c.call || name != segmentName(2) {
						return nil
					}
					if n++; n >= c.nth {
						return syscall.EIO
					}
					return nil
				})

				// Of a length that is wrong, so that the whole line is read.
				x := scanned{head: 2, lengths: map[string]int{"ddd": 4}}
				if err := s.Scan("r", x.index()); err != nil {
					t.Fatal(err)
				}
				want(t, x.loaded, c.want...)
				if !slices.Equal(x.unread, []Position{c.unread}) {
					t.Errorf("unread: %v, want %v", x.unread, c.unread)
				}
				tries := len(briefPauses) + 1
				if n := count(t, s.metrics.readErrors); n != float64(tries) {
					t.Errorf("%v errors are counted, want %d", n, tries)
				}

				x.loaded = nil
				if at, err := s.ScanSegment(c.unread, x.index()); !errors.Is(err, syscall.EIO) || at.Segment != 2 {
					t.Errorf("still not readable: got %v, %v", at, err)
				}
				n, x.loaded = -1000, nil
				at, err := s.ScanSegment(c.unread, x.index())
				if end := (Position{2, 28}); err != nil || at != end {
					t.Errorf("got %v, %v, want %v", at, err, end)
				}
				want(t, x.loaded, c.rest...)
			})
		})
	}
}

// TestScanOfSegmentsThatAreGoneOrCut counts them and goes on.
func TestScanOfSegmentsThatAreGoneOrCut(t *testing.T) {
	for _, c := range []struct {
		name string
		size int64 // that the second segment is cut to, -1: removed
		want []string
		gone float64
		bad  float64
	}{
		{"removed", -1, []string{"1/0 aa 2", "1/12 bb 2", "3/0 ee 2"}, 1, 0},
		{"empty", 0, []string{"1/0 aa 2", "1/12 bb 2", "3/0 ee 2"}, 1, 0},
		{"cut between records", 12, []string{"1/0 aa 2", "1/12 bb 2", "2/0 cc 2", "3/0 ee 2"}, 1, 0},
		{"cut in a record", 20, []string{"1/0 aa 2", "1/12 bb 2", "2/0 cc 2", "3/0 ee 2"}, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t.TempDir())
			cfg.SegmentBytes = 24
			s := open(t, cfg)
			put(t, s, "aa", "bb", "cc", "dddddd", "ee")
			var err error
			if c.size < 0 {
				err = os.Remove(s.path(2))
			} else {
				err = os.Truncate(s.path(2), c.size)
			}
			if err != nil {
				t.Fatal(err)
			}

			x := scanned{head: 100}
			if err := s.Scan("r", x.index()); err != nil {
				t.Fatal(err)
			}
			want(t, x.loaded, c.want...)
			if gone, bad := count(t, s.metrics.gone), count(t, s.metrics.corrupt); gone != c.gone || bad != c.bad || len(x.unread) > 0 {
				t.Errorf("%v gone, %v corrupt, unread %v; want %v, %v, none", gone, bad, x.unread, c.gone, c.bad)
			}
		})
	}
}

// TestScanQuarantinesDamage at each place, with what it reads beside.
func TestScanQuarantinesDamage(t *testing.T) {
	s := open(t, config(t.TempDir()))
	put(t, s, "aa", "bb", "cc")
	flip(t, s.path(1), 12+lineExtra)
	x := scanned{head: 100}
	if err := s.Scan("r", x.index()); err != nil {
		t.Fatal(err)
	}
	want(t, x.loaded, "1/0 aa 2", "1/24 cc 2")
	if kept := files(t, s.cfg.Dir, "*.broken"); len(kept) != 1 || kept[0] != "0000000000000001-000000000000000c.broken" {
		t.Errorf("quarantined %v", kept)
	}
}

// TestLongLine finds the end of a line wherever it is.
func TestLongLine(t *testing.T) {
	const first = 64 << 10 // what is read at first
	for _, n := range []int{0, 1, first - 2, first - 1, first, first + 1, 4*first - 1, 4 * first, 20 * first} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "file")
			text := append(bytes.Repeat([]byte{'x'}, n), "\nnext\n"...)
			if err := os.WriteFile(name, append([]byte("before"), text...), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := (OS{}).Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()

			size := int64(6 + len(text))
			line, end, err := longLine(f, 6, size)
			if err != nil || end != int64(n) || len(line) < n || bytes.IndexByte(line[:end], '\n') >= 0 {
				t.Errorf("with a line end: got %d of %d bytes, %v; want %d", end, len(line), err, n)
			}
			line, end, err = longLine(f, 6, int64(6+n)) // the segment ends in front of it
			if err != nil || end != int64(n) || len(line) != n {
				t.Errorf("without: got %d of %d bytes, %v; want %d", end, len(line), err, n)
			}
			line, end, err = longLine(f, 6+int64(n)+1, size+100) // the file is shorter than the segment was
			if err != nil || end != 4 || string(line[:end]) != "next" {
				t.Errorf("cut: got %q, %d, %v", line, end, err)
			}
			line, end, err = longLine(f, 6+int64(n)+1, 6+int64(n)+1+4)
			if err != nil || end != 4 || string(line) != "next" {
				t.Errorf("in front of the end: got %q, %d, %v", line, end, err)
			}
		})
	}
}

func TestReadFrom(t *testing.T) {
	c := config(t.TempDir())
	c.SegmentBytes = 24
	s := open(t, c)
	put(t, s, "aa", "bb", "cc", "dd", "ee")
	flip(t, s.path(2), lineExtra)
	if err := os.WriteFile(filepath.Join(c.Dir, "notes.seg"), appendLine(nil, []byte("no segment")), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.path(3), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("e3069283 being written"); err != nil {
		t.Fatal(err)
	}

	for _, tc := range []struct {
		name string
		from Position
		stop string // where f says that it is enough
		want []string
	}{
		{"all", Position{}, "", []string{"1/0-12 aa", "1/12-24 bb", "2/12-24 dd", "3/0-12 ee"}},
		{"from a segment on", Position{Segment: 2}, "", []string{"2/12-24 dd", "3/0-12 ee"}},
		{"from an offset on", Position{Segment: 1, Offset: 12}, "", []string{"1/12-24 bb", "2/12-24 dd", "3/0-12 ee"}},
		{"from the end on", Position{Segment: 3, Offset: 12}, "", nil},
		{"from behind it on", Position{Segment: 4}, "", nil},
		{"until it is enough", Position{}, "bb", []string{"1/0-12 aa", "1/12-24 bb"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			err := ReadFrom(c.Dir, tc.from, func(r Record) bool {
				got = append(got, fmt.Sprintf("%d/%d-%d %s", r.At.Segment, r.At.Offset, r.Next.Offset, r.Data))
				return string(r.Data) != tc.stop
			})
			if err != nil {
				t.Error(err)
			}
			want(t, got, tc.want...)
		})
	}

	keepsDescriptors(t, func() {
		if err := ReadDir(c.Dir, func(Record) bool { return true }); err != nil {
			t.Error(err)
		}
	})
}

func TestReadFromWhatIsNotThere(t *testing.T) {
	none := func(Record) bool {
		t.Error("got a record")
		return true
	}
	dir := t.TempDir()
	if err := ReadDir(filepath.Join(dir, "missing"), none); err != nil {
		t.Errorf("a folder that is missing: got %v", err)
	}
	if err := ReadDir(dir, none); err != nil {
		t.Errorf("an empty folder: got %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ReadDir(file, none); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("no folder: got %v", err)
	}
	if more, err := readFile(filepath.Join(dir, "gone"), Position{}, none); err != nil || !more {
		t.Errorf("a segment that is gone meanwhile: got %v, %v, want to go on", more, err)
	}
	if _, err := readFile(dir, Position{}, none); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("a segment that cannot be read: got %v", err)
	}
	if _, err := readFile(filepath.Join(file, "x"), Position{}, none); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a segment that cannot be opened: got %v", err)
	}
	if _, err := readFile(file, Position{Offset: -1}, none); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a negative offset: got %v", err)
	}
}

// TestCheckSaysWhatItCannotRead.
func TestCheckSaysWhatItCannotRead(t *testing.T) {
	fsys := &faultFS{}
	c := config(t.TempDir())
	c.FS, c.SegmentBytes = fsys, 1
	s := open(t, c)
	put(t, s, "a", "b")
	fsys.set(func(_ int, call, name string) error {
		if call == "open" && name == segmentName(2) {
			return syscall.EIO
		}
		return nil
	})
	if err := s.Check(); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "segment 2") {
		t.Errorf("got %v, want EIO of segment 2", err)
	}
}
