package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// AppendFile is an open file of an AppendFS.
type AppendFile interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
}

// AppendFS is the file system of an Appender. Tests use it to let each call fail
// in turn.
type AppendFS interface {
	// MkdirAll creates a directory and its missing parents with mode 0700.
	MkdirAll(dir string) error

	// OpenAppend opens a file for appending. It is created with mode 0600 if it
	// does not exist.
	OpenAppend(name string) (AppendFile, error)

	// SyncDir makes the entries of a directory durable.
	SyncDir(dir string) error
}

// Appender appends whole lines to files, each time in one durable step.
//
// A last line that a crash left incomplete is truncated away first, and so is
// what a failed write left. After a failed fsync a file is not used again, because
// the kernel may have dropped its dirty pages: lines are appended to NAME-2.EXT,
// and so on.
//
// An Appender is safe for concurrent use. No two Appenders may use one file.
type Appender struct {
	fs AppendFS

	mu     sync.Mutex
	linked map[string]bool // files whose directory entries are durable
	failed map[string]bool // files whose fsync failed
}

// NewAppender returns an Appender. If fsys is nil it uses OS.
func NewAppender(fsys AppendFS) *Appender {
	if fsys == nil {
		fsys = OS{}
	}

	return &Appender{
		fs:     fsys,
		linked: map[string]bool{},
		failed: map[string]bool{},
	}
}

// Append appends text, which must end with a line end, to the named file and makes
// it durable. It creates the file and its directory if they do not exist. After
// an error Append may be called again with the same text, which may then be in
// the file twice, but never in part.
func (a *Appender) Append(name string, text []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()

	name = a.usable(name)
	dir := filepath.Dir(name)
	if err := a.fs.MkdirAll(dir); err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}

	f, err := a.fs.OpenAppend(name)
	if err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}

	err = errors.Join(a.write(f, name, text), f.Close())
	if err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}

	if a.linked[name] {
		return nil
	}

	err = errors.Join(a.fs.SyncDir(dir), a.fs.SyncDir(filepath.Dir(dir)))
	if err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}
	a.linked[name] = true

	return nil
}

// usable returns the first of name, NAME-2.EXT, NAME-3.EXT and so on that had no
// failed fsync.
func (a *Appender) usable(name string) string {
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)

	for n := 2; a.failed[name]; n++ {
		name = stem + "-" + strconv.Itoa(n) + ext
	}

	return name
}

// write appends text behind the last whole line of f and fsyncs it.
func (a *Appender) write(f AppendFile, name string, text []byte) error {
	end, err := wholeLines(f)
	if err != nil {
		return err
	}

	if _, err := f.Write(text); err != nil {
		return errors.Join(err, f.Truncate(end))
	}

	if err := f.Sync(); err != nil {
		a.failed[name] = true
		return err
	}

	return nil
}

// wholeLines truncates f behind its last whole line and returns its size.
func wholeLines(f AppendFile) (int64, error) {
	size, err := f.Size()
	if err != nil {
		return 0, err
	}

	whole := int64(0)
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		n := min(int64(len(buf)), end)
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			whole = end - n + int64(i) + 1
			break
		}
		end -= n
	}

	if whole == size {
		return size, nil
	}

	return whole, f.Truncate(whole)
}

// MkdirAll creates dir and its missing parents with mode 0700.
func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

// OpenAppend opens a file with O_APPEND, and creates it with mode 0600 if it does
// not exist.
func (OS) OpenAppend(name string) (AppendFile, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}

	return appendFile{f}, nil
}

type appendFile struct{ *os.File }

// Size returns the size of the file.
func (f appendFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}

	return info.Size(), nil
}
