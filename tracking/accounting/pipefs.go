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

// PipeFile is what a pipe needs of an open file.
type PipeFile interface {
	io.Writer
	io.Closer
	Sync() error
	Truncate(size int64) error

	Name() string
	Chmod(mode os.FileMode) error
	Lock() error // for this process alone, as long as the file is open
	Fd() uintptr
}

// PipeFS is what a pipe needs of a file system, so that a test can fail each
// call.
type PipeFS interface {
	CreateTemp(dir, pattern string) (PipeFile, error) // as os.CreateTemp
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(dir string) error
}

// osPipes is the machine's own file system.
type osPipes struct{ atomicfile.OS }

// CreateTemp is os.CreateTemp.
func (osPipes) CreateTemp(dir, pattern string) (PipeFile, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}

	return osPipeFile{f}, nil
}

type osPipeFile struct{ *os.File }

// Lock is flock(2), without waiting.
func (f osPipeFile) Lock() error { return flock(f.File) }

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// pending ends the name of a file that is not locked yet.
const pending = ".new"

// createPipeFile makes a file that is locked before it has the name by which a
// follower would find it, and remove it as one whose writer has gone. In a
// folder that gives its group to its files (setgid), that group may read and
// remove it.
func createPipeFile(fsys PipeFS, dir string) (PipeFile, error) {
	mode := os.FileMode(0o600)
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
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
