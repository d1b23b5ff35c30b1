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

// Record is a record, its position, and the position behind it.
type Record struct {
	Data []byte
	At   Position
	Next Position
}

// Reader reads durable records in order, starting at its cursor. It is not safe
// for concurrent use.
type Reader struct {
	s    *Spool
	name string
	at   Position
	buf  []byte // bytes read ahead, from at on

	failed time.Duration // pause after the last failed read; 0 if it succeeded

	mu   sync.Mutex // guards the open file, which the writer may close
	file File
	open uint64 // segment of file
}

// Reader returns the reader with a name, which must be among Config.Readers.
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

// Next returns the next record, and waits if there is none. Damaged records and
// missing segments are skipped; while a segment cannot be read for another
// reason, Next retries. It returns the error of ctx if that ends first, and
// ErrClosed if the spool is closed during a retry.
func (r *Reader) Next(ctx context.Context) (Record, error) {
	for {
		if i := bytes.IndexByte(r.buf, '\n'); i >= 0 {
			if rec, ok := r.takeLine(i); ok {
				return rec, nil
			}

			continue
		}

		size, next, grown := r.s.look(r.at)
		switch {
		case r.at.Offset+int64(len(r.buf)) < size:
			if err := r.readMore(ctx, size); err != nil {
				return Record{}, err
			}

		case next != 0:
			if size > 0 { // otherwise the segment was removed to make room
				if rec, ok := r.takeTail(); ok {
					return rec, nil
				}
				r.skipTail()
			}

			r.release()
			r.buf = nil
			r.at = Position{Segment: next}

		default:
			select {
			case <-grown:
			case <-ctx.Done():
				return Record{}, ctx.Err()
			}
		}
	}
}

// takeLine takes the line that ends at index end of the buffer. A damaged one is
// quarantined.
func (r *Reader) takeLine(end int) (Record, bool) {
	line := r.buf[:end]
	at := r.at

	data, n, ok := takeLine(line)
	r.buf = r.buf[n:]
	r.at.Offset += int64(n)

	if !ok {
		r.s.quarantineLine(at, line, ErrCorrupt)
		return Record{}, false
	}

	return Record{Data: bytes.Clone(data), At: at, Next: r.at}, true
}

// takeTail takes a whole record without a line end at the end of a closed
// segment. There is one only if Open was not able to complete its line.
func (r *Reader) takeTail() (Record, bool) {
	data, n, ok := takeTail(r.buf)
	if !ok {
		return Record{}, false
	}

	at := r.at
	r.at.Offset += int64(n)
	r.buf = r.buf[n:]

	return Record{Data: bytes.Clone(data), At: at, Next: r.at}, true
}

// skipTail quarantines what follows the last line of a segment that is closed or
// missing.
func (r *Reader) skipTail() {
	if len(r.buf) > 0 {
		r.s.quarantineLine(r.at, r.buf, io.ErrUnexpectedEOF)
	}
}

// Pauses between attempts to read a segment.
const (
	minReadPause = 10 * time.Millisecond
	maxReadPause = 5 * time.Second
)

// readMore reads on in a segment that has size durable bytes. If the rest of the
// segment does not exist it is skipped. After any other error readMore waits,
// and returns an error only if ctx ends or the spool is closed meanwhile.
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
		r.skipRest(size, err)
		return nil
	}

	r.s.metrics.readErrors.Inc()
	r.release()

	if r.failed == 0 || r.failed == maxReadPause {
		r.s.log.Error("spool: cannot read segment, retrying",
			"segment", r.at.Segment, "offset", r.at.Offset, "err", err)
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

// skipRest skips the rest of a segment that does not exist, or not any more.
func (r *Reader) skipRest(size int64, err error) {
	if now, _, _ := r.s.look(r.at); now < size { // the spool itself just removed it
		r.buf = nil
		return
	}

	r.s.metrics.gone.Inc()
	r.s.log.Error("spool: segment missing or truncated, skipped",
		"segment", r.at.Segment, "from", r.at.Offset, "to", size, "err", err)

	r.skipTail()
	r.release()
	r.buf = nil
	r.at.Offset = size
}

// look returns how many bytes of p's segment are durable, the segment that
// follows if that one is closed or missing (0 if there is none), and a channel
// that is closed when either changes.
func (s *Spool) look(p Position) (size int64, next uint64, grown <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()

	closed := true // so is a missing one
	for _, seg := range s.segs {
		switch {
		case seg.seq == p.Segment:
			size = seg.size
			closed = seg.closed
		case seg.seq > p.Segment && closed:
			return size, seg.seq, s.grown
		}
	}

	return size, 0, s.grown
}

// readAhead is how many bytes are read at a time.
const readAhead = 256 << 10

// fill reads the next bytes of the segment into the buffer. The file stays open
// until the segment is read or removed.
func (r *Reader) fill(size int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.file == nil || r.open != r.at.Segment {
		r.closeFile()

		f, err := r.s.fs.Open(r.s.path(r.at.Segment))
		if err != nil {
			return err
		}
		r.file = f
		r.open = r.at.Segment
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

// closeFile closes the open file. The caller holds mu.
func (r *Reader) closeFile() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

// release closes the open file; it is opened again when needed.
func (r *Reader) release() {
	r.mu.Lock()
	defer r.mu.Unlock()

	r.closeFile()
}

// releaseSegment closes the open file if it is that of a segment.
func (r *Reader) releaseSegment(seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.open == seq {
		r.closeFile()
	}
}

// Rewind goes back to the last committed position.
func (r *Reader) Rewind() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()

	r.at = r.s.cursors[r.name]
	r.buf = nil
}
