package accounting

import (
	"errors"
	"slices"

	"postern/tracking/event"
)

// reader yields what becomes of each record of a stream: an event, or the reason
// why there is none. It belongs to one goroutine.
type reader struct {
	scanner
	set     Settings
	retries *counts
	conv    *converter // nil before the first header line
	header  []string

	place int64 // of the next line, in bytes from the start of the file
	lines int64 // before it
}

// newReader returns a reader that is given its data by begin or feed.
func newReader(set Settings, retries *counts) *reader {
	return &reader{set: set, retries: retries}
}

// use sets the columns of the records that follow.
func (r *reader) use(header []string) {
	r.header = header
	r.conv = newConverter(header, r.set, r.retries)
	r.split.width = len(header)
	r.split.other = func(fields []string) bool { return ignored[fields[0]] || r.conv.own(fields) != nil }
}

// outcome is what became of a line or record.
type outcome struct {
	event  *event.Event
	header bool   // a header line, whose columns apply from here on
	err    error  // why it makes no event
	place  int64  // in bytes from the start of the file
	line   int64  // number, from 1
	raw    []byte // with the line end; valid until more data is given
}

// next returns the outcome of the next line or record. It returns false if more
// data must be given first, or if there is none.
func (r *reader) next() (outcome, bool) {
	l, ok := r.scanner.next()
	if !ok {
		return outcome{}, false
	}

	o := outcome{
		err:   l.err,
		place: r.place,
		line:  r.lines + 1,
		raw:   l.raw,
	}

	switch {
	case l.err != nil, l.blank:
	case isHeader(l.fields):
		o.header = true
		r.use(slices.Clone(l.fields))
	case r.conv == nil:
		o.err = errNoHeader
	default:
		o.event, o.err = r.conv.convertRecord(l.fields, r.place)
	}

	if !r.torn {
		r.place += int64(len(l.raw))
		r.lines += l.lines()
	}

	return o, true
}

// isMalformed reports whether a line is to be quarantined. A record that makes no
// event because of its kind or its message is not.
func (o outcome) isMalformed() bool {
	return o.err != nil && o.label() == "bad"
}

// label returns the label of postern_accounting_records_total, "" for what is not
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
