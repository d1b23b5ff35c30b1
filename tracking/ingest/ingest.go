// Package ingest uploads events from the spool: filter, batches by size and
// age, several uploads at once, and a ledger of what became of each batch. What
// the service does not take stays on disk and goes again; what it will never
// take is set aside, alone.
//
// On disk, in Config.Dir:
//
//	ledger/      a spool (package tracking/spool) of Entry records: one when a
//	             batch is planned, with the positions that it reaches from and
//	             to, one when it is done. A batch that was planned and not done
//	             goes again after a restart with the same bytes.
//	rejected/    events that were set aside, a file a day: lines of JSON with the
//	             reason and the event
//
// An Uploader runs in one call of Serve; its Batches are safe for concurrent use.
package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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

// Config says what goes where and how. Zero values get the defaults named.
type Config struct {
	Dir        string
	Disk       *spool.Disk // shared with all that write to the file system; nil: alone
	Sink       Sink
	BatchBytes int                 // before gzip
	BatchAge   time.Duration       // of the first event in a batch
	AtOnce     int                 // uploads in flight: 4
	Report     map[event.Type]bool // types that go; nil: all
	HashRcpt   bool                // privacy_policy = "sha1"
	Machines   map[string]string   // by event.Class's kind: Mark (where it is not named), Drop or Person
	MaxAge     time.Duration       // events older than this are set aside: 24 h
	KeepLedger time.Duration       // 7 days
	MinBackoff time.Duration       // after the first failure: 1 second
	MaxBackoff time.Duration       // 1 minute
	Verbose    bool                // log_verbose
	// PollOutcomes asks the service how many events of each batch it accepted.
	PollOutcomes bool
	Now          func() time.Time
	Log          *slog.Logger
	Metrics      prometheus.Registerer
}

// Uploader takes events to a sink.
type Uploader struct {
	c      Config
	ledger *spool.Spool
	aside  *aside

	mu sync.Mutex
	// earlier are the batches of an earlier life, by where they begin: planned
	// ones are sent again as they were, others were taken.
	earlier map[spool.Position]Entry
	last    uint64 // number of the newest batch
	summary summary

	events, filtered, setAside *prometheus.CounterVec
	batches                    *prometheus.CounterVec
	failing                    prometheus.Gauge
}

type summary struct {
	events, batches, failures int
	raw, wire                 int
}

// Entry is one line of the ledger.
type Entry struct {
	Batch  uint64         `json:"batch"`
	At     time.Time      `json:"at"`
	From   spool.Position `json:"from"`
	To     spool.Position `json:"to"`
	Events int            `json:"events"`
	Raw    int            `json:"raw"`            // bytes of NDJSON
	Wire   int            `json:"wire,omitempty"` // bytes after gzip
	Status string         `json:"status"`         // planned, sent, partly (something was set aside), empty
	IDs    []string       `json:"ids,omitempty"`  // the service's names
	Aside  int            `json:"aside,omitempty"`
	Error  string         `json:"error,omitempty"` // of the last attempt that failed
	// Outcomes are what the service said later, where it is asked.
	Outcomes []Outcome `json:"outcomes,omitempty"`
	Tries    int       `json:"tries,omitempty"`
}

// ledgerRoom stays allocated for entries, whatever fills the disk.
const ledgerRoom = 64 << 10

// The states of a batch.
const (
	Planned = "planned"
	Sent    = "sent"
	Partly  = "partly"
	Empty   = "empty"
)

// New opens the ledger.
func New(c Config) (*Uploader, error) {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.MinBackoff, time.Second)
	def(&c.MaxBackoff, time.Minute)
	def(&c.MaxAge, 24*time.Hour)
	def(&c.KeepLedger, 7*24*time.Hour)
	if c.AtOnce == 0 {
		c.AtOnce = 4
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	u := &Uploader{c: c, aside: &aside{dir: filepath.Join(c.Dir, "rejected"), now: c.Now},
		events:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_ingest_events_total", Help: "Events the ingest service took, by type."}, []string{"type"}),
		filtered: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_ingest_filtered_events_total", Help: "Events not uploaded, since [signals] report does not name their class."}, []string{"type"}),
		setAside: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_ingest_set_aside_events_total", Help: "Events set aside for good, by reason."}, []string{"reason"}),
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_ingest_batches_total",
			Help: "Upload attempts by HTTP status, or \"error\" where there was no answer."}, []string{"status"}),
		failing: prometheus.NewGauge(prometheus.GaugeOpts{Name: "postern_ingest_failing", Help: "1 while uploads fail."}),
	}
	var err error
	u.ledger, err = spool.Open(spool.Config{
		Dir:        filepath.Join(c.Dir, "ledger"),
		Disk:       c.Disk,
		Class:      spool.Essential, // it says what is done with, on a full disk too
		Name:       "ledger",
		SegmentAge: 24 * time.Hour,
		Keep:       c.KeepLedger,
		Log:        c.Log,
		Metrics:    c.Metrics,
	})
	if err != nil {
		return nil, err
	}
	u.ledger.Hold(ledgerRoom)
	entries, err := Batches(c.Dir)
	if err != nil {
		u.ledger.Close()
		return nil, err
	}
	u.earlier = make(map[spool.Position]Entry, len(entries))
	for _, e := range entries {
		u.last = max(u.last, e.Batch)
		e.IDs, e.Outcomes = nil, nil
		u.earlier[e.From] = e
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(u.events, u.filtered, u.setAside, u.batches, u.failing)
	}
	return u, nil
}

// Close ends the ledger.
func (u *Uploader) Close() error { return u.ledger.Close() }

// Batches reads the ledger of a directory, oldest first, each batch with its
// newest state. It needs no lock.
func Batches(dir string) ([]Entry, error) {
	var out []Entry
	index := map[uint64]int{}
	err := spool.ReadDir(filepath.Join(dir, "ledger"), func(r spool.Record) bool {
		var e Entry
		if json.Unmarshal(r.Data, &e) != nil {
			return true
		}
		if i, ok := index[e.Batch]; ok {
			out[i] = e
		} else {
			index[e.Batch] = len(out)
			out = append(out, e)
		}
		return true
	})
	return out, err
}

func (u *Uploader) note(e Entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	return u.ledger.Append(context.Background(), b)
}

// batch is a run of events, lines of NDJSON without their ends.
type batch struct {
	Entry
	lines [][]byte
	types []event.Type
	times []time.Time
	done  chan struct{} // closed when nothing is left to do
}

// Serve uploads until ctx ends. Batches under way are then sent again at the
// next start, with the same bytes.
func (u *Uploader) Serve(ctx context.Context, src Source) error {
	queue := make(chan *batch, u.c.AtOnce)
	var senders, committer sync.WaitGroup
	committer.Go(func() { u.commit(src, queue) })
	committer.Go(func() { u.summarise(ctx) })
	committer.Go(func() { u.poll(ctx, pollEvery) })
	g := &gatherer{u: u, src: src}
	slots := make(chan struct{}, u.c.AtOnce)
	var err error
	for ctx.Err() == nil {
		var b *batch
		if b, err = g.next(ctx); err != nil {
			break
		}
		if b.Status != "" { // of an earlier life, whose cursor was not written
			close(b.done)
			queue <- b
			continue
		}
		b.Status, b.At = Planned, u.c.Now()
		if err := u.note(b.Entry); err != nil {
			u.c.Log.Error("ingest: ledger not written; after a crash the batch may be cut another way", "err", err)
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		queue <- b
		senders.Go(func() {
			defer func() { <-slots }()
			u.deliver(ctx, b)
		})
	}
	senders.Wait()
	close(queue)
	committer.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// commit advances the cursor in the batches' order, whichever ends first.
func (u *Uploader) commit(src Source, queue <-chan *batch) {
	stopped := false // at a batch that is still to be sent: nothing behind it counts
	for b := range queue {
		<-b.done // soon, once ctx has ended
		if stopped = stopped || b.Status == Planned; stopped {
			continue
		}
		if err := src.Commit(b.To); err != nil {
			u.c.Log.Error("ingest: cursor not written; the batch may go twice", "err", err)
		}
	}
}

// gatherer cuts the stream of records into batches.
type gatherer struct {
	u    *Uploader
	src  Source
	over *spool.Record // read, and did not fit
}

func (g *gatherer) read(ctx context.Context) (spool.Record, error) {
	if r := g.over; r != nil {
		g.over = nil
		return *r, nil
	}
	return g.src.Next(ctx)
}

func before(a, b spool.Position) bool {
	return a.Segment < b.Segment || a.Segment == b.Segment && a.Offset < b.Offset
}

// next waits for a first event and fills a batch until it is full or old
// enough. A batch that an earlier life planned ends where it ended then.
func (g *gatherer) next(ctx context.Context) (*batch, error) {
	first, err := g.read(ctx)
	if err != nil {
		return nil, err
	}
	u := g.u
	b := &batch{done: make(chan struct{})}
	b.From = first.At
	old := g.earlier(first)
	var limit *spool.Position
	if old != nil {
		limit = &old.To
		b.Batch = old.Batch
	}
	finish := func() *batch {
		switch {
		case old != nil && old.Status != Planned && old.Events == b.Events && old.Raw == b.Raw:
			b.Status = old.Status // taken already
		case old == nil || old.Status != Planned:
			u.last++
			b.Batch = u.last
		}
		return b
	}
	g.add(b, first)
	wait, cancel := context.WithTimeout(ctx, u.c.BatchAge)
	defer cancel()
	for {
		if limit != nil && !before(b.To, *limit) {
			return finish(), nil
		}
		r, err := g.read(wait)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			return finish(), nil
		case err != nil:
			return nil, err
		case limit != nil && !before(r.At, *limit), limit == nil && b.Raw+len(r.Data)+1 > u.c.BatchBytes:
			g.over = &r
			return finish(), nil
		}
		g.add(b, r)
	}
}

// earlier finds the batch of an earlier life that begins with a record.
func (g *gatherer) earlier(r spool.Record) *Entry {
	e, ok := g.u.earlier[r.At]
	if !ok {
		return nil
	}
	delete(g.u.earlier, r.At)
	return &e
}

// add takes a record into a batch, as far as the filter lets it.
func (g *gatherer) add(b *batch, r spool.Record) {
	b.To = r.Next
	u := g.u
	e, err := event.Decode(r.Data)
	if err != nil {
		u.c.Log.Error("ingest: a record of the spool is no event and is set aside", "err", err)
		u.putAside("unreadable", 0, err.Error(), r.Data)
		return
	}
	if u.c.Report != nil && !u.c.Report[e.Type] {
		u.filtered.WithLabelValues(e.Type.PublicName()).Inc()
		return
	}
	line, machine := r.Data, e.Class != (event.Class{})
	if machine && !u.machine(e) {
		u.filtered.WithLabelValues(e.Type.PublicName()).Inc()
		return
	}
	if u.c.HashRcpt {
		e.HashRecipient()
	}
	if u.c.HashRcpt || machine {
		if line, err = e.Encode(); err != nil {
			u.putAside("unreadable", 0, err.Error(), r.Data)
			return
		}
	}
	b.lines = append(b.lines, line)
	b.types = append(b.types, e.Type)
	b.times = append(b.times, e.Timestamp.Time)
	b.Events++
	b.Raw += len(line) + 1
}

// What becomes of events that no person made.
const (
	Mark   = "mark"   // uploaded with is_prefetched
	Drop   = "drop"   // not uploaded
	Person = "person" // uploaded like a person's
)

// machine makes of a machine's event what is to be uploaded. A machine that
// follows an unsubscribe link unsubscribes nobody, and that type has no mark.
func (u *Uploader) machine(e *event.Event) bool {
	as := u.c.Machines[e.Class.Kind]
	e.Class = event.Class{}
	switch {
	case as == Person:
		e.IsPrefetched = false
		if e.UserAgentParsed != nil {
			e.UserAgentParsed.IsPrefetched = false
		}
	case as == Drop || e.Type == event.LinkUnsubscribe:
		return false
	}
	return true
}

func (u *Uploader) putAside(reason string, status int, words string, line []byte) {
	u.setAside.WithLabelValues(reason).Inc()
	if err := u.aside.put(reason, status, words, line); err != nil {
		u.c.Log.Error("ingest: event could not be set aside and is lost", "reason", reason, "err", err)
	}
}

// join makes NDJSON of some lines.
func join(lines [][]byte) []byte {
	var b bytes.Buffer
	for _, l := range lines {
		b.Write(l)
		b.WriteByte('\n')
	}
	return b.Bytes()
}
