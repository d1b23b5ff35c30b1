// Package queue is the retry spool: copies that the upstream has not taken yet
// wait here, on disk, until it does or their time is over.
//
// It is built on tracking/spool (group commit, fsync before the
// acknowledgement, torn tails, its crash model) in a folder of its own;
// record.go has the form of the records. What is in memory is an index: where
// each transaction is, and when its copies are due. A transaction's bytes are
// written once and read when a copy is sent. A segment is removed when none of
// its transactions, nor of those before, waits any more. What holds back much
// more than it is itself is written again at the end, a part at a time.
//
// # Crash model
//
// A copy's end is recorded after the fact, so that a crash in between sends it
// a second time, and never loses it. A record that could not be written is kept
// and written with the next ones, and at the end; an orderly restart sends
// nothing again. Of a copy's state after an attempt only the latest counts.
//
// What is broken is quarantined in a .broken file before its segment may go. A
// segment that cannot be read at the start holds back all behind it, and is
// read when it can be.
//
// # A full disk
//
// For each waiting copy the room of the record of its end stays allocated, so
// that what the upstream takes can be recorded. Segments in which nothing waits
// go, the open one too. DSNs and what is moved may use the headroom that is
// never given to mail; a DSN that does not fit is sent without being queued.
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

// Verdict is what came of an attempt.
type Verdict struct {
	Done     bool   // the upstream took the copy
	Failed   bool   // refused for good
	Away     bool   // no upstream was reachable: try again when one is
	Reply    string // its words, or what happened
	Upstream string
}

// Deliverer sends copies and tells the sender what came of those that failed;
// the relay is one. A transaction that it is given, with all its bytes, is its
// own until it returns; index is that of the copy.
type Deliverer interface {
	Deliver(ctx context.Context, t *Transaction, index int, tries int) Verdict
	// GiveUp is told of a copy that will not be sent again. It returns what is
	// to be sent about it (a DSN), which is queued in the same step.
	GiveUp(ctx context.Context, t *Transaction, index int, tries int, v Verdict) []*Transaction
	// Reachable returns nil while an upstream takes connections.
	Reachable(context.Context) error
}

// Budget counts the memory of messages for the whole process. Reserve reports
// whether there was room for n bytes, which are then held until Release; it
// never waits.
type Budget interface {
	Reserve(n int64) bool
	Release(n int64)
}

// Config is what a Queue needs. Zero values get the defaults named.
type Config struct {
	Dir         string
	RetryAfter  []time.Duration // pauses between attempts, the last repeated: 1m, 5m, 15m, 1h
	BounceAfter time.Duration   // how long a copy is tried: 108 h
	Workers     int             // attempts at once: 16
	ProbeEvery  time.Duration   // while the upstream is away: 5 s
	Grace       time.Duration   // for attempts under way at the end: 5 s
	Now         func() time.Time

	// Budget is where the memory of copies that are being sent comes from; nil:
	// without limit. One copy is always sent, whatever is left of it.
	Budget Budget

	FS   spool.FS
	Disk *spool.Disk // shared with all that write to the file system; nil: alone

	Log     *slog.Logger
	Metrics prometheus.Registerer

	segmentBytes int64         // 64 MiB, less where the disk is small
	logEvery     time.Duration // 500 ms
}

const (
	readerName     = "queue"
	deliverTimeout = 15 * time.Minute

	defaultSegment  = 64 << 20
	smallestSegment = 1 << 20

	// segmentShare of the free space is the most that a segment takes: on a
	// small disk room has to come back in small pieces.
	segmentShare = 16
)

// Queue is the retry spool.
type Queue struct {
	cfg   Config
	spool *spool.Spool
	d     Deliverer

	mu       sync.Mutex
	entries  map[string]*entry
	due      dueHeap
	away     map[*copyState]struct{} // waiting for the upstream
	wake     chan struct{}
	segments map[uint64]*usage // what waits, by segment
	live     int64             // bytes that are needed
	floors   map[uint64]int    // segments that were the newest when a Put began, which is under way
	copies   int

	ends    []pendingEnd            // to be recorded
	changed map[*copyState]struct{} // whose states are to be recorded
	wakeLog chan struct{}

	late lateRecords // while segments are unread

	lastAlive atomic.Pointer[time.Time] // when the log was last seen; nil: not served
	flushing  sync.Mutex
	memory    *memory
	largeDSN  sync.Mutex

	attempts *prometheus.CounterVec
	broken   prometheus.Counter
}

// Open opens the queue in c.Dir and reads what waits there.
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
	}
	q.attempts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_queue_attempts_total",
		Help: "Attempts to send waiting copies, by result.",
	}, []string{"result"})
	q.broken = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postern_queue_broken_records_total",
		Help: "Records that could not be decoded and were quarantined.",
	})

	var err error
	q.spool, err = spool.Open(spool.Config{
		Dir:          c.Dir,
		Name:         "queue",
		SegmentBytes: c.segmentBytes,
		SegmentAge:   24 * time.Hour,
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
		c.Metrics.MustRegister(q.attempts, q.broken, q.gauge("copies", "Copies that wait in the retry spool.", q.Len),
			q.gauge("unsaved", "Ends and states of copies that are not on disk yet.", q.unsaved))
	}

	return q, nil
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

// segmentFor returns how long segments are on a disk.
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

func (q *Queue) gauge(name, help string, f func() int) prometheus.Collector {
	opts := prometheus.GaugeOpts{Name: "postern_queue_" + name, Help: help}
	return prometheus.NewGaugeFunc(opts, func() float64 { return float64(f()) })
}

// Len is how many copies wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.copies
}

func (q *Queue) unsaved() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ends) + len(q.changed)
}

// Err returns nil while the queue accepts mail, and spool.ErrNoSpace while its
// disk is too full.
func (q *Queue) Err() error { return q.spool.Err() }

// nudge wakes whoever waits for a channel.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Room is what a transaction takes on disk, for Reserve: shared bytes as
// Escaped counts them, and those of the copies alone.
func Room(shared, own int) int64 { return int64(shared) + int64(own) + int64(own)/16 + 4096 }

// Reserve holds room for n bytes of transactions.
func (q *Queue) Reserve(n int64) (release func(), err error) {
	r, err := q.spool.Reserve(n)
	if err != nil {
		return nil, err
	}

	return r.Release, nil
}

// Put makes transactions durable, all of them or none that anybody will see:
// when it returns nil they are fsynced and will be sent.
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

// append makes records durable and has them taken into the index, under mu.
// Their segment is not removed in between.
func (q *Queue) append(ctx context.Context, class spool.Class, records [][]byte, add func([]spool.Position)) error {
	q.mu.Lock()
	floor := q.spool.Newest().Segment
	q.floors[floor]++
	q.mu.Unlock()

	at, err := q.spool.AppendAs(ctx, class, records...)

	q.mu.Lock()
	defer q.mu.Unlock()
	if q.floors[floor]--; q.floors[floor] == 0 {
		delete(q.floors, floor)
	}
	if err != nil {
		return err
	}
	add(at)

	return nil
}

// nextTry is when the attempt after n is due, with a tenth of jitter.
func (q *Queue) nextTry(n int) time.Time {
	pause := q.cfg.RetryAfter[min(n, len(q.cfg.RetryAfter))-1]
	return q.cfg.Now().Add(pause - pause/20 + rand.N(pause/10+1))
}

// Close writes what is not on disk yet and ends the queue's spool.
func (q *Queue) Close() error {
	q.flushLast()
	return q.spool.Close()
}

// Backlog returns since when the oldest of the copies waits, the zero time where
// none does, and the bytes of the messages that wait.
func (q *Queue) Backlog() (oldest time.Time, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()

	for _, e := range q.entries {
		if len(e.copies) == 0 {
			continue
		}
		if oldest.IsZero() || e.created.Before(oldest) {
			oldest = e.created
		}
		bytes += int64(e.size)
	}

	return oldest, bytes
}
