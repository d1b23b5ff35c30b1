package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"postern/tracking/agent"
	"postern/tracking/event"
	"postern/tracking/token"
)

// hit is a request for a valid token.
type hit struct {
	text   string // of the token
	token  token.Token
	client netip.Addr // invalid if it is not known
	at     time.Time
}

// hit returns the hit of a request.
func (h *Handler) hit(r *http.Request, text string, t token.Token) hit {
	return hit{text: text, token: t, client: h.client(r), at: h.cfg.Now()}
}

// eventTypes has the type of event for each kind of link and pixel.
var eventTypes = map[token.Kind]event.Type{
	token.Open:            event.Open,
	token.InitialOpen:     event.InitialOpen,
	token.Click:           event.Click,
	token.LinkUnsubscribe: event.LinkUnsubscribe,
	token.AmpOpen:         event.AmpOpen,
	token.AmpInitialOpen:  event.AmpInitialOpen,
	token.AmpClick:        event.AmpClick,
}

// recordEngagement records the event of a GET request for a link or a pixel, with
// the class of the client. HEAD requests are evidence only. Failures are counted
// and logged, and do not concern the recipient.
func (h *Handler) recordEngagement(r *http.Request, hit hit) {
	f := h.cfg.State.history.note(r, hit)
	if r.Method != http.MethodGet {
		return
	}

	f.agent = h.cfg.State.agents.Read(r.UserAgent())
	f.header = r.Header
	f.since = hit.at.Sub(hit.token.Issued())

	class := classify(f)
	h.cfg.State.history.opened(hit, f, class)

	// Unsubscribing is reported even if opens and clicks of the message are not.
	if hit.token.Unreported && hit.token.Kind != token.LinkUnsubscribe {
		return
	}

	key := keyOf(r, hit)
	_ = h.once(r, key, hit, func() error {
		h.classes.WithLabelValues(className(class), class.Reason).Inc()
		return h.writeEngagement(r, key, hit, h.engagement(r, hit, f.agent, class))
	})
}

// How long a request waits until its event is written. After that a click is
// served, and an unsubscribe request fails.
const (
	clickWaits       = 5 * time.Second
	unsubscribeWaits = 20 * time.Second // shorter than the WriteTimeout of NewServer
)

// maxWriting bounds the events that are being written at once, including those
// whose requests no longer wait.
const maxWriting = 4096

var errSlow = errors.New("web: timeout writing event")

// recordUnsubscribe records the event of an unsubscribe request.
func (h *Handler) recordUnsubscribe(r *http.Request, hit hit) error {
	return h.once(r, keyOf(r, hit), hit, func() error {
		err := h.write(r, h.event(hit, event.ListUnsubscribe), unsubscribeWaits, func(error) {})
		if err != nil {
			h.cfg.State.limits.refused.log(hit.at, func() {
				h.cfg.Log.Error("web: cannot write event, unsubscribe requests are refused", "err", err)
			})
		}

		return err
	})
}

// once calls write for the first of several equal requests within a second. The
// others wait for it and return its error.
func (h *Handler) once(r *http.Request, key requestKey, hit hit, write func() error) error {
	repeated, err := h.cfg.State.repeats.once(r.Context(), key, hit.at, write)
	if repeated {
		h.repeated.Inc()
	}

	return err
}

// writeEngagement writes the event of an open or a click. If that fails, the event
// of an unsubscribe link is retried later, and others are lost.
func (h *Handler) writeEngagement(r *http.Request, key requestKey, hit hit, e *event.Event) error {
	return h.write(r, e, clickWaits, func(err error) {
		if hit.token.Kind == token.LinkUnsubscribe && h.cfg.State.retries.add(key, e, h.cfg.Events) {
			return
		}

		h.cfg.State.lost.Inc()
		h.cfg.State.limits.lost.log(hit.at, func() {
			h.cfg.Log.Error("web: cannot write event, events lost",
				"err", err, "message_id", e.MessageID, "type", e.Type)
		})
	})
}

// write writes an event, whether or not the client is still connected. If that
// takes longer than within, write returns errSlow and the writing continues.
// failed is called, once, if the event is not written in the end.
func (h *Handler) write(r *http.Request, e *event.Event, within time.Duration, failed func(error)) error {
	t := time.NewTimer(within)
	defer t.Stop()

	select {
	case h.cfg.State.writing <- struct{}{}:
	case <-t.C:
		failed(errSlow)
		return errSlow
	}

	ctx := context.WithoutCancel(r.Context())
	done := make(chan error, 1)
	go func() {
		err := h.recordSafely(ctx, e)
		<-h.cfg.State.writing
		if err != nil {
			failed(err)
		}
		done <- err
	}()

	select {
	case err := <-done:
		return err
	case <-t.C:
		return errSlow
	}
}

// recordSafely calls the Recorder, and returns an error if that panics: it runs
// outside of the goroutine in which net/http would recover.
func (h *Handler) recordSafely(ctx context.Context, e *event.Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("web: record: panic: %v\n%s", p, debug.Stack())
		}
	}()

	return h.cfg.Events.Record(ctx, e)
}

// event returns an event with the fields that come from the token.
func (h *Handler) event(hit hit, t event.Type) *event.Event {
	return &event.Event{
		Type:         t,
		ID:           h.cfg.IDs.Next(),
		MessageID:    hit.token.MessageID.String(),
		Timestamp:    event.Timestamp{Time: hit.at},
		DelvMethod:   "esmtp",
		RcptTo:       hit.token.Recipient,
		SubaccountID: hit.token.Subaccount,
	}
}

// maxUserAgent bounds the User-Agent in an event, in bytes.
const maxUserAgent = 1024

// engagement returns the event of an open, a click or a tracked unsubscribe link.
func (h *Handler) engagement(r *http.Request, hit hit, a agent.Agent, class event.Class) *event.Event {
	t := hit.token
	e := h.event(hit, eventTypes[t.Kind])
	e.UserAgent = event.Clip(strings.ToValidUTF8(r.UserAgent(), "?"), maxUserAgent)
	e.TargetLinkURL = t.Target
	e.Class = class

	if t.Kind != token.LinkUnsubscribe { // whose events have no client fields
		h.describe(e, hit.client, a)
	}
	if t.Kind == token.Click || t.Kind == token.AmpClick {
		e.TargetLinkName = cmp.Or(t.LinkName, event.DefaultLinkName)
	}

	return e
}

// className returns the label value of a class.
func className(c event.Class) string {
	if c.Kind == "" {
		return "person"
	}

	return c.Kind
}

// describe fills in the fields about the client.
func (h *Handler) describe(e *event.Event, client netip.Addr, a agent.Agent) {
	parsed := a.Program
	parsed.IsPrefetched = e.Class.Kind != ""
	e.UserAgentParsed = &parsed
	e.IsPrefetched = parsed.IsPrefetched

	e.GeoIP = h.cfg.Geo.lookup(client)
	if h.cfg.TruncateIP {
		client = truncated(client)
	}
	if client.IsValid() {
		e.IPAddress = client.String()
	}
}
