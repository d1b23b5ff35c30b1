// Package spool is the durable log under the events: segments on disk, one
// record a line, group commit, readers that resume.
//
// On disk, in one directory:
//
//	NNNNNNNNNNNNNNNN.seg   a segment; each line is `crc32c SP record LF`, the
//	                       checksum 8 hex digits over the record
//	cursor-NAME            how far reader NAME is: one line of the same form
//	lock                   held by the one process that has the spool open
//
// Crash model. Append returns after its records were written and fsynced; only
// then is anything acknowledged. A process never writes to a segment that an
// earlier one left: on Open a torn last line is cut off and a new segment
// begins. A short write is truncated away. A failed fsync ends the segment for
// ever (the kernel may have dropped its pages): what was not yet synced is
// written to a new one. A cursor is replaced by rename and fsynced before a
// segment is unlinked. A record whose checksum is wrong is passed over and
// counted, and stops nothing. Delivery is at least once.
//
// A Spool is safe for concurrent use; a Reader belongs to one goroutine.
package spool

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Errors that callers switch on.
var (
	ErrLocked  = errors.New("spool: another process has it open")
	ErrNoSpace = errors.New("spool: not enough disk space")
	ErrClosed  = errors.New("spool: closed")
	ErrCorrupt = errors.New("spool: corrupt record")
)

// Config says where and how. Zero values get the defaults named.
type Config struct {
	Dir          string
	SegmentBytes int64         // a segment ends after so many bytes: 16 MiB
	SegmentAge   time.Duration // or when its first record is so old: 1 minute
	Keep         time.Duration // how long a segment stays that no reader waits for
	Readers      []string      // names whose cursors hold segments back
	Reserve      uint64        // bytes that stay free on the disk: 1 MiB
	// MinFree, where set, frees the oldest segments, read or not, when the disk
	// has less than so many bytes free: what is in them is lost.
	MinFree uint64
	Name    string // of the metrics, in postern_NAME_...: spool
	FS      FS     // OS
	Log     *slog.Logger
	Metrics prometheus.Registerer // may be nil
}

const (
	suffix     = ".seg"
	lineExtra  = 8 + 1 + 1 // checksum, space, newline
	queueDepth = 1024
)

var table = crc32.MakeTable(crc32.Castagnoli)

type segment struct {
	seq    uint64
	size   int64 // durable bytes
	closed bool  // nothing will be added
	last   time.Time
}

// Spool is the log.
type Spool struct {
	c      Config
	lock   *os.File
	queue  chan *request
	quit   chan struct{}
	done   chan struct{}
	closer sync.Once

	mu       sync.Mutex
	segs     []*segment // in order; the last may be open
	grown    chan struct{}
	cursors  map[string]Position
	reserved int64

	// of the writer goroutine
	file  File
	began time.Time

	guarded time.Time // when MinFree was looked at

	appended, syncs, corrupt, sacrificed prometheus.Counter
}

type request struct {
	lines   []byte
	offsets []int    // of the records' lines, in lines
	at      Position // where lines begin, once they are durable
	done    chan error
}

// Position is a place in the log: a segment and an offset in it.
type Position struct {
	Segment uint64
	Offset  int64
}

// Open opens the spool in c.Dir, which it makes where it is missing.
func Open(c Config) (*Spool, error) {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 16 << 20
	}
	if c.SegmentAge == 0 {
		c.SegmentAge = time.Minute
	}
	if c.Reserve == 0 {
		c.Reserve = 1 << 20
	}
	if c.FS == nil {
		c.FS = OS{}
	}
	if c.Name == "" {
		c.Name = "spool"
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, c.Dir)
	}
	s := &Spool{c: c, lock: lock, queue: make(chan *request, queueDepth), quit: make(chan struct{}),
		done: make(chan struct{}), grown: make(chan struct{}), cursors: map[string]Position{}}
	s.metrics()
	if err := s.load(); err != nil {
		lock.Close()
		return nil, err
	}
	go s.write()
	return s, nil
}

func (s *Spool) metrics() {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_" + s.c.Name + "_" + name, Help: help})
		if s.c.Metrics != nil {
			s.c.Metrics.MustRegister(c)
		}
		return c
	}
	s.appended = counter("records_total", "Records made durable.")
	s.syncs = counter("syncs_total", "fsync calls on segments.")
	s.sacrificed = counter("sacrificed_segments_total", "Segments removed before they were read, to keep min_free_space.")
	s.corrupt = counter("corrupt_records_total", "Records passed over because their checksum was wrong.")
}

func (s *Spool) path(seq uint64) string {
	return filepath.Join(s.c.Dir, fmt.Sprintf("%016x%s", seq, suffix))
}

// segmentNumber reads a segment's file name.
func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	seq, err := strconv.ParseUint(digits, 16, 64)
	return seq, ok && err == nil && len(digits) == 16
}

// load lists the segments that are there, cuts torn tails, reads the cursors.
func (s *Spool) load() error {
	infos, err := s.c.FS.List(s.c.Dir)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	for _, i := range infos {
		seq, ok := segmentNumber(i.Name())
		if !ok {
			continue
		}
		size, err := s.repair(seq, i.Size())
		if err != nil {
			// Out of the way, or the next segment could not take its number.
			s.c.Log.Error("spool: segment set aside", "file", i.Name(), "err", err)
			if err := s.c.FS.Rename(s.path(seq), s.path(seq)+".broken"); err != nil {
				return fmt.Errorf("spool: %w", err)
			}
			continue
		}
		s.segs = append(s.segs, &segment{seq: seq, size: size, closed: true, last: i.ModTime()})
	}
	for _, name := range s.c.Readers {
		s.cursors[name] = s.readCursor(name)
	}
	return nil
}

// repair cuts a line that a crash left without its end.
func (s *Spool) repair(seq uint64, size int64) (int64, error) {
	f, err := s.c.FS.Open(s.path(seq))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		n := min(int64(len(buf)), end)
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}
		if i := strings.LastIndexByte(string(buf[:n]), '\n'); i >= 0 {
			whole := end - n + int64(i) + 1
			if whole == size {
				return size, nil
			}
			s.c.Log.Warn("spool: torn last record cut off", "file", filepath.Base(s.path(seq)), "bytes", size-whole)
			return whole, f.Truncate(whole)
		}
		end -= n
	}
	return 0, f.Truncate(0)
}

// Reservation is room for a transaction's records, held until Release.
type Reservation struct {
	s *Spool
	n int64
}

// Reserve holds room for n bytes of records, or fails with ErrNoSpace.
func (s *Spool) Reserve(n int64) (*Reservation, error) {
	free, err := s.c.FS.Free(s.c.Dir)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if free < s.c.Reserve+uint64(s.reserved+n) {
		return nil, ErrNoSpace
	}
	s.reserved += n
	return &Reservation{s, n}, nil
}

// Release gives the room back; calling it twice does nothing more.
func (r *Reservation) Release() {
	r.s.mu.Lock()
	r.s.reserved -= r.n
	r.n = 0
	r.s.mu.Unlock()
}

// Append makes records durable. When it returns nil they are fsynced. A record
// holds no newline.
func (s *Spool) Append(ctx context.Context, records ...[]byte) error {
	_, err := s.AppendAt(ctx, records...)
	return err
}

// AppendAt is Append, and tells where each record is, for ReadAt.
func (s *Spool) AppendAt(ctx context.Context, records ...[]byte) ([]Position, error) {
	size := 0
	for _, r := range records {
		size += len(r) + lineExtra
	}
	req := &request{lines: make([]byte, 0, size), offsets: make([]int, len(records)), done: make(chan error, 1)}
	for i, r := range records {
		req.offsets[i] = len(req.lines)
		req.lines = appendLine(req.lines, r)
	}
	select {
	case s.queue <- req:
	case <-s.quit:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var err error
	select {
	case err = <-req.done:
	case <-s.done:
		select {
		case err = <-req.done:
		default:
			err = ErrClosed
		}
	}
	if err != nil {
		return nil, err
	}
	at := make([]Position, len(records))
	for i, o := range req.offsets {
		at[i] = Position{req.at.Segment, req.at.Offset + int64(o)}
	}
	return at, nil
}

// ReadAt reads the record of n bytes at a position that AppendAt or a Reader
// told, and checks it.
func (s *Spool) ReadAt(p Position, n int) ([]byte, error) {
	f, err := s.c.FS.Open(s.path(p.Segment))
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	defer f.Close()
	line := make([]byte, n+lineExtra)
	if _, err := f.ReadAt(line, p.Offset); err != nil {
		return nil, fmt.Errorf("spool: segment %x at %d: %w", p.Segment, p.Offset, err)
	}
	record, ok := parseLine(line[:len(line)-1])
	if !ok || line[len(line)-1] != '\n' {
		s.corrupt.Inc()
		return nil, fmt.Errorf("spool: segment %x at %d: %w", p.Segment, p.Offset, ErrCorrupt)
	}
	return record, nil
}

// SetAside writes what stands where a record of n bytes should be to a file of
// its own, NAME.broken beside the segments, and tells the file.
func (s *Spool) SetAside(p Position, n int, name string) (string, error) {
	f, err := s.c.FS.Open(s.path(p.Segment))
	if err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	defer f.Close()
	raw := make([]byte, n+lineExtra)
	got, err := f.ReadAt(raw, p.Offset)
	if err != nil && got == 0 {
		return "", fmt.Errorf("spool: %w", err)
	}
	file := filepath.Join(s.c.Dir, filepath.Base(name)+".broken")
	out, err := s.c.FS.Create(file)
	if err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	_, err = out.Write(raw[:got])
	return file, errors.Join(err, out.Sync(), out.Close())
}

func appendLine(dst, record []byte) []byte {
	const hex = "0123456789abcdef"
	sum := crc32.Checksum(record, table)
	for shift := 28; shift >= 0; shift -= 4 {
		dst = append(dst, hex[sum>>shift&15])
	}
	dst = append(dst, ' ')
	return append(append(dst, record...), '\n')
}

// parseLine undoes appendLine; line is without its newline.
func parseLine(line []byte) ([]byte, bool) {
	if len(line) < lineExtra-1 || line[8] != ' ' {
		return nil, false
	}
	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[9:], table) {
		return nil, false
	}
	return line[9:], true
}

// Close writes what is queued and ends the spool.
func (s *Spool) Close() error {
	s.closer.Do(func() { close(s.quit) })
	<-s.done
	return s.lock.Close()
}
