package accounting

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
)

// Recorder makes events durable before it returns nil.
type Recorder interface {
	Record(context.Context, ...*event.Event) error
}

// Config is what a Follower needs.
type Config struct {
	Globs   []string
	Dir     string // for offsets.json and bad lines
	Classes map[string]int
	Verify  Verifier
	Events  Recorder
	Every   time.Duration // how often the files are looked at: 1 s
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Follower reads accounting files as they grow, through rotation, renaming and
// truncation.
type Follower struct {
	c       Config
	offsets map[string]*fileState // by device and inode
	retries *counts
	warned  map[string]bool
	records *prometheus.CounterVec
}

// fileState is how far a file was read.
type fileState struct {
	Path   string   `json:"path"` // as it was seen last
	Offset int64    `json:"offset"`
	Header []string `json:"header"`
	Seen   int64    `json:"seen"` // Unix seconds
}

// forgetAfter is how long a file is remembered that no glob finds any more.
const forgetAfter = 30 * 24 * time.Hour

// New reads what an earlier life remembered.
func New(c Config) (*Follower, error) {
	if c.Every == 0 {
		c.Every = time.Second
	}
	f := &Follower{c: c, offsets: map[string]*fileState{}, retries: newCounts(), warned: map[string]bool{},
		records: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_accounting_records_total", Help: "Accounting records by what became of them."}, []string{"result"})}
	if c.Metrics != nil {
		c.Metrics.MustRegister(f.records)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("accounting: %w", err)
	}
	data, err := os.ReadFile(f.offsetsFile())
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("accounting: %w", err)
	case json.Unmarshal(data, &f.offsets) != nil:
		c.Log.Error("accounting: offsets set aside, files are read from the start; events keep their ids", "file", f.offsetsFile())
		if err := os.Rename(f.offsetsFile(), f.offsetsFile()+".broken"); err != nil {
			return nil, fmt.Errorf("accounting: %w", err)
		}
		f.offsets = map[string]*fileState{}
	}
	return f, nil
}

func (f *Follower) offsetsFile() string { return filepath.Join(f.c.Dir, "offsets.json") }

// Serve looks at the files until ctx ends.
func (f *Follower) Serve(ctx context.Context) error {
	tick := time.NewTicker(f.c.Every)
	defer tick.Stop()
	for {
		if err := f.Poll(ctx); err != nil && ctx.Err() == nil {
			f.c.Log.Error("accounting: not everything was read, the same is tried again", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Poll reads what is new in every file.
func (f *Follower) Poll(ctx context.Context) error {
	var errs []error
	for _, glob := range f.c.Globs {
		files, err := filepath.Glob(glob)
		if err != nil {
			errs = append(errs, err)
		}
		slices.Sort(files) // PowerMTA's names sort by date
		for _, name := range files {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			errs = append(errs, f.file(ctx, name))
		}
	}
	return errors.Join(errs...)
}

// blockBytes is how much is read at once: what is in memory.
const blockBytes = 4 << 20

// file reads what is new in one file.
func (f *Follower) file(ctx context.Context, name string) error {
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil // moved meanwhile
	}
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	key := fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	s := f.offsets[key]
	if s == nil || info.Size() < s.Offset { // new, or truncated
		s = &fileState{}
		f.offsets[key] = s
	}
	s.Path, s.Seen = name, time.Now().Unix()
	for s.Offset < info.Size() && ctx.Err() == nil {
		n, err := f.block(ctx, file, s, info.Size())
		if err != nil {
			return err
		}
		if n == 0 {
			return nil // the last record is not whole yet
		}
	}
	return nil
}

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
			f.bad(file.Name(), s.Offset, buf[:200], ErrNoColumns)
			return int64(n), f.remember(s, int64(n))
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
	return used, f.remember(s, used)
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
				f.bad(name, s.Offset+used, line(data[used:]), err)
				used += int64(len(line(data[used:]))) // go on behind this line
				break
			}
			if IsHeader(fields) {
				header = slices.Clone(fields)
				c = NewConverter(header, f.c.Classes, f.c.Verify, f.retries)
				f.warn(name, c)
			} else if c == nil {
				f.bad(name, s.Offset+used, line(data[used:]), errors.New("no header line before it"))
			} else if e := f.one(name, c, fields, s.Offset+used, data[used:end]); e != nil {
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

func (f *Follower) one(name string, c *Converter, fields []string, place int64, raw []byte) *event.Event {
	e, err := c.Event(fields, place)
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
		f.bad(name, place, raw, err)
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
func (f *Follower) bad(name string, place int64, raw []byte, err error) {
	f.records.WithLabelValues("bad").Inc()
	f.c.Log.Error("accounting: bad record set aside", "file", name, "offset", place, "err", err)
	out, openErr := os.OpenFile(filepath.Join(f.c.Dir, "bad.csv"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if openErr != nil {
		return
	}
	defer out.Close()
	if info, err := out.Stat(); err == nil && info.Size() < maxBad {
		fmt.Fprintf(out, "# %s at %d: %v\n%s\n", name, place, err, bytes.TrimRight(raw, "\r\n"))
	}
}

const maxBad = 64 << 20

// remember makes it durable that n more bytes of a file are done with.
func (f *Follower) remember(s *fileState, n int64) error {
	s.Offset += n
	for key, o := range f.offsets {
		if time.Since(time.Unix(o.Seen, 0)) > forgetAfter {
			delete(f.offsets, key)
		}
	}
	data, err := json.Marshal(f.offsets)
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}
	tmp := f.offsetsFile() + ".new"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("accounting: %w", err)
	}
	_, err = out.Write(data)
	err = errors.Join(err, out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(tmp, f.offsetsFile())
	}
	if err != nil {
		return fmt.Errorf("accounting: offsets: %w", err)
	}
	return nil
}

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
