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

// AppendFile is what Appender needs of an open file.
type AppendFile interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
}

// AppendFS is what Appender needs of a file system, so that a test can fail
// each call.
type AppendFS interface {
	MkdirAll(dir string) error
	OpenAppend(name string) (AppendFile, error) // made where it is missing, mode 0600
	SyncDir(dir string) error
}

// Appender appends whole lines to files, each time in one durable step.
//
// A line that a crash left without its end is cut off, and a failed write is
// truncated away. After a failed fsync the file is left alone, since the kernel
// may have dropped its pages, and the lines go to NAME-2.EXT, and so on. It is
// safe for concurrent use; a file must have one Appender.
type Appender struct {
	fs AppendFS

	mu     sync.Mutex
	linked map[string]bool // files whose names are durable
	failed map[string]bool // files whose fsync failed
}

// NewAppender returns an Appender. Where fsys is nil it uses the machine's own
// file system.
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

// Append makes lines durable at the end of the file name, and makes the file
// and its folder where they are missing. The text ends with a line end. After
// an error it may be called again with the same text, which may then be there
// twice, but never in parts.
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

	err = a.write(f, name, text)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}

	if a.linked[name] {
		return nil
	}

	if err := errors.Join(a.fs.SyncDir(dir), a.fs.SyncDir(filepath.Dir(dir))); err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}
	a.linked[name] = true

	return nil
}

// usable returns the first of name, NAME-2.EXT, ... whose fsync has not failed.
func (a *Appender) usable(name string) string {
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)

	for n := 2; a.failed[name]; n++ {
		name = stem + "-" + strconv.Itoa(n) + ext
	}

	return name
}

// write appends text behind the last whole line of f, and syncs it.
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

// wholeLines cuts off a line without an end, and returns the size of f then.
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

// MkdirAll makes a folder, and those above it, that only their owner reads.
func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

// OpenAppend opens a file to append to it. It is made where it is missing.
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
