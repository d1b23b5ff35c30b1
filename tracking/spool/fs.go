package spool

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// File is what the spool needs of an open file.
type File interface {
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error

	// Allocate has the disk hold n bytes from an offset on without making the
	// file longer, so that they can be written whatever else fills the disk. An
	// error that is errors.ErrUnsupported says that the file system cannot.
	Allocate(offset, n int64) error
}

// FS is what the spool needs of a file system, so that a test can fail or cut
// every call in turn.
type FS interface {
	Create(name string) (File, error) // must not exist
	Open(name string) (File, error)   // for reading, WriteAt and truncating
	Rename(from, to string) error
	Remove(name string) error
	List(dir string) ([]os.FileInfo, error)
	SyncDir(dir string) error
	Free(dir string) (uint64, error) // bytes free for users other than root
}

// OS is the machine's own file system.
type OS struct{}

type osFile struct{ *os.File }

// keepSize is FALLOC_FL_KEEP_SIZE of fallocate(2).
const keepSize = 1

// Allocate is fallocate(2).
func (f osFile) Allocate(offset, n int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), keepSize, offset, n)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// Create makes a new file that only its owner reads. It appends, so that after
// a truncation the next write lands at the new end and leaves no hole.
func (OS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}

	return osFile{f}, nil
}

// Open opens an existing file.
func (OS) Open(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}

	return osFile{f}, nil
}

// Rename is os.Rename.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove is os.Remove.
func (OS) Remove(name string) error { return os.Remove(name) }

// List returns the regular files of dir, by name.
func (OS) List(dir string) ([]os.FileInfo, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}

	return regularFiles(entries)
}

// regularFiles returns those of a folder's entries that are.
func regularFiles(entries []os.DirEntry) ([]os.FileInfo, error) {
	var infos []os.FileInfo
	for _, e := range entries {
		i, err := e.Info()
		if errors.Is(err, os.ErrNotExist) { // removed meanwhile
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

// SyncDir makes the entries of dir durable.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}

	return errors.Join(d.Sync(), d.Close())
}

// Free asks statfs.
func (OS) Free(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}

	return s.Bavail * uint64(s.Bsize), nil
}

// makeDir makes dir and the parents that are missing, and makes their entries
// durable: what is fsynced in a folder is gone with the folder's own name.
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

	// A previous run may have ended between the two; whoever may only look at
	// the folder has nothing in it to lose.
	if len(missing) == 0 {
		_ = fsys.SyncDir(filepath.Dir(dir))
	}

	return nil
}

func isMissing(name string) bool {
	_, err := os.Stat(name)

	return errors.Is(err, os.ErrNotExist)
}

// lockDir takes the directory for this process until the file is closed.
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
