package spool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"
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

	failed time.Duration // the pause after the last error of a read, 0: none

	mu   sync.Mutex // of the open segment, which the writer may close
	file File
	open uint64 // number of the segment that file is
}

// Reader returns the reader of that name, which must be among Config.Readers.
func (s *Spool) Reader(name string) (*Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	at, ok := s.cursors[name]
	if !ok {
		return nil, errNoReader(name)
	}

	r := &Reader{s: s, name: name, at: at}
	s.readers = append(s.readers, r)

	return r, nil
}

// Next waits for a record. It returns ctx's error when that ends first. While a
// segment cannot be read it waits and tries again, for an error of the machine
// says nothing of the records; what is damaged or gone is passed over.
func (r *Reader) Next(ctx context.Context) (Record, error) {
	for {
		if i := bytes.IndexByte(r.buf, '\n'); i >= 0 {
			line := r.buf[:i]
			data, n, ok := takeLine(line)
			r.buf = r.buf[n:]
			at := r.at
			r.at.Offset += int64(n)
			if ok {
				return Record{bytes.Clone(data), at, r.at}, nil
			}
			r.s.quarantineLine(at, line, ErrCorrupt)
			continue
		}

		size, next, grown := r.s.look(r.at)
		switch {
		case r.at.Offset+int64(len(r.buf)) < size:
			if err := r.readMore(ctx, size); err != nil {
				return Record{}, err
			}
		case next != 0:
			if size > 0 { // else the segment was removed, for room
				if rec, ok := r.unendedRecord(); ok {
					return rec, nil
				}
				r.skipTail()
			}
			r.release()
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

// unendedRecord returns a whole record that follows the last line of a segment
// that is complete. Open ends such a line, where the disk lets it.
func (r *Reader) unendedRecord() (Record, bool) {
	data, n, ok := takeTail(r.buf)
	if !ok {
		return Record{}, false
	}

	at := r.at
	r.at.Offset += int64(n)
	r.buf = r.buf[n:]

	return Record{bytes.Clone(data), at, r.at}, true
}

// skipTail keeps what follows the last line of a segment that is complete, or
// that is gone.
func (r *Reader) skipTail() {
	if len(r.buf) > 0 {
		r.s.quarantineLine(r.at, r.buf, io.ErrUnexpectedEOF)
	}
}

// The pauses between attempts to read a segment.
const (
	minReadPause = 10 * time.Millisecond
	maxReadPause = 5 * time.Second
)

// readMore reads on in a segment that has size durable bytes. After an error
// that says nothing of the records it waits a while; it returns an error where
// ctx ends meanwhile.
func (r *Reader) readMore(ctx context.Context, size int64) error {
	err := r.fill(size)
	switch {
	case err == nil:
		if r.failed >= time.Second {
			r.s.log.Info("spool: segment is readable again", "segment", r.at.Segment)
		}
		r.failed = 0
		return nil

	case errors.Is(err, fs.ErrNotExist), errors.Is(err, io.EOF):
		if now, _, _ := r.s.look(r.at); now < size { // removed just now, for room
			r.buf = nil
			return nil
		}
		r.s.metrics.gone.Inc()
		r.s.log.Error("spool: segment is gone or cut, passed over", "segment", r.at.Segment,
			"from", r.at.Offset, "to", size, "err", err)
		r.skipTail()
		r.release()
		r.buf, r.at.Offset = nil, size
		return nil
	}

	r.s.metrics.readErrors.Inc()
	r.release()
	if r.failed == 0 || r.failed == maxReadPause {
		r.s.log.Error("spool: segment not readable, trying again", "segment", r.at.Segment,
			"offset", r.at.Offset, "err", err)
	}

	r.failed = min(max(2*r.failed, minReadPause), maxReadPause)

	timer := time.NewTimer(r.failed)
	defer timer.Stop()

	select {
	case <-timer.C:
		return nil
	case <-r.s.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look returns how much of p's segment is durable, which segment follows where
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

// fill reads the next bytes of the segment, which stays open meanwhile.
func (r *Reader) fill(size int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.file == nil || r.open != r.at.Segment {
		r.closeFile()
		f, err := r.s.fs.Open(r.s.path(r.at.Segment))
		if err != nil {
			return err
		}
		r.file, r.open = f, r.at.Segment
	}

	from := r.at.Offset + int64(len(r.buf))
	chunk := make([]byte, min(size-from, max(readAhead, int64(len(r.buf)))))
	n, err := r.file.ReadAt(chunk, from)
	r.buf = append(r.buf[:len(r.buf):len(r.buf)], chunk[:n]...)
	if n > 0 {
		return nil
	}

	return err
}

// closeFile closes the open segment; under mu.
func (r *Reader) closeFile() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

func (r *Reader) release() {
	r.mu.Lock()
	r.closeFile()
	r.mu.Unlock()
}

// releaseSegment closes a segment that is about to be removed.
func (r *Reader) releaseSegment(seq uint64) {
	r.mu.Lock()
	if r.open == seq {
		r.closeFile()
	}
	r.mu.Unlock()
}

// Rewind goes back to the last committed position.
func (r *Reader) Rewind() {
	r.s.mu.Lock()
	r.at, r.buf = r.s.cursors[r.name], nil
	r.s.mu.Unlock()
}
