// Package localsocket provides the Unix sockets through which the programs of one
// machine communicate.
//
// A socket has mode 0660: its owner, the members of its group and root can
// connect.
package localsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// ErrInUse says that another process is listening on a socket.
var ErrInUse = errors.New("another process listens on it")

const (
	// Mode is the mode of every socket.
	Mode = 0o660

	// maxPath is the length of the longest path that fits into an address
	// (unix(7)). A longer one is reached through a descriptor of its directory.
	maxPath = 107

	dialTimeout = 10 * time.Second
)

// Listener listens on a socket. Close removes the file.
type Listener struct {
	*net.UnixListener
	path string
	lock *os.File // held while the socket belongs to this process
	once sync.Once
	err  error
}

// Listen listens on a socket and gives it to a group, by name or number; if group
// is empty, it has that of the process. A file that a killed process left behind is
// replaced. The error is ErrInUse if another process is listening.
func Listen(path, group string) (*Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("%s already exists and is not a socket", path)
	}

	lock, err := takeLock(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l, err := listen(path, group)
	if err != nil {
		lock.Close()
		return nil, err
	}

	return &Listener{UnixListener: l, path: path, lock: lock}, nil
}

// takeLock locks a file until it is closed or the process ends in any way.
func takeLock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, ErrInUse
	}

	return f, nil
}

// listen creates the socket under another name, and renames it once it has its
// group and mode. The rename replaces the file of a killed process.
func listen(path, group string) (*net.UnixListener, error) {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}

	addr, release, err := address(next)
	if err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", addr)
	release()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // the file has another name by then

	if err := publish(next, path, group); err != nil {
		l.Close()
		os.Remove(next)
		return nil, err
	}

	return l, nil
}

// publish gives the file next its group and mode, and renames it to path.
func publish(next, path, group string) error {
	if group != "" {
		if err := Give(next, group); err != nil {
			return err
		}
	}
	if err := os.Chmod(next, Mode); err != nil {
		return err
	}

	return os.Rename(next, path)
}

// Addr returns the address of the socket, with its path.
func (l *Listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening and removes the file. Later calls return the same error.
func (l *Listener) Close() error {
	l.once.Do(func() {
		l.err = errors.Join(os.Remove(l.path), l.UnixListener.Close(), l.lock.Close())
	})

	return l.err
}

// Dial connects to a socket. Errors are those of connect(2); see NobodyListens.
func Dial(ctx context.Context, path string) (*net.UnixConn, error) {
	addr, release, err := address(path)
	if err != nil {
		return nil, err
	}
	defer release()

	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "unix", addr.Name)
	if err != nil {
		return nil, err
	}

	return c.(*net.UnixConn), nil
}

// NobodyListens reports whether an error of Dial means that no process is listening
// on the socket.
func NobodyListens(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// address returns an address for a path of any length, which is valid until release
// is called.
func address(path string) (a *net.UnixAddr, release func(), err error) {
	if len(path) <= maxPath {
		return &net.UnixAddr{Name: path, Net: "unix"}, func() {}, nil
	}

	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))

	return &net.UnixAddr{Name: short, Net: "unix"}, func() { dir.Close() }, nil
}

// Give changes the group of a file or directory. The group is a name or number.
func Give(path, group string) error {
	gid, err := GroupID(group)
	if err != nil {
		return err
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return fmt.Errorf("cannot give %s to group %s, of which user %d must be a member: %w",
			path, group, os.Getuid(), err)
	}

	return nil
}

// GroupID returns the number of a group that is given by name or number.
func GroupID(group string) (int, error) {
	g, err := user.LookupGroup(group)
	if err != nil {
		n, notNumber := strconv.Atoi(group)
		if notNumber == nil && n >= 0 {
			return n, nil
		}
		return 0, fmt.Errorf("this machine has no group %q: make it with `groupadd --system %s`", group, group)
	}

	return strconv.Atoi(g.Gid)
}

// Admit lets the members of a group reach the files in a directory by name, but not
// list them. The directory is given to the group and becomes executable for it;
// if it already has another group with rights to it, which remain, the directory
// becomes executable for all.
func Admit(dir, group string) error {
	gid, err := GroupID(group)
	if err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: cannot determine the group", dir)
	}

	mode, isGroups := info.Mode(), int(st.Gid) == gid
	const groupBits, groupPass, allPass = 0o070, 0o010, 0o001
	switch {
	case mode&allPass != 0, isGroups && mode&groupPass != 0:
		return nil
	case isGroups || mode&groupBits == 0:
		if err := Give(dir, group); err != nil {
			return err
		}
		return os.Chmod(dir, mode|groupPass)
	}

	return os.Chmod(dir, mode|allPass)
}
