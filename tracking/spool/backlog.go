package spool

import (
	"fmt"
	"sync"
)

// Backlog is what a reader has still to read: the durable records behind its
// cursor.
type Backlog struct {
	Records int64
	Bytes   int64
	Oldest  []byte // the first of the records; nil if there is none
}

// backlogs counts records when they are asked for. Each byte of the spool is
// read once to count its segment, and once more when a cursor passes it.
type backlogs struct {
	mu      sync.Mutex
	counted map[uint64]tally // by segment: its records
	passed  map[string]tally // by reader: records of the cursor's segment before the cursor
}

// tally is how many records of a segment begin before an offset.
type tally struct {
	segment uint64
	offset  int64
	records int64
}

// advance counts the records up to an offset.
func (t *tally) advance(s *Spool, offset int64) error {
	if t.offset >= offset {
		return nil
	}

	from := Position{Segment: t.segment, Offset: t.offset}
	_, err := readFile(s.path(t.segment), from, func(r Record) bool {
		if r.Next.Offset > offset {
			return false
		}

		t.records++
		t.offset = r.Next.Offset

		return t.offset < offset
	})

	return err
}

// Backlog returns what a reader has still to read. The first call after Open
// reads all of it, later ones what was added or passed since.
func (s *Spool) Backlog(reader string) (Backlog, error) {
	b := &s.backlogs
	b.mu.Lock()
	defer b.mu.Unlock()

	at, ends, err := s.waiting(reader)
	if err != nil {
		return Backlog{}, err
	}

	if b.counted == nil {
		b.counted = map[uint64]tally{}
		b.passed = map[string]tally{}
	}

	var out Backlog
	counted := map[uint64]tally{}
	for _, end := range ends {
		t := b.counted[end.Segment]
		t.segment = end.Segment
		if err := t.advance(s, end.Offset); err != nil {
			return Backlog{}, err
		}

		counted[end.Segment] = t
		out.Records += t.records
		out.Bytes += end.Offset

		from := Position{Segment: end.Segment}
		if end.Segment == at.Segment {
			from = at
			passed, err := b.before(s, reader, at)
			if err != nil {
				return Backlog{}, err
			}

			out.Records -= passed
			out.Bytes -= at.Offset
		}

		if out.Oldest == nil && from.Offset < end.Offset {
			out.Oldest, err = firstRecord(s.path(end.Segment), from)
			if err != nil {
				return Backlog{}, err
			}
		}
	}

	// Keep what was counted for other readers.
	for seq, t := range b.counted {
		if _, again := counted[seq]; !again && s.exists(seq) {
			counted[seq] = t
		}
	}
	b.counted = counted

	return out, nil
}

// before returns how many records of a cursor's segment are before the cursor.
func (b *backlogs) before(s *Spool, reader string, at Position) (int64, error) {
	t := b.passed[reader]
	if t.segment != at.Segment || t.offset > at.Offset {
		t = tally{segment: at.Segment}
	}

	if err := t.advance(s, at.Offset); err != nil {
		return 0, err
	}
	b.passed[reader] = t

	return t.records, nil
}

// firstRecord returns the first valid record of a segment from a position on, or
// nil.
func firstRecord(name string, from Position) ([]byte, error) {
	var first []byte
	_, err := readFile(name, from, func(r Record) bool {
		first = r.Data
		return false
	})

	return first, err
}

// waiting returns the cursor of a reader, and the durable end of each segment
// that it has not passed.
func (s *Spool) waiting(reader string) (at Position, ends []Position, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	at, ok := s.cursors[reader]
	if !ok {
		return at, nil, errNoReader(reader)
	}

	for _, seg := range s.segs {
		if seg.seq >= at.Segment {
			ends = append(ends, Position{Segment: seg.seq, Offset: seg.size})
		}
	}

	return at, ends, nil
}

// errNoReader is the error for a reader that is not among Config.Readers.
func errNoReader(name string) error {
	return fmt.Errorf("spool: reader %q is not configured", name)
}
