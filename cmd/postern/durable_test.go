package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
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

func (f *faultyFS) Remove(name string) error {
	return errors.Join(f.call("remove"), f.OS.Remove(name))
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

// TestANewKeyIsDurableOrNotThere fails each call: the error is returned, every
// file is closed, and nothing is left in the way of the next try.
func TestANewKeyIsDurableOrNotThere(t *testing.T) {
	for fail, want := range map[string]string{
		"":            "create, write, sync, close, sync folder",
		"create":      "create",
		"write":       "create, write, close, remove",
		"sync":        "create, write, sync, close, remove",
		"close":       "create, write, sync, close, remove",
		"sync folder": "create, write, sync, close, sync folder, remove",
	} {
		t.Run("fails: "+fail, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "key.pem")
			fsys := &faultyFS{fail: fail}

			err := writeNewFile(fsys, name, []byte("key"))

			if got := strings.Join(fsys.calls, ", "); got != want {
				t.Errorf("got calls %s, want %s", got, want)
			}
			text, readErr := os.ReadFile(name)
			if fail == "" {
				if err != nil || string(text) != "key" {
					t.Errorf("got %q, %v, want the key", text, err)
				}
				return
			}
			if !errors.Is(err, errDisk) || !errors.Is(readErr, os.ErrNotExist) {
				t.Errorf("got %v and a file %q, want the error and no file", err, text)
			}
		})
	}
}
