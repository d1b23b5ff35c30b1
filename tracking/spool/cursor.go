package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"
)

// A cursor file holds two slots, each a line of the form of a record, padded
// with spaces. A commit overwrites the older slot in place and fsyncs it: a
// crash in between leaves the other, and a full disk is no obstacle. The slots
// lie in different blocks, so that a block that cannot be written takes one.
const (
	slotBytes   = 4 << 10
	cursorBytes = 2 * slotBytes
)

// slot is the content of a cursor's slot. A file of one line without a number
// is of an older version.
type slot struct {
	Number uint64 `json:"n"`
	Position
}

// cursor is the file that says how far a reader is.
type cursor struct {
	fs   FS
	name string // of the file

	mu     sync.Mutex
	file   File // nil: to be opened
	number uint64
	at     int // index of the slot that holds the newest position
}

func (s *Spool) cursorFile(reader string) string {
	return filepath.Join(s.cfg.Dir, "cursor-"+reader)
}

// openCursor reads a reader's cursor and prepares its file. Reading starts at
// the beginning where the file is missing or damaged: records may then go
// twice, none is lost.
func (s *Spool) openCursor(reader string) (Position, error) {
	c := &cursor{fs: s.fs, name: s.cursorFile(reader)}
	s.cursorFiles[reader] = c

	var data []byte
	err := retryBriefly(func() (err error) {
		data, err = readSmall(c.fs, c.name)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Position{}, fmt.Errorf("spool: cursor: %w", err)
	}

	newest, at, damaged := newestSlot(data)
	if damaged {
		s.log.Error("spool: damaged cursor", "file", c.name, "segment", newest.Segment, "offset", newest.Offset)
	}

	if at < 0 && len(bytes.Trim(data, " \x00")) > 0 {
		kept, err := s.quarantineFile(c.name)
		if err != nil {
			return Position{}, err
		}
		s.log.Error("spool: cursor quarantined, reading from the start", "file", kept)
	}

	c.number, c.at = newest.Number, max(at, 0)

	// Room and descriptor are there from now on, whatever becomes of the disk
	// and the process later. Where they are not, the first commit tries again.
	whole := len(data) == cursorBytes && at >= 0
	if err := c.prepare(newest.Position, whole); err != nil {
		s.log.Warn("spool: cursor not prepared", "file", c.name, "err", err)
	}

	return newest.Position, nil
}

// prepare opens the file and gives it its full size, with the position in a
// slot, where it is not whole.
func (c *cursor) prepare(p Position, whole bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	if !whole {
		return c.write(p)
	}

	return c.open()
}

// commit makes a position durable.
func (c *cursor) commit(p Position) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	err := c.write(p)
	if err != nil {
		c.drop()
	}

	return err
}

// write overwrites the older slot; under mu.
func (c *cursor) write(p Position) error {
	if c.file == nil {
		if err := c.open(); err != nil {
			return err
		}
	}

	next := 1 - c.at
	line := encodeSlot(slot{c.number + 1, p})
	if _, err := c.file.WriteAt(line, int64(next)*slotBytes); err != nil {
		return fmt.Errorf("spool: cursor: %w", err)
	}

	if err := c.file.Sync(); err != nil {
		return fmt.Errorf("spool: cursor: %w", err)
	}

	c.number++
	c.at = next

	return nil
}

// open opens the file, or makes it with its room allocated; under mu.
func (c *cursor) open() error {
	f, err := c.fs.Open(c.name)
	if err == nil {
		c.file = f
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: cursor: %w", err)
	}

	f, err = c.fs.Create(c.name)
	if err != nil {
		return fmt.Errorf("spool: cursor: %w", err)
	}

	// Appended, so that the file has its whole size before it is a cursor.
	_, err = f.Write(bytes.Repeat([]byte{' '}, cursorBytes))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = c.fs.SyncDir(filepath.Dir(c.name))
	}

	if err == nil {
		f, err = c.fs.Open(c.name)
	}
	if err != nil {
		_ = c.fs.Remove(c.name)
		return fmt.Errorf("spool: cursor: %w", err)
	}

	c.file = f

	return nil
}

// drop closes the file, so that the next write opens it anew; under mu.
func (c *cursor) drop() {
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
}

func (c *cursor) close() {
	c.mu.Lock()
	c.drop()
	c.mu.Unlock()
}

func encodeSlot(s slot) []byte {
	data, _ := json.Marshal(s) // numbers alone, which cannot fail
	padded := bytes.Repeat([]byte{' '}, slotBytes)
	copy(padded, appendLine(nil, data))

	return padded
}

// newestSlot reads a cursor file. It returns the newest slot and its index, -1
// where there is none, and whether a slot holds what is not a position.
func newestSlot(data []byte) (newest slot, at int, damaged bool) {
	at = -1
	for i := range 2 {
		if len(data) <= i*slotBytes {
			break
		}

		text := data[i*slotBytes : min(len(data), (i+1)*slotBytes)]
		line, _, _ := bytes.Cut(text, []byte("\n"))
		if len(bytes.Trim(line, " \x00")) == 0 {
			continue
		}

		var s slot
		record, ok := parseLine(line)
		if !ok || json.Unmarshal(record, &s) != nil {
			damaged = true
			continue
		}
		if at < 0 || s.Number > newest.Number {
			newest, at = s, i
		}
	}

	return newest, at, damaged
}

// readSmall reads a cursor file.
func readSmall(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	buf := make([]byte, cursorBytes)
	n, err := f.ReadAt(buf, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}

	return buf[:n], err
}
