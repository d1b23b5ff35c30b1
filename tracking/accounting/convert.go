package accounting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"postern/tracking/event"
)

// blockBytes is how much is read at once: what is in memory.
const blockBytes = 4 << 20

// block reads what is new, makes its events durable, and then remembers how far
// it came. It returns how many bytes that were. With last set, nothing comes any
// more.
func (f *Follower) block(ctx context.Context, file *os.File, s *fileState, size int64, last bool) (int64, error) {
	buf := make([]byte, min(blockBytes, size-s.Offset))
	n, err := file.ReadAt(buf, s.Offset)
	if err != nil && err != io.EOF {
		return 0, fmt.Errorf("accounting: %w", err)
	}

	f.retries.begin()
	p := f.convert(file.Name(), s, buf[:n], last && s.Offset+int64(n) == size)
	if p.used == 0 && !p.torn {
		return 0, nil
	}

	if err := f.quarantine(p.bad); err != nil {
		f.retries.rollback()
		return 0, err
	}
	if len(p.events) > 0 {
		if err := f.c.Events.Record(ctx, p.events...); err != nil {
			f.retries.rollback()
			return 0, fmt.Errorf("accounting: %s: %w", file.Name(), err)
		}
	}

	for label, n := range p.counts {
		f.records.WithLabelValues(label).Add(float64(n))
	}
	s.Header = p.header
	s.Lines = p.lines
	s.Cut = p.cut
	if p.torn {
		s.Torn = s.Offset + int64(n)
	}

	return p.used, f.remember(file, s, p.used)
}

// parsed is what a block holds.
type parsed struct {
	events []*event.Event
	bad    []badLine
	counts map[string]int
	header []string
	lines  int64
	used   int64
	cut    bool // it ends within a line that is too long
	torn   bool // behind it is a line without an end, which was quarantined
}

// convert makes events of the records of a block.
func (f *Follower) convert(name string, s *fileState, data []byte, last bool) parsed {
	r := newReading(f.set, f.retries)
	r.place = s.Offset
	r.lines = s.Lines
	r.cut = s.Cut
	if s.Header != nil {
		r.use(s.Header)
	}

	p := parsed{counts: map[string]int{}}
	for {
		o, n := r.next(data[p.used:], last)
		if n == 0 {
			break
		}

		cut := errors.Is(o.err, errCut)
		if cut && s.Torn == s.Offset+int64(len(data)) { // said before
			break
		}
		f.warn(name, r.conv, o)
		if label := o.label(); label != "" {
			p.counts[label]++
		}
		if o.event != nil {
			p.events = append(p.events, o.event)
		}
		if o.isBad() {
			p.bad = append(p.bad, badLine{file: name, outcome: o})
		}
		if cut {
			p.torn = true
			break
		}
		p.used += int64(n)
	}

	p.header = r.header
	p.lines = r.lines
	p.cut = r.cut

	return p
}

// warn says once a file what is missing in PowerMTA's configuration.
func (f *Follower) warn(name string, c *converter, o outcome) {
	if !o.header && !errors.Is(o.err, ErrNoID) || c.has(colMessageID) {
		return
	}

	column := f.set.idColumn()
	switch {
	case o.header && !c.has(colEnvID) && !f.warned[name]:
		f.warned[name] = true
		f.c.Log.Error("ACCOUNTING FILE HAS NEITHER "+column+" NOR envId: no record of it can become an event. "+
			"PowerMTA's <acct-file> needs: record-fields d *,"+column, "file", name)
	case !o.header && !f.warned[name+" ids"]:
		f.warned[name+" ids"] = true
		f.c.Log.Error("ACCOUNTING RECORDS WITHOUT OUR MESSAGE IDS make no events. "+
			"PowerMTA's <acct-file> needs: record-fields d *,"+column+" (and the same for b, t, f)", "file", name)
	}
}
