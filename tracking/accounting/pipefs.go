package accounting

import (
	"errors"
	"io"
	"os"
	"syscall"

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
