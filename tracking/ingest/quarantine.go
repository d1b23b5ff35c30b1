package ingest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// File is what the quarantine needs of a file that it appends to.
type File interface {
	io.Writer
	io.ReaderAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
}

// FS is what the quarantine needs of a file system, so that a test can fail
// each call.
type FS interface {
	MkdirAll(dir string) error
	OpenAppend(name string) (File, error) // made where it is missing, mode 0600
	SyncDir(dir string) error
}

// quarantine keeps events that will never be taken, a file a day.
//
// A failed write is truncated away. After a failed fsync the file is left
// alone, since the kernel may have dropped its pages, and another file of that
// day is begun. put returns nil only once the lines and the names that lead to
// them are durable.
type quarantine struct {
	dir string
	fs  FS
	now func() time.Time

	mu     sync.Mutex
	linked map[string]bool // files whose names are durable
	failed map[string]bool // files whose fsync failed
}

// rejected is an event and why it is in quarantine.
type rejected struct {
	reason string // refused, expired, unreadable
	status int
	words  string
	line   []byte
}

// rejectedLine is a line of a quarantine file.
type rejectedLine struct {
	At     time.Time       `json:"at"`
	Reason string          `json:"reason"`
	Status int             `json:"status,omitempty"`
	Words  string          `json:"words"`
	Event  json.RawMessage `json:"event,omitempty"`
	Raw    string          `json:"raw,omitempty"` // where it is not JSON
}

func newQuarantine(dir string, fsys FS, now func() time.Time) *quarantine {
	if fsys == nil {
		fsys = osFS{}
	}

	return &quarantine{
		dir:    dir,
		fs:     fsys,
		now:    now,
		linked: map[string]bool{},
		failed: map[string]bool{},
	}
}

// put makes events durable in today's file. After an error it may be called
// again with the same events.
func (q *quarantine) put(events ...rejected) error {
	var text bytes.Buffer

	now := q.now().UTC()
	for _, e := range events {
		l := rejectedLine{
			At:     now,
			Reason: e.reason,
			Status: e.status,
			Words:  e.words,
			Event:  slices.Clone(e.line),
		}
		if !json.Valid(e.line) {
			l.Event, l.Raw = nil, string(e.line)
		}

		b, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("ingest: quarantine: %w", err)
		}
		text.Write(b)
		text.WriteByte('\n')
	}

	q.mu.Lock()
	defer q.mu.Unlock()

	if err := q.append(q.file(now), text.Bytes()); err != nil {
		return fmt.Errorf("ingest: quarantine: %w", err)
	}

	return nil
}

// file returns the first of the day's files whose fsync has not failed.
func (q *quarantine) file(now time.Time) string {
	day := filepath.Join(q.dir, now.Format(time.DateOnly))

	name := day + ".ndjson"
	for n := 2; q.failed[name]; n++ {
		name = day + "-" + strconv.Itoa(n) + ".ndjson"
	}

	return name
}

func (q *quarantine) append(name string, text []byte) error {
	if err := q.fs.MkdirAll(q.dir); err != nil {
		return err
	}

	f, err := q.fs.OpenAppend(name)
	if err != nil {
		return err
	}

	err = q.write(f, name, text)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}

	if q.linked[name] {
		return nil
	}
	if err := errors.Join(q.fs.SyncDir(q.dir), q.fs.SyncDir(filepath.Dir(q.dir))); err != nil {
		return err
	}
	q.linked[name] = true

	return nil
}

// write appends text behind the last whole line of f, and syncs it.
func (q *quarantine) write(f File, name string, text []byte) error {
	end, err := wholeLines(f)
	if err != nil {
		return err
	}

	if _, err := f.Write(text); err != nil {
		return errors.Join(err, f.Truncate(end))
	}

	if err := f.Sync(); err != nil {
		q.failed[name] = true
		return err
	}

	return nil
}

// wholeLines cuts off a line that a crash left without its end, and returns
// the size of f then.
func wholeLines(f File) (int64, error) {
	size, err := f.Size()
	if err != nil {
		return 0, err
	}

	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		n := min(int64(len(buf)), end)
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}

		i := bytes.LastIndexByte(buf[:n], '\n')
		if i < 0 {
			end -= n
			continue
		}

		whole := end - n + int64(i) + 1
		if whole == size {
			return size, nil
		}

		return whole, f.Truncate(whole)
	}

	if size == 0 {
		return 0, nil
	}

	return 0, f.Truncate(0)
}

// osFS is the machine's own file system.
type osFS struct{}

func (osFS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (osFS) OpenAppend(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}

	return osFile{f}, nil
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}

	return errors.Join(d.Sync(), d.Close())
}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}

	return info.Size(), nil
}
