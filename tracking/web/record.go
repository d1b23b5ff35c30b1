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

// hit is a request for a token of ours.
type hit struct {
	text   string
	token  token.Token
	client netip.Addr // not valid where it is not known
	at     time.Time
}

func (h *Handler) hit(r *http.Request, text string, t token.Token) hit {
	return hit{text: text, token: t, client: h.client(r), at: h.c.Now()}
}

var eventTypes = map[token.Kind]event.Type{
	token.Open:            event.Open,
	token.InitialOpen:     event.InitialOpen,
	token.Click:           event.Click,
	token.LinkUnsubscribe: event.LinkUnsubscribe,
	token.AmpOpen:         event.AmpOpen,
	token.AmpInitialOpen:  event.AmpInitialOpen,
	token.AmpClick:        event.AmpClick,
}

// engaged makes the event of a GET durable, with what is known of who sent it.
// HEAD requests are never counted. The recipient is served even where the event
// cannot be written.
func (h *Handler) engaged(r *http.Request, hit hit) {
	f := h.c.State.history.note(r, hit)
	if r.Method != http.MethodGet {
		return
	}

	f.agent = h.c.State.agents.Read(r.UserAgent())
	f.header = r.Header
	f.since = hit.at.Sub(hit.token.Issued())

	class := classify(f)
	h.c.State.history.opened(hit, f, class)

	// What a message's filter keeps from being reported are opens and clicks;
	// somebody who unsubscribes has to be heard in any case.
	if hit.token.Unreported && hit.token.Kind != token.LinkUnsubscribe {
		return
	}

	key := keyOf(r, hit)
	_ = h.once(r, key, hit, func() error {
		h.classes.WithLabelValues(className(class), class.Reason).Inc()
		return h.writeEngagement(r, key, hit, h.engagement(r, hit, f.agent, class))
	})
}

// How long an event's record is waited for. A click is served then, and an
// unsubscribe request asked to come again.
const (
	clickWaits       = 5 * time.Second
	unsubscribeWaits = 20 * time.Second // within the server's WriteTimeout
)

// maxWriting bounds the events that are being written at once, those included
// that nobody waits for any more.
const maxWriting = 4096

var errSlow = errors.New("web: the event is not written in time")

// listUnsubscribed makes the event of an unsubscribe request durable.
func (h *Handler) listUnsubscribed(r *http.Request, hit hit) error {
	return h.once(r, keyOf(r, hit), hit, func() error {
		err := h.write(r, h.event(hit, event.ListUnsubscribe), unsubscribeWaits, func(error) {})
		if err != nil {
			h.c.State.say.refused.log(hit.at, func() {
				h.c.Log.Error("web: unsubscribe request refused, the event cannot be written", "err", err)
			})
		}

		return err
	})
}

// once calls write unless the same request came within the last second.
func (h *Handler) once(r *http.Request, key requestKey, hit hit, write func() error) error {
	repeated, err := h.c.State.repeats.once(r.Context(), key, hit.at, write)
	if repeated {
		h.repeated.Inc()
	}

	return err
}

// writeEngagement writes an event whose recipient is served in any case. That
// of an unsubscribe link is tried again later.
func (h *Handler) writeEngagement(r *http.Request, key requestKey, hit hit, e *event.Event) error {
	return h.write(r, e, clickWaits, func(err error) {
		if hit.token.Kind == token.LinkUnsubscribe && h.c.State.later.add(key, e, h.c.Events) {
			return
		}

		h.c.State.lost.Inc()
		h.c.State.say.lost.log(hit.at, func() {
			h.c.Log.Error("web: events lost, they cannot be written",
				"err", err, "message_id", e.MessageID, "type", e.Type)
		})
	})
}

// write makes an event durable; the client may hang up meanwhile, for the event
// happened all the same. Where it takes longer than within, write returns
// errSlow and the writing goes on. Should the event not be written, then or
// now, failed is called once.
func (h *Handler) write(r *http.Request, e *event.Event, within time.Duration, failed func(error)) error {
	t := time.NewTimer(within)
	defer t.Stop()

	select {
	case h.c.State.writing <- struct{}{}:
	case <-t.C:
		failed(errSlow)
		return errSlow
	}

	ctx := context.WithoutCancel(r.Context())
	done := make(chan error, 1)
	go func() {
		err := h.recorded(ctx, e)
		<-h.c.State.writing
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

// recorded is the Recorder's outcome, a panic being one, as it is to net/http.
func (h *Handler) recorded(ctx context.Context, e *event.Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("web: record: panic: %v\n%s", p, debug.Stack())
		}
	}()

	return h.c.Events.Record(ctx, e)
}

// event is what the token alone tells.
func (h *Handler) event(hit hit, t event.Type) *event.Event {
	return &event.Event{
		Type:         t,
		ID:           h.c.IDs.Next(),
		MessageID:    hit.token.MessageID.String(),
		Timestamp:    event.Timestamp{Time: hit.at},
		DelvMethod:   "esmtp",
		RcptTo:       hit.token.Recipient,
		SubaccountID: hit.token.Subaccount,
	}
}

// engagement is the event of an open, a click or a tracked unsubscribe link.
func (h *Handler) engagement(r *http.Request, hit hit, a agent.Agent, class event.Class) *event.Event {
	t := hit.token
	e := h.event(hit, eventTypes[t.Kind])
	e.UserAgent = event.Clip(strings.ToValidUTF8(r.UserAgent(), "?"), 1024)
	e.TargetLinkURL = t.Target
	e.Class = class

	if t.Kind != token.LinkUnsubscribe { // that type has nothing of the client's
		h.describe(e, hit.client, a)
	}
	if t.Kind == token.Click || t.Kind == token.AmpClick {
		e.TargetLinkName = cmp.Or(t.LinkName, event.DefaultLinkName)
	}

	return e
}

func className(c event.Class) string {
	if c.Kind == "" {
		return "person"
	}

	return c.Kind
}

// describe fills in what is known of the client.
func (h *Handler) describe(e *event.Event, client netip.Addr, a agent.Agent) {
	parsed := a.Program
	parsed.IsPrefetched = e.Class.Kind != ""
	e.UserAgentParsed = &parsed
	e.IsPrefetched = parsed.IsPrefetched

	e.GeoIP = h.c.Geo.lookup(client)
	if h.c.TruncateIP {
		client = truncated(client)
	}
	if client.IsValid() {
		e.IPAddress = client.String()
	}
}
