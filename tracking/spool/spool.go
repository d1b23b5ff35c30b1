// Package spool is a durable log on disk: segments of records, one record a
// line, with group commit and readers that resume where they left off. The event
// log and the retry queue are spools.
//
// # Files
//
// A spool owns one directory:
//
//	NNNNNNNNNNNNNNNN.seg   a segment; each line is `crc32c SP record LF`, where
//	                       the checksum is 8 hex digits and covers the record
//	cursor-NAME            how far reader NAME is: two lines of the same form,
//	                       each in a block of its own, overwritten in turn
//	*.broken               quarantine: damaged records and torn ends of segments
//	*.seg.keep             marks a segment that is to be quarantined, not removed
//	lock                   locked by the process that has the spool open
//
// # Crash model
//
// Append returns once its records are written and fsynced; nothing is
// acknowledged before. The directory entry of a new segment is fsynced before
// the first record in it is acknowledged.
//
// A process never appends to a segment of a previous run. Open completes its
// last line if only the line end is missing, and truncates it if it is torn.
// New segments always get numbers that were never used, whatever failed in
// between.
//
// A short write is truncated away. A failed fsync ends the segment for good,
// because the kernel may have dropped its dirty pages; so does a write that
// fails for any reason but a full disk. Records that were not synced yet are
// written to a new segment, so that after a restart a record may be present
// twice. A commit overwrites the older slot of the cursor in place and fsyncs it
// before any segment is unlinked; after a crash at least one slot is valid.
// Delivery is at least once.
//
// # Damage
//
// Line ends are not covered by a checksum and need not be: if one is damaged,
// its record and the next one are still read. A record with a wrong checksum is
// skipped. Before its segment may be removed it is copied to a *.broken file,
// which is fsynced together with the directory and named in the log. If the copy
// fails, the whole segment is renamed to *.broken when it would be removed. A
// segment that is missing or was truncated is skipped and counted. Any other
// error of open or read is not evidence about the records: it is counted, and
// the reader waits and retries.
//
// # Full disk
//
// All spools of one file system share a Disk, so that no byte is promised twice.
// If less is free than the headroom of the Disk (or Config.MinFree), Reserve and
// ordinary appends fail with ErrNoSpace, and segments that every reader has
// passed are removed even before Config.Keep is over. Internal appends may use
// three quarters of the headroom. Essential appends, which record that something
// is finished, may use all of it, and after that the room that Hold allocated
// behind the open segment, which no other program can take. Cursors are
// overwritten in place. Finished work can therefore always be recorded; then its
// segments are removed, and there is room again.
//
// A Spool is safe for concurrent use. A Reader belongs to one goroutine.
package spool

import (
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Errors to test for with errors.Is.
var (
	// ErrLocked is returned by Open if another process has the spool open.
	ErrLocked = errors.New("spool: directory is in use by another process")

	// ErrNoSpace is returned by appends and reservations that the disk has no
	// room for.
	ErrNoSpace = errors.New("spool: not enough disk space")

	// ErrClosed is returned by operations on a closed spool.
	ErrClosed = errors.New("spool: closed")

	// ErrCorrupt is returned if there is no valid record at a position.
	ErrCorrupt = errors.New("spool: corrupt record")

	// ErrGone is returned if the segment of a position was removed.
	ErrGone = errors.New("spool: segment does not exist")
)

// Config configures a spool. Only Dir is required.
type Config struct {
	// Dir is the directory of the spool. Open creates it with mode 0700.
	Dir string

	// A segment ends once it has SegmentBytes bytes (default 16 MiB), or once its
	// first record is older than SegmentAge (default 1 minute).
	SegmentBytes int64
	SegmentAge   time.Duration

	// Keep is how long a segment stays on disk after every reader has passed it.
	Keep time.Duration

	// Readers are the names of the readers. Segments are kept until all of them
	// have passed.
	Readers []string

	// Disk accounts for the room of the file system, for all spools on it. If it
	// is nil, reservations leave Reserve bytes free (default 1 MiB), and appends
	// go on until the disk is full.
	Disk    *Disk
	Reserve uint64

	// MinFree is the free space in bytes below which ordinary appends are
	// refused; 0 disables the check. To get there, segments that every reader
	// has passed are removed first. If that is not enough, and if removing the
	// oldest unread segments is, these are removed and their records are lost.
	MinFree uint64

	// Class is the class of Append and AppendAt (default Ordinary).
	Class Class

	// Name is part of the names of the metrics, postern_NAME_... (default "spool").
	Name string

	// FS is the file system to use (default OS).
	FS FS

	// Log receives what people should know (default: nothing is logged).
	Log *slog.Logger

	// Metrics, if set, is where the metrics are registered.
	Metrics prometheus.Registerer
}

// queueDepth is how many appends may wait for the writer without blocking.
const queueDepth = 1024

// Spool is a durable log.
type Spool struct {
	cfg     Config
	fs      FS
	log     *slog.Logger
	metrics *metrics
	disk    *Disk
	lock    *os.File

	queue   chan *request
	control chan func() // run by the writer
	quit    chan struct{}
	done    chan struct{}
	closer  sync.Once

	lastTurn    atomic.Pointer[time.Time] // when the writer was last seen
	held        atomic.Int64              // bytes to keep allocated behind the open segment
	cursorFiles map[string]*cursor
	backlogs    backlogs

	reserved int64 // guarded by disk.mu

	mu      sync.Mutex
	segs    []*segment // in order; the last one may be open
	used    uint64     // highest number that a segment ever had
	grown   chan struct{}
	cursors map[string]Position
	readers []*Reader

	w writer // used by the writer goroutine only
}

// Position is a place in the log: the number of a segment and an offset in it.
type Position struct {
	Segment uint64
	Offset  int64
}

// do runs f in the writer goroutine and waits for it. After Close it does
// nothing.
func (s *Spool) do(f func()) {
	ran := make(chan struct{})
	select {
	case s.control <- func() {
		f()
		close(ran)
	}:
		<-ran
	case <-s.done:
	}
}

// Alive returns when the writer goroutine last made progress. If idle, it wakes
// up every second; a time long ago means that the disk does not answer.
func (s *Spool) Alive() time.Time { return *s.lastTurn.Load() }

// noteAlive notes that the writer goroutine made progress.
func (s *Spool) noteAlive() {
	now := time.Now()
	s.lastTurn.Store(&now)
}

// Close writes the queued records, closes all files and releases the lock. Calls
// of Append that wait return; later ones fail with ErrClosed.
func (s *Spool) Close() error {
	s.closer.Do(func() { close(s.quit) })
	<-s.done
	s.disk.leave(s)
	s.closeFiles()

	return s.lock.Close()
}
