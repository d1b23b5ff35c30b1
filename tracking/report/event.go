package report

import (
	"strconv"
	"strings"
	"time"

	"postern/tracking/bounce"
	"postern/tracking/event"
)

// Event makes the event of a report about a copy of ours; nil where it makes
// none. A copy has one recipient, so there is one event, whatever addresses
// its journey led through.
func (r *Report) Event(f Found, now time.Time) *event.Event {
	e := &event.Event{
		MessageID:    f.ID.String(),
		Timestamp:    event.Timestamp{Time: r.when(f.ID.Time(), now)},
		SubaccountID: f.Subaccount,
		DelvMethod:   "esmtp",
	}

	c := r.recipient(f.Recipient)
	switch {
	case r.Kind == Bounce:
		e.Type, e.RecvMethod = event.OutOfBand, "esmtp"
		r.bounce(e, c)
	case r.Kind == Complaint && event.IsComplaint(r.FeedbackType):
		e.Type, e.FeedbackType = event.SpamComplaint, r.FeedbackType
		e.ReportBy = event.Clip(r.ReportingMTA, 256)
		e.ReportTo = event.Clip(r.ReportedTo, 256)
		e.UserString = event.Clip(r.UserAgent, 256)
		e.SendingIP = event.Clip(r.SourceIP, 64)
	default:
		return nil
	}

	// Whoever got one copy could name anybody in a report about it: what is
	// sealed in the copy's own token counts first.
	e.RcptTo = f.Recipient
	if e.RcptTo == "" {
		e.RcptTo = c.Address()
	}
	e.RcptTo = event.Clip(e.RcptTo, 512)
	if !strings.Contains(e.RcptTo, "@") {
		return nil
	}

	h := returnedHeader(r.returned)
	if a := addressIn.FindString(h["from"]); a != "" {
		e.FriendlyFrom = event.Clip(a, 512)
	}
	if a := addressIn.FindString(h["return-path"]); a != "" && e.Type == event.OutOfBand {
		e.MsgFrom = event.Clip(a, 512)
	}
	e.ID = eventID(e, c.Status)

	return e
}

// bounce says in an event what a report says of a recipient.
func (r *Report) bounce(e *event.Event, c Recipient) {
	e.ErrorCode, e.BounceClass = c.ReplyCode, strconv.Itoa(c.Class)
	e.RawReason = c.Diagnostic
	if e.RawReason == "" {
		e.RawReason = c.Status
	}
	if e.RawReason == "" {
		e.RawReason = "unknown"
	}

	e.Reason = e.RawReason
	if c.Status != "" && !strings.Contains(e.Reason, c.Status) {
		e.Reason = c.Status + " " + e.Reason
	}
	if c.Class == 0 {
		e.BounceClass = strconv.Itoa(bounce.Undetermined)
	}
}

// recipient is what the report says of the one whom the copy was for, else of
// the first one of the report's own kind.
func (r *Report) recipient(sealed string) Recipient {
	var first *Recipient
	for i := range r.Recipients {
		c := &r.Recipients[i]
		if c.Kind != r.Kind {
			continue
		}
		if sealed != "" && (strings.EqualFold(c.Original, sealed) || strings.EqualFold(c.Final, sealed)) {
			return *c
		}
		if first == nil {
			first = c
		}
	}
	if first != nil {
		return *first
	}

	return r.unnamed
}

// maxClockLag bounds how old a report's own date may be to be believed: events
// over 24 h old are refused by the service.
const maxClockLag = 12 * time.Hour

// when is the date of the report, where it can be: not before the message, not
// in the future, not long ago.
func (r *Report) when(sent, now time.Time) time.Time {
	if r.Date.Before(sent) || r.Date.After(now) || now.Sub(r.Date) > maxClockLag {
		return now
	}

	return r.Date
}

// eventID depends on what the event says alone, so that a report that comes in
// twice is one event.
func eventID(e *event.Event, status string) string {
	return event.StableID(string(e.Type), e.MessageID, strings.ToLower(e.RcptTo), status, e.FeedbackType)
}
