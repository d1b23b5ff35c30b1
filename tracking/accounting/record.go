// Package accounting turns PowerMTA's accounting records (reference, section 8)
// into events: CSV whose header line decides the columns.
//
// What is remembered on disk is one file, offsets.json in Config.Dir: for each
// accounting file, by device and inode, how far it was read. It is replaced in
// one step after the events of what was read are durable, so that a crash reads
// records again; they then make events with the same event_id, which is derived
// from the record and its place in the file.
//
// A Converter and a Follower belong to one goroutine each.
package accounting

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postern/tracking/event"
)

// Verifier tells whether a message id is one of ours; *token.Keys is one, by an
// adapter of its user.
type Verifier func(id string) bool

// Errors of a record, each for a metric.
var (
	ErrNoColumns = errors.New("record does not fit its header line")
	ErrTime      = errors.New("time cannot be read")
	ErrNoID      = errors.New("record without a message id that verifies")
	ErrIgnored   = errors.New("record of a kind that makes no event")
)

// Converter makes events of the records of one file.
type Converter struct {
	columns map[string]int
	classes map[string]int // the site's own bounceCat names
	verify  Verifier
	retries *counts
}

// NewConverter reads a header line. verify may be nil: every id counts.
func NewConverter(header []string, classes map[string]int, verify Verifier, retries *counts) *Converter {
	c := &Converter{columns: make(map[string]int, len(header)), classes: classes, verify: verify, retries: retries}
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := c.columns[name]; !twice {
			c.columns[name] = i
		}
	}
	if c.retries == nil {
		c.retries = newCounts()
	}
	return c
}

// IsHeader tells a header line from a record: its first field is "type".
func IsHeader(fields []string) bool {
	return len(fields) > 0 && strings.EqualFold(strings.TrimPrefix(fields[0], "\ufeff"), "type")
}

// Has tells whether a column is there.
func (c *Converter) Has(column string) bool { _, ok := c.columns[column]; return ok }

const idColumn = "header_x-sp-message-id"

// types are the records that make events: delivered, bounced, transient
// failure, remote bounce, feedback loop.
var types = map[string]event.Type{"d": event.Delivery, "b": event.Bounce, "t": event.Delay, "rb": event.OutOfBand, "f": event.SpamComplaint}

// Event makes the event of a record; place is where the record stands in its
// file, in bytes. The errors above say why there is none.
func (c *Converter) Event(fields []string, place int64) (*event.Event, error) {
	get := func(name string) string {
		if i, ok := c.columns[name]; ok && i < len(fields) {
			return fields[i]
		}
		return ""
	}
	kind := get("type")
	typ, known := types[kind]
	if !known && kind != "tq" && kind != "r" && kind != "rs" {
		return nil, fmt.Errorf("%w: type %.20q", ErrNoColumns, kind)
	}
	if len(fields) > len(c.columns)+8 {
		return nil, fmt.Errorf("%w: %d fields for %d columns", ErrNoColumns, len(fields), len(c.columns))
	}
	if !known {
		return nil, ErrIgnored
	}
	id := c.messageID(get)
	if id == "" {
		return nil, ErrNoID
	}
	at, err := parseTime(get("timelogged"))
	if err != nil {
		return nil, err
	}
	rcpt := get("rcpt")
	if rcpt == "" {
		return nil, fmt.Errorf("%w: no recipient", ErrNoColumns)
	}
	e := &event.Event{Type: typ, ID: eventID(fields, place), MessageID: id, Timestamp: event.Timestamp{Time: at}, RcptTo: rcpt, DelvMethod: "esmtp"}
	switch typ {
	case event.SpamComplaint:
		c.complaint(e, get)
	case event.OutOfBand:
		e.MsgFrom = get("orig")
		c.failure(e, get)
	default:
		c.attempt(e, get, at, id+" "+rcpt)
	}
	return e, nil
}

// messageID is that of our header column, else of envId.
func (c *Converter) messageID(get func(string) string) string {
	for _, column := range []string{idColumn, "envid"} {
		if id := strings.TrimSpace(get(column)); id != "" && (c.verify == nil || c.verify(id)) {
			return id
		}
	}
	return ""
}

// attempt fills in what an attempt to deliver says.
func (c *Converter) attempt(e *event.Event, get func(string) string, at time.Time, key string) {
	e.MsgFrom, e.CampaignID = get("orig"), get("jobid")
	e.Binding, e.BindingGroup, e.SendingIP = get("vmta"), get("vmtapool"), get("dlvsourceip")
	e.IPAddress = get("dlvdestinationip")
	if _, domain, ok := strings.Cut(e.RcptTo, "@"); ok {
		e.RoutingDomain = strings.ToLower(domain)
	}
	if n, err := strconv.ParseUint(get("dlvsize"), 10, 63); err == nil {
		e.MsgSize = strconv.FormatUint(n, 10)
	}
	if s, err := strconv.ParseFloat(get("totalsecondsqueued"), 64); err == nil && s >= 0 {
		e.QueueTime = strconv.FormatInt(int64(s*1000), 10)
	} else if queued, err := parseTime(get("timequeued")); err == nil {
		e.QueueTime = strconv.FormatInt(max(0, at.Sub(queued).Milliseconds()), 10)
	}
	switch e.Type {
	case event.Delay:
		e.NumRetries = strconv.Itoa(c.retries.add(key))
	default:
		e.NumRetries = strconv.Itoa(c.retries.take(key))
	}
	if e.Type != event.Delivery {
		c.failure(e, get)
	}
}

// failure fills in what went wrong.
func (c *Converter) failure(e *event.Event, get func(string) string) {
	status, diag := get("dsnstatus"), get("dsndiag")
	e.RawReason = diag
	if e.RawReason == "" {
		e.RawReason = status
	}
	if e.RawReason == "" {
		e.RawReason = "unknown"
	}
	_, text, ok := strings.Cut(diag, ";")
	if text = strings.TrimSpace(text); !ok {
		text = diag
	}
	e.Reason = text
	if e.Reason == "" {
		e.Reason = status
	}
	e.ErrorCode = replyCode(text)
	e.BounceClass = strconv.Itoa(event.BounceClass(get("bouncecat"), status, text, c.classes))
}

// replyCode is the three digits that an SMTP reply begins with.
func replyCode(text string) string {
	if len(text) >= 3 && text[0] >= '2' && text[0] <= '5' && text[1] >= '0' && text[1] <= '9' && text[2] >= '0' && text[2] <= '9' && (len(text) == 3 || text[3] == ' ' || text[3] == '-') {
		return text[:3]
	}
	return ""
}

func (c *Converter) complaint(e *event.Event, get func(string) string) {
	if e.FeedbackType = strings.ToLower(get("feedbacktype")); e.FeedbackType == "" {
		e.FeedbackType = "abuse"
	}
	e.ReportBy, e.UserString = get("reportingmta"), get("useragent")
	e.ReportTo, e.SendingIP = get("reporteddomain"), get("dlvsourceip")
}

// parseTime reads `YYYY-MM-DD HH:MM:SS+ZZZZ` or Unix seconds.
func parseTime(s string) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 {
		return time.Unix(n, 0), nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05-0700", "2006-01-02 15:04:05-07:00"} {
		if t, err := time.Parse(layout, s); err == nil && t.Unix() > 0 {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%w: %.40q", ErrTime, s)
}

// eventID depends on the record and its place alone: read twice, or after the
// file was renamed or copied, it is the same.
func eventID(fields []string, place int64) string {
	return event.StableID(append([]string{strconv.FormatInt(place, 10)}, fields...)...)
}

// counts counts transient failures, in bounded memory: two generations, the
// older of which goes when the newer is full.
type counts struct{ now, before map[string]int }

const maxCounts = 200_000

func newCounts() *counts { return &counts{now: map[string]int{}} }

// add counts one more and returns how many there were before.
func (c *counts) add(key string) int {
	n := c.take(key)
	if len(c.now) >= maxCounts {
		c.now, c.before = map[string]int{}, c.now
	}
	c.now[key] = n + 1
	return n
}

// take returns the count and forgets it.
func (c *counts) take(key string) int {
	for _, m := range []map[string]int{c.now, c.before} {
		if n, ok := m[key]; ok {
			delete(m, key)
			return n
		}
	}
	return 0
}
