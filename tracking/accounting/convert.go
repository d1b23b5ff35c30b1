package accounting

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"postern/tracking/event"
)

// blockBytes is how much is read at once: what is in memory.
const blockBytes = 4 << 20

// block reads whole records, makes their events durable, and then remembers
// how far it came. It returns how many bytes that were.
func (f *Follower) block(ctx context.Context, file *os.File, s *fileState, size int64) (int64, error) {
	buf := make([]byte, min(blockBytes, size-s.Offset))
	n, err := file.ReadAt(buf, s.Offset)
	if err != nil && err != io.EOF {
		return 0, fmt.Errorf("accounting: %w", err)
	}
	i := bytes.LastIndexByte(buf[:n], '\n')
	if i < 0 {
		if int64(n) == blockBytes { // no record is that long
			f.bad(file.Name(), s.Lines+1, s.Offset, buf[:200], ErrNoColumns)
			return int64(n), f.remember(file, s, int64(n))
		}
		return 0, nil
	}
	events, header, used := f.convert(file.Name(), s, buf[:i+1])
	if used == 0 {
		return 0, nil
	}
	if len(events) > 0 {
		if err := f.c.Events.Record(ctx, events...); err != nil {
			return 0, fmt.Errorf("accounting: %s: %w", file.Name(), err)
		}
	}
	s.Header = header
	s.Lines += int64(bytes.Count(buf[:used], []byte("\n")))
	return used, f.remember(file, s, used)
}

// convert makes events of whole records. A record whose quotes are not closed
// waits for the rest, as long as that may still come.
func (f *Follower) convert(name string, s *fileState, data []byte) (events []*event.Event, header []string, used int64) {
	header = s.Header
	var c *Converter
	if header != nil {
		c = NewConverter(header, f.c.Classes, f.c.Verify, f.retries)
	}
	for int(used) < len(data) {
		r := csv.NewReader(bytes.NewReader(data[used:]))
		r.FieldsPerRecord, r.ReuseRecord = -1, true
		base := used
		for {
			fields, err := r.Read()
			if err == io.EOF {
				return events, header, int64(len(data))
			}
			end := base + r.InputOffset()
			if err != nil {
				if int(end) == len(data) && errors.Is(err, csv.ErrQuote) && len(data)-int(used) < blockBytes/2 {
					return events, header, used // its end may come yet
				}
				f.bad(name, s.lineAt(data, used), s.Offset+used, line(data[used:]), err)
				used += int64(len(line(data[used:]))) // go on behind this line
				break
			}
			if IsHeader(fields) {
				header = slices.Clone(fields)
				c = NewConverter(header, f.c.Classes, f.c.Verify, f.retries)
				f.warn(name, c)
			} else if c == nil {
				f.bad(name, s.lineAt(data, used), s.Offset+used, line(data[used:]), errors.New("no header line before it"))
			} else if e := f.one(name, c, fields, s, data, used, end); e != nil {
				events = append(events, e)
			}
			used = end
		}
	}
	return events, header, used
}

// line is the first line of data with its end.
func line(data []byte) []byte {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return data[:i+1]
	}
	return data
}

// one makes the event of the record that is data[at:end].
func (f *Follower) one(name string, c *Converter, fields []string, s *fileState, data []byte, at, end int64) *event.Event {
	e, err := c.Event(fields, s.Offset+at)
	switch {
	case err == nil:
		f.records.WithLabelValues(e.Type.PublicName()).Inc()
		return e
	case errors.Is(err, ErrIgnored):
		f.records.WithLabelValues("ignored").Inc()
	case errors.Is(err, ErrNoID):
		f.records.WithLabelValues("no_id").Inc()
		if !c.Has(idColumn) && !f.warned[name+" ids"] {
			f.warned[name+" ids"] = true
			f.c.Log.Error("ACCOUNTING RECORDS WITHOUT OUR MESSAGE IDS make no events. PowerMTA's <acct-file> needs: record-fields d *,header_x-sp-message-id (and the same for b, t, f)", "file", name)
		}
	default:
		f.bad(name, s.lineAt(data, at), s.Offset+at, data[at:end], err)
	}
	return nil
}

func (f *Follower) warn(name string, c *Converter) {
	if !c.Has(idColumn) && !c.Has("envid") && !f.warned[name] {
		f.warned[name] = true
		f.c.Log.Error("ACCOUNTING FILE HAS NEITHER header_x-sp-message-id NOR envId: no record of it can become an event. PowerMTA's <acct-file> needs: record-fields d *,header_x-sp-message-id", "file", name)
	}
}

// bad sets a line aside and stops nothing.
func (f *Follower) bad(name string, line, place int64, raw []byte, err error) {
	f.records.WithLabelValues("bad").Inc()
	f.c.Log.Error("accounting: bad record set aside", "file", name, "line", line, "offset", place, "err", err)
	out, openErr := os.OpenFile(filepath.Join(f.c.Dir, "bad.csv"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if openErr != nil {
		return
	}
	defer out.Close()
	if info, err := out.Stat(); err == nil && info.Size() < maxBad {
		fmt.Fprintf(out, "# %s:%d: %v\n%s\n", name, line, err, bytes.TrimRight(raw, "\r\n"))
	}
}

const maxBad = 64 << 20

// Print converts whole files and gives each event to f, with nothing remembered.
func Print(r io.Reader, name string, classes map[string]int, log *slog.Logger, f func(*event.Event) error) error {
	in := csv.NewReader(r)
	in.FieldsPerRecord, in.ReuseRecord = -1, true
	var c *Converter
	retries := newCounts()
	for place := int64(0); ; place = in.InputOffset() {
		fields, err := in.Read()
		if err == io.EOF {
			return nil
		}
		var parse *csv.ParseError
		if errors.As(err, &parse) {
			log.Error("bad record", "file", name, "line", parse.Line, "err", err)
			continue
		}
		if err != nil {
			return err
		}
		if IsHeader(fields) {
			c = NewConverter(slices.Clone(fields), classes, nil, retries)
			continue
		}
		if c == nil {
			return fmt.Errorf("%s: no header line at the beginning", name)
		}
		e, err := c.Event(fields, place)
		if err != nil {
			if !errors.Is(err, ErrIgnored) {
				line, _ := in.FieldPos(0)
				log.Error("no event", "file", name, "line", line, "err", err)
			}
			continue
		}
		if err := f(e); err != nil {
			return err
		}
	}
}
