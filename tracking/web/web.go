// Package web serves the tracked links, pixels and unsubscribe requests over HTTP.
//
// Everything that a request needs is in its token, so that trackers share no
// state but the token keys and any number of them can run behind a load balancer.
// A tracker remembers recent requests, in bounded memory, in order to tell people
// from machines and to merge repeated requests.
//
// An event is recorded before its request is answered. Opens and clicks are
// answered even if the event cannot be written; unsubscribe requests (RFC 8058)
// are answered with 503 in that case. HEAD requests are never counted.
//
// A Handler is safe for concurrent use.
package web

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/event"
	"postern/tracking/rewrite"
	"postern/tracking/token"
	"postern/tracking/web/pages"
)

// Recorder records events. Once Record has returned nil, they are durable.
type Recorder interface {
	Record(context.Context, ...*event.Event) error
}

// Config is the configuration of a Handler. Keys and Events are required.
type Config struct {
	Keys   *token.Keys
	Events Recorder
	IDs    *event.IDs // source of event ids; nil: a new one

	// Sites are the tracking hosts. A request for an unknown host is treated as
	// one for the only site; if there are several, it is not found. Without
	// sites, only tokens that are sealed for no host open.
	Sites []Site

	Expiry     time.Duration     // age of a message at which its links expire; 0: never
	ExpiredURL string            // where expired links redirect to; empty: they get 410
	WellKnown  map[string][]byte // JSON files, by path

	// TrustedProxies are the networks of proxies whose X-Forwarded-For,
	// X-Forwarded-Host and Forwarded fields are used.
	TrustedProxies []netip.Prefix

	Geo        *Geo   // nil: events have no geo_ip
	TruncateIP bool   // record the network of a client instead of its address
	State      *State // nil: a new one

	Log             *slog.Logger          // nil: no log
	Metrics         prometheus.Registerer // nil: no metrics
	DurationBuckets []float64             // of the histogram, in seconds; nil: prometheus.DefBuckets
	Now             func() time.Time      // nil: time.Now
}

// Handler is an http.Handler for the tracked URLs.
type Handler struct {
	cfg     Config
	openers openers
	metrics
}

// New returns a Handler.
func New(c Config) *Handler {
	if c.State == nil {
		c.State = NewState()
	}
	if c.IDs == nil {
		c.IDs = event.NewIDs()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}

	h := &Handler{
		cfg:     c,
		openers: newOpeners(c.Sites),
		metrics: newMetrics(c.DurationBuckets),
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(h.collectors()...)
		c.Metrics.MustRegister(c.State.collectors()...)
	}

	return h
}

// probeAnswer returns the start of the answer to a probe; the host that the
// tracker was asked for follows. The nonce is in the token, and proves that the
// tracker has the token keys.
func probeAnswer(nonce string) string { return "postern tracker " + nonce + "\nhost " }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := h.cfg.Now()
	outcome := h.answer(w, r)

	h.requests.WithLabelValues(outcome).Inc()
	h.durations.WithLabelValues(outcome).Observe(h.cfg.Now().Sub(begin).Seconds())
}

// answer answers a request and returns its outcome, which is a label value of the
// metrics.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request) string {
	pages.SetPrivate(w.Header())

	text, isLink := token.FromPath(r.URL.Path)
	shows := r.Method == http.MethodGet || r.Method == http.MethodHead
	unsubscribes := r.Method == http.MethodPost && isLink
	if !shows || r.ContentLength != 0 { // an unread body must not be read as the next request
		w.Header().Set("Connection", "close")
	}
	if !shows && !unsubscribes {
		w.Header().Set("Allow", "GET, HEAD")
		return plain(w, "method", http.StatusMethodNotAllowed)
	}

	hosts, known := h.hosts(r)
	if known && h.wellKnown(w, r) {
		return "well_known"
	}
	if !isLink {
		return plain(w, "other_path", http.StatusNotFound)
	}

	t, err := h.open(text, hosts, known)
	if err != nil {
		h.cfg.Log.Debug("web: bad token", "err", err, "host", r.Host, "remote", r.RemoteAddr)
		h.logUnknownKey(r, err)
		return plain(w, badToken(known), http.StatusNotFound)
	}

	if unsubscribes {
		return h.unsubscribe(w, r, h.hit(r, text, t))
	}

	return h.show(w, r, h.hit(r, text, t))
}

// logUnknownKey logs tokens with an unknown key, at a limited rate. Anybody can
// make up such a token, but they also mean that the key file of the tracker is
// older than that of the gateway.
func (h *Handler) logUnknownKey(r *http.Request, err error) {
	if !errors.Is(err, token.ErrUnknownKey) {
		return
	}

	h.cfg.State.limits.unknownKey.log(h.cfg.Now(), func() {
		h.cfg.Log.Warn("web: unknown token key; is the tracking.key_file of the gateway newer than the one here?",
			"err", err, "remote", r.RemoteAddr)
	})
}

// badToken returns the outcome of a request whose token does not open.
func badToken(knownHost bool) string {
	if knownHost {
		return "bad_token"
	}

	return "unknown_host"
}

// show answers a GET or HEAD request for a token, and returns the outcome.
func (h *Handler) show(w http.ResponseWriter, r *http.Request, hit hit) string {
	kind := hit.token.Kind
	switch kind {
	case token.Open, token.InitialOpen, token.AmpOpen, token.AmpInitialOpen:
		h.recordEngagement(r, hit)
		pages.WritePixel(w, r)

		return kind.String()
	case token.Click, token.AmpClick, token.LinkUnsubscribe:
		return h.redirect(w, r, hit)
	case token.Probe:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, probeAnswer(hit.token.Recipient)+h.host(r)+"\n")

		return "probe"
	case token.ListUnsubscribe:
		pages.Unsubscribe.Respond(w)

		return "unsubscribe_page"
	default:
		return plain(w, "bad_token", http.StatusNotFound)
	}
}

// redirect redirects a link to its target, or to the page for expired links, and
// returns the outcome.
func (h *Handler) redirect(w http.ResponseWriter, r *http.Request, hit hit) string {
	t := hit.token
	expired := h.cfg.Expiry > 0 && h.cfg.Now().Sub(t.Issued()) > h.cfg.Expiry
	to := t.Target
	if expired {
		to = h.cfg.ExpiredURL
	}
	if expired && to == "" {
		return plain(w, "expired", http.StatusGone)
	}

	location, ok := rewrite.Redirect(to)
	if !ok {
		return plain(w, "bad_target", http.StatusNotFound)
	}
	if !expired {
		h.recordEngagement(r, hit)
	}

	w.Header().Set("Location", location)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusFound)

	return t.Kind.String()
}

// plain answers with a status and its text, and returns the outcome.
func plain(w http.ResponseWriter, outcome string, status int) string {
	http.Error(w, http.StatusText(status), status)
	return outcome
}
