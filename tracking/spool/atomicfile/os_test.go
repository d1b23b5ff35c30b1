package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
)

// TestOSSyncDirAsksTheKernel: the file systems of the kernel's own tables refuse
// fsync, so that its error tells that it was made.
func TestOSSyncDirAsksTheKernel(t *testing.T) {
	if err := (OS{}).SyncDir("/proc"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("/proc: got %v, want what fsync answers there, EINVAL", err)
	}
	if err := (OS{}).SyncDir(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is missing: got %v", err)
	}
	dir := t.TempDir()
	keepsDescriptors(t, func() {
		if err := (OS{}).SyncDir(dir); err != nil {
			t.Error(err)
		}
	})
}

// keepsDescriptors fails a test in which f leaves descriptors open.
func keepsDescriptors(t *testing.T, f func()) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close them
	count := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	f()
	before := count()
	for range 20 {
		f()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors are open, %d were before", after, before)
	}
}

func TestOSFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := (OS{}).MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	created, err := (OS{}).Create(filepath.Join(dir, "created"))
	if err != nil {
		t.Fatal(err)
	}
	defer created.Close()
	appended, err := (OS{}).OpenAppend(filepath.Join(dir, "appended"))
	if err != nil {
		t.Fatal(err)
	}
	defer appended.Close()
	for name, want := range map[string]fs.FileMode{".": 0o700, "..": 0o700, "created": 0o600, "appended": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v, want mode %o", name, info, err, want)
		}
	}
	if _, err := (OS{}).Create(filepath.Join(dir, "created")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: got %v", err)
	}
	if _, err := (OS{}).OpenAppend(filepath.Join(dir, "missing", "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is missing: got %v", err)
	}
}

func TestOSOpenAppendAppends(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := (OS{}).OpenAppend(name)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.Size(); err != nil || n != 3 {
		t.Errorf("size %d, %v, want 3", n, err)
	}
	if _, err := f.Write([]byte("d")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, name); got != "abcd" {
		t.Errorf("got %q, want abcd", got)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Size(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("size of a closed file: got %v", err)
	}
}

func TestOSRemove(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := (OS{}).Remove(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (OS{}).Remove(name); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestWriteModes(t *testing.T) {
	for _, c := range []struct {
		name string
		old  fs.FileMode // 0: no file
		perm fs.FileMode
		want fs.FileMode
	}{
		{"a new file", 0, 0, 0o600},
		{"a new file of its own mode", 0, 0o644, 0o644},
		{"a file keeps its mode", 0o640, 0o644, 0o640},
		{"a file that nobody may write", 0o400, 0, 0o400},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "file")
			if c.old != 0 {
				if err := os.WriteFile(name, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(name, c.old); err != nil {
					t.Fatal(err)
				}
			}
			if err := Write(name, []byte("x"), Options{Perm: c.perm}); err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(name)
			if err != nil || info.Mode().Perm() != c.want {
				t.Errorf("got %v, %v, want mode %o", info, err, c.want)
			}
		})
	}
}

// TestWriteTellsOwnerLost where the owner cannot be kept.
func TestWriteTellsOwnerLost(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may give a file away")
	}
	name := filepath.Join(t.TempDir(), "file")
	lost := func() (calls [][2]int) {
		err := Write(name, []byte("x"), Options{OwnerLost: func(uid, gid int, err error) {
			if err == nil {
				t.Error("got no error with it")
			}
			calls = append(calls, [2]int{uid, gid})
		}})
		if err != nil {
			t.Error(err)
		}
		return calls
	}
	if got := lost(); len(got) != 0 {
		t.Errorf("a new file: got %v", got)
	}
	if got := lost(); len(got) != 0 {
		t.Errorf("an owner that is kept: got %v", got)
	}
	if err := os.Chown(name, 1234, 2345); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	f.Close() // its owner cannot be changed now
	var got [2]int
	err = keepOwner(f, name, Options{OwnerLost: func(uid, gid int, err error) { got = [2]int{uid, gid} }})
	if got != [2]int{1234, 2345} || err == nil {
		t.Errorf("got %v, %v, want 1234:2345 and that the mode cannot be kept either", got, err)
	}
	if err := keepOwner(f, name, Options{}); err == nil {
		t.Error("a mode that cannot be kept is not an error")
	}
}

// TestWriteRefuses what cannot be replaced, by its name, and leaves it as it is.
func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "busy.new", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{folder, filepath.Join(file, "x"), filepath.Join(dir, "missing", "x"), filepath.Join(dir, "busy")} {
		err := Write(name, []byte("new"), Options{})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want an error that names it", name, err)
		}
		if _, err := os.Stat(name + ".new"); err == nil && name != filepath.Join(dir, "busy") {
			t.Errorf("%s.new is left", name)
		}
	}
	if got := read(t, file); got != "old" {
		t.Errorf("got %q, want old", got)
	}
}

func TestResolve(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link": "file", "twice": "link", "dangling": "nowhere", "loop": "loop"} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"file": "file", "link": "file", "twice": "file", "missing": "missing"} {
		if got, err := Resolve(at(name)); err != nil || got != at(want) {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
		}
	}
	for _, name := range []string{"dangling", "loop", "file/x"} {
		if got, err := Resolve(at(name)); err == nil || !strings.Contains(err.Error(), at(name)) {
			t.Errorf("%s: got %s, %v, want an error that names it", name, got, err)
		}
		if _, err := Lock(at(name)); err == nil {
			t.Errorf("%s: locked", name)
		}
	}
}

// TestLockIsHeldUntilUnlock, by the folder of the file that a link leads to.
func TestLockIsHeldUntilUnlock(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(other, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	free := func(dir string) bool {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Fatal(err)
		}
		return err == nil
	}

	unlock, err := Lock(link)
	if err != nil {
		t.Fatal(err)
	}
	if free(dir) || !free(other) {
		t.Errorf("the file's folder is free: %v, the link's: %v; want the first held alone", free(dir), free(other))
	}
	unlock()
	if !free(dir) {
		t.Error("still held")
	}

	keepsDescriptors(t, func() {
		unlock, err := Lock(file)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
	})
	if _, err := Lock(filepath.Join(dir, "missing", "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is missing: got %v", err)
	}
}
