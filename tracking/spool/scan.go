package spool

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Scan goes over the records from a reader's cursor on without reading all of
// the large ones, for an owner that keeps an index. length tells from the
// beginning of a record how long it is in all, 0 where that cannot be told. f
// gets the beginning of each record and the length of it; where that is not
// enough it returns false and is called again with the whole. Checksums are
// those of whole records: what f saw only the beginning of is checked when
// ReadAt reads it.
func (s *Spool) Scan(reader string, head int, length func(beginning []byte) int, f func(at Position, beginning []byte, n int) bool) error {
	s.mu.Lock()
	from, ok := s.cursors[reader]
	segs := make([]segment, 0, len(s.segs))
	for _, seg := range s.segs {
		if seg.seq >= from.Segment {
			segs = append(segs, *seg)
		}
	}
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("spool: no reader %q configured", reader)
	}
	for _, seg := range segs {
		at := Position{Segment: seg.seq}
		if seg.seq == from.Segment {
			at.Offset = from.Offset
		}
		if err := s.scanSegment(at, seg.size, head, length, f); err != nil {
			s.c.Log.Error("spool: segment not readable, passed over", "segment", seg.seq, "err", err)
		}
	}
	return nil
}

func (s *Spool) scanSegment(at Position, size int64, head int, length func([]byte) int, f func(Position, []byte, int) bool) error {
	file, err := s.c.FS.Open(s.path(at.Segment))
	if err != nil {
		return err
	}
	defer file.Close()
	buf := make([]byte, head+lineExtra)
	for at.Offset < size {
		b := buf[:min(int64(len(buf)), size-at.Offset)]
		if _, err := file.ReadAt(b, at.Offset); err != nil && err != io.EOF {
			return err
		}
		end := int64(bytes.IndexByte(b, '\n'))
		if end < 0 && len(b) == len(buf) {
			if n := length(b[lineExtra-1:]); n > 0 && at.Offset+int64(n+lineExtra) <= size {
				var last [1]byte
				if _, err := file.ReadAt(last[:], at.Offset+int64(n+lineExtra-1)); err == nil && last[0] == '\n' && f(at, b[lineExtra-1:], n) {
					at.Offset += int64(n + lineExtra)
					continue
				}
			}
		}
		line := b
		if end < 0 {
			if line, end, err = longLine(file, at.Offset, size); err != nil {
				return err
			}
		}
		if record, ok := parseLine(line[:end]); ok {
			f(at, record, len(record))
		} else {
			s.corrupt.Inc()
			s.c.Log.Error("spool: corrupt record passed over", "segment", at.Segment, "offset", at.Offset)
		}
		at.Offset += end + 1
	}
	return nil
}

// longLine reads from an offset to the end of the line. A durable segment ends
// with one.
func longLine(file File, offset, size int64) (line []byte, end int64, err error) {
	for n := int64(64 << 10); ; n *= 4 {
		line = make([]byte, min(n, size-offset))
		if _, err := file.ReadAt(line, offset); err != nil && err != io.EOF {
			return nil, 0, err
		}
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			return line, int64(i), nil
		}
		if int64(len(line)) == size-offset {
			return line, int64(len(line)), nil
		}
	}
}

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
		if !ok || seq < from.Segment {
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
		rec := Record{At: at}
		at.Offset += int64(len(line))
		rec.Next = at
		if data, ok := parseLine(line[:len(line)-1]); ok {
			rec.Data = data
			if !f(rec) {
				return false, nil
			}
		}
	}
}

// Cursor reads how far a reader of a spool's directory is.
func Cursor(dir, name string) Position {
	var p Position
	if data, err := os.ReadFile(filepath.Join(dir, "cursor-"+name)); err == nil {
		if record, ok := parseLine(bytes.TrimSuffix(data, []byte("\n"))); ok {
			_ = json.Unmarshal(record, &p)
		}
	}
	return p
}
