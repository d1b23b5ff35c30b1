package ingest

import (
	"context"
	"hash/crc32"
	"time"

	"postern/tracking/event"
	"postern/tracking/spool"
)

// spanBytes is how many bytes of records a batch spans at most, in sizes of a batch,
// if the filter leaves little of them.
const spanBytes = 8

// castagnoli is the polynomial of checksums.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batch is consecutive records of the log, and the events of them that are uploaded.
type batch struct {
	Entry
	items    []item
	recalled bool // planned by a previous run
	span     int  // of its records, in bytes
}

// item is an event of a batch.
type item struct {
	line []byte // as it is uploaded, without a line end; nil once it is done
	typ  event.Type
	time time.Time
	span Span // of its record

	unreadable string // why it cannot be uploaded
	done       bool   // accepted or quarantined
}

// gatherer cuts the log into batches. It belongs to one goroutine.
type gatherer struct {
	u    *Uploader
	src  Source
	over *spool.Record // read, and not part of a batch yet
}

// read returns the next record. Errors of the source are logged, and it tries again
// with backoff until ctx ends.
func (g *gatherer) read(ctx context.Context) (spool.Record, error) {
	if r := g.over; r != nil {
		g.over = nil
		return *r, nil
	}

	backoff := g.u.cfg.Uploads.MinBackoff
	for {
		r, err := g.src.Next(ctx)
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return r, ctx.Err()
		}

		wait := jitter(backoff)
		g.u.cfg.Log.Error("ingest: cannot read the event log, trying again",
			"err", err, "again_in_seconds", wait.Seconds())
		if !sleep(ctx, wait) {
			return r, ctx.Err()
		}
		backoff = min(2*backoff, g.u.cfg.Uploads.MaxBackoff)
	}
}

// next waits for a record and fills a batch from there. It fails only if ctx ends.
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

	wait, cancel := context.WithTimeout(ctx, u.cfg.Batch.Age)
	defer cancel()

	for {
		r, err := g.read(wait)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil { // it is old enough
			return g.plan(b), nil
		}
		if !u.fits(b, r) || u.planned(r.At) {
			g.over = &r
			return g.plan(b), nil
		}

		u.add(b, r)
	}
}

// fits reports whether a record may be added to a batch.
func (u *Uploader) fits(b *batch, r spool.Record) bool {
	size := u.cfg.Batch.Bytes

	return b.Raw+len(r.Data)+1 <= size && b.span+len(r.Data) <= spanBytes*size
}

// again fills a batch that a previous run cut. If the log has other records there than
// it had then, it is a new batch.
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
	b.Quarantined = old.Quarantined
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

// until reads the records before a position. They were all in the log once; if some
// are gone, it does not wait for others in their place.
func (g *gatherer) until(ctx context.Context, first spool.Record, end spool.Position) ([]spool.Record, error) {
	records := []spool.Record{first}

	wait, cancel := context.WithTimeout(ctx, max(g.u.cfg.Batch.Age, recallWait))
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

// recallWait is the least time that until waits for records.
const recallWait = 5 * time.Second

// plan makes b a new batch with the next number.
func (g *gatherer) plan(b *batch) *batch {
	g.u.last++
	b.Batch = g.u.last
	b.Status = Planned
	b.At = g.u.cfg.Now()

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
	for len(u.earlier) > 0 && u.earlier[0].From == at { // the last is the newest
		found = u.earlier[0]
		ok = true
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

// addSum extends a checksum of records (Entry.Sum) by one.
func addSum(sum uint32, r spool.Record) uint32 {
	return crc32.Update(crc32.Update(sum, castagnoli, r.Data), castagnoli, []byte{'\n'})
}
