// Package queue is the retry spool: copies that no upstream has accepted yet wait
// here, on disk, until one does or their time is over.
//
// It is built on tracking/spool, in a directory of its own, and shares its crash
// model: group commit, fsync before anything is acknowledged, torn tails cut off.
// record.go describes the records. In memory is an index only: where each
// transaction is, and when its copies are due. The bytes of a transaction are
// written once, and read when one of its copies is sent. A segment is removed
// when none of its transactions, nor of those before it, is waiting. If what
// waits is much less than what it holds back, it is written again at the end, a
// part at a time.
//
// # Crash model
//
// The end of a copy is recorded after the copy was sent. A crash in between sends
// it a second time; it never loses it. A record that cannot be written is kept
// and written with the next ones, or on shutdown, so that an orderly restart
// sends nothing twice. Of the states of a copy only the latest counts.
//
// A damaged record is quarantined in a .broken file before its segment may be
// removed. A segment that cannot be read at startup holds back all those after
// it, and is read as soon as it can be.
//
// # A full disk
//
// For each waiting copy, the room for the record of its end is allocated in
// advance, so that a delivery can always be recorded. Segments in which nothing
// waits are removed, including the open one. DSNs, and what is written again, may
// use the headroom that mail never gets; a DSN that does not fit is sent without
// being queued.
//
// A Queue is safe for concurrent use.
package queue

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/spool"
)

const (
	readerName     = "queue"
	segmentAge     = 24 * time.Hour
	deliverTimeout = 15 * time.Minute

	defaultSegment  = 64 << 20
	smallestSegment = 1 << 20

	// segmentShare limits a segment to this fraction of the free space: on a
	// small disk, room must become free in small pieces.
	segmentShare = 16
)

// Verdict is the result of one attempt to send a copy. A copy that is neither
// Done nor Failed is tried again.
type Verdict struct {
	Done     bool   // the upstream accepted the copy
	Failed   bool   // it was refused for good
	Away     bool   // no upstream was reachable: try again as soon as one is
	Reply    string // the upstream's, or what went wrong
	Upstream string
}

// Deliverer sends copies for a Queue. It may change the transactions that it is
// given, with all their bytes, until it returns; index is that of the copy, and
// tries counts the attempts before this one.
type Deliverer interface {
	// Deliver sends a copy.
	Deliver(ctx context.Context, t *Transaction, index int, tries int) Verdict

	// GiveUp reports that a copy will not be sent again. The transactions that
	// it returns (a DSN, or none) are queued before the copy is removed.
	GiveUp(ctx context.Context, t *Transaction, index int, tries int, v Verdict) []*Transaction

	// Reachable returns nil while an upstream accepts connections.
	Reachable(ctx context.Context) error
}

// Budget limits the memory that messages take in the whole process.
type Budget interface {
	// Reserve reports whether n bytes were available. If so they are reserved
	// until Release. It never blocks.
	Reserve(n int64) bool

	Release(n int64)
}

// Config configures a Queue. Fields that are zero have the defaults named.
type Config struct {
	// Dir is created if it does not exist.
	Dir string

	// RetryAfter are the pauses between attempts; the last one repeats. Default:
	// 1 min, 5 min, 15 min, 1 h.
	RetryAfter []time.Duration

	BounceAfter time.Duration // age at which a copy is given up; default: 108 h
	Workers     int           // concurrent attempts; default: 16
	ProbeEvery  time.Duration // while no upstream is reachable; default: 5 s
	Grace       time.Duration // for attempts in progress at shutdown; default: 5 s

	// Now replaces time.Now.
	Now func() time.Time

	// Budget limits the memory of copies that are being sent. One copy is sent
	// whatever is left of it. Default: no limit.
	Budget Budget

	FS   spool.FS    // default: the operating system's
	Disk *spool.Disk // shared by all spools of a file system; default: separate

	Log     *slog.Logger
	Metrics prometheus.Registerer // default: none

	segmentBytes int64         // 64 MiB, less on a small disk
	logEvery     time.Duration // 500 ms
}

func (c *Config) setDefaults() {
	if len(c.RetryAfter) == 0 {
		c.RetryAfter = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}
	}
	if c.BounceAfter == 0 {
		c.BounceAfter = 108 * time.Hour
	}
	if c.Workers == 0 {
		c.Workers = 16
	}
	if c.ProbeEvery == 0 {
		c.ProbeEvery = 5 * time.Second
	}
	if c.Grace == 0 {
		c.Grace = 5 * time.Second
	}

	if c.Now == nil {
		c.Now = time.Now
	}
	if c.logEvery == 0 {
		c.logEvery = defaultLogEvery
	}
	if c.segmentBytes == 0 {
		c.segmentBytes = segmentFor(c.Disk)
	}
}

// segmentFor returns the size of segments on a disk, in bytes.
func segmentFor(d *spool.Disk) int64 {
	if d == nil {
		return defaultSegment
	}

	free, err := d.Free()
	if err != nil {
		return defaultSegment
	}

	return min(max(free/segmentShare, smallestSegment), defaultSegment)
}

// Queue is the retry spool.
type Queue struct {
	cfg   Config
	spool *spool.Spool
	d     Deliverer

	// mu guards the index and what is still to be recorded.
	mu       sync.Mutex
	entries  map[string]*entry // by transaction id
	due      dueHeap
	away     map[*copyState]struct{} // waiting for an upstream to be reachable
	segments map[uint64]*usage
	live     int64          // bytes of waiting transactions on disk
	floors   map[uint64]int // calls of append in progress, by the segment open when each began
	copies   int
	ends     []pendingEnd
	changed  map[*copyState]struct{} // copies whose states are to be recorded
	late     lateRecords

	wake    chan struct{} // the next due time may have changed
	wakeLog chan struct{} // there is something to record

	lastAlive atomic.Pointer[time.Time] // of writeLog; nil: not running
	flushing  sync.Mutex
	memory    *memory
	largeDSN  sync.Mutex // held while a DSN about a large message is made

	attempts *prometheus.CounterVec
	broken   prometheus.Counter
}

// Open opens the queue in c.Dir and reads what is waiting there. Copies are sent
// once Serve is called.
func Open(c Config) (*Queue, error) {
	c.setDefaults()
	q := &Queue{
		cfg:      c,
		entries:  map[string]*entry{},
		away:     map[*copyState]struct{}{},
		wake:     make(chan struct{}, 1),
		segments: map[uint64]*usage{},
		floors:   map[uint64]int{},
		changed:  map[*copyState]struct{}{},
		wakeLog:  make(chan struct{}, 1),
		memory:   newMemory(c.Budget),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_queue_attempts_total",
			Help: "Attempts to send waiting copies, by result.",
		}, []string{"result"}),
		broken: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_queue_broken_records_total",
			Help: "Records that could not be decoded and were quarantined.",
		}),
	}

	var err error
	q.spool, err = spool.Open(spool.Config{
		Dir:          c.Dir,
		Name:         "queue",
		SegmentBytes: c.segmentBytes,
		SegmentAge:   segmentAge,
		Readers:      []string{readerName},
		FS:           c.FS,
		Disk:         c.Disk,
		Log:          c.Log,
		Metrics:      c.Metrics,
	})
	if err != nil {
		return nil, err
	}
	q.spool.Hold(baseRoom)

	if err := q.spool.Scan(readerName, q.index()); err != nil {
		q.spool.Close()
		return nil, err
	}

	if c.Metrics != nil {
		c.Metrics.MustRegister(
			q.attempts,
			q.broken,
			gauge("copies", "Copies waiting in the retry spool.", q.Len),
			gauge("unsaved", "Ends and states of copies that are not on disk yet.", q.unsaved),
		)
	}

	return q, nil
}

func gauge(name, help string, f func() int) prometheus.Collector {
	opts := prometheus.GaugeOpts{Name: "postern_queue_" + name, Help: help}
	return prometheus.NewGaugeFunc(opts, func() float64 { return float64(f()) })
}

// Close records what is not on disk yet and closes the spool.
func (q *Queue) Close() error {
	q.flushLast()
	return q.spool.Close()
}

// Len returns the number of waiting copies.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()

	return q.copies
}

// Backlog returns when the oldest waiting copy was submitted, or the zero time if
// none is waiting, and the bytes that the waiting transactions take on disk.
func (q *Queue) Backlog() (oldest time.Time, size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()

	for _, e := range q.entries {
		if len(e.copies) == 0 {
			continue
		}
		if oldest.IsZero() || e.created.Before(oldest) {
			oldest = e.created
		}
		size += int64(e.size)
	}

	return oldest, size
}

// unsaved returns the number of records that are not on disk yet.
func (q *Queue) unsaved() int {
	q.mu.Lock()
	defer q.mu.Unlock()

	return len(q.ends) + len(q.changed)
}

// Err returns nil while the queue accepts mail, and spool.ErrNoSpace while its
// disk is too full.
func (q *Queue) Err() error { return q.spool.Err() }

// Room returns the bytes that a transaction takes on disk at most, for Reserve.
// shared and own are the bytes of Transaction.Shared and of all Copy.Own, as
// Escaped counts them.
func Room(shared, own int) int64 { return int64(shared) + int64(own) + int64(own)/16 + 4096 }

// Reserve reserves room for n bytes of transactions until release is called. The
// error is spool.ErrNoSpace if there is too little.
func (q *Queue) Reserve(n int64) (release func(), err error) {
	r, err := q.spool.Reserve(n)
	if err != nil {
		return nil, err
	}

	return r.Release, nil
}

// Put makes transactions durable. When it returns nil, all of them are fsynced
// and will be sent; after an error, none is.
func (q *Queue) Put(ctx context.Context, ts ...*Transaction) error {
	return q.put(ctx, spool.Ordinary, ts...)
}

func (q *Queue) put(ctx context.Context, class spool.Class, ts ...*Transaction) error {
	records := make([][]byte, len(ts))
	room := int64(0)
	for i, t := range ts {
		r, err := encodeTransaction(t)
		if err != nil {
			return err
		}
		records[i] = r
		room += endRoom(t)
	}

	q.spool.Hold(room)
	err := q.append(ctx, class, records, func(at []spool.Position) {
		for i, t := range ts {
			q.add(t, at[i], len(records[i]))
		}
	})
	if err != nil {
		q.spool.Hold(-room)
		return fmt.Errorf("queue: %w", err)
	}

	return nil
}

// append makes records durable and then calls add, with q.mu held, to enter them
// into the index. Their segment is not removed in between.
func (q *Queue) append(ctx context.Context, class spool.Class, records [][]byte, add func([]spool.Position)) error {
	q.mu.Lock()
	floor := q.spool.Newest().Segment
	q.floors[floor]++
	q.mu.Unlock()

	at, err := q.spool.AppendAs(ctx, class, records...)

	q.mu.Lock()
	defer q.mu.Unlock()

	q.floors[floor]--
	if q.floors[floor] == 0 {
		delete(q.floors, floor)
	}
	if err != nil {
		return err
	}
	add(at)

	return nil
}

// nextTry returns when the attempt after n attempts is due: the configured pause,
// give or take 5 %.
func (q *Queue) nextTry(n int) time.Time {
	pause := q.cfg.RetryAfter[min(n, len(q.cfg.RetryAfter))-1]
	return q.cfg.Now().Add(pause - pause/20 + rand.N(pause/10+1))
}

// notify makes a receiver of c run, now or when it next waits.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
