package spool

import (
	"fmt"
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
