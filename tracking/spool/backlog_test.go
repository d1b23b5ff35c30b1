package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestBacklogCountsWhatWaits(t *testing.T) {
	c := config(t.TempDir())
	c.SegmentBytes = 100 // a few records
	s := open(t, c)
	want := func(step string, records int64, oldest string) {
		t.Helper()
		b, err := s.Backlog("r")
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		if b.Records != records || string(b.Oldest) != oldest || (b.Bytes > 0) != (records > 0) {
			t.Errorf("%s: got %d records, %d bytes, the oldest %q; want %d, the oldest %q",
				step, b.Records, b.Bytes, b.Oldest, records, oldest)
		}
	}

	want("empty", 0, "")
	for i := range 20 {
		put(t, s, fmt.Sprintf("record %02d", i))
		want("appended", int64(i+1), "record 00")
	}
	r, err := s.Reader("r")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 15 {
		rec, err := r.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Commit(rec.Next); err != nil {
			t.Fatal(err)
		}
		want("passed", int64(19-i), fmt.Sprintf("record %02d", i+1))
	}

	s.Close()
	s = open(t, c)
	want("opened again", 5, "record 15")
	put(t, s, "one more")
	want("appended after the restart", 6, "record 15")
	if _, err := s.Backlog("nobody"); err == nil {
		t.Error("a reader that is not configured: got no error")
	}
}

// TestBacklogOfSeveralReaders: each byte is read once, and counts go with their
// segments.
func TestBacklogOfSeveralReaders(t *testing.T) {
	c := config(t.TempDir())
	c.SegmentBytes, c.Readers = 24, []string{"fast", "slow"}
	s := open(t, c)
	check := func(reader string, records, bytes int64, oldest string) {
		t.Helper()
		b, err := s.Backlog(reader)
		if err != nil || b.Records != records || b.Bytes != bytes || string(b.Oldest) != oldest {
			t.Errorf("%s: got %d records, %d bytes, %q, %v; want %d, %d, %q", reader, b.Records, b.Bytes, b.Oldest, err, records, bytes, oldest)
		}
	}
	check("fast", 0, 0, "")
	put(t, s, "aa", "bb", "cc", "dd", "ee")
	check("fast", 5, 60, "aa")
	if err := s.commit("fast", Position{2, 12}); err != nil {
		t.Fatal(err)
	}
	check("fast", 2, 24, "dd")
	check("slow", 5, 60, "aa")
	check("fast", 2, 24, "dd")
	if len(s.backlogs.counted) != 3 {
		t.Errorf("%d counts are kept, want 3: the slow reader's too", len(s.backlogs.counted))
	}
	if err := s.commit("slow", Position{2, 24}); err != nil {
		t.Fatal(err)
	}
	s.do(s.sweep)
	check("slow", 1, 12, "ee")
	check("fast", 2, 24, "dd")
	if _, ok := s.backlogs.counted[1]; ok {
		t.Error("the count of a segment that is gone is kept")
	}
	if err := s.commit("fast", Position{2, 0}); err != nil { // back, as after Rewind
		t.Fatal(err)
	}
	check("fast", 3, 36, "cc")
	if err := s.commit("fast", Position{3, 12}); err != nil {
		t.Fatal(err)
	}
	check("fast", 0, 0, "")
}

// TestBacklogCountsNoDamage, nor what is not durable yet.
func TestBacklogCountsNoDamage(t *testing.T) {
	s := open(t, config(t.TempDir()))
	put(t, s, "aa", "bb", "cc")
	flip(t, s.path(1), lineExtra)
	f, err := os.OpenFile(s.path(1), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(appendLine(nil, []byte("not acknowledged"))); err != nil {
		t.Fatal(err)
	}
	b, err := s.Backlog("r")
	if err != nil || b.Records != 2 || b.Bytes != 36 || string(b.Oldest) != "bb" {
		t.Errorf("got %d records, %d bytes, %q, %v; want 2, 36, bb", b.Records, b.Bytes, b.Oldest, err)
	}
}

// TestBacklogTellsWhatItCannotRead, wherever it is met, and reads nothing twice.
func TestBacklogTellsWhatItCannotRead(t *testing.T) {
	for _, c := range []struct {
		name    string
		counted bool
		cursor  Position // afterwards
		broken  uint64   // the segment
		ok      bool
	}{
		{"a segment to be counted", false, Position{}, 2, false},
		{"what was passed", true, Position{2, 24}, 2, false},
		{"the oldest", true, Position{1, 24}, 2, false},
		{"one that was counted", true, Position{}, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t.TempDir())
			cfg.SegmentBytes, cfg.Keep = 24, time.Hour
			s := open(t, cfg)
			put(t, s, "aa", "bb", "cc", "dd")
			if c.counted {
				if _, err := s.Backlog("r"); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.commit("r", c.cursor); err != nil {
				t.Fatal(err)
			}
			broken := s.path(c.broken)
			if err := os.Rename(broken, broken+".away"); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(broken, 0o700); err != nil { // which no read succeeds on
				t.Fatal(err)
			}
			b, err := s.Backlog("r")
			if c.ok && (err != nil || b.Records != 4) || !c.ok && (!errors.Is(err, syscall.EISDIR) || b.Records != 0) {
				t.Errorf("got %+v, %v; want ok %v", b, err, c.ok)
			}
		})
	}

	s := open(t, config(t.TempDir()))
	put(t, s, "aa", "bb")
	if err := s.commit("r", Position{1, 24}); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if b, err := s.Backlog("r"); err != nil || b.Records != 0 {
			t.Errorf("time %d: got %+v, %v", i, b, err)
		}
		if i == 0 {
			if err := os.Remove(s.path(1)); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(s.path(1), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
}
