package ingest

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"postern/tracking/event"
)

// head is what the uploader needs of an event.
type head struct {
	typ    event.Type
	time   time.Time
	beside bool // the record has more than the API's object
}

// errForm reports that a line is not in the form that event.Encode writes.
var errForm = errors.New("ingest: not in the usual form")

// readHead reads the type and the time of a record. A line in the form that
// event.Encode writes is not decoded as a whole, which would take ten times as long:
// the log is our own and has checksums.
func readHead(line []byte) (head, error) {
	if h, err := scanHead(line); err == nil {
		return h, nil
	}

	e, err := event.Decode(line)
	if err != nil {
		return head{}, err
	}

	return head{
		typ:    e.Type,
		time:   e.Timestamp.Time,
		beside: e.Class != (event.Class{}) || e.Local != (event.Local{}),
	}, nil
}

// scanHead reads a line that begins as event.Encode writes it,
//
//	{"msys":{"group":{"type":"t","event_id":"1","message_id":"m","timestamp":"1",
//
// and has nothing but the API's object.
func scanHead(line []byte) (head, error) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"msys":{"`))
	if !ok || !bytes.HasSuffix(rest, []byte(`}}}`)) {
		return head{}, errForm
	}

	_, rest, ok1 := quoted(rest, `":{"type":"`)
	typ, rest, ok2 := quoted(rest, `","event_id":"`)
	_, rest, ok3 := quoted(rest, `","message_id":"`)
	_, rest, ok4 := quoted(rest, `","timestamp":"`)
	seconds, _, ok5 := quoted(rest, `"`)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return head{}, errForm
	}

	h := head{typ: event.Type(typ)}
	n, err := strconv.ParseInt(string(seconds), 10, 64)
	if err != nil || h.typ.PublicName() == "" {
		return head{}, errForm
	}
	h.time = time.Unix(n, 0)

	return h, nil
}

// quoted returns the value that b begins with, and what follows the end that must be
// behind it. It does not read values with escapes.
func quoted(b []byte, end string) (value, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '"')
	if i < 0 || bytes.IndexByte(b[:i], '\\') >= 0 || !bytes.HasPrefix(b[i:], []byte(end)) {
		return nil, nil, false
	}

	return b[:i], b[i+len(end):], true
}
