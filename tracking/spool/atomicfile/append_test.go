package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// failOnce fails one call of all, and only that one; or, where always names a
// call, each of these. It notes them.
type failOnce struct {
	OS
	n, at  int
	which  string
	always string
	calls  []string
	open   int
}

var errOfCall = errors.New("input/output error (once)")

func (f *failOnce) call(what string) error {
	f.calls = append(f.calls, what)
	if f.n++; f.n == f.at || what == f.always {
		f.which = what
		return errOfCall
	}
	return nil
}

func (f *failOnce) MkdirAll(dir string) error {
	return errors.Join(f.call("mkdir"), f.OS.MkdirAll(dir))
}

func (f *failOnce) SyncDir(dir string) error {
	return errors.Join(f.call("syncdir "+filepath.Base(dir)), f.OS.SyncDir(dir))
}

func (f *failOnce) OpenAppend(name string) (AppendFile, error) {
	if err := f.call("open"); err != nil {
		return nil, err
	}
	file, err := f.OS.OpenAppend(name)
	f.open++
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

func (f *failFile) Sync() error { return errors.Join(f.fs.call("sync"), f.AppendFile.Sync()) }
func (f *failFile) Close() error {
	f.fs.open--
	return errors.Join(f.fs.call("close"), f.AppendFile.Close())
}

func (f *failFile) Truncate(size int64) error {
	if err := f.fs.call("truncate"); err != nil {
		return err
	}
	return f.AppendFile.Truncate(size)
}

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
		if fsys.open != 0 {
			t.Errorf("call %d (%s) fails: %d files are open", at, fsys.which, fsys.open)
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

// TestAppendMakesLinesDurable, the names of the file and of its folder once.
func TestAppendMakesLinesDurable(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x", "lines.csv")
	parent := filepath.Base(filepath.Dir(filepath.Dir(name)))
	fsys := &failOnce{}
	a := NewAppender(fsys)
	for _, want := range [][]string{
		{"mkdir", "open", "size", "write", "sync", "close", "syncdir x", "syncdir " + parent},
		{"mkdir", "open", "size", "read", "write", "sync", "close"},
	} {
		fsys.calls = nil
		if err := a.Append(name, []byte("line\n")); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(fsys.calls, want) {
			t.Errorf("calls %v, want %v", fsys.calls, want)
		}
	}
	if err := os.Truncate(name, 7); err != nil {
		t.Fatal(err)
	}
	fsys.calls = nil
	if err := a.Append(name, []byte("new\n")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"mkdir", "open", "size", "read", "truncate", "write", "sync", "close"}; !slices.Equal(fsys.calls, want) {
		t.Errorf("behind a torn line: calls %v, want %v", fsys.calls, want)
	}
	if got := read(t, name); got != "line\nnew\n" {
		t.Errorf("got %q", got)
	}
}

// TestAppendTellsEachFailure, with the file's name, and again until the names
// are durable.
func TestAppendTellsEachFailure(t *testing.T) {
	dir := t.TempDir()
	parent := filepath.Base(dir)
	for _, call := range []string{"mkdir", "open", "size", "read", "truncate", "write", "sync", "close", "syncdir x", "syncdir " + parent} {
		t.Run(call, func(t *testing.T) {
			name := filepath.Join(dir, "x", call+".csv")
			if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte("old\ntorn"), 0o600); err != nil {
				t.Fatal(err)
			}
			fsys := &failOnce{always: call}
			a := NewAppender(fsys)
			for range 2 {
				err := a.Append(name, []byte("new\n"))
				if !errors.Is(err, errOfCall) || !strings.Contains(err.Error(), call) {
					t.Errorf("got %v, want the failure and the file", err)
				}
			}
			if fsys.open != 0 {
				t.Errorf("%d files are open", fsys.open)
			}
			fsys.always = ""
			if err := a.Append(name, []byte("new\n")); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestAppendLeavesFilesWhoseFsyncFailed alone, one after the other.
func TestAppendLeavesFilesWhoseFsyncFailed(t *testing.T) {
	for name, want := range map[string][]string{
		"lines.csv": {"lines.csv", "lines-2.csv", "lines-3.csv", "lines-4.csv"},
		"lines":     {"lines", "lines-2", "lines-3", "lines-4"},
	} {
		dir := t.TempDir()
		fsys := &failOnce{always: "sync"}
		a := NewAppender(fsys)
		for i := range want {
			if i == 3 {
				fsys.always = ""
			}
			err := a.Append(filepath.Join(dir, name), []byte("line\n"))
			if (err == nil) != (i == 3) {
				t.Errorf("append %d: got %v", i, err)
			}
		}
		for i, file := range want {
			if got := read(t, filepath.Join(dir, file)); got != "line\n" {
				t.Errorf("file %d, %s: got %q", i, file, got)
			}
		}
		if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != len(want) {
			t.Errorf("files %v, want %v", names, want)
		}
	}
}

func TestAppendIsSafeForConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	a := NewAppender(nil)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 20 {
				if err := a.Append(filepath.Join(dir, "x", "lines"), fmt.Appendf(nil, "%d-%d\n", w, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := strings.Count(read(t, filepath.Join(dir, "x", "lines")), "\n"); n != 80 {
		t.Errorf("%d lines, want 80", n)
	}
}

func TestWholeLinesNearTheBlock(t *testing.T) {
	const block = 64 << 10
	for _, old := range []int{block - 1, block, block + 1, 2 * block} {
		for _, torn := range []int{0, 1, block - 1, block, block + 1} {
			name := filepath.Join(t.TempDir(), "lines")
			before := strings.Repeat("o", old-1) + "\n"
			if err := os.WriteFile(name, []byte(before+strings.Repeat("t", torn)), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := (OS{}).OpenAppend(name)
			if err != nil {
				t.Fatal(err)
			}
			n, err := wholeLines(f)
			f.Close()
			if err != nil || n != int64(old) || read(t, name) != before {
				t.Errorf("%d torn behind %d: got %d, %v", torn, old, n, err)
			}
		}
	}
}
