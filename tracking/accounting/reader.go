package accounting

import (
	"bytes"
	"errors"
	"slices"

	"postern/tracking/event"
)

// reading turns the bytes of one file into events, a record at a time. It is
// the same for files, pipe files and --print.
type reading struct {
	set     Settings
	retries *counts
	split   splitter
	conv    *converter // nil: no header line yet
	header  []string
	cut     bool // within a line that is too long

	place int64 // in the file
	lines int64 // before it
}

func newReading(set Settings, retries *counts) *reading { return &reading{set: set, retries: retries} }

// use takes the columns of a header line.
func (r *reading) use(header []string) {
	r.header = header
	r.split.width = len(header)
	r.conv = newConverter(header, r.set, r.retries)
	r.split.other = func(fields []string) bool { return ignored[fields[0]] || r.conv.own(fields) != nil }
}

// outcome is what became of a line or record.
type outcome struct {
	event  *event.Event
	header bool  // a header line, whose columns count from now on
	err    error // why it makes no event
	place  int64
	line   int64 // number, from 1
	raw    []byte
}

// next reads what data begins with. It returns how many bytes that were, 0
// where more has to come; with last set, nothing comes any more.
func (r *reading) next(data []byte, last bool) (o outcome, n int) {
	if r.cut && len(data) > 0 {
		return outcome{}, r.skipLine(data)
	}

	t, ok := r.split.next(data, last)
	if !ok {
		return outcome{}, 0
	}
	o = outcome{err: t.err, place: r.place, line: r.lines + 1, raw: data[:t.n]}

	switch {
	case t.err != nil, t.blank:
	case isHeader(t.fields):
		o.header = true
		r.use(slices.Clone(t.fields))
	case r.conv == nil:
		o.err = errNoHeader
	default:
		o.event, o.err = r.conv.read(t.fields, r.place)
	}

	if errors.Is(t.err, errCut) { // its end may come after all
		return o, t.n
	}
	r.advance(data[:t.n])
	r.cut = t.skip

	return o, t.n
}

// skipLine passes over the rest of a line that is too long.
func (r *reading) skipLine(data []byte) int {
	n := lineLen(data)
	r.cut = data[n-1] != '\n'
	r.advance(data[:n])

	return n
}

func (r *reading) advance(data []byte) {
	r.place += int64(len(data))
	r.lines += int64(bytes.Count(data, []byte("\n")))
}

// isBad reports whether a line is to be quarantined: it is none that makes no
// event by its kind, or by whose message it is.
func (o outcome) isBad() bool {
	return o.err != nil && o.label() == "bad"
}

// label is what postern_accounting_records_total calls it, "" for what is not
// counted.
func (o outcome) label() string {
	switch {
	case o.event != nil:
		return o.event.Type.PublicName()
	case o.err == nil:
		return ""
	case errors.Is(o.err, ErrIgnored):
		return "ignored"
	case errors.Is(o.err, ErrNoID):
		return "no_id"
	case errors.Is(o.err, ErrNoRecipient):
		return "no_recipient"
	}

	return "bad"
}
