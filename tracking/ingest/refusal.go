package ingest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Refusal is the service's answer to a batch that it did not accept.
type Refusal struct {
	Status     int           // of HTTP
	Words      string        // the service's own
	RetryAfter time.Duration // 0 if the service does not say
}

// Error returns the status and the service's words.
func (r *Refusal) Error() string { return fmt.Sprintf("HTTP %d: %s", r.Status, r.Words) }

// fault says what made an upload fail.
type fault int

const (
	// faultService means no answer, or one that does not depend on the events.
	faultService fault = iota

	// faultRate means too many requests.
	faultRate

	// faultAccess means that the key, the address or something on the way is wrong,
	// which an operator has to mend.
	faultAccess

	// faultEvents means one of the events, or their number.
	faultEvents
)

// faultOf classifies an error of Sink.Send. Only 400 (RFC 9110 section 15.5.1), 413
// (15.5.14) and 422 (15.5.21) can be the fault of an event. All other answers may
// come from a wrong address, a proxy or a page that announces maintenance.
func faultOf(err error) fault {
	var r *Refusal
	if !errors.As(err, &r) {
		return faultService
	}

	switch r.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return faultEvents
	case http.StatusTooManyRequests:
		return faultRate
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return faultService
	}

	if r.Status/100 == 5 {
		return faultService
	}

	return faultAccess
}

// statusLabel returns the label of postern_ingest_batches_total.
func statusLabel(err error) string {
	var r *Refusal
	switch {
	case err == nil:
		return "200"
	case errors.As(err, &r):
		return strconv.Itoa(r.Status)
	}

	return "error"
}

// clockSink is a sink that knows the service's clock.
type clockSink interface {
	// ServiceTime returns what the service's clock says at our time, and whether it
	// is known.
	ServiceTime(ours time.Time) (theirs time.Time, known bool)
}

// earliestNow returns the earlier of our time and the service's. If the sink is a
// clockSink and does not know the service's clock, known is false.
func (u *Uploader) earliestNow() (now time.Time, known bool) {
	now = u.cfg.Now()

	clock, ok := u.cfg.Sink.(clockSink)
	if !ok {
		return now, true
	}

	theirs, known := clock.ServiceTime(now)
	if theirs.Before(now) {
		now = theirs
	}

	return now, known
}
