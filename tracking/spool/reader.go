package spool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// Record is one record, where it is, and the position behind it.
type Record struct {
	Data []byte
	At   Position
	Next Position
}

// Reader reads durable records in order, from where its cursor is.
type Reader struct {
	s    *Spool
	name string
	at   Position
	buf  []byte // read ahead, beginning at at
}

// Reader gives the reader of that name, which must be among Config.Readers.
func (s *Spool) Reader(name string) (*Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.cursors[name]
	if !ok {
		return nil, fmt.Errorf("spool: no reader %q configured", name)
	}
	return &Reader{s: s, name: name, at: at}, nil
}

// Next waits for a record. It returns ctx's error when that ends first.
func (r *Reader) Next(ctx context.Context) (Record, error) {
	for {
		if i := bytes.IndexByte(r.buf, '\n'); i >= 0 {
			line := r.buf[:i]
			r.buf = r.buf[i+1:]
			at := r.at
			r.at.Offset += int64(i) + 1
			if data, ok := parseLine(line); ok {
				return Record{append([]byte(nil), data...), at, r.at}, nil
			}
			r.s.corrupt.Inc()
			r.s.c.Log.Error("spool: corrupt record passed over", "segment", r.at.Segment, "before", r.at.Offset)
			continue
		}
		size, next, grown := r.s.look(r.at)
		switch {
		case r.at.Offset+int64(len(r.buf)) < size:
			if err := r.fill(size); err != nil {
				r.s.c.Log.Error("spool: segment not readable, passed over", "segment", r.at.Segment, "err", err)
				r.buf, r.at.Offset = nil, size
			}
		case next != 0:
			r.buf, r.at = nil, Position{Segment: next}
		default:
			select {
			case <-grown:
			case <-ctx.Done():
				return Record{}, ctx.Err()
			}
		}
	}
}

// look tells how much of p's segment is durable, which segment follows where
// that one is complete (0: none yet), and what to wait for.
func (s *Spool) look(p Position) (size int64, next uint64, grown <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	complete := true // a segment that is gone
	for _, seg := range s.segs {
		switch {
		case seg.seq == p.Segment:
			size, complete = seg.size, seg.closed
		case seg.seq > p.Segment && complete:
			return size, seg.seq, s.grown
		}
	}
	return size, 0, s.grown
}

const readAhead = 256 << 10

func (r *Reader) fill(size int64) error {
	f, err := r.s.c.FS.Open(r.s.path(r.at.Segment))
	if err != nil {
		return err
	}
	defer f.Close()
	from := r.at.Offset + int64(len(r.buf))
	chunk := make([]byte, min(size-from, max(readAhead, int64(len(r.buf)))))
	n, err := f.ReadAt(chunk, from)
	r.buf = append(r.buf[:len(r.buf):len(r.buf)], chunk[:n]...)
	if n > 0 {
		return nil
	}
	return err
}

// Rewind goes back to the last committed position.
func (r *Reader) Rewind() {
	r.s.mu.Lock()
	r.at, r.buf = r.s.cursors[r.name], nil
	r.s.mu.Unlock()
}

// Commit makes it durable that everything before p has been dealt with.
func (r *Reader) Commit(p Position) error {
	data, _ := json.Marshal(p)
	name := filepath.Join(r.s.c.Dir, "cursor-"+r.name)
	fsys := r.s.c.FS
	if err := fsys.Remove(name + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	f, err := fsys.Create(name + ".new")
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	_, err = f.Write(appendLine(nil, data))
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = fsys.Rename(name+".new", name)
	}
	if err == nil {
		err = fsys.SyncDir(r.s.c.Dir)
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	r.s.mu.Lock()
	r.s.cursors[r.name] = p
	r.s.mu.Unlock()
	return nil
}

// readCursor starts at the beginning where the cursor is missing or broken:
// records may then go twice, none is lost.
func (s *Spool) readCursor(name string) Position {
	file := filepath.Join(s.c.Dir, "cursor-"+name)
	data, err := s.readSmall(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Position{}
	}
	var p Position
	record, ok := parseLine(bytes.TrimSuffix(data, []byte("\n")))
	if err != nil || !ok || json.Unmarshal(record, &p) != nil {
		s.c.Log.Error("spool: cursor set aside, reading from the start", "file", file, "err", err)
		if err := s.c.FS.Rename(file, file+".broken"); err != nil {
			s.c.Log.Error("spool: cursor not set aside", "file", file, "err", err)
		}
		return Position{}
	}
	return p
}

const maxCursor = 1 << 10

func (s *Spool) readSmall(name string) ([]byte, error) {
	f, err := s.c.FS.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, maxCursor)
	n, err := f.ReadAt(buf, 0)
	if err == io.EOF {
		err = nil
	}
	return buf[:n], err
}

// Newest is the position that the next record will have, or one before it.
func (s *Spool) Newest() Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segs) == 0 {
		return Position{}
	}
	last := s.segs[len(s.segs)-1]
	return Position{last.seq, last.size}
}

// Free commits a reader's position for an owner that reads with ReadAt: what
// is before it is not needed any more. It writes only where that lets a whole
// segment go.
func (s *Spool) Free(reader string, p Position) error {
	s.mu.Lock()
	at := s.cursors[reader]
	s.mu.Unlock()
	if p.Segment <= at.Segment {
		return nil
	}
	return (&Reader{s: s, name: reader}).Commit(Position{Segment: p.Segment})
}
