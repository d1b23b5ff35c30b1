package spool

import (
	"fmt"
	"sync"
)

// Backlog is what waits for a reader: what is durable behind its cursor.
type Backlog struct {
	Records int64
	Bytes   int64
	Oldest  []byte // the first of the records, nil where none waits
}

// backlogs counts records as they are asked for. Each byte of the spool is read
// once for its segment's count, and once more as a cursor passes it.
type backlogs struct {
	mu      sync.Mutex
	counted map[uint64]tally // records of whole segments
	passed  map[string]tally // records in front of a cursor, in its segment
}

// tally is how many records of a segment begin before an offset.
type tally struct {
	segment uint64
	offset  int64
	records int64
}

// to counts on up to an offset.
func (c *tally) to(s *Spool, offset int64) error {
	if c.offset >= offset {
		return nil
	}

	_, err := readFile(s.path(c.segment), Position{Segment: c.segment, Offset: c.offset}, func(r Record) bool {
		if r.Next.Offset > offset {
			return false
		}
		c.records++
		c.offset = r.Next.Offset
		return c.offset < offset
	})

	return err
}

// Backlog returns what waits for a reader. The first call after Open reads all
// of it.
func (s *Spool) Backlog(reader string) (Backlog, error) {
	b := &s.backlogs
	b.mu.Lock()
	defer b.mu.Unlock()

	at, segs, err := s.waiting(reader)
	if err != nil {
		return Backlog{}, err
	}

	if b.counted == nil {
		b.counted, b.passed = map[uint64]tally{}, map[string]tally{}
	}

	var out Backlog
	known := map[uint64]tally{}
	for _, seg := range segs {
		c := b.counted[seg.Segment]
		c.segment = seg.Segment
		if err := c.to(s, seg.Offset); err != nil {
			return Backlog{}, err
		}
		known[seg.Segment] = c
		out.Records += c.records
		out.Bytes += seg.Offset

		from := Position{Segment: seg.Segment}
		if seg.Segment == at.Segment {
			from = at
			p := b.passed[reader]
			if p.segment != at.Segment || p.offset > at.Offset {
				p = tally{segment: at.Segment}
			}
			if err := p.to(s, at.Offset); err != nil {
				return Backlog{}, err
			}
			b.passed[reader] = p
			out.Records -= p.records
			out.Bytes -= at.Offset
		}
		if out.Oldest == nil && from.Offset < seg.Offset {
			_, err := readFile(s.path(seg.Segment), from, func(r Record) bool {
				out.Oldest = r.Data
				return false
			})
			if err != nil {
				return Backlog{}, err
			}
		}
	}
	for seq, c := range b.counted { // of other readers
		if _, again := known[seq]; !again && s.exists(seq) {
			known[seq] = c
		}
	}
	b.counted = known

	return out, nil
}

// waiting returns a reader's cursor, and the durable end of each segment that
// it has not passed.
func (s *Spool) waiting(reader string) (at Position, ends []Position, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	at, ok := s.cursors[reader]
	if !ok {
		return at, nil, fmt.Errorf("spool: no reader %q configured", reader)
	}

	for _, seg := range s.segs {
		if seg.seq >= at.Segment {
			ends = append(ends, Position{Segment: seg.seq, Offset: seg.size})
		}
	}

	return at, ends, nil
}
