// Package accounting turns PowerMTA's accounting records into events: CSV
// (RFC 4180) whose header line decides the columns.
//
// What is remembered on disk is one file, offsets.json in Config.Dir: for each
// accounting file, by device and inode, how far it was read. It is replaced in
// one step after the events of what was read are durable, so that a crash reads
// records again; they then make events with the same event_id, which is derived
// from the record and its place in the file. Lines that are not records go to
// bad.csv beside it, with file, line number and reason, before that.
//
// A record that is not whole is waited for while it is shorter than 64 KiB, no
// record follows it, and its file may still grow. A bad record is one line:
// what is behind it is read.
//
// A Follower belongs to one goroutine.
package accounting

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/tracking/bounce"
	"postern/tracking/event"
)

// Verifier reports whether a message id is one of ours; *token.Keys is one, by
// an adapter of its user.
type Verifier func(id string) bool

// Errors of a record, each for a metric.
var (
	ErrNoColumns   = errors.New("record does not fit its header line")
	ErrTime        = errors.New("time cannot be read")
	ErrNoID        = errors.New("record without a message id that verifies")
	ErrNoRecipient = errors.New("feedback record without a recipient")
	ErrIgnored     = errors.New("record of a kind that makes no event")
)

// Settings say how records are understood. They are read anew for each file.
type Settings struct {
	// Classes are the site's own bounceCat names.
	Classes map[string]int

	// Verify may be nil: every id counts.
	Verify Verifier

	// MessageIDHeader returns the field that holds the message id
	// (relay.message_id_header); the column is header_NAME. Where it is nil,
	// that is X-Sp-Message-Id.
	MessageIDHeader func() string
}

const defaultIDHeader = "X-Sp-Message-Id"

// idColumn is the column of the message id, in lower case.
func (s Settings) idColumn() string {
	name := ""
	if s.MessageIDHeader != nil {
		name = s.MessageIDHeader()
	}
	if name == "" {
		name = defaultIDHeader
	}

	return "header_" + strings.ToLower(name)
}

// column is one of the columns that are read.
type column int

const (
	colType column = iota
	colTimeLogged
	colTimeQueued
	colOrig
	colRcpt
	colStatus
	colDiag
	colCategory
	colSourceIP
	colDestinationIP
	colSize
	colVMTA
	colPool
	colJob
	colEnvID
	colSecondsQueued
	colFeedbackType
	colReportingMTA
	colUserAgent
	colReportedDomain
	colMessageID
	columns // how many there are
)

// columnNames are PowerMTA's names in lower case, but for the message id's.
var columnNames = [columns]string{
	colType:           "type",
	colTimeLogged:     "timelogged",
	colTimeQueued:     "timequeued",
	colOrig:           "orig",
	colRcpt:           "rcpt",
	colStatus:         "dsnstatus",
	colDiag:           "dsndiag",
	colCategory:       "bouncecat",
	colSourceIP:       "dlvsourceip",
	colDestinationIP:  "dlvdestinationip",
	colSize:           "dlvsize",
	colVMTA:           "vmta",
	colPool:           "vmtapool",
	colJob:            "jobid",
	colEnvID:          "envid",
	colSecondsQueued:  "totalsecondsqueued",
	colFeedbackType:   "feedbacktype",
	colReportingMTA:   "reportingmta",
	colUserAgent:      "useragent",
	colReportedDomain: "reporteddomain",
}

// converter makes events of the records behind one header line.
type converter struct {
	columns [columns]int // where each is, -1: nowhere
	set     Settings
	retries *counts

	logged, queued clock

	width   int
	byTypes map[string]*converter // of types that the header line does not describe
}

// clock reads the times of a column, which are often those of the record before.
type clock struct {
	text string
	time time.Time
}

func (c *clock) read(text string) (time.Time, error) {
	if c.text == text && text != "" {
		return c.time, nil
	}

	t, err := parseTime(text)
	if err == nil {
		c.text, c.time = text, t
	}

	return t, err
}

func newConverter(header []string, set Settings, retries *counts) *converter {
	c := &converter{set: set, retries: retries}

	at := make(map[string]int, len(header))
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")))
		if _, twice := at[name]; !twice {
			at[name] = i
		}
	}

	c.width = len(header)
	for kind, l := range ownLayouts {
		if _, described := at[l.mark]; !described {
			if c.byTypes == nil {
				c.byTypes = map[string]*converter{}
			}
			c.byTypes[kind] = l.converter(set, retries)
		}
	}

	names := columnNames
	names[colMessageID] = set.idColumn()
	for col, name := range names {
		c.columns[col] = -1
		if i, ok := at[name]; ok {
			c.columns[col] = i
		}
	}

	return c
}

// layout is which fields PowerMTA writes of a record by default.
type layout struct {
	columns string
	mark    string // a column that no other type has, in lower case
	more    bool   // fields of header_NAME and arf_NAME may follow, the message id's being the first
}

// ownLayouts are the records whose fields are others than those of d, b and t
// (PowerMTA User's Guide, section 11.2). A file has one header line, that of its
// first type, whatever else is written to it.
var ownLayouts = map[string]layout{
	"rb": {
		columns: "type,timeLogged,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,dsnReportingMTA,bounceCat," +
			"srcType,srcMta,envId,format",
		mark: "dsnreportingmta",
	},
	"f": {
		columns: "type,timeLogged,repSourceIp,feedbackType,format,userAgent,envid,orig,rcpt,reportingMTA,dlvSourceIp," +
			"reportedDomain",
		mark: "feedbacktype",
		more: true,
	},
}

func (l layout) converter(set Settings, retries *counts) *converter {
	names := strings.Split(strings.ToLower(l.columns), ",")
	c := &converter{set: set, retries: retries, width: len(names)}
	for col, name := range columnNames {
		c.columns[col] = slices.Index(names, name)
	}
	c.columns[colMessageID] = -1
	if l.more {
		c.columns[colMessageID] = len(names)
	}

	return c
}

// own returns what reads a record by the fields of its type, nil where the header
// line describes that type or the record has another number of fields.
func (c *converter) own(fields []string) *converter {
	other := c.byTypes[fields[0]]
	switch n := len(fields); {
	case other == nil,
		n < other.width,
		n > other.width && !ownLayouts[fields[0]].more:
		return nil
	}

	return other
}

// read makes the event of a record by the columns that are its own. Where the
// number of fields fits both, a message id that verifies decides.
func (c *converter) read(fields []string, place int64) (*event.Event, error) {
	other := c.own(fields)
	if other != nil && len(fields) != c.width {
		return other.event(fields, place)
	}

	e, err := c.event(fields, place)
	if err != nil && other != nil && c.set.Verify != nil {
		if e, err := other.event(fields, place); err == nil {
			return e, nil
		}
	}

	return e, err
}

// isHeader reports whether a record is a header line: its first field is "type".
func isHeader(fields []string) bool {
	return len(fields) > 0 && strings.EqualFold(strings.TrimSpace(strings.TrimPrefix(fields[0], "\ufeff")), "type")
}

// has reports whether a column is there.
func (c *converter) has(col column) bool { return c.columns[col] >= 0 }

// getter returns a column of a record, "" where it has none.
type getter func(column) string

// types are the records that make events: delivered, bounced, transient
// failure, remote bounce, feedback loop.
var types = map[string]event.Type{
	"d":  event.Delivery,
	"b":  event.Bounce,
	"t":  event.Delay,
	"rb": event.OutOfBand,
	"f":  event.SpamComplaint,
}

// ignored are the records that make none: transient failure of a queue,
// received, remote status.
var ignored = map[string]bool{"tq": true, "r": true, "rs": true}

// event makes the event of a record; place is where the record is in its file,
// in bytes. The errors above say why there is none.
func (c *converter) event(fields []string, place int64) (*event.Event, error) {
	get := func(col column) string {
		if i := c.columns[col]; i >= 0 && i < len(fields) {
			return fields[i]
		}
		return ""
	}

	kind := get(colType)
	typ, known := types[kind]
	if ignored[kind] {
		return nil, ErrIgnored
	}
	if !known {
		return nil, fmt.Errorf("%w: type %.20q", ErrNoColumns, kind)
	}

	if typ == event.SpamComplaint && !event.IsComplaint(feedbackType(get)) {
		return nil, ErrIgnored
	}

	id := c.messageID(get)
	if id == "" {
		return nil, ErrNoID
	}
	at, err := c.logged.read(get(colTimeLogged))
	if err != nil {
		return nil, err
	}
	rcpt := get(colRcpt)
	switch {
	case rcpt == "" && typ == event.SpamComplaint: // redacted (RFC 6590)
		return nil, ErrNoRecipient
	case rcpt == "":
		return nil, fmt.Errorf("%w: no recipient", ErrNoColumns)
	}

	e := &event.Event{
		Type:       typ,
		ID:         eventID(fields, place),
		MessageID:  id,
		Timestamp:  event.Timestamp{Time: at},
		RcptTo:     rcpt,
		DelvMethod: "esmtp",
	}

	c.fill(e, get)

	return e, nil
}

// fill fills in what a record says beyond whose message it is about.
func (c *converter) fill(e *event.Event, get getter) {
	switch e.Type {
	case event.SpamComplaint:
		e.FeedbackType = feedbackType(get)
		e.ReportBy = get(colReportingMTA)
		e.ReportTo = get(colReportedDomain)
		e.UserString = get(colUserAgent)
		e.SendingIP = get(colSourceIP)
	case event.OutOfBand:
		e.MsgFrom = get(colOrig)
		c.failure(e, get)
	default:
		c.attempt(e, get)
	}
}

// messageID is that of our header column, else of envId.
func (c *converter) messageID(get getter) string {
	for _, col := range []column{colMessageID, colEnvID} {
		if id := strings.TrimSpace(get(col)); id != "" && (c.set.Verify == nil || c.set.Verify(id)) {
			return id
		}
	}

	return ""
}

// attempt fills in what an attempt to deliver says.
func (c *converter) attempt(e *event.Event, get getter) {
	e.MsgFrom = get(colOrig)
	e.CampaignID = get(colJob)
	e.Binding = get(colVMTA)
	e.BindingGroup = get(colPool)
	e.SendingIP = get(colSourceIP)
	e.IPAddress = get(colDestinationIP)

	if _, domain, ok := strings.Cut(e.RcptTo, "@"); ok {
		e.RoutingDomain = strings.ToLower(domain)
	}
	if n, err := strconv.ParseUint(get(colSize), 10, 63); err == nil {
		e.MsgSize = strconv.FormatUint(n, 10)
	}

	if s, err := strconv.ParseFloat(get(colSecondsQueued), 64); err == nil && s >= 0 && s < maxQueued {
		e.QueueTime = strconv.FormatInt(int64(s*1000), 10)
	} else if queued, err := c.queued.read(get(colTimeQueued)); err == nil {
		e.QueueTime = strconv.FormatInt(max(0, e.Timestamp.Sub(queued).Milliseconds()), 10)
	}

	key := e.MessageID + " " + e.RcptTo
	if e.Type == event.Delay {
		e.NumRetries = strconv.Itoa(c.retries.add(key))
	} else {
		e.NumRetries = strconv.Itoa(c.retries.take(key))
	}

	if e.Type != event.Delivery {
		c.failure(e, get)
	}
}

// maxQueued is the longest time in a queue that is believed, in seconds.
const maxQueued = 1e9

// maxReason is how much of a reply goes into an event, in bytes.
const maxReason = 4000

// failure fills in what went wrong.
func (c *converter) failure(e *event.Event, get getter) {
	status, diag := get(colStatus), event.Clip(get(colDiag), maxReason)
	e.RawReason = diag
	if e.RawReason == "" {
		e.RawReason = status
	}
	if e.RawReason == "" {
		e.RawReason = "unknown"
	}

	text := diagnostic(diag)
	e.Reason = text
	if e.Reason == "" {
		e.Reason = status
	}
	e.ErrorCode = replyCode(text)

	verdict := bounce.Classify(bounce.Refusal{
		Category:  get(colCategory),
		Status:    status,
		Text:      text,
		Recipient: e.RcptTo,
		Own:       c.set.Classes,
	})
	e.BounceClass = strconv.Itoa(verdict.Class)
}

// diagnostic is the text of a Diagnostic-Code without its type (RFC 3464 section
// 2.3.6): `smtp;550 no` is `550 no`. What is before a semicolon and is not one
// word is text, not a type.
func diagnostic(diag string) string {
	kind, text, ok := strings.Cut(diag, ";")
	if !ok || !isAtom(strings.TrimSpace(kind)) {
		return diag
	}

	return strings.TrimSpace(text)
}

// isAtom reports whether s is a letter and then letters, digits and hyphens.
func isAtom(s string) bool {
	for i, r := range s {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r != '-' && (r < '0' || r > '9')) {
			return false
		}
	}

	return s != ""
}

// replyCode is the three digits that an SMTP reply begins with.
func replyCode(text string) string {
	digit := func(i int, from, to byte) bool { return from <= text[i] && text[i] <= to }
	if len(text) < 3 || !digit(0, '2', '5') || !digit(1, '0', '9') || !digit(2, '0', '9') {
		return ""
	}
	if len(text) > 3 && text[3] != ' ' && text[3] != '-' {
		return ""
	}

	return text[:3]
}

// feedbackType is that of a feedback record; one without is a complaint.
func feedbackType(get getter) string {
	if t := strings.ToLower(strings.TrimSpace(get(colFeedbackType))); t != "" {
		return t
	}

	return "abuse"
}

// endOfTime is the year 10000 in Unix seconds: a number beyond is not of
// seconds.
const endOfTime = 253402300800

// parseTime reads `YYYY-MM-DD HH:MM:SS+ZZZZ` or Unix seconds.
func parseTime(s string) (time.Time, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 && n < endOfTime {
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
type counts struct {
	now, before map[string]int
	undo        []change // since begin
}

// change is what a key was before.
type change struct {
	key string
	n   int // 0: it was not there
}

const maxCounts = 200_000

func newCounts() *counts { return &counts{now: map[string]int{}} }

// begin ends what rollback would undo.
func (c *counts) begin() { c.undo = c.undo[:0] }

// rollback undoes what was counted since begin: those records are read again.
func (c *counts) rollback() {
	for i := len(c.undo) - 1; i >= 0; i-- {
		u := c.undo[i]
		delete(c.now, u.key)
		delete(c.before, u.key)
		if u.n > 0 {
			c.now[u.key] = u.n
		}
	}
}

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
	n := c.now[key]
	if n == 0 {
		n = c.before[key]
	}
	delete(c.now, key)
	delete(c.before, key)
	c.undo = append(c.undo, change{key, n})

	return n
}
