// Package spool is the durable log under the events and the retry spool:
// segments on disk, one record a line, group commit, readers that resume.
//
// On disk, in one directory:
//
//	NNNNNNNNNNNNNNNN.seg   a segment; each line is `crc32c SP record LF`, the
//	                       checksum 8 hex digits over the record
//	cursor-NAME            how far reader NAME is: two lines of the same form in
//	                       blocks of their own, overwritten in turns
//	*.broken               what was damaged and passed over, or torn and cut off
//	*.seg.keep             the segment is to become a .broken file, not to go
//	lock                   held by the one process that has the spool open
//
// # Crash model
//
// Append returns after its records were written and fsynced; only then is
// anything acknowledged. A process adds nothing to a segment that a previous run
// left: Open ends its last line where only the end is missing, and cuts it off
// where it is torn. A new segment begins, under a number that was never used,
// whatever failed in between. The entry of a new segment is fsynced before
// anything in it is acknowledged. A short write is truncated away. A failed
// fsync, or a write that fails for another reason than a full disk, ends the
// segment for ever (the kernel may have dropped its pages): what was not yet
// synced is written to a new one, and after a restart a record may be there
// twice. A cursor's older slot is overwritten in place and fsynced before a
// segment is unlinked, so that a crash leaves one of the two. Delivery is at
// least once.
//
// # Damage
//
// A line end has no checksum and needs none: a record that is whole is read
// though the end of its line is damaged, and so is the line behind it. A record
// whose checksum is wrong is passed over: it stops nothing. It is copied to a
// .broken file first, fsynced with its folder and named in the log, before its
// segment may go; where it cannot be copied the segment is renamed to .broken
// instead of removed. A segment that is gone, or shorter than it was, is passed
// over and counted. Any other error of open or read says nothing of the records:
// it is counted, and the reader waits and tries again.
//
// # A full disk
//
// All that write to one file system share one Disk. What is reserved is given
// to nobody else. Below the headroom of the Disk (and Config.MinFree) Reserve
// and ordinary appends fail with ErrNoSpace, and segments that every reader has
// passed go, whatever Config.Keep says. Internal appends may use three quarters
// of the headroom. Essential ones, which record that something is done with,
// may use all of it, and then the room that Hold had the disk allocate behind
// the open segment, which not even another program can take. Cursors are
// overwritten in place. So what is done with can always be recorded, its
// segments go, and there is room again.
//
// A Spool is safe for concurrent use; a Reader belongs to one goroutine.
package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Errors that callers switch on.
var (
	ErrLocked  = errors.New("spool: another process has it open")
	ErrNoSpace = errors.New("spool: not enough disk space")
	ErrClosed  = errors.New("spool: closed")
	ErrCorrupt = errors.New("spool: corrupt record")
	ErrGone    = errors.New("spool: segment is gone")
)

// Class says how far an append goes where the disk is nearly full.
type Class int

// The classes of appends.
const (
	Ordinary  Class = iota // leaves the headroom and others' reservations alone
	Internal               // may use most of the headroom
	Essential              // may use all that there is, and the room set apart
)

// Config says where and how. Zero values get the defaults named.
type Config struct {
	Dir          string
	SegmentBytes int64         // a segment ends after so many bytes: 16 MiB
	SegmentAge   time.Duration // or when its first record is so old: 1 minute
	Keep         time.Duration // how long a segment stays that no reader waits for
	Readers      []string      // names whose cursors hold segments back

	// Disk counts the room of the file system for all that write there. Without
	// one the spool has the file system to itself, keeps Reserve bytes of it
	// free when it reserves, and appends as far as the disk goes.
	Disk    *Disk
	Reserve uint64 // headroom where there is no Disk: 1 MiB

	// MinFree, where set, has ordinary appends refused while the disk has less
	// than so many bytes free. Segments that every reader has passed are removed
	// first, then the oldest unread ones where that frees enough: what is in
	// them is lost.
	MinFree uint64

	Class Class  // of Append and AppendAt: Ordinary
	Name  string // of the metrics, in postern_NAME_...: spool
	FS    FS     // OS

	Log     *slog.Logger
	Metrics prometheus.Registerer // may be nil
}

const (
	suffix     = ".seg"
	lineExtra  = 8 + 1 + 1 // checksum, space, newline
	queueDepth = 1024

	// maxSegment is the highest number that a segment may have. One above it was
	// not written here: the number behind it would leave no room to go on.
	maxSegment = 1 << 62
)

var table = crc32.MakeTable(crc32.Castagnoli)

type segment struct {
	seq         uint64
	size        int64 // durable bytes
	closed      bool  // nothing will be added
	last        time.Time
	slack       bool               // a previous run may have left allocated room behind its end
	damaged     bool               // to be renamed, not removed
	quarantined map[int64]struct{} // offsets of damaged records that were copied
}

// Spool is the log.
type Spool struct {
	c       Config
	disk    *Disk
	lock    *os.File
	queue   chan *request
	control chan func() // run by the writer goroutine
	quit    chan struct{}
	done    chan struct{}
	closer  sync.Once

	turn        atomic.Pointer[time.Time] // when the writer was last seen
	cursorFiles map[string]*cursor
	held        atomic.Int64 // to stay allocated behind the open segment

	reserved int64 // under disk.mu

	mu      sync.Mutex
	segs    []*segment // in order; the last may be open
	used    uint64     // the highest number that a segment ever had
	grown   chan struct{}
	cursors map[string]Position
	readers []*Reader

	// of the writer goroutine
	file       File
	began      time.Time
	allocated  int64 // where the room behind the open segment ends
	noAllocate bool  // the file system cannot

	guarded    time.Time // when free space was looked at
	removed    time.Time // when a segment was removed for it
	warned     time.Time // when it was said that segments go early
	full       bool      // records are refused, as the log knows
	sweepAfter time.Time // set after a segment could not be removed

	backlogs backlogs

	appended, syncs, corrupt, sacrificed   prometheus.Counter
	refused, readErrors, gone, quarantined prometheus.Counter
}

type request struct {
	lines   []byte
	offsets []int // of the records' lines, in lines
	class   Class
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
	c.setDefaults()
	if err := makeDir(c.FS, c.Dir); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}

	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, c.Dir)
	}

	s := &Spool{
		c:           c,
		disk:        c.Disk,
		lock:        lock,
		queue:       make(chan *request, queueDepth),
		control:     make(chan func()),
		quit:        make(chan struct{}),
		done:        make(chan struct{}),
		cursorFiles: map[string]*cursor{},
		grown:       make(chan struct{}),
		cursors:     map[string]Position{},
	}
	if s.disk == nil {
		s.disk = NewDisk(c.FS, c.Dir, c.Reserve)
	}

	register := s.metrics()
	if err := s.load(); err != nil {
		s.closeFiles()
		lock.Close()
		return nil, err
	}

	register()
	s.disk.join(s)
	s.noteAlive()
	go s.write()

	return s, nil
}

func (c *Config) setDefaults() {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 16 << 20
	}

	if c.SegmentAge == 0 {
		c.SegmentAge = time.Minute
	}
	if c.FS == nil {
		c.FS = OS{}
	}

	if c.Name == "" {
		c.Name = "spool"
	}
}

// metrics makes the counters; register shows them.
func (s *Spool) metrics() (register func()) {
	var all []prometheus.Collector
	name := func(name string) string { return "postern_" + s.c.Name + "_" + name }
	counter := func(n, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name(n), Help: help})
		all = append(all, c)
		return c
	}
	gauge := func(n, help string, f func() float64) {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name(n), Help: help}, f))
	}

	s.appended = counter("records_total", "Records made durable.")
	s.syncs = counter("syncs_total", "fsync calls on segments.")
	s.sacrificed = counter("sacrificed_segments_total", "Segments removed before they were read, to keep min_free_space.")
	s.corrupt = counter("corrupt_records_total", "Records passed over because their checksum was wrong.")
	s.refused = counter("refused_records_total", "Records refused because the disk is too full.")
	s.readErrors = counter("read_errors_total", "Errors of opening or reading segments, each tried again.")
	s.gone = counter("gone_segments_total", "Segments passed over because they are gone, or shorter than they were.")
	s.quarantined = counter("quarantined_total", "Damaged records and files kept as *.broken.")
	gauge("bytes", "Bytes in segments.", func() float64 { return float64(s.Size()) })
	gauge("full", "1 while records are refused because the disk is too full.", func() float64 {
		if s.Err() != nil {
			return 1
		}
		return 0
	})

	return func() {
		if s.c.Metrics != nil {
			s.c.Metrics.MustRegister(all...)
		}
	}
}

func (s *Spool) path(seq uint64) string {
	return filepath.Join(s.c.Dir, segmentName(seq))
}

// segmentName is the file name of a segment.
func segmentName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, suffix) }

// segmentNumber reads a segment's file name.
func segmentNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	seq, err := strconv.ParseUint(digits, 16, 64)

	return seq, ok && err == nil && name == segmentName(seq)
}

// load lists the segments that are there, cuts torn tails, reads the cursors.
func (s *Spool) load() error {
	var infos []os.FileInfo
	err := patiently(func() (err error) {
		infos, err = s.c.FS.List(s.c.Dir)
		return err
	})
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}

	keep := map[string]bool{}
	for _, i := range infos {
		if name, ok := strings.CutSuffix(i.Name(), keepSuffix); ok {
			keep[name] = true
		}
	}
	for _, i := range infos {
		if !strings.HasSuffix(i.Name(), suffix) {
			continue
		}
		seq, ok := segmentNumber(i.Name())
		if !ok || seq > maxSegment {
			kept, err := s.quarantineFile(filepath.Join(s.c.Dir, i.Name()))
			if err != nil {
				return err
			}
			s.c.Log.Error("spool: file that is not named like a segment quarantined", "file", kept)
			continue
		}

		s.segs = append(s.segs, &segment{
			seq:     seq,
			size:    s.repair(seq, i.Size()),
			closed:  true,
			last:    i.ModTime(),
			slack:   hasSlack(i),
			damaged: keep[i.Name()],
		})
		s.used = max(s.used, seq)
	}

	for _, name := range s.c.Readers {
		at, err := s.openCursor(name)
		if err != nil {
			return err
		}
		s.cursors[name] = at
		if at.Segment <= maxSegment { // all segments may be gone, the cursors not
			s.used = max(s.used, at.Segment)
		}
	}

	return nil
}

// maxOverhead is how much more than its size a file may take on the disk for
// other reasons than room that was allocated ahead.
const maxOverhead = 128 << 10

// hasSlack reports whether a previous run may have left allocated room behind a
// segment's end. To free it changes the file's time, by which its age is told.
func hasSlack(i os.FileInfo) bool {
	st, ok := i.Sys().(*syscall.Stat_t)

	return !ok || st.Blocks*512 > i.Size()+maxOverhead
}

// repair ends the last line of a segment where only its end is missing, cuts it
// off where a crash left less, and returns the size of what is whole. What is
// cut off was mostly not acknowledged, but somebody may have truncated the file:
// it is kept as a .broken file where there is room. A segment that cannot be read
// now keeps its size: an unfinished last line is not a record for any reader.
func (s *Spool) repair(seq uint64, size int64) int64 {
	var whole int64
	var tail []byte
	err := patiently(func() (err error) {
		whole, tail, err = s.lastLine(seq, size)
		return err
	})
	path := s.path(seq)
	if err != nil {
		s.c.Log.Error("spool: segment not checked", "file", path, "err", err)
		return size
	}

	for end := recordEnd(tail); end > 0; end = recordEnd(tail) {
		at := whole + int64(end)
		s.c.Log.Warn("spool: last line ended", "file", path, "offset", at)
		if err := s.endLine(seq, at); err != nil {
			s.c.Log.Error("spool: last line not ended", "file", path, "err", err)
			return max(size, at)
		}
		whole = at + 1
		tail = tail[min(end+1, len(tail)):]
	}
	if len(tail) == 0 {
		return whole
	}

	kept, err := s.keepBytes(filepath.Join(s.c.Dir, fmt.Sprintf("%016x-%016x", seq, whole)), tail)
	if err != nil {
		s.c.Log.Error("spool: torn last record not copied", "file", path, "bytes", len(tail), "err", err)
	} else {
		s.c.Log.Warn("spool: torn last record cut off", "file", path, "bytes", len(tail), "kept", kept)
	}
	if err := s.truncate(seq, whole); err != nil {
		s.c.Log.Error("spool: segment not truncated", "file", path, "err", err)
	}

	return whole
}

// lastLine finds where the last line of a segment that has an end ends, and
// reads what is behind it.
func (s *Spool) lastLine(seq uint64, size int64) (whole int64, tail []byte, err error) {
	f, err := s.c.FS.Open(s.path(seq))
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()

	buf := make([]byte, 64<<10)
	for end := size; end > 0 && whole == 0; {
		n := min(int64(len(buf)), end)
		if _, err := f.ReadAt(buf[:n], end-n); err != nil && !errors.Is(err, io.EOF) {
			return 0, nil, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			whole = end - n + int64(i) + 1
		}
		end -= n
	}
	if whole == size {
		return whole, nil, nil
	}

	tail, err = readUpTo(f, make([]byte, size-whole), whole)

	return whole, tail, err
}

// endLine writes a line end in place.
func (s *Spool) endLine(seq uint64, at int64) error {
	f, err := s.c.FS.Open(s.path(seq))
	if err != nil {
		return err
	}

	_, err = f.WriteAt([]byte{'\n'}, at)

	return errors.Join(err, f.Sync(), f.Close())
}

// truncate cuts a segment's file at a size, with what is allocated behind it.
func (s *Spool) truncate(seq uint64, size int64) error {
	f, err := s.c.FS.Open(s.path(seq))
	if err != nil {
		return err
	}

	return errors.Join(f.Truncate(size), f.Close())
}

// startPauses are the pauses between the tries of what may fail for a moment at
// the start.
var startPauses = []time.Duration{
	10 * time.Millisecond,
	20 * time.Millisecond,
	40 * time.Millisecond,
	80 * time.Millisecond,
}

// patiently tries what may fail for a moment, as where descriptors run out. A
// file that is missing, or room that is, does not come back so soon.
func patiently(f func() error) error {
	for _, pause := range startPauses {
		err := f()
		if err == nil || errors.Is(err, fs.ErrNotExist) || noSpace(err) {
			return err
		}
		time.Sleep(pause)
	}

	return f()
}

// Append makes records durable. When it returns nil they are fsynced. A record
// holds no newline. ErrNoSpace says that the disk is too full for them.
func (s *Spool) Append(ctx context.Context, records ...[]byte) error {
	_, err := s.AppendAt(ctx, records...)
	return err
}

// AppendAt is Append, and returns where each record is, for ReadAt.
func (s *Spool) AppendAt(ctx context.Context, records ...[]byte) ([]Position, error) {
	return s.AppendAs(ctx, s.c.Class, records...)
}

// AppendAs is AppendAt with a class of its own.
func (s *Spool) AppendAs(ctx context.Context, class Class, records ...[]byte) ([]Position, error) {
	r := newRequest(class, records)
	if err := s.send(ctx, r); err != nil {
		return nil, err
	}

	if err := s.wait(r); err != nil {
		return nil, err
	}

	at := make([]Position, len(records))
	for i, o := range r.offsets {
		at[i] = Position{r.at.Segment, r.at.Offset + int64(o)}
	}

	return at, nil
}

// Group is some records that are appended together, or not at all.
type Group struct {
	Class   Class
	Records [][]byte
}

// AppendGroups appends groups with as few fsyncs as one append has, and returns
// an error for each.
func (s *Spool) AppendGroups(ctx context.Context, groups []Group) []error {
	errs := make([]error, len(groups))
	requests := make([]*request, len(groups))
	for i, g := range groups {
		if len(g.Records) == 0 {
			continue
		}
		r := newRequest(g.Class, g.Records)
		if errs[i] = s.send(ctx, r); errs[i] == nil {
			requests[i] = r
		}
	}

	for i, r := range requests {
		if r != nil {
			errs[i] = s.wait(r)
		}
	}

	return errs
}

func newRequest(class Class, records [][]byte) *request {
	size := 0
	for _, r := range records {
		size += len(r) + lineExtra
	}

	r := &request{
		lines:   make([]byte, 0, size),
		offsets: make([]int, len(records)),
		class:   class,
		done:    make(chan error, 1),
	}
	for i, record := range records {
		r.offsets[i] = len(r.lines)
		r.lines = appendLine(r.lines, record)
	}

	return r
}

func (s *Spool) send(ctx context.Context, r *request) error {
	select {
	case s.queue <- r:
		return nil
	case <-s.quit:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait returns what became of a request that was sent.
func (s *Spool) wait(r *request) error {
	select {
	case err := <-r.done:
		return err
	case <-s.done:
	}

	select {
	case err := <-r.done:
		return err
	default:
		return ErrClosed
	}
}

// do has the writer goroutine run f, and waits for it.
func (s *Spool) do(f func()) {
	ran := make(chan struct{})
	select {
	case s.control <- func() { f(); close(ran) }:
		<-ran
	case <-s.done:
	}
}

// Hold changes by n bytes how much room stays allocated behind the open
// segment for essential records. It is allocated with the next append, which
// fails with ErrNoSpace where it cannot be and the append is not essential.
func (s *Spool) Hold(n int64) { s.held.Add(n) }

// ReadAt reads the record of n bytes at a position that AppendAt or a Reader
// returned, and checks it. ErrCorrupt and ErrGone are for good; any other error
// says nothing of the record.
func (s *Spool) ReadAt(p Position, n int) ([]byte, error) {
	return s.ReadInto(p, make([]byte, n+lineExtra))
}

// LineBytes returns how long the buffer of ReadInto has to be for a record of
// n bytes.
func LineBytes(n int) int { return n + lineExtra }

// ReadInto is ReadAt into a buffer that is as long as LineBytes says. The
// record returned is a part of it.
func (s *Spool) ReadInto(p Position, line []byte) ([]byte, error) {
	f, err := s.c.FS.Open(s.path(p.Segment))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %x", ErrGone, p.Segment)
	}
	if err != nil {
		s.readErrors.Inc()
		return nil, fmt.Errorf("spool: %w", err)
	}
	defer f.Close()

	n, err := f.ReadAt(line, p.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		s.readErrors.Inc()
		return nil, fmt.Errorf("spool: segment %x at %d: %w", p.Segment, p.Offset, err)
	}

	if n >= len(line)-1 { // the checksum is the record's, whatever became of the line end
		if record, ok := parseLine(line[:len(line)-1]); ok {
			return record, nil
		}
	}
	s.corrupt.Inc()

	return nil, fmt.Errorf("spool: segment %x at %d: %w", p.Segment, p.Offset, ErrCorrupt)
}

// Size returns the bytes in segments.
func (s *Spool) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	sum := int64(0)
	for _, seg := range s.segs {
		sum += seg.size
	}

	return sum
}

// SegmentSize returns the bytes in a segment, 0 where it is gone.
func (s *Spool) SegmentSize(seq uint64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	if seg := s.segment(seq); seg != nil {
		return seg.size
	}

	return 0
}

// Alive returns when the goroutine that writes showed its last sign of life. It
// does every second where it has nothing to do.
func (s *Spool) Alive() time.Time { return *s.turn.Load() }

func (s *Spool) noteAlive() {
	now := time.Now()
	s.turn.Store(&now)
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

// Tail is the lowest number that the segment of the next record can have.
func (s *Spool) Tail() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()

	if n := len(s.segs); n > 0 && !s.segs[n-1].closed {
		return s.segs[n-1].seq
	}

	return s.used + 1
}

// Rotate ends the open segment, so that it can go when nothing in it is needed.
func (s *Spool) Rotate() { s.do(s.endSegment) }

// Close writes what is queued and ends the spool.
func (s *Spool) Close() error {
	s.closer.Do(func() { close(s.quit) })
	<-s.done
	s.disk.leave(s)
	s.closeFiles()

	return s.lock.Close()
}

func (s *Spool) closeFiles() {
	for _, c := range s.cursorFiles {
		c.close()
	}

	s.mu.Lock()
	readers := s.readers
	s.readers = nil
	s.mu.Unlock()
	for _, r := range readers {
		r.release()
	}
}
