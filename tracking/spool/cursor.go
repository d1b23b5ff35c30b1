package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
)

// A cursor file has two slots, each of them a line like that of a record, padded
// with spaces. A commit overwrites the older slot in place and fsyncs it, so that
// a crash leaves the other one, and a full disk does not matter. The slots are in
// different blocks, so that a bad block damages only one.
const (
	slotBytes   = 4 << 10
	cursorBytes = 2 * slotBytes
)

// slot is the content of a slot; the higher number is the newer one. Files of
// older versions have one line without a number.
type slot struct {
	Number uint64 `json:"n"`
	Position
}

// cursor is the file of one reader's position.
type cursor struct {
	fs   FS
	name string // of the file

	mu     sync.Mutex
	file   File   // nil if it must be opened first
	number uint64 // of the newest slot
	at     int    // index of the newest slot
}

// cursorFile returns the name of a reader's cursor file.
func (s *Spool) cursorFile(reader string) string {
	return filepath.Join(s.cfg.Dir, "cursor-"+reader)
}

// openCursor reads the cursor of a reader and prepares its file. If there is no
// valid cursor, the reader starts at the beginning of the log: it may see records
// twice, but misses none.
func (s *Spool) openCursor(reader string) (Position, error) {
	c := &cursor{fs: s.fs, name: s.cursorFile(reader)}
	s.cursorFiles[reader] = c

	var data []byte
	err := retryBriefly(func() (err error) {
		data, err = c.read()
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
		s.log.Error("spool: cursor quarantined, reading from the start", "quarantine", kept)
	}

	c.number = newest.Number
	c.at = max(at, 0)

	// From now on the file has its blocks and its descriptor, even if the disk
	// becomes full or descriptors run out. If this fails, Commit tries again.
	if len(data) == cursorBytes && at >= 0 {
		err = c.reopen()
	} else {
		err = c.commit(newest.Position)
	}
	if err != nil {
		s.log.Warn("spool: cannot prepare cursor", "file", c.name, "err", err)
	}

	return newest.Position, nil
}

// reopen opens the file if it is not open.
func (c *cursor) reopen() error {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.open()
}

// commit makes a position durable. After an error the file is opened anew by the
// next commit.
func (c *cursor) commit(p Position) error {
	c.mu.Lock()
	defer c.mu.Unlock()

	err := c.write(p)
	if err != nil {
		c.drop()
	}

	return err
}

// write overwrites the older slot. The caller holds mu.
func (c *cursor) write(p Position) error {
	if err := c.open(); err != nil {
		return err
	}

	next := 1 - c.at
	line := encodeSlot(slot{Number: c.number + 1, Position: p})
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

// open opens the file if it is not open, and creates it with its full size if it
// does not exist. The caller holds mu.
func (c *cursor) open() error {
	if c.file != nil {
		return nil
	}

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

	// Spaces are not a position: a crash here leaves a cursor without one.
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

// drop closes the file. The caller holds mu.
func (c *cursor) drop() {
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
}

// close closes the file; a later commit opens it again.
func (c *cursor) close() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.drop()
}

// encodeSlot returns the bytes of a slot.
func encodeSlot(s slot) []byte {
	data, _ := json.Marshal(s) // cannot fail: all fields are numbers

	padded := bytes.Repeat([]byte{' '}, slotBytes)
	copy(padded, appendLine(nil, data))

	return padded
}

// newestSlot parses a cursor file. It returns the newest slot and its index, or
// -1 if there is no valid one, and whether a slot is damaged.
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

// read returns the content of the file, as far as a cursor goes.
func (c *cursor) read() ([]byte, error) {
	f, err := c.fs.Open(c.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	return readUpTo(f, make([]byte, cursorBytes), 0)
}
