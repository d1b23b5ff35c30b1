// Package atomicfile replaces small files in one durable step.
//
// A reader of the file sees the old content or the new one, never a part, and
// a crash at any instant leaves one of the two: the content is written to
// NAME.new, fsynced, renamed over NAME, and the folder is fsynced.
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

// File is what Write needs of an open file.
type File interface {
	io.Writer
	io.Closer
	Sync() error
}

// FS is what Write needs of a file system, so that a test can fail each call.
type FS interface {
	Create(name string) (File, error) // must not exist; mode 0600
	Rename(from, to string) error
	Remove(name string) error
	SyncDir(dir string) error
}

// Options say how a file is replaced. The zero value is good for most files.
type Options struct {
	FS FS // nil: the machine's own

	// Perm is the mode of a file that does not exist yet: 0600. A file that
	// exists keeps its mode and, where the process may set it, its owner.
	Perm fs.FileMode

	// OwnerLost, where set, is told that the file now belongs to the process's
	// user, for its owner could not be kept.
	OwnerLost func(uid, gid int, err error)
}

// pending is the name under which new content waits for its rename.
const pending = ".new"

// Write replaces the content of the file name. A symbolic link stays, and the
// file that it leads to is replaced. The new content is durable when Write
// returns nil; on an error the old content is there, unless the error is that
// of the last step (the fsync of the folder), after which it may be either.
//
// Two writers of one file must hold Lock.
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
		fsys.Remove(next) //nolint:errcheck // the next Write removes it
		return fmt.Errorf("replace %s: %w", name, err)
	}

	if err := fsys.SyncDir(filepath.Dir(target)); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}

	return nil
}

// writeFile makes the file next durable, with the owner and mode of target.
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

// keepOwner gives f the mode and owner of target, or the mode of a new file.
// A file that is no file of the machine's has neither.
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

	return of.Chmod(info.Mode().Perm())
}

// Resolve returns the file that name leads to through symbolic links. A file
// that does not exist is itself; a link to one that does not is an error.
func Resolve(name string) (string, error) {
	target, err := filepath.EvalSymlinks(name)
	if err == nil {
		return target, nil
	}

	if _, lerr := os.Lstat(name); errors.Is(err, fs.ErrNotExist) && errors.Is(lerr, fs.ErrNotExist) {
		return name, nil
	}

	return "", fmt.Errorf("resolve %s: %w", name, err)
}

// Lock waits until no other process holds the folder of the file name, and
// holds it until unlock is called. Reading, changing and replacing a file
// under it loses nobody's change.
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

// OS is the machine's own file system.
type OS struct{}

// Create makes a new file that only its owner reads.
func (OS) Create(name string) (File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// Rename is os.Rename.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove is os.Remove.
func (OS) Remove(name string) error { return os.Remove(name) }

// SyncDir makes the entries of dir durable.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}

	return errors.Join(d.Sync(), d.Close())
}
