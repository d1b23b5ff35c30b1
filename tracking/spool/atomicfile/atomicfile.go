// Package atomicfile replaces small files, and appends lines to files, in one
// durable step.
//
// Write replaces a file: readers see the old content or the new one, never a part
// of it, and so does the next run after a crash. The content is written to
// NAME.new and fsynced, the file is renamed to NAME, and the directory is
// fsynced. An Appender appends whole lines.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// File is an open file of an FS.
type File interface {
	io.Writer
	io.Closer
	Sync() error
}

// FS is the file system of Write. Tests use it to let each call fail in turn.
type FS interface {
	// Create creates a file with mode 0600. It fails if the file exists.
	Create(name string) (File, error)

	Rename(from, to string) error
	Remove(name string) error

	// SyncDir makes the entries of a directory durable.
	SyncDir(dir string) error
}

// Options are the options of Write. The zero value is right for most files.
type Options struct {
	// FS is the file system to use (default OS).
	FS FS

	// Perm is the mode of a file that does not exist yet (default 0600). A file
	// that exists keeps its mode and, if the process may change owners, its owner.
	Perm fs.FileMode

	// OwnerLost, if set, is called if the owner of the file could not be kept, so
	// that the file now belongs to the user of the process.
	OwnerLost func(uid, gid int, err error)
}

// pending is appended to the name of a file while its new content is written.
const pending = ".new"

// Write replaces the content of the named file. If name is a symbolic link, the
// file that it points to is replaced. The new content is durable once Write
// returns nil. After an error the file has its old content, unless it was the
// last step that failed, the fsync of the directory: then it may have either.
//
// If a file has more than one writer, they must use Lock.
func Write(name string, data []byte, o Options) error {
	target, err := Resolve(name)
	if err != nil {
		return err
	}

	fsys := o.FS
	if fsys == nil {
		fsys = OS{}
	}

	next := target + pending
	if err := fsys.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace %s: %w", name, err)
	}

	err = writeFile(fsys, next, target, data, o)
	if err == nil {
		err = fsys.Rename(next, target)
	}
	if err != nil {
		_ = fsys.Remove(next) // or the next Write does

		return fmt.Errorf("replace %s: %w", name, err)
	}

	if err := fsys.SyncDir(filepath.Dir(target)); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}

	return nil
}

// writeFile creates the file next, with the owner and mode of target, and makes
// its content durable.
func writeFile(fsys FS, next, target string, data []byte, o Options) error {
	f, err := fsys.Create(next)
	if err != nil {
		return err
	}

	_, err = f.Write(data)
	if err == nil {
		err = keepOwner(f, target, o)
	}

	if err == nil {
		err = f.Sync()
	}

	return errors.Join(err, f.Close())
}

// keepOwner sets the mode and owner of f to those of target, or to those of a new
// file if there is no target. Files that are not of the operating system have
// neither.
func keepOwner(f File, target string, o Options) error {
	of, ok := f.(*os.File)
	if !ok {
		return nil
	}

	perm := o.Perm
	if perm == 0 {
		perm = 0o600
	}

	info, err := os.Stat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return of.Chmod(perm)
	}
	if err != nil {
		return err
	}

	st := info.Sys().(*syscall.Stat_t)
	uid, gid := int(st.Uid), int(st.Gid)

	if err := of.Chown(uid, gid); err != nil && o.OwnerLost != nil {
		o.OwnerLost(uid, gid, err)
	}

	// After Chown, which may clear bits of the mode.
	return of.Chmod(info.Mode().Perm())
}

// Resolve returns the name of the file that name points to through symbolic
// links, or name itself if there is no such file. A link to a file that does not
// exist is an error.
func Resolve(name string) (string, error) {
	target, err := filepath.EvalSymlinks(name)
	if err == nil {
		return target, nil
	}

	_, lstatErr := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) && errors.Is(lstatErr, fs.ErrNotExist) {
		return name, nil
	}

	return "", fmt.Errorf("resolve %s: %w", name, err)
}

// Lock locks the directory of the named file with flock(2), and waits for that if
// another process has it locked. A process that reads, changes and replaces a file
// between Lock and unlock does not lose the changes of others.
func Lock(name string) (unlock func(), err error) {
	target, err := Resolve(name)
	if err != nil {
		return nil, err
	}

	dir, err := os.Open(filepath.Dir(target))
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}

	for {
		err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}

	return func() { dir.Close() }, nil
}

// OS is the file system of the operating system.
type OS struct{}

// Create creates a file with mode 0600.
func (OS) Create(name string) (File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// Rename calls os.Rename.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove calls os.Remove.
func (OS) Remove(name string) error { return os.Remove(name) }

// SyncDir calls fsync(2) on dir.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}

	return errors.Join(d.Sync(), d.Close())
}
