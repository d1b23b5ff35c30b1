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
	"strings"
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

	requests    *prometheus.CounterVec
	durations   *prometheus.HistogramVec // by outcome
	repeated    prometheus.Counter
	classes     *prometheus.CounterVec
	unknownHost prometheus.Counter
	unreadable  prometheus.Counter
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
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_web_requests_total",
			Help: "Tracker requests by outcome.",
		}, []string{"outcome"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "postern_web_duration_seconds",
			Help:    "Time to answer a tracker request, by outcome.",
			Buckets: c.DurationBuckets,
		}, []string{"kind"}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_web_repeated_total",
			Help: "Requests that repeat another one within a second, and are not recorded again.",
		}),
		classes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_web_classes_total",
			Help: "Opens and clicks by class of client, and by the rule that decided.",
		}, []string{"class", "reason"}),
		unknownHost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_web_unknown_host_total",
			Help: "Requests for a host that is not one of several tracking hosts.",
		}),
		unreadable: newUnreadable(),
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(h.requests, h.durations, h.repeated, h.classes, h.unknownHost, h.unreadable)
		c.Metrics.MustRegister(c.State.collectors()...)
	}

	return h
}

// newUnreadable returns the counter of malformed fields from proxies.
func newUnreadable() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postern_web_forwarded_unreadable_total",
		Help: "Malformed entries of X-Forwarded-For, X-Forwarded-Host and Forwarded from trusted proxies.",
	})
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

// maxForm bounds the body of an unsubscribe request, in bytes.
const maxForm = 4096

// retryAfter is the time after which an unsubscribe request that could not be
// recorded should be repeated, in seconds.
const retryAfter = "60"

// unsubscribe answers the one-click POST of RFC 8058, which mail programs and the
// button of our page send, and returns the outcome. The status is 200 once the
// event is durable, and 503 if it cannot be written. A GET never unsubscribes,
// because link scanners send those.
func (h *Handler) unsubscribe(w http.ResponseWriter, r *http.Request, hit hit) string {
	if hit.token.Kind != token.ListUnsubscribe {
		w.Header().Set("Allow", "GET, HEAD")
		return plain(w, "method", http.StatusMethodNotAllowed)
	}
	if !isOneClick(w, r) {
		return plain(w, "bad_unsubscribe", http.StatusBadRequest)
	}

	if err := h.recordUnsubscribe(r, hit); err != nil {
		w.Header().Set("Retry-After", retryAfter)
		pages.NotYetUnsubscribed.Respond(w)

		return "unsubscribe_failed"
	}

	pages.Unsubscribed.Respond(w)

	return hit.token.Kind.String()
}

// isOneClick reports whether the body of a request is that of RFC 8058 section
// 3.2. Without a Content-Type it is read as a form. Only the body counts: a
// malformed query, which some programs append to the link, is ignored.
func isOneClick(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}

	r.URL.RawQuery = ""
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	err := r.ParseMultipartForm(maxForm)
	if err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return false
	}

	return strings.TrimSpace(r.PostForm.Get("List-Unsubscribe")) == "One-Click"
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

// NewServer returns a server with limits that are fit for the Internet. Errors of
// connections are logged at debug level, unless log is nil.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}

	return &http.Server{
		Handler:                      h,
		ReadHeaderTimeout:            10 * time.Second,
		ReadTimeout:                  15 * time.Second,
		WriteTimeout:                 30 * time.Second,
		IdleTimeout:                  time.Minute,
		MaxHeaderBytes:               16 << 10,
		DisableGeneralOptionsHandler: true, // OPTIONS * gets the same answer as other methods
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
