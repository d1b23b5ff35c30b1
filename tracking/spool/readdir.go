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

// ReadDir reads the whole records of a spool's directory in order, without its
// lock, until f returns false: for who looks on while another process writes.
func ReadDir(dir string, f func(Record) bool) error {
	return ReadFrom(dir, Position{}, f)
}

// ReadFrom is ReadDir from a position on.
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
		if more, err := readFile(filepath.Join(dir, e.Name()), at, f); err != nil || !more {
			return err
		}
	}

	return nil
}

func readFile(name string, at Position, f func(Record) bool) (more bool, err error) {
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // freed meanwhile
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
		if err == io.EOF { // a line that is being written is none yet
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("spool: %w", err)
		}
		for len(line) > 0 {
			data, n, ok := takeLine(line[:len(line)-1])
			rec := Record{Data: data, At: at}
			line = line[n:]
			at.Offset += int64(n)
			rec.Next = at
			if ok && !f(rec) {
				return false, nil
			}
		}
	}
}
