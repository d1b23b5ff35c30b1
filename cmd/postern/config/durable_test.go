package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"postern/tracking/spool/atomicfile"
)

// faultyFS notes the calls that are made, and fails one of them.
type faultyFS struct {
	atomicfile.OS
	calls []string
	fail  string
}

var errDisk = errors.New("input/output error")

func (f *faultyFS) call(what string) error {
	f.calls = append(f.calls, what)
	if what == f.fail {
		return errDisk
	}
	return nil
}

func (f *faultyFS) Create(name string) (atomicfile.File, error) {
	if err := f.call("create"); err != nil {
		return nil, err
	}
	file, err := f.OS.Create(name)
	return faultyFile{file, f}, err
}

func (f *faultyFS) Rename(from, to string) error {
	if err := f.call("rename"); err != nil {
		return err
	}
	return f.OS.Rename(from, to)
}

func (f *faultyFS) SyncDir(dir string) error {
	return errors.Join(f.call("sync folder"), f.OS.SyncDir(dir))
}

type faultyFile struct {
	atomicfile.File
	fs *faultyFS
}

func (f faultyFile) Write(b []byte) (int, error) {
	if err := f.fs.call("write"); err != nil {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, err
	}
	return f.File.Write(b)
}

func (f faultyFile) Sync() error  { return errors.Join(f.fs.call("sync"), f.File.Sync()) }
func (f faultyFile) Close() error { return errors.Join(f.fs.call("close"), f.File.Close()) }

// TestUsersAreDurableOrAsTheyWere fails each call of a change: the error is
// returned, the old users are there, no copy of the hashes is left, and the
// next change goes through.
func TestUsersAreDurableOrAsTheyWere(t *testing.T) {
	const before = "[[user]]\nname = \"a\"\n"
	whole := []string{"create", "write", "sync", "close", "rename", "sync folder"}
	for _, fail := range append([]string{""}, whole...) {
		t.Run("fails: "+fail, func(t *testing.T) {
			file := usersFile(t, before)
			fsys := &faultyFS{fail: fail}

			_, _, err := (UsersEditor{File: file, FS: fsys}).SetPassword("a", hash)

			if fail == "" {
				if err != nil || !slices.Equal(fsys.calls, whole) {
					t.Errorf("got %v, calls %q, want %q", err, fsys.calls, whole)
				}
				return
			}
			if !errors.Is(err, errDisk) {
				t.Errorf("got %v, want the error", err)
			}
			if got := read(t, file); got != before && fail != "sync folder" {
				t.Errorf("got %q, want the old users", got)
			}
			if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
				t.Errorf("got %v, %v in the folder, want the users file alone", left, err)
			}
			if _, _, err := (UsersEditor{File: file}).SetPassword("a", hash); err != nil {
				t.Errorf("the next change: %v", err)
			}
		})
	}
}
