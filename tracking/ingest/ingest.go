// Package ingest uploads events from the event log: it filters them, cuts
// batches by size and age, has several uploads in flight, and keeps a ledger of
// what became of each batch. What the service does not take stays on disk and
// goes again; what it will never take is quarantined, event by event.
//
// On disk, in Config.Dir:
//
//	ledger/      a spool (package tracking/spool): a record when a batch is
//	             planned, with the positions that it reaches from and to, one
//	             for each part of it that is done, now and then one while its
//	             uploads fail, and one when all is done. After a restart a
//	             planned batch is cut in the same way, so that the same bytes go
//	             again, without the parts that are done.
//	rejected/    the quarantine, a file a day: lines of JSON with the reason and
//	             the event
//
// What a failed upload means. Only 400, 413 and 422 can be the fault of an
// event; then the batch is halved until the event stands alone, and that is
// quarantined. Where refusedInARow events were refused alone with nothing taken
// in between, one of another type and message is tried first: where that is
// refused likewise, it is not the events, and everything waits. All other
// answers, and none, mean the same batch later. A batch to which that happens
// again and again while others are taken gives up its place and goes on aside,
// in parts, each with a backoff of its own; the cursor waits for it, and the
// ledger knows what was sent behind it.
//
// An Uploader runs in one call of Serve; its methods are safe for concurrent
// use.
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

// Source is where events come from; *spool.Reader is one.
type Source interface {
	Next(context.Context) (spool.Record, error)
	Commit(spool.Position) error
}

// Sink takes batches; Signals is one. Its errors are *Refusal where the
// service answered, anything else where it did not.
type Sink interface {
	// Send hands over NDJSON and returns the service's name for the batch and
	// the bytes that went over the wire.
	Send(ctx context.Context, ndjson []byte) (id string, wire int, err error)
}

// Uploader takes events to a sink.
type Uploader struct {
	cfg        Config
	ledger     *ledger
	quarantine *quarantine
	metrics    *metrics
	outcomes   *outcomes
	aside      *aside

	// taken counts uploads that the service took: the evidence that a failure
	// elsewhere is not the service's.
	taken atomic.Int64

	// alone counts events that were refused alone since anything was taken.
	alone atomic.Int64

	// earlier are the batches that a previous run left, in the log's order,
	// from where the gatherer is on.
	earlier []Entry
	last    uint64 // number of the newest batch; the gatherer's

	mu      sync.Mutex
	summary summary
	samples map[event.Type][]byte // an event of each type that the service took
}

// New opens the ledger.
func New(c Config) (*Uploader, error) {
	c = c.withDefaults()

	l, err := openLedger(c)
	if err != nil {
		return nil, err
	}
	if err := l.spool.Check(); err != nil {
		c.Log.Error("ingest: ledger not checked", "err", err)
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

// recall takes what is still needed out of the ledger.
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

// Close ends the ledger.
func (u *Uploader) Close() error { return u.ledger.close() }

// Serve uploads until ctx ends. Uploads in flight then have Config.Grace to be
// answered. Batches that are not done with are sent again at the next start,
// with the same bytes. An error of src does not end it.
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
		if !b.isOpen() { // by a previous run, whose cursor was not written
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

// inGrace returns a context for an upload: it ends Config.Grace after ctx.
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

// jitter returns between a half and the whole of d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

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
