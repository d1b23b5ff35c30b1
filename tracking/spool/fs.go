package spool

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// File is an open file of an FS.
type File interface {
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error

	// Allocate allocates n bytes from an offset on without changing the size of
	// the file, so that they can be written even if the disk becomes full. It
	// returns errors.ErrUnsupported if the file system cannot do that.
	Allocate(offset, n int64) error
}

// FS is the file system of a spool. Tests use it to let each call fail in turn, or
// to lose what was not synced.
type FS interface {
	// Create creates a file for appending. It fails if the file exists.
	Create(name string) (File, error)

	// Open opens an existing file for reading, WriteAt and Truncate.
	Open(name string) (File, error)

	Rename(from, to string) error
	Remove(name string) error

	// List returns the regular files of a directory, sorted by name.
	List(dir string) ([]os.FileInfo, error)

	// SyncDir makes the entries of a directory durable.
	SyncDir(dir string) error

	// Free returns the bytes that are free for users other than root.
	Free(dir string) (uint64, error)
}

// OS is the file system of the operating system.
type OS struct{}

type osFile struct{ *os.File }

// keepSize is FALLOC_FL_KEEP_SIZE of fallocate(2).
const keepSize = 1

// Allocate calls fallocate(2).
func (f osFile) Allocate(offset, n int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), keepSize, offset, n)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// Create creates a file with mode 0600. It is opened with O_APPEND, so that after
// Truncate the next write continues at the new end and leaves no hole.
func (OS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}

	return osFile{f}, nil
}

// Open opens an existing file for reading and writing.
func (OS) Open(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}

	return osFile{f}, nil
}

// Rename calls os.Rename.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove calls os.Remove.
func (OS) Remove(name string) error { return os.Remove(name) }

// List returns the regular files of dir, sorted by name.
func (OS) List(dir string) ([]os.FileInfo, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}

	return regularFiles(entries)
}

// regularFiles returns the entries of a directory that are regular files, without
// those that were removed meanwhile.
func regularFiles(entries []os.DirEntry) ([]os.FileInfo, error) {
	var infos []os.FileInfo
	for _, e := range entries {
		i, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}

		if i.Mode().IsRegular() {
			infos = append(infos, i)
		}
	}

	return infos, nil
}

// SyncDir calls fsync(2) on dir.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}

	return errors.Join(d.Sync(), d.Close())
}

// Free calls statfs(2).
func (OS) Free(dir string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}

	return st.Bavail * uint64(st.Bsize), nil
}

// makeDir creates dir and its missing parents, and makes their entries durable:
// a crash that loses the name of a directory loses the files in it.
func makeDir(fsys FS, dir string) error {
	var missing []string
	for d := dir; isMissing(d); d = filepath.Dir(d) {
		missing = append(missing, d)
	}

	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}

	for _, d := range missing {
		err := retryBriefly(func() error { return fsys.SyncDir(filepath.Dir(d)) })
		if err != nil {
			return err
		}
	}

	// A previous run may have been killed between the two steps above. A process
	// that may not open the parent did not create dir, so the error is ignored.
	if len(missing) == 0 {
		_ = fsys.SyncDir(filepath.Dir(dir))
	}

	return nil
}

// isMissing reports whether a file does not exist.
func isMissing(name string) bool {
	_, err := os.Stat(name)

	return errors.Is(err, os.ErrNotExist)
}

// lockDir locks dir for this process, until the file that it returns is closed.
// It returns ErrLocked if another process has it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}

	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err != nil {
		f.Close()
		return nil, err
	}

	return f, nil
}
