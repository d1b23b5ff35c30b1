package ingest

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"strconv"
	"time"

	"postern/tracking/event"
	"postern/tracking/spool"
)

// spanBytes is how many bytes of records, times the size of a batch, a batch
// reaches over at most where the filter leaves little of them.
const spanBytes = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batch is a run of records of the log and the events of them to upload.
type batch struct {
	Entry
	items    []item
	recalled bool // planned by a previous run
	span     int  // bytes of records
}

// item is an event of a batch.
type item struct {
	line []byte // as it is uploaded, without a line end
	typ  event.Type
	time time.Time
	span Span // of its record

	unreadable string // why it cannot be uploaded
	done       bool   // taken, or in quarantine
}

// gatherer cuts the log into batches. It belongs to one goroutine.
type gatherer struct {
	u    *Uploader
	src  Source
	over *spool.Record // read, and did not fit
}

// read returns the next record. An error of the source is logged and tried
// again, with backoff, until ctx ends.
func (g *gatherer) read(ctx context.Context) (spool.Record, error) {
	if r := g.over; r != nil {
		g.over = nil
		return *r, nil
	}

	backoff := g.u.c.MinBackoff
	for {
		r, err := g.src.Next(ctx)
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return r, ctx.Err()
		}

		wait := jitter(backoff)
		g.u.c.Log.Error("ingest: cannot read the event log, tried again",
			"err", err, "again_in_seconds", wait.Seconds())
		if !sleep(ctx, wait) {
			return r, ctx.Err()
		}
		backoff = min(2*backoff, g.u.c.MaxBackoff)
	}
}

// next waits for a record and fills a batch from there. It fails only where
// ctx ends.
func (g *gatherer) next(ctx context.Context) (*batch, error) {
	first, err := g.read(ctx)
	if err != nil {
		return nil, err
	}

	if old, ok := g.u.earlierAt(first.At); ok {
		return g.again(ctx, first, old)
	}

	return g.fresh(ctx, first)
}

// fresh fills a new batch until it is full or old enough.
func (g *gatherer) fresh(ctx context.Context, first spool.Record) (*batch, error) {
	u := g.u
	b := &batch{}
	b.From = first.At
	u.add(b, first)

	wait, cancel := context.WithTimeout(ctx, u.c.BatchAge)
	defer cancel()

	for {
		r, err := g.read(wait)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return g.plan(b), nil
		case b.Raw+len(r.Data)+1 > u.c.BatchBytes, b.span+len(r.Data) > spanBytes*u.c.BatchBytes, u.planned(r.At):
			g.over = &r
			return g.plan(b), nil
		}
		u.add(b, r)
	}
}

// again fills a batch that a previous run cut. Where the log holds other
// records there than it did then, it is a new batch.
func (g *gatherer) again(ctx context.Context, first spool.Record, old Entry) (*batch, error) {
	records, err := g.until(ctx, first, old.To)
	if err != nil {
		return nil, err
	}

	sum := uint32(0)
	for _, r := range records {
		sum = addSum(sum, r)
	}

	b := &batch{}
	b.From = first.At
	if sum == old.Sum && !old.isOpen() {
		b.Entry = Entry{
			Batch:  old.Batch,
			From:   first.At,
			To:     records[len(records)-1].Next,
			Sum:    sum,
			Status: old.Status,
		}
		return b, nil
	}

	for _, r := range records {
		g.u.add(b, r)
	}
	if sum != old.Sum {
		return g.plan(b), nil
	}

	b.recalled = true
	b.Batch = old.Batch
	b.Status = Planned
	b.At = old.At
	b.IDs = old.IDs
	b.Wire = old.Wire
	b.Aside = old.Aside
	b.Tries = old.Tries
	b.Error = old.Error
	b.Done = old.Done

	for i := range b.items {
		b.items[i].done = isDone(b.Done, b.items[i].span.From)
	}

	return b, nil
}

// isDone reports whether a record is in one of the spans.
func isDone(spans []Span, at spool.Position) bool {
	for _, s := range spans {
		if s.holds(at) {
			return true
		}
	}

	return false
}

// until reads the records before a position. They were all in the log once;
// where some are gone, it does not wait for others in their place.
func (g *gatherer) until(ctx context.Context, first spool.Record, end spool.Position) ([]spool.Record, error) {
	records := []spool.Record{first}

	wait, cancel := context.WithTimeout(ctx, max(g.u.c.BatchAge, recallWait))
	defer cancel()

	for before(records[len(records)-1].Next, end) {
		r, err := g.read(wait)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return records, nil
		}
		if !before(r.At, end) {
			g.over = &r
			return records, nil
		}
		records = append(records, r)
	}

	return records, nil
}

// recallWait is how long the records of a batch of a previous run are waited
// for at least.
const recallWait = 5 * time.Second

// plan numbers a new batch.
func (g *gatherer) plan(b *batch) *batch {
	g.u.last++
	b.Batch = g.u.last
	b.Status = Planned
	b.At = g.u.c.Now()

	return b
}

// earlierAt returns the batch of a previous run that begins at a position, and
// forgets the ones before it.
func (u *Uploader) earlierAt(at spool.Position) (Entry, bool) {
	for len(u.earlier) > 0 && before(u.earlier[0].From, at) {
		u.earlier = u.earlier[1:]
	}

	var found Entry
	ok := false
	for len(u.earlier) > 0 && u.earlier[0].From == at { // the newest of them
		found, ok = u.earlier[0], true
		u.earlier = u.earlier[1:]
	}
	if len(u.earlier) == 0 {
		u.earlier = nil
	}

	return found, ok
}

// planned reports whether a batch of a previous run begins at a position.
func (u *Uploader) planned(at spool.Position) bool {
	for _, e := range u.earlier {
		if !before(e.From, at) {
			return e.From == at
		}
	}

	return false
}

func addSum(sum uint32, r spool.Record) uint32 {
	return crc32.Update(crc32.Update(sum, castagnoli, r.Data), castagnoli, []byte{'\n'})
}

// add takes a record into a batch, as far as the filter lets it.
func (u *Uploader) add(b *batch, r spool.Record) {
	b.To = r.Next
	b.Sum = addSum(b.Sum, r)
	b.span += len(r.Data)

	line, _ := event.CutSession(r.Data)
	it := item{line: line, span: Span{From: r.At, To: r.Next}}
	h, err := readHead(line)
	if err != nil {
		u.c.Log.Error("ingest: a record of the event log is not an event", "err", err)
		it.unreadable = err.Error()
		b.items = append(b.items, it)
		return
	}

	it.typ, it.time = h.typ, h.time
	if u.c.Report != nil && !u.c.Report[h.typ] {
		u.metrics.filtered.WithLabelValues(h.typ.PublicName()).Inc()
		return
	}

	if u.c.HashRcpt || h.beside {
		line, wanted, err := u.change(line)
		switch {
		case err != nil:
			it.unreadable = err.Error()
		case !wanted:
			u.metrics.filtered.WithLabelValues(h.typ.PublicName()).Inc()
			return
		default:
			it.line = line
		}
	}

	b.items = append(b.items, it)
	if it.unreadable == "" {
		b.Events++
		b.Raw += len(it.line) + 1
	}
}

// change returns a line as it is uploaded: without the object beside the API's,
// and with the recipient hashed where that is configured. wanted is false for an
// event that is not uploaded.
func (u *Uploader) change(line []byte) (out []byte, wanted bool, err error) {
	e, err := event.Decode(line)
	if err != nil {
		return nil, false, err
	}

	if e.Class != (event.Class{}) && !u.machine(e) {
		return nil, false, nil
	}
	e.Local = event.Local{}
	if u.c.HashRcpt {
		e.HashRecipient()
	}
	out, err = e.Encode()

	return out, true, err
}

// What becomes of events that no person made.
const (
	Mark   = "mark"   // uploaded with is_prefetched
	Drop   = "drop"   // not uploaded
	Person = "person" // uploaded like a person's
)

// machine changes an event that no person caused as the configuration says, and
// reports whether it is uploaded. A machine that follows an unsubscribe link
// unsubscribes nobody, and that type has no mark.
func (u *Uploader) machine(e *event.Event) bool {
	as := u.c.Machines[e.Class.Kind]
	e.Class = event.Class{}

	if as == Person {
		e.IsPrefetched = false
		if e.UserAgentParsed != nil {
			e.UserAgentParsed.IsPrefetched = false
		}
		return true
	}

	return as != Drop && e.Type != event.LinkUnsubscribe
}

// head is what the uploader has to know of an event.
type head struct {
	typ    event.Type
	time   time.Time
	beside bool // something is beside the API's object
}

// errForm says that a line is not in the form that Encode writes.
var errForm = errors.New("ingest: not in the usual form")

// readHead reads type and time of a record. The log is our own and checked by
// checksum, so what has the form that event.Encode writes is not decoded as a
// whole, which takes ten times as long.
func readHead(line []byte) (head, error) {
	if h, err := scanHead(line); err == nil {
		return h, nil
	}

	e, err := event.Decode(line)
	if err != nil {
		return head{}, err
	}

	return head{
		typ:    e.Type,
		time:   e.Timestamp.Time,
		beside: e.Class != (event.Class{}) || e.Local != (event.Local{}),
	}, nil
}

// scanHead reads a line that begins as event.Encode writes it,
// {"msys":{"group":{"type":"t","event_id":"1","message_id":"m","timestamp":"1",
// and has nothing beside the API's object.
func scanHead(line []byte) (head, error) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"msys":{"`))
	if !ok || !bytes.HasSuffix(rest, []byte(`}}}`)) {
		return head{}, errForm
	}

	_, rest, ok1 := quoted(rest, `":{"type":"`)
	typ, rest, ok2 := quoted(rest, `","event_id":"`)
	_, rest, ok3 := quoted(rest, `","message_id":"`)
	_, rest, ok4 := quoted(rest, `","timestamp":"`)
	seconds, _, ok5 := quoted(rest, `"`)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return head{}, errForm
	}

	h := head{typ: event.Type(typ)}
	n, err := strconv.ParseInt(string(seconds), 10, 64)
	if err != nil || h.typ.PublicName() == "" {
		return head{}, errForm
	}
	h.time = time.Unix(n, 0)

	return h, nil
}

// quoted returns the value that b begins with and what is behind the end that
// must follow it. Only a value without an escape is read.
func quoted(b []byte, end string) (value, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '"')
	if i < 0 || bytes.IndexByte(b[:i], '\\') >= 0 || !bytes.HasPrefix(b[i:], []byte(end)) {
		return nil, nil, false
	}

	return b[:i], b[i+len(end):], true
}
