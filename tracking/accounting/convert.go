package accounting

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

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

// badLine is a line that is not a record.
type badLine struct {
	file string
	outcome
}

const (
	maxBad     = 64 << 20 // of bad.csv; then it becomes bad.csv.old
	maxBadLine = 4 << 10  // of a line in it
	badTries   = 5        // times in a row that bad lines hold up the rest where they cannot be written
)

// quarantine makes bad lines durable in bad.csv. Where that fails, the block is
// read again; a file that cannot be written at all stops nothing for long.
func (f *Follower) quarantine(bad []badLine) error {
	if len(bad) == 0 {
		return nil
	}

	var text bytes.Buffer
	for _, b := range bad {
		raw := bytes.TrimRight(b.raw, "\r\n")
		fmt.Fprintf(&text, "# %s:%d: %v\n%s\n", b.file, b.line, b.err, raw[:min(len(raw), maxBadLine)])
	}

	err := f.appendBad(text.Bytes())
	if err != nil {
		f.badFailed++
		if f.badFailed < badTries {
			return fmt.Errorf("accounting: bad lines: %w", err)
		}
	} else {
		f.badFailed = 0
	}

	for _, b := range bad {
		args := []any{"file", b.file, "line", b.line, "offset", b.place, "err", b.err}
		if err != nil {
			args = append(args, "quarantine_err", err, "raw", event.Clip(string(b.raw), maxBadLine))
		}
		f.c.Log.Error("accounting: bad record quarantined", args...)
	}

	return nil
}

func (f *Follower) appendBad(text []byte) error {
	name := filepath.Join(f.c.Dir, "bad.csv")
	if info, err := os.Stat(name); err == nil && info.Size() > maxBad {
		if err := os.Rename(name, name+".old"); err != nil {
			return err
		}
	}

	return f.bad.Append(name, text)
}

// Print converts a whole file and gives each event to f, with nothing
// remembered. Bad lines are logged and stop nothing.
func Print(in io.Reader, name string, set Settings, log *slog.Logger, f func(*event.Event) error) error {
	r := newReading(set, newCounts())
	records := 0

	var data []byte
	buf := make([]byte, maxRecord)
	for last := false; !last; {
		n, err := in.Read(buf)
		data = append(data, buf[:n]...)
		if err != nil && err != io.EOF {
			return err
		}
		last = err == io.EOF

		used := 0
		for {
			r.retries.begin()
			o, n := r.next(data[used:], last)
			if n == 0 {
				break
			}
			used += n
			if err := printed(o, name, log, f); err != nil {
				return err
			}
			if o.err != nil {
				records++
			}
		}
		data = append(data[:0], data[used:]...)
	}

	if r.header == nil && records > 0 {
		return fmt.Errorf("%s: no header line at the beginning", name)
	}

	return nil
}

func printed(o outcome, name string, log *slog.Logger, f func(*event.Event) error) error {
	switch {
	case o.event != nil:
		return f(o.event)
	case o.isBad():
		log.Error("bad record", "file", name, "line", o.line, "err", o.err)
	case o.err != nil && !errors.Is(o.err, ErrIgnored):
		log.Error("no event", "file", name, "line", o.line, "err", o.err)
	}

	return nil
}
