package spool

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ReadDir calls f with each valid record of the spool in dir, in order, until f
// returns false. It does not take the lock, so another process may have the spool
// open. If dir does not exist there are no records.
func ReadDir(dir string, f func(Record) bool) error {
	return ReadFrom(dir, Position{}, f)
}

// ReadFrom is like ReadDir, from a position on.
func ReadFrom(dir string, from Position, f func(Record) bool) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}

	for _, e := range entries {
		seq, ok := segmentNumber(e.Name())
		if !ok || seq < from.Segment || !e.Type().IsRegular() {
			continue
		}

		at := Position{Segment: seq}
		if seq == from.Segment {
			at = from
		}

		more, err := readFile(filepath.Join(dir, e.Name()), at, f)
		if err != nil || !more {
			return err
		}
	}

	return nil
}

// readFile calls f with each valid record of a segment from a position on. It
// returns false once f does. A segment that does not exist was removed meanwhile
// and has no records; an incomplete last line is still being written.
func readFile(name string, at Position, f func(Record) bool) (more bool, err error) {
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("spool: %w", err)
	}
	defer file.Close()

	if _, err := file.Seek(at.Offset, io.SeekStart); err != nil {
		return false, fmt.Errorf("spool: %w", err)
	}

	r := bufio.NewReaderSize(file, readAhead)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("spool: %w", err)
		}

		for len(line) > 0 {
			data, n, ok := takeLine(line[:len(line)-1])
			next := Position{Segment: at.Segment, Offset: at.Offset + int64(n)}
			if ok && !f(Record{Data: data, At: at, Next: next}) {
				return false, nil
			}

			line = line[n:]
			at = next
		}
	}
}
