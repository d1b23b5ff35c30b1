package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()

	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}

	return string(b)
}

func TestWriteKeepsModeAndLink(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+pending, []byte("left by a crash"), 0o600); err != nil {
		t.Fatal(err)
	}

	if err := Write(link, []byte("new"), Options{}); err != nil {
		t.Fatal(err)
	}

	if got := read(t, file); got != "new" {
		t.Errorf("content %q, want new", got)
	}
	if to, err := os.Readlink(link); err != nil || to != "file" {
		t.Errorf("link leads to %q, %v", to, err)
	}
	if i, _ := os.Stat(file); i.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, want 0640", i.Mode())
	}
	if _, err := os.Stat(file + pending); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s stays: %v", pending, err)
	}
}

func TestWriteKeepsOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give a file away")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 1234, 2345); err != nil {
		t.Fatal(err)
	}

	if err := Write(file, []byte("new"), Options{}); err != nil {
		t.Fatal(err)
	}

	i, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if st := i.Sys().(*syscall.Stat_t); st.Uid != 1234 || st.Gid != 2345 {
		t.Errorf("owner %d:%d, want 1234:2345", st.Uid, st.Gid)
	}
}

func TestWriteNewFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := Write(file, []byte("x"), Options{Perm: 0o644}); err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(file); err != nil || i.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", i, err)
	}
}

func TestWriteRefusesDanglingLink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	if err := Write(link, []byte("x"), Options{}); err == nil {
		t.Error("a link that leads nowhere was replaced")
	}
}

var errOnce = errors.New("disk error (once)")

// failing fails its nth call.
type failing struct {
	FS
	n int
}

func (f *failing) fails() bool {
	f.n--
	return f.n == 0
}

func (f *failing) Create(name string) (File, error) {
	if f.fails() {
		return nil, errOnce
	}
	file, err := f.FS.Create(name)
	return &failingFile{file, f}, err
}

func (f *failing) Rename(from, to string) error {
	if f.fails() {
		return errOnce
	}
	return f.FS.Rename(from, to)
}

func (f *failing) SyncDir(dir string) error {
	if f.fails() {
		return errOnce
	}
	return f.FS.SyncDir(dir)
}

type failingFile struct {
	File
	f *failing
}

func (f *failingFile) Write(b []byte) (int, error) {
	if f.f.fails() {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, errOnce
	}
	return f.File.Write(b)
}

func (f *failingFile) Sync() error {
	if f.f.fails() {
		return errOnce
	}
	return f.File.Sync()
}

func TestWriteAfterOneFailure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("old content"), 0o600); err != nil {
		t.Fatal(err)
	}
	const calls = 5 // create, write, fsync, rename, fsync of the folder
	for n := 1; n <= calls; n++ {
		err := Write(file, []byte("new content"), Options{FS: &failing{OS{}, n}})
		if !errors.Is(err, errOnce) {
			t.Errorf("call %d fails: error %v", n, err)
		}

		want := "old content"
		if n == calls {
			want = "new content"
		}
		if got := read(t, file); got != want {
			t.Errorf("call %d fails: content %q, want %q", n, got, want)
		}

		if err := Write(file, []byte("old content"), Options{}); err != nil {
			t.Errorf("after call %d failed: %v", n, err)
		}
	}
}

func TestLockLosesNoChange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	const writers = 20
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			unlock, err := Lock(file)
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()

			b, err := os.ReadFile(file)
			if err != nil {
				t.Error(err)
				return
			}
			if err := Write(file, append(b, 'x'), Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()

	if got := read(t, file); got != strings.Repeat("x", writers) {
		t.Errorf("%d changes are there, want %d", len(got), writers)
	}
}
