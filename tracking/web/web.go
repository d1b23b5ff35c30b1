// Package web is the HTTP side of the links: pixels and clicks, answered from
// what the token says and nothing else. It needs no state but the keys, so any
// number of trackers run behind a balancer; what it remembers of clients only
// tells persons from machines (classify.go) and bounds floods.
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

// Recorder makes events durable before it returns nil.
type Recorder interface {
	Record(context.Context, ...*event.Event) error
}

// Config is what a Handler needs.
type Config struct {
	Keys       *token.Keys
	Events     Recorder
	IDs        *event.IDs    // nil: new ones
	Expiry     time.Duration // of a link, from the message's making; 0: none
	ExpiredURL string        // where an expired link leads; empty: 410
	// Sites are the hosts that links lead to. With one site a request for an
	// unknown host is taken for it, with several it is not found. With none what
	// opens is sealed for no host.
	Sites []Site
	// TrustedProxies are those whose X-Forwarded-For, X-Forwarded-Host and
	// Forwarded are believed.
	TrustedProxies []netip.Prefix
	State          *State                // nil: a new one
	Geo            *Geo                  // nil: no geo_ip
	TruncateIP     bool                  // events carry the client's network alone
	WellKnown      map[string][]byte     // by path
	Log            *slog.Logger          // nil: none
	Metrics        prometheus.Registerer // nil: none
	Now            func() time.Time      // nil: time.Now

	DurationBuckets []float64 // of the histogram, in seconds; nil: prometheus.DefBuckets
}

// Handler answers the tracked URLs.
type Handler struct {
	c       Config
	openers openers

	requests    *prometheus.CounterVec
	durations   *prometheus.HistogramVec // by the outcomes of requests
	repeated    prometheus.Counter
	classes     *prometheus.CounterVec
	unknownHost prometheus.Counter
	unreadable  prometheus.Counter
}

// New returns a handler.
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
		c:       c,
		openers: newOpeners(c.Sites),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_web_requests_total",
			Help: "Tracker requests by outcome.",
		}, []string{"outcome"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "postern_web_duration_seconds",
			Help:    "From a tracker request to its answer, by the outcome of the request.",
			Buckets: c.DurationBuckets,
		}, []string{"kind"}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_web_repeated_total",
			Help: "Requests that are the same as another within a second, and make no event of their own.",
		}),
		classes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_web_classes_total",
			Help: "Opens and clicks by who made them, and by the rule that said so.",
		}, []string{"class", "reason"}),
		unknownHost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_web_unknown_host_total",
			Help: "Requests for a host that is not a tracking host, where there are several.",
		}),
		unreadable: newUnreadable(),
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(h.requests, h.durations, h.repeated, h.classes, h.unknownHost, h.unreadable)
		c.Metrics.MustRegister(c.State.collectors()...)
	}

	return h
}

func newUnreadable() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: "postern_web_forwarded_unreadable_total",
		Help: "Entries of X-Forwarded-For, X-Forwarded-Host and Forwarded from trusted proxies that could not be read.",
	})
}

// probeAnswer begins the answer to a token of `postern check --online`; the host
// that the tracker was asked for follows. Only who has the token keys can tell
// the nonce.
func probeAnswer(nonce string) string { return "postern tracker " + nonce + "\nhost " }

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := h.c.Now()
	outcome := h.answer(w, r)

	h.requests.WithLabelValues(outcome).Inc()
	h.durations.WithLabelValues(outcome).Observe(h.c.Now().Sub(begin).Seconds())
}

// answer answers a request and returns its outcome, one of few.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request) string {
	pages.SetPrivate(w.Header())

	text, isLink := token.FromPath(r.URL.Path)
	shows := r.Method == http.MethodGet || r.Method == http.MethodHead
	unsubscribes := r.Method == http.MethodPost && isLink
	if !shows || r.ContentLength != 0 { // a body left unread must not become a request
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
		h.c.Log.Debug("web: bad token", "err", err, "host", r.Host, "remote", r.RemoteAddr)
		h.sayUnknownKey(r, err)
		return plain(w, badToken(known), http.StatusNotFound)
	}

	if unsubscribes {
		return h.unsubscribe(w, r, h.hit(r, text, t))
	}

	return h.show(w, r, h.hit(r, text, t))
}

// sayUnknownKey logs that a link's key is unknown, seldom: strangers make links
// up, but a key file that is older than the gateway's breaks those of customers.
func (h *Handler) sayUnknownKey(r *http.Request, err error) {
	if !errors.Is(err, token.ErrUnknownKey) {
		return
	}

	h.c.State.say.unknownKey.log(h.c.Now(), func() {
		h.c.Log.Warn("web: a link names a key that tracking.key_file does not hold; is the gateway's file newer?",
			"err", err, "remote", r.RemoteAddr)
	})
}

// badToken is the outcome of a request whose token does not open.
func badToken(knownHost bool) string {
	if knownHost {
		return "bad_token"
	}

	return "unknown_host"
}

// show answers GET and HEAD of what a token is for, and returns the outcome.
func (h *Handler) show(w http.ResponseWriter, r *http.Request, hit hit) string {
	kind := hit.token.Kind

	switch kind {
	case token.Open, token.InitialOpen, token.AmpOpen, token.AmpInitialOpen:
		h.engaged(r, hit)
		pages.WritePixel(w, r)

		return kind.String()
	case token.Click, token.AmpClick, token.LinkUnsubscribe:
		return h.link(w, r, hit)
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

// retryAfter is what a program is told to wait that asks to unsubscribe while
// nothing can be written, in seconds.
const retryAfter = "60"

// unsubscribe is the one-click POST of RFC 8058, which mail programs and the
// page's button send alike. A GET never unsubscribes: link scanners GET. It is
// answered 200 once the event is durable, and else 503. unsubscribe returns the
// outcome.
func (h *Handler) unsubscribe(w http.ResponseWriter, r *http.Request, hit hit) string {
	if hit.token.Kind != token.ListUnsubscribe {
		w.Header().Set("Allow", "GET, HEAD")
		return plain(w, "method", http.StatusMethodNotAllowed)
	}
	if !isOneClick(w, r) {
		return plain(w, "bad_unsubscribe", http.StatusBadRequest)
	}

	if err := h.listUnsubscribed(r, hit); err != nil {
		w.Header().Set("Retry-After", retryAfter)
		pages.NotYetUnsubscribed.Respond(w)

		return "unsubscribe_failed"
	}
	pages.Unsubscribed.Respond(w)

	return hit.token.Kind.String()
}

// isOneClick reports whether the body is that of RFC 8058 section 3.2. One
// without a Content-Type is read as a form. Only the body counts: errors in what
// stands beside it, such as a query that a program has put behind the link, are
// passed over.
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

// link leads to the target of a link, and returns the outcome.
func (h *Handler) link(w http.ResponseWriter, r *http.Request, hit hit) string {
	t := hit.token
	expired := h.c.Expiry > 0 && h.c.Now().Sub(t.Issued()) > h.c.Expiry
	to := t.Target
	if expired {
		to = h.c.ExpiredURL
	}
	if expired && to == "" {
		return plain(w, "expired", http.StatusGone)
	}

	location, ok := rewrite.Redirect(to)
	if !ok {
		return plain(w, "bad_target", http.StatusNotFound)
	}
	if !expired {
		h.engaged(r, hit)
	}

	w.Header().Set("Location", location)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusFound)

	return t.Kind.String()
}

// plain answers with a status alone, and returns the outcome.
func plain(w http.ResponseWriter, outcome string, status int) string {
	http.Error(w, http.StatusText(status), status)
	return outcome
}

// NewServer wraps a handler with the limits that face the Internet. What the
// library says goes into log, if it is not nil.
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
		DisableGeneralOptionsHandler: true, // OPTIONS * is answered as any other method
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
