// Package ingest uploads events from the event log. It filters them, cuts batches by
// size and age, has several uploads in flight, and keeps a ledger of what became of
// each batch. Events that the service does not accept stay on disk and are sent
// again; an event that it will never accept is quarantined.
//
// # On disk
//
// In Config.Dir:
//
//	ledger/      a spool (package tracking/spool). It gets a record when a batch is
//	             planned, with its first and last position, one for each range of it
//	             that is done, at times one while its uploads fail, and one when all
//	             is done. After a restart a planned batch is cut in the same way, so
//	             that the same bytes are sent again, without the ranges that are done.
//	rejected/    the quarantine, a file a day: lines of JSON with the reason and the
//	             event
//
// # Failed uploads
//
// Only the answers 400, 413 and 422 can be the fault of an event. Then the batch is
// bisected until the event is sent alone; if it is refused, it is quarantined. Once
// several events in a row were refused alone with nothing accepted in between, an
// event of another type and message is sent first. If that is refused as well, the
// events are not at fault, and everything waits.
//
// After all other answers, or none, the same batch is sent again later. A batch that
// fails repeatedly while others are accepted moves aside: it leaves the uploads in
// flight and is sent in ranges, each with its own backoff, while others pass it. The
// cursor waits for it; the ledger says what behind it was sent already.
package ingest

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"postern/tracking/event"
	"postern/tracking/spool"
)

// Source is where events are read; *spool.Reader is one.
type Source interface {
	// Next waits for the next record.
	Next(context.Context) (spool.Record, error)

	// Commit makes durable that the records before a position are done.
	Commit(spool.Position) error
}

// Sink is where batches are sent; Signals is one. It is used by several goroutines.
type Sink interface {
	// Send uploads NDJSON. It returns the service's name for the batch and how many
	// bytes were sent. The error is a *Refusal if the service answered.
	Send(ctx context.Context, ndjson []byte) (id string, wire int, err error)
}

// Uploader sends the events of a source to a sink. Its methods are safe for concurrent
// use; Serve is called once.
type Uploader struct {
	cfg        Config
	ledger     *ledger
	quarantine *quarantine
	metrics    *metrics
	outcomes   *outcomes
	aside      *aside

	// taken counts uploads that the service accepted. If it grows, a failure
	// elsewhere is not the service's.
	taken atomic.Int64

	// alone counts events that were refused alone since an upload was accepted.
	alone atomic.Int64

	// earlier are the batches of previous runs that the gatherer has not reached,
	// in the log's order. It and last, the number of the newest batch, are the
	// gatherer's.
	earlier []Entry
	last    uint64

	mu      sync.Mutex
	summary summary
	samples map[event.Type][]byte // an accepted event of each type
}

// New opens the ledger and returns an Uploader, which has to be closed.
func New(c Config) (*Uploader, error) {
	c = c.withDefaults()

	l, err := openLedger(c)
	if err != nil {
		return nil, err
	}
	if err := l.spool.Check(); err != nil {
		c.Log.Error("ingest: cannot check ledger", "err", err)
	}

	entries, err := Batches(c.Dir)
	if err != nil {
		l.close()
		return nil, err
	}

	u := &Uploader{
		cfg:        c,
		ledger:     l,
		quarantine: newQuarantine(filepath.Join(c.Dir, "rejected"), c.Quarantine.FS, c.Now),
		metrics:    newMetrics(c.Metrics),
		outcomes:   &outcomes{},
		samples:    map[event.Type][]byte{},
	}
	u.aside = newAside(c.Batch.Bytes, u.metrics)
	u.recall(entries)

	return u, nil
}

// recall keeps what a previous run left in the ledger and is still needed.
func (u *Uploader) recall(entries []Entry) {
	for _, e := range entries {
		u.last = max(u.last, e.Batch)

		if u.cfg.PollOutcomes {
			u.outcomes.expect(e, u.cfg.Now())
		}

		if before(u.cfg.From, e.To) {
			e.Outcomes = nil
			u.earlier = append(u.earlier, e)
		}
	}

	sortEntries(u.earlier)
}

// Close closes the ledger. Serve must have returned.
func (u *Uploader) Close() error { return u.ledger.close() }

// Serve uploads until ctx ends; uploads in flight may then take UploadConfig.Grace.
// Batches that are not done are sent again after the next start, with the same bytes.
// Errors of src are logged and tried again; the result is always nil.
func (u *Uploader) Serve(ctx context.Context, src Source) error {
	var helpers, senders, committer sync.WaitGroup
	helpers.Go(func() { u.summarise(ctx) })
	helpers.Go(func() { u.poll(ctx, pollEvery) })

	w := newWindow()
	sending, allSent := context.WithCancel(context.Background())
	committer.Go(func() { w.commit(sending, src, u.cfg) })

	g := &gatherer{u: u, src: src}
	slots := make(chan struct{}, u.cfg.Uploads.AtOnce)

	for {
		b, err := g.next(ctx)
		if err != nil {
			break // ctx has ended
		}

		w.begin(b)
		if !b.isOpen() { // done by a previous run, whose cursor was not written
			w.end(b)
			continue
		}
		if !b.recalled {
			u.ledger.note(record{Entry: &b.Entry})
		}

		d := u.newDelivery(b, slots)
		if !d.enter(ctx) {
			break
		}
		senders.Go(func() {
			if d.run(ctx) {
				w.end(b)
			}
		})
	}

	senders.Wait()
	allSent()
	committer.Wait()
	helpers.Wait()

	return nil
}

// inGrace returns a context for an upload. It ends UploadConfig.Grace after ctx.
func (c Config) inGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.Uploads.Grace == nil {
		return context.WithCancel(ctx)
	}

	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if sleep(longer, c.Uploads.Grace()) {
			cancel()
		}
	})

	return longer, func() {
		stop()
		cancel()
	}
}

// jitter returns a random duration between d/2 and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// sleep waits for d, and reports whether ctx did not end before that.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()

	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
