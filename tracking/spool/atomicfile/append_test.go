package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// failOnce fails one call of all, and only that one.
type failOnce struct {
	OS
	n, at int
	which string
}

func (f *failOnce) call(what string) error {
	if f.n++; f.n == f.at {
		f.which = what
		return errors.New("input/output error (once)")
	}
	return nil
}

func (f *failOnce) MkdirAll(dir string) error {
	return errors.Join(f.call("mkdir"), f.OS.MkdirAll(dir))
}

func (f *failOnce) SyncDir(dir string) error {
	return errors.Join(f.call("syncdir"), f.OS.SyncDir(dir))
}

func (f *failOnce) OpenAppend(name string) (AppendFile, error) {
	if err := f.call("open"); err != nil {
		return nil, err
	}
	file, err := f.OS.OpenAppend(name)
	return &failFile{file, f}, err
}

type failFile struct {
	AppendFile
	fs *failOnce
}

func (f *failFile) Write(b []byte) (int, error) {
	if err := f.fs.call("write"); err != nil {
		n, _ := f.AppendFile.Write(b[:len(b)/2])
		return n, err
	}
	return f.AppendFile.Write(b)
}

func (f *failFile) ReadAt(b []byte, at int64) (int, error) {
	if err := f.fs.call("read"); err != nil {
		return 0, err
	}
	return f.AppendFile.ReadAt(b, at)
}

func (f *failFile) Size() (int64, error) {
	if err := f.fs.call("size"); err != nil {
		return 0, err
	}
	return f.AppendFile.Size()
}

func (f *failFile) Sync() error  { return errors.Join(f.fs.call("sync"), f.AppendFile.Sync()) }
func (f *failFile) Close() error { return errors.Join(f.fs.call("close"), f.AppendFile.Close()) }

// TestAppendFailsOnce: whichever call fails, both lines are there in the end,
// each whole.
func TestAppendFailsOnce(t *testing.T) {
	for at := 1; ; at++ {
		dir := t.TempDir()
		fsys := &failOnce{at: at}
		a := NewAppender(fsys)
		for _, l := range []string{"first line\n", "second line\n"} {
			if err := a.Append(filepath.Join(dir, "x", "lines.csv"), []byte(l)); err != nil {
				if err := a.Append(filepath.Join(dir, "x", "lines.csv"), []byte(l)); err != nil {
					t.Errorf("call %d (%s) fails: and again: %v", at, fsys.which, err)
				}
			}
		}

		names, _ := filepath.Glob(filepath.Join(dir, "x", "lines*.csv"))
		seen := map[string]int{}
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range strings.SplitAfter(string(b), "\n") {
				seen[l]++
			}
		}
		delete(seen, "")
		if seen["first line\n"] == 0 || seen["second line\n"] == 0 || len(seen) != 2 {
			t.Errorf("call %d (%s) fails: lines %v", at, fsys.which, seen)
		}
		if fsys.which == "" {
			if at < 10 {
				t.Errorf("only %d calls", at)
			}
			return
		}
	}
}

func TestAppendCutsTornLine(t *testing.T) {
	for before, want := range map[string]string{
		"":                                     "new\n",
		"torn":                                 "new\n",
		"old\n":                                "old\nnew\n",
		"old\ntorn":                            "old\nnew\n",
		strings.Repeat("x", 200<<10):           "new\n",
		"old\n" + strings.Repeat("x", 200<<10): "old\nnew\n",
	} {
		name := filepath.Join(t.TempDir(), "lines")
		if err := os.WriteFile(name, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := NewAppender(nil).Append(name, []byte("new\n")); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("before %.20q: %.40q %v, want %q", before, got, err, want)
		}
	}
}
