package spool

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// File is what the spool needs of an open file.
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// FS is what the spool needs of a file system, so that a test can fail or cut
// every call in turn.
type FS interface {
	Create(name string) (File, error) // must not exist
	Open(name string) (File, error)   // for reading and truncating
	Rename(from, to string) error
	Remove(name string) error
	List(dir string) ([]os.FileInfo, error)
	SyncDir(dir string) error
	Free(dir string) (uint64, error) // bytes free for who is not root
}

// OS is the machine's own file system.
type OS struct{}

// Create makes a new file that only its owner reads. It appends, so that after
// a truncation the next write lands at the new end and leaves no hole.
func (OS) Create(name string) (File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
}

// Open opens an existing file.
func (OS) Open(name string) (File, error) { return os.OpenFile(name, os.O_RDWR, 0) }

// Rename is os.Rename.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove is os.Remove.
func (OS) Remove(name string) error { return os.Remove(name) }

// List gives the regular files of dir, by name.
func (OS) List(dir string) ([]os.FileInfo, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var infos []os.FileInfo
	for _, e := range entries {
		if i, err := e.Info(); err == nil && i.Mode().IsRegular() {
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
	defer d.Close()
	return d.Sync()
}

// Free asks statfs.
func (OS) Free(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}

// lockDir takes the directory for this process until the file is closed.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, ErrLocked
	}
	return f, nil
}
