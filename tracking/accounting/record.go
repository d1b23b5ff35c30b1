package accounting

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"postern/tracking/bounce"
	"postern/tracking/event"
)

// converter converts the records behind one header line to events.
type converter struct {
	columns [columns]int // index of each, -1 if there is none
	width   int          // fields of a record
	set     Settings
	retries *counts

	logged clock // reads timeLogged
	queued clock // reads timeQueued

	byTypes map[string]*converter // for types that the header line does not describe
}

// newConverter returns a converter for the columns of a header line. The first of
// several columns of a name counts.
func newConverter(header []string, set Settings, retries *counts) *converter {
	c := &converter{
		width:   len(header),
		set:     set,
		retries: retries,
		byTypes: map[string]*converter{},
	}

	at := make(map[string]int, len(header))
	for i, name := range header {
		name = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")))
		if _, twice := at[name]; !twice {
			at[name] = i
		}
	}

	for kind, l := range ownLayouts {
		if _, described := at[l.mark]; !described {
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

// own returns the converter for the default fields of a record's type. It is nil if
// the header line describes that type, or the number of fields is another.
func (c *converter) own(fields []string) *converter {
	other := c.byTypes[fields[0]]
	if other == nil || len(fields) < other.width {
		return nil
	}
	if len(fields) > other.width && !ownLayouts[fields[0]].more {
		return nil
	}

	return other
}

// convertRecord returns the event of a record, which begins at place, in bytes. If
// its number of fields fits both the header line and its type, the message id that
// verifies decides which columns it has. Errors are those of this package.
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

// has reports whether the records have a column.
func (c *converter) has(col column) bool { return c.columns[col] >= 0 }

// getter returns the value of a column of a record, "" if there is none.
type getter func(column) string

// types are the types of records that make events: delivered, bounced, transient
// failure, remote bounce, feedback loop.
var types = map[string]event.Type{
	"d":  event.Delivery,
	"b":  event.Bounce,
	"t":  event.Delay,
	"rb": event.OutOfBand,
	"f":  event.SpamComplaint,
}

// ignored are the types of records that make none: transient failure of a queue,
// received, remote status.
var ignored = map[string]bool{"tq": true, "r": true, "rs": true}

// event returns the event of a record by the columns of c.
func (c *converter) event(fields []string, place int64) (*event.Event, error) {
	get := func(col column) string {
		if i := c.columns[col]; i >= 0 && i < len(fields) {
			return fields[i]
		}

		return ""
	}

	kind := get(colType)
	if ignored[kind] {
		return nil, ErrIgnored
	}
	typ, known := types[kind]
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
	if rcpt == "" && typ == event.SpamComplaint {
		return nil, ErrNoRecipient
	}
	if rcpt == "" {
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

// fill sets the fields that depend on the type of the event.
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

// messageID returns the message id of the header column, else that of envId, ""
// if neither verifies.
func (c *converter) messageID(get getter) string {
	for _, col := range []column{colMessageID, colEnvID} {
		id := strings.TrimSpace(get(col))
		if id == "" {
			continue
		}
		if c.set.Verify == nil || c.set.Verify(id) {
			return id
		}
	}

	return ""
}

// attempt sets what an attempt to deliver says.
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

	e.QueueTime = c.queueTime(e, get)

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

// queueTime returns how long a message was queued, in milliseconds, "" if the
// record does not say.
func (c *converter) queueTime(e *event.Event, get getter) string {
	seconds, err := strconv.ParseFloat(get(colSecondsQueued), 64)
	if err == nil && seconds >= 0 && seconds < maxQueued {
		return strconv.FormatInt(int64(seconds*1000), 10)
	}

	queued, err := c.queued.read(get(colTimeQueued))
	if err != nil {
		return ""
	}

	return strconv.FormatInt(max(0, e.Timestamp.Sub(queued).Milliseconds()), 10)
}

// maxReason is how much of a reply goes into an event, in bytes.
const maxReason = 4000

// failure sets why an attempt failed.
func (c *converter) failure(e *event.Event, get getter) {
	status := get(colStatus)
	diag := event.Clip(get(colDiag), maxReason)
	text := diagnostic(diag)

	e.RawReason = cmp.Or(diag, status, "unknown")
	e.Reason = cmp.Or(text, status)
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

// feedbackType returns the type of a feedback record (RFC 5965 section 3.5); one
// without is a complaint.
func feedbackType(get getter) string {
	return cmp.Or(strings.ToLower(strings.TrimSpace(get(colFeedbackType))), "abuse")
}

// eventID returns an event id that depends on the record and its place alone: it is
// the same if the record is read again, or the file was renamed or copied.
func eventID(fields []string, place int64) string {
	return event.StableID(append([]string{strconv.FormatInt(place, 10)}, fields...)...)
}
