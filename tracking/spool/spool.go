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
	"errors"
	"hash/crc32"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
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

var table = crc32.MakeTable(crc32.Castagnoli)

// Spool is the log.
type Spool struct {
	cfg     Config
	fs      FS
	log     *slog.Logger
	metrics *metrics
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
}

// Position is a place in the log: a segment and an offset in it.
type Position struct {
	Segment uint64
	Offset  int64
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

// Alive returns when the goroutine that writes showed its last sign of life. It
// does every second where it has nothing to do.
func (s *Spool) Alive() time.Time { return *s.turn.Load() }

func (s *Spool) noteAlive() {
	now := time.Now()
	s.turn.Store(&now)
}

// Close writes what is queued and ends the spool.
func (s *Spool) Close() error {
	s.closer.Do(func() { close(s.quit) })
	<-s.done
	s.disk.leave(s)
	s.closeFiles()

	return s.lock.Close()
}
