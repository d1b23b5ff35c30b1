package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"postern/tracking/spool"
)

// The states of a batch.
const (
	Planned = "planned"
	Failing = "failing" // planned, and its uploads have failed
	Sent    = "sent"
	Partly  = "partly" // the rest was quarantined
	Empty   = "empty"
)

// Entry is a batch in the ledger, with its newest state.
type Entry struct {
	Batch       uint64         `json:"batch"` // its number
	At          time.Time      `json:"at"`
	From        spool.Position `json:"from"`
	To          spool.Position `json:"to"`
	Sum         uint32         `json:"sum"`    // CRC-32C of the records between the two
	Events      int            `json:"events"` // that are to be uploaded
	Raw         int            `json:"raw"`    // bytes of NDJSON
	Wire        int            `json:"wire,omitempty"`
	Status      string         `json:"status"`        // planned, failing, sent, partly, empty
	IDs         []string       `json:"ids,omitempty"` // the service's names
	Quarantined int            `json:"aside,omitempty"`
	Error       string         `json:"error,omitempty"` // of the last attempt that failed
	Tries       int            `json:"tries,omitempty"`

	// Outcomes are what the service answered later, with Config.PollOutcomes.
	Outcomes []Outcome `json:"outcomes,omitempty"`

	// Done are the ranges of a planned batch that were accepted or quarantined.
	Done []Span `json:"-"`
}

// Span is a range of records in the event log.
type Span struct {
	From spool.Position `json:"from"` // of the first record
	To   spool.Position `json:"to"`   // behind the last
}

// holds reports whether a record at p is in the span.
func (s Span) holds(p spool.Position) bool { return !before(p, s.From) && before(p, s.To) }

// before reports whether a is before b in the log.
func before(a, b spool.Position) bool {
	return a.Segment < b.Segment || a.Segment == b.Segment && a.Offset < b.Offset
}

// step is the ledger's record of a range of a batch that is done.
type step struct {
	Batch       uint64 `json:"batch"`
	Spans       []Span `json:"spans"`
	ID          string `json:"id,omitempty"`
	Wire        int    `json:"wire,omitempty"`
	Quarantined int    `json:"aside,omitempty"`
}

// failure is the ledger's record of failed uploads of a batch. It is not an Entry with
// another status, because an older version would take that batch for done.
type failure struct {
	Batch uint64 `json:"batch"`
	Tries int    `json:"tries"`
	Error string `json:"error"` // of the last one
}

// record is one record of the ledger: an entry, a step, or a failure.
type record struct {
	Step    *step    `json:"step,omitempty"`
	Failure *failure `json:"failure,omitempty"`
	*Entry
}

// isOpen reports whether the batch has events that are still to be uploaded.
func (e *Entry) isOpen() bool { return e.Status == Planned || e.Status == Failing }

// fail adds a failure to the state of its batch, unless the batch is done.
func (e *Entry) fail(f *failure) {
	if !e.isOpen() {
		return
	}

	e.Status = Failing
	e.Tries = f.Tries
	e.Error = f.Error
}

// apply adds a step to the state of its batch. A step that was written twice, because
// the first write failed half-way, counts once.
func (e *Entry) apply(s *step) {
	for _, span := range s.Spans {
		if slices.Contains(e.Done, span) {
			return
		}
	}

	e.Done = append(e.Done, s.Spans...)
	e.Wire += s.Wire
	e.Quarantined += s.Quarantined
	if s.ID != "" {
		e.IDs = append(e.IDs, s.ID)
	}
}

// Batches returns the batches of the ledger in a Config.Dir, oldest first, each with its
// newest state. It needs no lock: an Uploader may run meanwhile.
func Batches(dir string) ([]Entry, error) {
	var out []Entry
	index := map[uint64]int{}

	err := spool.ReadDir(filepath.Join(dir, "ledger"), func(r spool.Record) bool {
		var rec record
		if json.Unmarshal(r.Data, &rec) != nil {
			return true
		}

		switch {
		case rec.Step != nil:
			if i, ok := index[rec.Step.Batch]; ok {
				out[i].apply(rec.Step)
			}
		case rec.Failure != nil:
			if i, ok := index[rec.Failure.Batch]; ok {
				out[i].fail(rec.Failure)
			}
		case rec.Entry != nil:
			if i, ok := index[rec.Batch]; ok {
				out[i] = *rec.Entry
				break
			}
			index[rec.Batch] = len(out)
			out = append(out, *rec.Entry)
		}

		return true
	})

	return out, err
}

// sortEntries sorts batches by their position in the log.
func sortEntries(entries []Entry) {
	slices.SortStableFunc(entries, func(a, b Entry) int {
		switch {
		case before(a.From, b.From):
			return -1
		case before(b.From, a.From):
			return 1
		}
		return 0
	})
}

// maxUnwritten is how many records are kept for a ledger that cannot be written. Events
// of records that are dropped then are uploaded twice after a crash.
const maxUnwritten = 10_000

// ledger appends to the ledger on disk. What cannot be written is written with the next
// record. It is safe for concurrent use.
type ledger struct {
	spool *spool.Spool
	log   *slog.Logger

	mu        sync.Mutex
	unwritten [][]byte
}

// ledgerRoom is how many bytes are reserved for records on a full disk.
const ledgerRoom = 64 << 10

// openLedger opens the ledger of a configuration.
func openLedger(c Config) (*ledger, error) {
	s, err := spool.Open(c.ledgerConfig())
	if err != nil {
		return nil, err
	}

	s.Hold(ledgerRoom)

	return &ledger{spool: s, log: c.Log}, nil
}

// ledgerConfig returns the configuration of the ledger's spool.
func (c Config) ledgerConfig() spool.Config {
	return spool.Config{
		Dir:        filepath.Join(c.Dir, "ledger"),
		Disk:       c.Disk,
		Class:      spool.Essential, // batches must be done on a full disk, too
		Name:       "ledger",
		SegmentAge: 24 * time.Hour,
		Keep:       max(c.Ledger.Keep, c.Quarantine.MaxAge+time.Hour), // as long as a batch may wait
		FS:         c.Ledger.FS,
		Log:        c.Log,
		Metrics:    c.Metrics,
	}
}

// note writes a record. A failure is only logged: events are uploaded without a ledger
// as well, which is how a full disk gets free.
func (l *ledger) note(r record) {
	b, ok := l.encode(r)
	if !ok {
		return
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	l.unwritten = append(l.unwritten, b)
	if err := l.flush(); err != nil {
		l.log.Error("ingest: cannot write ledger; after a crash events of this batch may be uploaded again",
			"err", err, "records_waiting", len(l.unwritten))
	}
	if n := len(l.unwritten); n > maxUnwritten {
		l.unwritten = slices.Clone(l.unwritten[n-maxUnwritten:])
	}
}

// encode returns the line of a record. There is none if its time is beyond the year
// 9999.
func (l *ledger) encode(r record) ([]byte, bool) {
	b, err := json.Marshal(r)
	if err != nil {
		l.log.Error("ingest: cannot encode a record of the ledger", "err", err)
		return nil, false
	}

	return b, true
}

// hint writes a record that is for the operator only. If it cannot be written, or the
// disk is nearly full, it is dropped.
func (l *ledger) hint(r record) {
	b, ok := l.encode(r)
	if !ok {
		return
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	if len(l.unwritten) > 0 { // the batch itself may be among them
		return
	}
	if _, err := l.spool.AppendAs(context.Background(), spool.Ordinary, b); err != nil {
		l.log.Warn("ingest: cannot record failed uploads in the ledger", "err", err)
	}
}

// flush writes the records that are not written yet. The caller holds mu.
func (l *ledger) flush() error {
	if len(l.unwritten) == 0 {
		return nil
	}

	if err := l.spool.Append(context.Background(), l.unwritten...); err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	l.unwritten = nil

	return nil
}

// close tries once more to write what is not written yet, and closes the spool.
func (l *ledger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()

	err := l.flush()
	if e := l.spool.Close(); err == nil {
		err = e
	}

	return err
}
