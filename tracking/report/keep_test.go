package report

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// kept returns the names of a folder's files, the oldest first, and what is in
// them.
func kept(t *testing.T, dir string) (names, contents []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		contents = append(contents, string(b))
	}

	return names, contents
}

// TestKeepIsBounded: the oldest go, one by one and no sooner than needed.
func TestKeepIsBounded(t *testing.T) {
	for _, c := range []struct {
		name     string
		maxFiles int
		maxBytes int64
		add      []string
		want     []string
	}{
		{"up to the number of files", 3, 100, []string{"a", "b", "c"}, []string{"a", "b", "c"}},
		{"one file more", 3, 100, []string{"a", "b", "c", "d"}, []string{"b", "c", "d"}},
		{"up to the size", 9, 6, []string{"aa", "bb", "cc"}, []string{"aa", "bb", "cc"}},
		{"one byte more", 9, 6, []string{"aa", "bb", "ccc"}, []string{"bb", "ccc"}},
		{"a file that takes the place of several", 9, 6, []string{"aa", "bb", "cccc", "d"}, []string{"cccc", "d"}},
		{"a file that fills the folder", 9, 6, []string{"aa", "bbbbbb"}, []string{"bbbbbb"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := newKeeper(filepath.Join(t.TempDir(), "a", "b"))
			if err != nil {
				t.Fatal(err)
			}
			k.maxFiles, k.maxBytes = c.maxFiles, c.maxBytes
			for i, text := range c.add {
				if err := k.add([]byte(text), noon.Add(time.Duration(i)*time.Second)); err != nil {
					t.Fatal(err)
				}
			}
			if _, got := kept(t, k.dir); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestKeepDefaults: how much is kept, and for whose eyes.
func TestKeepDefaults(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")
	k, err := newKeeper(dir)
	if err != nil {
		t.Fatal(err)
	}
	if k.maxFiles != 1000 || k.maxBytes != 64<<20 {
		t.Errorf("%d files and %d bytes are kept, want 1000 and 64 MiB", k.maxFiles, k.maxBytes)
	}

	for range 2 { // of one instant
		if err := k.add([]byte("x"), noon.In(time.FixedZone("", 3600))); err != nil {
			t.Fatal(err)
		}
	}
	names, _ := kept(t, dir)
	var want []string
	for i := 1; i <= 2; i++ {
		want = append(want, filepath.Join(dir, fmt.Sprintf("20261124T120000.000000-%d-%06d.eml", os.Getpid(), i)))
	}
	if !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, names[0]: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: got %v, %v, want the mode %v", path, info.Mode(), err, want)
		}
	}
}

// TestKeepTellsOfTrouble: what the folder refuses is told, and nothing is
// written beside it.
func TestKeepTellsOfTrouble(t *testing.T) {
	t.Run("a mail larger than the folder may be", func(t *testing.T) {
		k := &keeper{dir: t.TempDir(), maxFiles: 9, maxBytes: 2}
		if err := k.add([]byte("abc"), noon); err == nil || !strings.Contains(err.Error(), "3 bytes") {
			t.Errorf("got %v, want an error with its size", err)
		}
		if _, got := kept(t, k.dir); got != nil {
			t.Errorf("kept %q", got)
		}
	})
	t.Run("the oldest cannot be removed", func(t *testing.T) {
		k := &keeper{dir: t.TempDir(), maxFiles: 1, maxBytes: 9}
		if err := os.MkdirAll(filepath.Join(k.dir, "0.eml", "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := k.add([]byte("a"), noon); err == nil {
			t.Error("got no error")
		}
		if left, err := os.ReadDir(k.dir); err != nil || len(left) != 1 {
			t.Errorf("got %v, %v, want what was there", left, err)
		}
	})
	t.Run("a folder that cannot be made", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := newKeeper(filepath.Join(file, "kept")); err == nil {
			t.Error("got no error of the keeper")
		}
		if in, err := NewIntake(Config{Keep: filepath.Join(file, "kept")}); err == nil || in != nil || !strings.HasPrefix(err.Error(), "report: ") {
			t.Errorf("got %v, %v, want an error of the intake", in, err)
		}
	})
	t.Run("a folder that is gone", func(t *testing.T) {
		k := &keeper{dir: filepath.Join(t.TempDir(), "gone"), maxFiles: 9, maxBytes: 9}
		if err := k.add([]byte("a"), noon); err == nil {
			t.Error("got no error")
		}
	})
	t.Run("a folder whose name is no pattern", func(t *testing.T) {
		k := &keeper{dir: filepath.Join(t.TempDir(), "[a"), maxFiles: 9, maxBytes: 9}
		if err := k.add([]byte("a"), noon); err == nil {
			t.Error("got no error")
		}
	})
}
