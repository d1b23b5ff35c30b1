package spool

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestFlippedBitCostsOneRecord wherever it is in a segment, and none where it is
// in a line end, which says nothing of the records beside it.
func TestFlippedBitCostsOneRecord(t *testing.T) {
	records := []string{`{"n":1}`, `{"n":2}`, `{"n":3}`}
	var segment []byte
	var lineOf []int // of each byte
	for i, r := range records {
		segment = appendLine(segment, []byte(r))
		lineOf = append(lineOf, slices.Repeat([]int{i}, len(segment)-len(lineOf))...)
	}

	dir := t.TempDir()
	for at := range segment {
		for bit := range 8 {
			damaged := slices.Clone(segment)
			damaged[at] ^= 1 << bit
			hit := lineOf[at]
			if segment[at] == '\n' {
				hit = -1
			}

			s := openInMemory(t, dir, damaged)
			got, _, _ := rest(t, s)
			for i, r := range records {
				if i != hit && !slices.Contains(got, r) {
					t.Errorf("bit %d of byte %d: read %q, without %s", bit, at, got, r)
				}
			}

			var scanned []string
			err := s.Scan("r", Index{
				Head:   4,
				Length: func([]byte) int { return len(records[0]) },
				Load: func(at Position, beginning []byte, n int) bool {
					record, err := s.ReadAt(at, n)
					if err == nil {
						scanned = append(scanned, string(record))
					}
					return true
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range records {
				if i != hit && !slices.Contains(scanned, r) {
					t.Errorf("bit %d of byte %d: scanned %q, without %s", bit, at, scanned, r)
				}
			}

			s.Close()

			var seen []string
			if err := os.WriteFile(s.path(1), damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			err = ReadDir(dir, func(r Record) bool {
				seen = append(seen, string(r.Data))
				return true
			})
			if err != nil || !slices.Equal(seen, got) {
				t.Errorf("bit %d of byte %d: ReadDir sees %q, %v, want %q", bit, at, seen, err, got)
			}
		}
	}
}

// openInMemory opens a spool whose files are in memory, the first segment with a
// content.
func openInMemory(t *testing.T, dir string, segment []byte) *Spool {
	t.Helper()
	p := newPowerFS()
	p.files[segmentName(1)] = &powerNode{data: segment}
	c := powerConfig(t, p)
	c.Dir = dir
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}

	return s
}

// openOn opens a spool whose first segment a previous run left with a content.
func openOn(t *testing.T, c Config, segment []byte) *Spool {
	t.Helper()
	name := (&Spool{cfg: c}).path(1)
	if err := os.WriteFile(name, segment, 0o600); err != nil {
		t.Fatal(err)
	}

	return open(t, c)
}

// TestDamagedLineEndHidesNoForgery: what follows a damaged record in a line may
// be a stranger's, though it looks like a line.
func TestDamagedLineEndHidesNoForgery(t *testing.T) {
	forged := bytes.TrimSuffix(appendLine(nil, []byte("forged")), []byte("\n"))
	segment := appendLine(nil, fmt.Appendf(nil, "subject %s", forged))
	segment[lineExtra] ^= 1
	segment = appendLine(segment, []byte("next"))

	s := openOn(t, config(t.TempDir()), segment)
	got, _, _ := rest(t, s)
	want(t, got, "next")
}

// TestLineEndOfTheLastRecord: a last record that is whole is finished, one that
// is not is cut off, and both before anything is appended.
func TestLineEndOfTheLastRecord(t *testing.T) {
	line := appendLine(nil, []byte("last"))
	for _, c := range []struct {
		name string
		tail []byte
		want []string
		kept string
	}{
		{"no line end", line[:len(line)-1], []string{"first", "last"}, ""},
		{"another byte", append(line[:len(line)-1:len(line)-1], 'J'), []string{"first", "last"}, ""},
		{"and a torn line", append(line[:len(line)-1:len(line)-1], "J0123abcd to"...), []string{"first", "last"}, "0123abcd to"},
		{"and the beginning of one", append(line[:len(line)-1:len(line)-1], "J0123"...), []string{"first", "last"}, "0123"},
		{"torn", line[:len(line)-2], []string{"first"}, string(line[:len(line)-2])},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t.TempDir())
			s := openOn(t, cfg, append(appendLine(nil, []byte("first")), c.tail...))
			put(t, s, "new")
			got, _, _ := rest(t, s)
			want(t, got, append(c.want, "new")...)
			s.Close()

			kept := files(t, cfg.Dir, "*.broken")
			if torn := c.kept != ""; torn != (len(kept) == 1) {
				t.Fatalf("quarantined %v, want one file: %t", kept, torn)
			}
			for _, name := range kept {
				data, err := os.ReadFile(filepath.Join(cfg.Dir, name))
				if err != nil || string(data) != c.kept {
					t.Errorf("%s holds %q, %v, want %q", name, data, err, c.kept)
				}
			}
			whole, err := os.ReadFile(s.path(1))
			if err != nil {
				t.Fatal(err)
			}
			var expected []byte
			for _, r := range c.want {
				expected = appendLine(expected, []byte(r))
			}
			if !bytes.Equal(whole, expected) {
				t.Errorf("the segment holds %q, want %q", whole, expected)
			}
		})
	}
}

// TestReadAtNeedsNoLineEnd: the checksum is the record's.
func TestReadAtNeedsNoLineEnd(t *testing.T) {
	s := open(t, config(t.TempDir()))
	at, err := s.AppendAt(context.Background(), []byte("one"), []byte("two"))
	if err != nil {
		t.Fatal(err)
	}
	flip(t, s.path(1), lineExtra+3-1)
	for i, record := range []string{"one", "two"} {
		got, err := s.ReadAt(at[i], 3)
		if err != nil || string(got) != record {
			t.Errorf("%q, %v, want %q", got, err, record)
		}
	}
}
