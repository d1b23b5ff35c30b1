package accounting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"postern/tracking/event"
)

// blockBytes is how much of a file is in memory at once.
const blockBytes = 4 << 20

// readBlock reads the next block of a file, makes its events durable, and then
// remembers the offset. It returns how many bytes were consumed, 0 if more has to
// be written first. If last is set, nothing follows the first size bytes.
func (f *Follower) readBlock(ctx context.Context, file *os.File, s *fileState, size int64, last bool) (int64, error) {
	buf := make([]byte, min(blockBytes, size-s.Offset))
	n, err := file.ReadAt(buf, s.Offset)
	if err != nil && err != io.EOF {
		return 0, fmt.Errorf("accounting: %w", err)
	}

	f.retries.begin()
	p := f.convertBlock(file.Name(), s, buf[:n], last && s.Offset+int64(n) == size)
	if p.used == 0 && !p.torn {
		return 0, nil
	}

	if err := f.keep(ctx, file.Name(), p); err != nil {
		f.retries.rollback()
		return 0, err
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

// keep makes what a block of a file became durable.
func (f *Follower) keep(ctx context.Context, file string, p parsed) error {
	if err := f.quarantine.put(p.malformed); err != nil {
		return err
	}

	if len(p.events) == 0 {
		return nil
	}
	if err := f.c.Events.Record(ctx, p.events...); err != nil {
		return fmt.Errorf("accounting: %s: %w", file, err)
	}

	return nil
}

// parsed is what the records of a block became.
type parsed struct {
	events    []*event.Event
	malformed []malformed
	counts    map[string]int // records by outcome.label
	header    []string       // the columns at its end
	lines     int64          // of the file, at its end
	used      int64          // bytes that need not be read again
	cut       bool           // it ends within a line that is too long
	torn      bool           // it ends with a line without an end, which is quarantined
}

// add records the outcome of a line of a file.
func (p *parsed) add(file string, o outcome) {
	if label := o.label(); label != "" {
		p.counts[label]++
	}
	if o.event != nil {
		p.events = append(p.events, o.event)
	}
	if o.isMalformed() {
		p.malformed = append(p.malformed, malformed{file: file, outcome: o})
	}
}

// convertBlock converts the records of a block.
func (f *Follower) convertBlock(name string, s *fileState, data []byte, last bool) parsed {
	r := newReader(f.set, f.retries)
	r.begin(data, last)
	r.place = s.Offset
	r.lines = s.Lines
	r.skipping = s.Cut
	if s.Header != nil {
		r.use(s.Header)
	}

	p := parsed{counts: map[string]int{}}
	for {
		o, ok := r.next()
		if !ok {
			break
		}
		if r.torn && s.Torn == s.Offset+int64(len(data)) { // quarantined already
			break
		}

		p.torn = r.torn
		p.add(name, o)
		f.warn(name, r.conv, o)
	}

	p.header = r.header
	p.lines = r.lines
	p.used = int64(r.used)
	p.cut = r.skipping

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
