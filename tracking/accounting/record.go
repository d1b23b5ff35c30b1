package accounting

import (
	"fmt"
	"strconv"
	"strings"

	"postern/tracking/bounce"
	"postern/tracking/event"
)

// converter makes events of the records behind one header line.
type converter struct {
	columns [columns]int // where each is, -1: nowhere
	set     Settings
	retries *counts

	logged, queued clock

	width   int
	byTypes map[string]*converter // of types that the header line does not describe
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
func (c *converter) convertRecord(fields []string, place int64) (*event.Event, error) {
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

// feedbackType is that of a feedback record; one without is a complaint.
func feedbackType(get getter) string {
	if t := strings.ToLower(strings.TrimSpace(get(colFeedbackType))); t != "" {
		return t
	}

	return "abuse"
}

// eventID depends on the record and its place alone: read twice, or after the
// file was renamed or copied, it is the same.
func eventID(fields []string, place int64) string {
	return event.StableID(append([]string{strconv.FormatInt(place, 10)}, fields...)...)
}
