package report

import (
	"strconv"
	"strings"
	"time"

	"postern/tracking/bounce"
	"postern/tracking/event"
)

// Event returns the event of a report about a copy, or nil if it has none. A copy
// has one recipient, so there is one event, whatever addresses the report names.
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
		e.Type = event.OutOfBand
		e.RecvMethod = "esmtp"
		c.fillBounce(e)
	case r.Kind == Complaint && event.IsComplaint(r.FeedbackType):
		e.Type = event.SpamComplaint
		e.FeedbackType = r.FeedbackType
		e.ReportBy = event.Clip(r.ReportingMTA, 256)
		e.ReportTo = event.Clip(r.ReportedTo, 256)
		e.UserString = event.Clip(r.UserAgent, 256)
		e.SendingIP = event.Clip(r.SourceIP, 64)
	default:
		return nil
	}

	// Whoever got one copy could name anybody in a report about it. The recipient
	// sealed in the token of the copy counts more.
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

// fillBounce sets the fields of a bounce in an event.
func (c Recipient) fillBounce(e *event.Event) {
	e.ErrorCode = c.ReplyCode

	e.BounceClass = strconv.Itoa(c.Class)
	if c.Class == 0 {
		e.BounceClass = strconv.Itoa(bounce.Undetermined)
	}

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
}

// recipient returns what the report says of the sealed recipient, or else of the
// first one of the report's own kind.
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

// maxClockLag is how old the date of a report may be to be used. The Ingest API
// refuses events that are older than 24 hours.
const maxClockLag = 12 * time.Hour

// when returns the date of the report, or now if the date cannot be right: before
// the message was sent, in the future, or long ago.
func (r *Report) when(sent, now time.Time) time.Time {
	if r.Date.Before(sent) || r.Date.After(now) || now.Sub(r.Date) > maxClockLag {
		return now
	}

	return r.Date
}

// eventID returns an id that depends only on what the event says, so that a report
// that is received twice is one event.
func eventID(e *event.Event, status string) string {
	return event.StableID(string(e.Type), e.MessageID, strings.ToLower(e.RcptTo), status, e.FeedbackType)
}
