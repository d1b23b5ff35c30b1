package report

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"time"

	"postern/tracking/event"
	"postern/tracking/token"
)

// Keys tell our ids and tokens from made-up ones; *token.Keys is one.
type Keys interface {
	ParseID(string) (token.ID, error)
	Open(text string, hosts ...string) (token.Token, error)
}

// Finder finds the message that a report is about.
type Finder struct {
	Keys   Keys
	Header string   // the header field that carries message ids
	Hosts  []string // tracking hosts, in the form of token.Host
}

// Found is the copy that a report is about.
type Found struct {
	ID         token.ID
	By         string // verp, header, token or envid
	Recipient  string // of a token; empty: none was found
	Subaccount uint32
	Unreported bool // the message's events are not reported
}

// VERPPrefix stands in front of the message id in a return path of ours.
const VERPPrefix = "bounce+"

// maxCandidates bounds how many tokens of one mail are tried.
const maxCandidates = 64

// Find looks, in this order, at the recipients that the report was sent to
// (VERP), at our header field, a token of ours and ENVID in the returned
// message or the report. What does not verify is passed over.
func (f *Finder) Find(r *Report, raw []byte, recipients []string) (Found, bool) {
	hay := f.hay(r, raw)
	t, hasToken := f.token(hay)
	id, by := f.first(verpIDs(recipients)), "verp"
	if id == (token.ID{}) {
		id, by = f.first(f.headerIDs(hay)), "header"
	}
	if id == (token.ID{}) && hasToken {
		id, by = t.MessageID, "token"
	}
	if id == (token.ID{}) {
		id, by = f.first([]string{r.OriginalEnvelopeID}), "envid"
	}
	switch {
	case id == (token.ID{}):
		return Found{}, false
	case hasToken && t.MessageID == id: // it says more of the same copy
		return Found{ID: id, By: by, Recipient: t.Recipient, Subaccount: t.Subaccount, Unreported: t.Unreported}, true
	}
	return Found{ID: id, By: by}, true
}

// first is the first id that verifies, or none.
func (f *Finder) first(texts []string) token.ID {
	for _, text := range texts {
		if id, err := f.Keys.ParseID(strings.TrimSpace(text)); err == nil {
			return id
		}
	}
	return token.ID{}
}

func verpIDs(recipients []string) (out []string) {
	for _, a := range recipients {
		local, _, _ := strings.Cut(a, "@")
		if len(local) > len(VERPPrefix) && strings.EqualFold(local[:len(VERPPrefix)], VERPPrefix) {
			out = append(out, local[len(VERPPrefix):])
		}
	}
	return out
}

// hay is everything that may hold what we put into the message: the mail as it
// stands and the returned message decoded, quoted-printable being able to part
// a token.
func (f *Finder) hay(r *Report, raw []byte) [][]byte {
	out := [][]byte{r.returned}
	if len(r.returned) > 0 {
		m := readStructure(r.returned)
		for _, p := range m.parts {
			if strings.HasPrefix(p.mediaType, "text/") {
				out = append(out, p.body)
			}
		}
	}
	return append(out, r.text, raw[:min(len(raw), maxLooked)])
}

func (f *Finder) headerIDs(hay [][]byte) (out []string) {
	name := []byte(strings.ToLower(f.Header) + ":")
	for _, b := range hay {
		for line := range bytes.Lines(b) {
			if len(line) > len(name)+26 && len(line) < 200 && bytes.EqualFold(line[:len(name)], name) {
				out = append(out, string(bytes.TrimSpace(line[len(name):])))
				if len(out) >= maxCandidates {
					return out
				}
			}
		}
	}
	return out
}

var tokenIn = regexp.MustCompile(regexp.QuoteMeta(token.PathPrefix) + `(?:[A-Za-z0-9_.~%-]+/){0,8}([A-Za-z0-9_-]+)`)

func (f *Finder) token(hay [][]byte) (token.Token, bool) {
	tried := 0
	for _, b := range hay {
		if bytes.Contains(b, []byte("=\n")) || bytes.Contains(b, []byte("=\r\n")) { // quoted-printable that nobody decoded
			b = softBreak.ReplaceAll(b, nil)
		}
		for _, m := range tokenIn.FindAllSubmatchIndex(b, maxCandidates) {
			if tried++; tried > maxCandidates {
				return token.Token{}, false
			}
			text := strings.TrimRight(string(b[m[2]:m[3]]), "-_") // no token ends so
			if host := hostBefore(b[:m[0]]); host != "" {
				if t, err := f.Keys.Open(text, host); err == nil {
					return t, true
				}
			}
			if t, err := f.Keys.Open(text, f.Hosts...); err == nil {
				return t, true
			}
		}
	}
	return token.Token{}, false
}

// maxHostBefore bounds the host, port and path in front of a token's path, in
// bytes.
const maxHostBefore = 400

// hostBefore is the host of the URL whose path goes on behind b, in the form of
// token.Host; empty: there is none.
func hostBefore(b []byte) string {
	b = b[max(0, len(b)-maxHostBefore):]
	i := bytes.LastIndex(b, []byte("://"))
	if i < 0 {
		return ""
	}
	host, _, _ := bytes.Cut(b[i+len("://"):], []byte("/"))
	return token.Host(string(host))
}

var softBreak = regexp.MustCompile(`=\r?\n`)

// complaintTypes are the feedback types that are a person's complaint; the
// others (not-spam, auth-failure, dmarc) speak of something else.
var complaintTypes = map[string]bool{"abuse": true, "fraud": true, "virus": true, "other": true, "opt-out": true, "opt-out-list": true, "miscategorized": true, "complaint": true}

// Event makes the event of a report about a copy of ours; nil where it makes
// none. A copy has one recipient, so there is one event, whatever addresses
// its journey led through.
func (r *Report) Event(f Found, now time.Time) *event.Event {
	e := &event.Event{MessageID: f.ID.String(), Timestamp: event.Timestamp{Time: r.when(f.ID.Time(), now)}, SubaccountID: f.Subaccount, DelvMethod: "esmtp"}
	c, ok := r.first(r.Kind)
	switch {
	case r.Kind == Bounce:
		e.Type, e.RecvMethod = event.OutOfBand, "esmtp"
		r.bounce(e, c)
	case r.Kind == Complaint && complaintTypes[r.FeedbackType]:
		e.Type, e.FeedbackType = event.SpamComplaint, r.FeedbackType
		e.ReportBy, e.ReportTo, e.UserString, e.SendingIP = event.Clip(r.ReportingMTA, 256), event.Clip(r.ReportedTo, 256), event.Clip(r.UserAgent, 256), event.Clip(r.SourceIP, 64)
	default:
		return nil
	}
	if ok {
		e.RcptTo = c.Address()
	}
	if !strings.Contains(e.RcptTo, "@") {
		e.RcptTo = f.Recipient
	}
	if e.RcptTo = event.Clip(e.RcptTo, 512); e.RcptTo == "" {
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

func (r *Report) bounce(e *event.Event, c Recipient) {
	e.ErrorCode, e.BounceClass = c.ReplyCode, strconv.Itoa(c.Class)
	e.RawReason = c.Diagnostic
	if e.RawReason == "" {
		e.RawReason = c.Status
	}
	if e.RawReason == "" {
		e.RawReason = "unknown"
	}
	if e.Reason = e.RawReason; c.Status != "" && !strings.Contains(e.Reason, c.Status) {
		e.Reason = c.Status + " " + e.Reason
	}
	if c.Class == 0 {
		e.BounceClass = strconv.Itoa(event.ClassUndetermined)
	}
}

func (r *Report) first(k Kind) (Recipient, bool) {
	for _, c := range r.Recipients {
		if c.Kind == k {
			return c, true
		}
	}
	return Recipient{}, false
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
