package ingest

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Refusal is the service's answer to a batch that it did not take.
type Refusal struct {
	Status     int
	Words      string
	RetryAfter time.Duration
}

func (r *Refusal) Error() string { return fmt.Sprintf("HTTP %d: %s", r.Status, r.Words) }

// fault says whose trouble a failed upload is.
type fault int

const (
	// faultService: no answer, or one that says nothing of the events. The same
	// is sent again later.
	faultService fault = iota

	// faultRate: the service asks for patience, whatever the events are.
	faultRate

	// faultAccess: the key, the address or something on the way is wrong; an
	// operator has to look.
	faultAccess

	// faultEvents: one of the events, or how many they are.
	faultEvents
)

// faultOf classifies an error of Sink.Send. Only 400 (RFC 9110 section
// 15.5.1), 413 (15.5.14) and 422 (15.5.21) can be the fault of an event: all
// other answers may come from a wrong address, a proxy or a page that announces
// maintenance.
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

// statusLabel is the label of postern_ingest_batches_total.
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

// earliestNow returns the earlier of our time and the service's. Where the sink
// knows of a service's clock and cannot tell its time, known is false.
func (u *Uploader) earliestNow() (now time.Time, known bool) {
	now = u.cfg.Now()

	clock, ok := u.cfg.Sink.(interface {
		ServiceTime(ours time.Time) (time.Time, bool)
	})
	if !ok {
		return now, true
	}

	theirs, known := clock.ServiceTime(now)
	if theirs.Before(now) {
		now = theirs
	}

	return now, known
}
