// Package queue is the retry spool: copies that the upstream has not taken yet
// wait here, on disk, until it does or their time is over.
//
// It stands on tracking/spool (group commit, fsync before the acknowledgement,
// torn tails, its crash model) in a folder of its own; record.go has the form
// of the records. What is in memory is an index: where each transaction is,
// and when its copies are due. A transaction's bytes are written once and read
// when a copy is sent. The oldest segment goes when none of its transactions
// waits any more; where a few hold back many segments, they are written again
// at the end. A copy's end is written after the fact, so that a crash in
// between sends it a second time, and never loses it.
//
// A Queue is safe for concurrent use.
package queue

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
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
// the relay is one.
type Deliverer interface {
	Deliver(ctx context.Context, t *Transaction, copy int, tries int) Verdict
	// GiveUp is told of a copy that will not be sent again. It returns what is
	// to be sent about it (a DSN), which is queued in the same step.
	GiveUp(ctx context.Context, t *Transaction, copy int, tries int, v Verdict) []*Transaction
	// Reachable says whether an upstream takes connections.
	Reachable(context.Context) error
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
	FS          spool.FS
	Log         *slog.Logger
	Metrics     prometheus.Registerer

	segmentBytes int64 // 64 MiB
}

const (
	readerName     = "queue"
	maxSegments    = 8 // then transactions that hold back old ones are moved
	deliverTimeout = 15 * time.Minute
)

// Queue is the retry spool.
type Queue struct {
	c     Config
	spool *spool.Spool
	d     Deliverer

	mu       sync.Mutex
	entries  map[string]*entry
	due      dueHeap
	away     map[*copyState]struct{} // waiting for the upstream
	wake     chan struct{}
	segments map[uint64]int // transactions that wait, by segment
	floors   map[uint64]int // segments that were the newest when a Put began, which is under way
	copies   int

	done     chan []byte // records that nobody waits for
	attempts *prometheus.CounterVec
}

// entry is a transaction that waits.
type entry struct {
	id      string
	at      spool.Position
	size    int
	created time.Time
	from    string
	copies  map[string]*copyState // by message id; those not done

	recovered bool // of a previous run
}

type copyState struct {
	e         *entry
	index     int
	messageID string
	recipient string
	tries     int
	next      time.Time
	lastTry   time.Time
	reply     string
	isAway    bool
	busy      bool
	heapIndex int // -1: not in the heap
}

// Open opens the queue in c.Dir and reads what waits there.
func Open(c Config) (*Queue, error) {
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
	if c.segmentBytes == 0 {
		c.segmentBytes = 64 << 20
	}
	q := &Queue{c: c, entries: map[string]*entry{}, away: map[*copyState]struct{}{}, wake: make(chan struct{}, 1),
		segments: map[uint64]int{}, floors: map[uint64]int{}, done: make(chan []byte, 1024),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_queue_attempts_total", Help: "Attempts to send waiting copies, by result."}, []string{"result"})}
	var err error
	q.spool, err = spool.Open(spool.Config{Dir: c.Dir, Name: "queue", SegmentBytes: c.segmentBytes, SegmentAge: 24 * time.Hour,
		Readers: []string{readerName}, FS: c.FS, Log: c.Log, Metrics: c.Metrics})
	if err != nil {
		return nil, err
	}
	index := spool.Index{Head: headBytes, Length: recordLength, Load: q.load}
	if _, err := q.spool.Scan(readerName, index); err != nil {
		q.spool.Close()
		return nil, err
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(q.attempts, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "postern_queue_copies", Help: "Copies that wait in the retry spool."},
			func() float64 { return float64(q.Len()) }))
	}
	return q, nil
}

// Len is how many copies wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.copies
}

// headBytes is what is read of a transaction at the start; its JSON mostly fits.
const headBytes = 1 << 10

// load takes one record of an earlier life into the index.
func (q *Queue) load(at spool.Position, b []byte, n int) bool {
	if len(b) < 2 {
		return true
	}
	switch b[0] {
	case kindTransaction:
		if len(b) < n && headEnd(b) < 0 {
			return false
		}
		t, err := decodeHead(b)
		if err != nil {
			q.c.Log.Error("queue: transaction passed over", "segment", at.Segment, "offset", at.Offset, "err", err)
			return true
		}
		q.add(t, at, n)
		q.entries[t.ID].recovered = true
	case kindState:
		var s stateRecord
		if c := q.find(b, &s, func() (string, string) { return s.ID, s.Copy }); c != nil {
			c.tries, c.next, c.reply, c.lastTry = s.Tries, s.Next, s.Reply, s.LastTry
			q.setAway(c, s.Away)
			q.schedule(c)
		}
	case kindDone:
		var d doneRecord
		if c := q.find(b, &d, func() (string, string) { return d.ID, d.Copy }); c != nil {
			q.forget(c)
		}
	}
	return true
}

func (q *Queue) find(record []byte, v any, key func() (id, copy string)) *copyState {
	raw, err := unescape(record[2:])
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		q.c.Log.Error("queue: record passed over", "err", err)
		return nil
	}
	id, copy := key()
	if e := q.entries[id]; e != nil {
		return e.copies[copy]
	}
	return nil
}

// add takes a transaction into the index. One that is there already has moved.
func (q *Queue) add(t *Transaction, at spool.Position, size int) {
	if old := q.entries[t.ID]; old != nil {
		q.leave(old.at.Segment)
		old.at, old.size = at, size
		q.segments[at.Segment]++
		for i, c := range t.Copies {
			if s := old.copies[c.MessageID]; s != nil {
				s.index = i
			}
		}
		return
	}
	e := &entry{id: t.ID, at: at, size: size, created: t.Created, from: t.From.String(), copies: map[string]*copyState{}}
	q.entries[t.ID] = e
	q.segments[at.Segment]++
	for i, c := range t.Copies {
		s := &copyState{e: e, index: i, messageID: c.MessageID, recipient: c.Recipient.Address.String(), next: q.c.Now(), heapIndex: -1}
		if v := c.Tried; v != nil {
			s.tries, s.next, s.lastTry, s.reply = 1, q.nextTry(1), q.c.Now(), v.Reply
			q.setAway(s, v.Away)
		}
		e.copies[c.MessageID] = s
		q.copies++
		q.schedule(s)
	}
}

// forget takes a copy out of the index.
func (q *Queue) forget(c *copyState) {
	if c.e.copies[c.messageID] != c {
		return
	}
	delete(c.e.copies, c.messageID)
	delete(q.away, c)
	q.copies--
	if c.heapIndex >= 0 {
		heap.Remove(&q.due, c.heapIndex)
	}
	if len(c.e.copies) == 0 {
		delete(q.entries, c.e.id)
		q.leave(c.e.at.Segment)
	}
}

// leave notes that a transaction no longer needs a segment.
func (q *Queue) leave(segment uint64) {
	if q.segments[segment]--; q.segments[segment] == 0 {
		delete(q.segments, segment)
	}
}

func (q *Queue) setAway(c *copyState, away bool) {
	if c.isAway = away; away {
		q.away[c] = struct{}{}
	} else {
		delete(q.away, c)
	}
}

func (q *Queue) schedule(c *copyState) {
	if c.heapIndex >= 0 {
		heap.Fix(&q.due, c.heapIndex)
	} else {
		heap.Push(&q.due, c)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Room is what a transaction takes on disk, for Reserve.
func Room(shared, own int) int64 { return int64(shared+own) + int64(shared+own)/16 + 4096 }

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
	return q.put(ctx, q.add, ts...)
}

// put appends transactions and has them taken into the index, under mu.
func (q *Queue) put(ctx context.Context, add func(*Transaction, spool.Position, int), ts ...*Transaction) error {
	records := make([][]byte, len(ts))
	for i, t := range ts {
		r, err := encodeTransaction(t)
		if err != nil {
			return err
		}
		records[i] = r
	}
	q.mu.Lock()
	floor := q.spool.Newest().Segment
	q.floors[floor]++
	q.mu.Unlock()
	at, err := q.spool.AppendAt(ctx, records...)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.floors[floor]--; q.floors[floor] == 0 {
		delete(q.floors, floor)
	}
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	for i, t := range ts {
		add(t, at[i], len(records[i]))
	}
	return nil
}

// nextTry is when the attempt after n is due, with a tenth of jitter.
func (q *Queue) nextTry(n int) time.Time {
	pause := q.c.RetryAfter[min(n, len(q.c.RetryAfter))-1]
	return q.c.Now().Add(pause - pause/20 + rand.N(pause/10+1))
}

// Serve sends what is due until ctx ends. Attempts under way then have Grace
// to end; what is cut off is tried again after the next start.
func (q *Queue) Serve(ctx context.Context, d Deliverer) error {
	q.d = d
	sending, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var workers, others sync.WaitGroup
	work, stopLog := make(chan *copyState), make(chan struct{})
	for range q.c.Workers {
		workers.Go(func() {
			for c := range work {
				q.attempt(sending, c)
			}
		})
	}
	others.Go(func() { q.writeLog(stopLog) })
	others.Go(func() { q.probe(ctx) })
	for ctx.Err() == nil {
		c, wait := q.takeDue()
		if c == nil {
			t := time.NewTimer(wait)
			select {
			case <-q.wake:
			case <-t.C:
			case <-ctx.Done():
			}
			t.Stop()
			continue
		}
		select {
		case work <- c:
		case <-ctx.Done():
		}
	}
	close(work)
	grace := time.AfterFunc(q.c.Grace, cut)
	defer grace.Stop()
	workers.Wait()
	close(stopLog)
	others.Wait()
	return nil
}

// Flush writes what nobody waited for, for who uses a queue without Serve.
func (q *Queue) Flush() error {
	var records [][]byte
	for n := len(q.done); n > 0; n-- {
		records = append(records, <-q.done)
	}
	if len(records) == 0 {
		return nil
	}
	return q.spool.Append(context.Background(), records...)
}

// Close ends the queue's spool.
func (q *Queue) Close() error { return q.spool.Close() }

const longWait = time.Minute

// takeDue takes the first copy that is due, or says how long to wait.
func (q *Queue) takeDue() (*copyState, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.due) == 0 {
		return nil, longWait
	}
	c := q.due[0]
	if wait := c.next.Sub(q.c.Now()); wait > 0 {
		return nil, min(wait, longWait)
	}
	heap.Pop(&q.due)
	c.busy = true
	return c, 0
}

// attempt sends one copy.
func (q *Queue) attempt(ctx context.Context, c *copyState) {
	q.mu.Lock()
	at, size, tries, recovered := c.e.at, c.e.size, c.tries, c.e.recovered
	q.mu.Unlock()
	t, err := q.read(at, size)
	index := -1
	if err == nil {
		t.Recovered = recovered
		if index = t.find(c.messageID); index < 0 {
			err = errRecord
		}
	}
	if err != nil {
		q.unreadable(c, at, size, err)
		return
	}
	one, cancel := context.WithTimeout(ctx, deliverTimeout)
	v := q.d.Deliver(one, t, index, tries)
	cancel()
	if ctx.Err() != nil && !v.Done && !v.Failed { // we stop; nothing has been said
		return
	}
	tries++
	expired := !v.Done && !v.Failed && q.c.Now().Sub(t.Created) >= q.c.BounceAfter
	switch {
	case v.Done:
		q.attempts.WithLabelValues("done").Inc()
		q.finish(c, "sent")
	case v.Failed || expired:
		q.attempts.WithLabelValues("failed").Inc()
		q.giveUp(ctx, t, index, c, tries, v)
	default:
		q.attempts.WithLabelValues("deferred").Inc()
		q.again(c, tries, v)
	}
}

func (q *Queue) read(at spool.Position, size int) (*Transaction, error) {
	record, err := q.spool.ReadAt(at, size)
	if err != nil {
		return nil, err
	}
	return decodeTransaction(record)
}

// unreadable is a copy whose bytes are broken: they are set aside in a file of
// their own, and the rest goes on. A disk that cannot be read just now is
// asked again.
func (q *Queue) unreadable(c *copyState, at spool.Position, size int, err error) {
	q.attempts.WithLabelValues("unreadable").Inc()
	if !errors.Is(err, spool.ErrCorrupt) && !errors.Is(err, errRecord) {
		q.c.Log.Error("queue: copy not read, will be tried again", "message_id", c.messageID, "recipient", c.recipient, "err", err)
		q.again(c, c.tries+1, Verdict{Reply: err.Error()})
		return
	}
	file, saveErr := q.spool.SetAside(at, size, c.e.id)
	q.c.Log.Error("queue: copy is broken and was set aside", "file", file, "message_id", c.messageID, "recipient", c.recipient, "err", errors.Join(err, saveErr))
	q.finish(c, "unreadable")
}

func (q *Queue) again(c *copyState, tries int, v Verdict) {
	q.mu.Lock()
	c.tries, c.next, c.reply, c.busy, c.lastTry = tries, q.nextTry(tries), v.Reply, false, q.c.Now()
	q.setAway(c, v.Away)
	s := stateRecord{ID: c.e.id, Copy: c.messageID, Tries: tries, Next: c.next, Away: v.Away, Reply: v.Reply, LastTry: c.lastTry, Upstream: v.Upstream}
	q.schedule(c)
	q.mu.Unlock()
	q.note(kindState, s)
}

func (q *Queue) finish(c *copyState, why string) {
	q.mu.Lock()
	id := c.e.id
	q.forget(c)
	q.mu.Unlock()
	q.note(kindDone, doneRecord{id, c.messageID, why})
}

// giveUp queues what is to be said about a copy and forgets it, in one write.
func (q *Queue) giveUp(ctx context.Context, t *Transaction, index int, c *copyState, tries int, v Verdict) {
	about := q.d.GiveUp(ctx, t, index, tries, v)
	if len(about) > 0 {
		if err := q.Put(context.WithoutCancel(ctx), about...); err != nil {
			q.c.Log.Error("queue: a DSN could not be queued, the copy stays", "message_id", c.messageID, "err", err)
			q.again(c, tries, v)
			return
		}
	}
	q.finish(c, "failed: "+v.Reply)
}

// probe asks for the upstream while copies wait for it, and makes them due
// when it is back.
func (q *Queue) probe(ctx context.Context) {
	tick := time.NewTicker(q.c.ProbeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		q.mu.Lock()
		waiting := len(q.away)
		q.mu.Unlock()
		if waiting == 0 || q.d.Reachable(ctx) != nil {
			continue
		}
		q.c.Log.Info("queue: the upstream is back", "copies", waiting)
		q.mu.Lock()
		for c := range q.away {
			delete(q.away, c)
			if !c.busy {
				c.next = q.c.Now()
				q.schedule(c)
			}
		}
		q.mu.Unlock()
	}
}

// dueHeap orders copies by when they are due.
type dueHeap []*copyState

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].next.Before(h[j].next) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	c := x.(*copyState)
	c.heapIndex = len(*h)
	*h = append(*h, c)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	c.heapIndex = -1
	return c
}
