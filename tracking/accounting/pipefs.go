package accounting

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"postern/tracking/spool/atomicfile"
)

// PipeFile is an open file of a pipe.
type PipeFile interface {
	io.Writer
	io.Closer
	Sync() error
	Truncate(size int64) error

	Name() string
	Chmod(mode os.FileMode) error
	Lock() error // exclusively, as long as the file is open
	Fd() uintptr
}

// PipeFS is the file system of pipes. Tests make its calls fail.
type PipeFS interface {
	CreateTemp(dir, pattern string) (PipeFile, error) // as os.CreateTemp
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(dir string) error
}

// osPipes is the system's PipeFS.
type osPipes struct{ atomicfile.OS }

// CreateTemp is os.CreateTemp.
func (osPipes) CreateTemp(dir, pattern string) (PipeFile, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}

	return osPipeFile{f}, nil
}

// osPipeFile is a file of osPipes.
type osPipeFile struct{ *os.File }

// Lock locks the file with flock(2), without waiting.
func (f osPipeFile) Lock() error { return flock(f.File) }

// flock locks a file exclusively, without waiting. The lock belongs to the open file
// description, and so to every process that it was passed to.
func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// pending is the suffix of files that are not locked yet.
const pending = ".new"

// createPipeFile creates a file. It is locked before it gets the name under which a
// Follower finds it, which would remove the file of a writer that has ended. In a
// folder with the setgid bit the file's group may read and remove it.
func createPipeFile(fsys PipeFS, dir string) (PipeFile, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}

	mode := os.FileMode(0o600)
	if info.Mode()&os.ModeSetgid != 0 {
		mode = 0o660
	}

	now := time.Now().UTC().Format("20060102T150405.000000")
	f, err := fsys.CreateTemp(dir, fmt.Sprintf("pipe-%s-%d-*.csv%s", now, os.Getpid(), pending))
	if err != nil {
		return nil, err
	}

	err = f.Chmod(mode)
	if err == nil {
		err = f.Lock()
	}
	if err == nil {
		err = fsys.Rename(f.Name(), strings.TrimSuffix(f.Name(), pending))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), fsys.Remove(f.Name()))
	}

	if err := fsys.SyncDir(dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}

	return f, nil
}
