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
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/tracking/agent"
	"postern/tracking/event"
	"postern/tracking/rewrite"
	"postern/tracking/token"
)

// Recorder makes events durable before it returns nil.
type Recorder interface {
	Record(context.Context, ...*event.Event) error
}

// Config is what a Handler needs.
type Config struct {
	Keys           *token.Keys
	Events         Recorder
	IDs            *event.IDs
	Expiry         time.Duration  // of a link, from the message's making; 0: none
	ExpiredURL     string         // where an expired link leads; empty: 410
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed
	State          *State         // nil: a new one
	Geo            *Geo           // nil: no geo_ip
	TruncateIP     bool           // events carry the client's network alone
	ClientEvents   int            // of one client within ClientPer; 0: no limit
	ClientPer      time.Duration
	WellKnown      map[string][]byte // by path
	Log            *slog.Logger
	Metrics        prometheus.Registerer
	Now            func() time.Time
}

// Handler answers the tracked URLs.
type Handler struct {
	c        Config
	requests *prometheus.CounterVec
	unsaved  prometheus.Counter
	repeated prometheus.Counter
	limited  prometheus.Counter
	classes  *prometheus.CounterVec
}

// New makes a handler.
func New(c Config) *Handler {
	if c.State == nil {
		c.State = NewState()
	}
	h := &Handler{c: c,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_web_requests_total", Help: "Tracker requests by outcome."}, []string{"outcome"}),
		unsaved:  prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_web_events_lost_total", Help: "Events that could not be written; the recipient was served all the same."}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_web_repeated_total", Help: "Requests for a link or pixel within the same second as another, which make no event."}),
		limited:  prometheus.NewCounter(prometheus.CounterOpts{Name: "postern_web_limited_total", Help: "Requests of clients with too many events, which make none."}),
		classes:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postern_web_classes_total", Help: "Opens and clicks by who made them, and by the rule that said so."}, []string{"class", "reason"}),
	}
	if c.Metrics != nil {
		c.Metrics.MustRegister(h.requests, h.unsaved, h.repeated, h.limited, h.classes)
	}
	return h
}

// ProbeAnswer begins the answer to a token of `postern check --online`, what it
// carries follows: who says so has the token keys.
const ProbeAnswer = "postern tracker "

// pixel is a transparent GIF of one by one.
const pixel = "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Robots-Tag", "noindex")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, token.PathPrefix) {
		h.unsubscribe(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Connection", "close") // a body left unread must not become a request
		w.Header().Set("Allow", "GET, HEAD")
		h.plain(w, "method", http.StatusMethodNotAllowed)
		return
	}
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
	if h.wellKnown(w, r) {
		return
	}
	text, ok := token.FromPath(r.URL.Path)
	if !ok {
		h.plain(w, "other_path", http.StatusNotFound)
		return
	}
	t, err := h.c.Keys.Open(text)
	if err != nil {
		h.c.Log.Debug("web: bad token", "err", err, "remote", r.RemoteAddr)
		h.plain(w, "bad_token", http.StatusNotFound)
		return
	}
	switch t.Kind {
	case token.Open, token.InitialOpen, token.AmpOpen, token.AmpInitialOpen:
		h.record(r, t)
		h.requests.WithLabelValues(t.Kind.String()).Inc()
		w.Header().Set("Content-Type", "image/gif")
		w.Header().Set("Content-Length", strconv.Itoa(len(pixel)))
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodGet {
			w.Write([]byte(pixel))
		}
	case token.Click, token.AmpClick, token.LinkUnsubscribe:
		h.link(w, r, t)
	case token.Probe:
		h.requests.WithLabelValues("probe").Inc()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, ProbeAnswer+t.Recipient+"\n")
	case token.ListUnsubscribe:
		h.requests.WithLabelValues("unsubscribe_page").Inc()
		page(w, "Unsubscribe", `<p>Do you want to unsubscribe?</p><form method="post"><button name="List-Unsubscribe" value="One-Click">Unsubscribe</button></form>`)
	default:
		h.plain(w, "bad_token", http.StatusNotFound)
	}
}

// maxForm bounds the body of an unsubscribe request, in bytes.
const maxForm = 4096

// unsubscribe is the one-click POST of RFC 8058, which mail programs and the
// page's button send alike. A GET never unsubscribes: link scanners GET.
func (h *Handler) unsubscribe(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	text, _ := token.FromPath(r.URL.Path)
	t, err := h.c.Keys.Open(text)
	if err != nil {
		h.plain(w, "bad_token", http.StatusNotFound)
		return
	}
	if t.Kind != token.ListUnsubscribe {
		w.Header().Set("Allow", "GET, HEAD")
		h.plain(w, "method", http.StatusMethodNotAllowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	err = r.ParseMultipartForm(maxForm)
	if err != nil && !errors.Is(err, http.ErrNotMultipart) || r.PostForm.Get("List-Unsubscribe") != "One-Click" {
		h.plain(w, "bad_unsubscribe", http.StatusBadRequest)
		return
	}
	h.write(r, &event.Event{Type: event.ListUnsubscribe, DelvMethod: "esmtp"}, t)
	h.requests.WithLabelValues(t.Kind.String()).Inc()
	page(w, "Unsubscribed", "<p>You are unsubscribed.</p>")
}

// page writes one of our own few pages.
func page(w http.ResponseWriter, title, body string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	io.WriteString(w, `<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>`+title+
		`</title><style>body{font:1.1rem system-ui,sans-serif;max-width:30rem;margin:20vh auto;padding:0 1rem}button{font:inherit;padding:.5rem 1.5rem}</style><h1>`+title+`</h1>`+body+`</html>`)
}

func (h *Handler) link(w http.ResponseWriter, r *http.Request, t token.Token) {
	to := t.Target
	expired := h.c.Expiry > 0 && h.c.Now().Sub(t.Issued()) > h.c.Expiry
	if expired {
		if to = h.c.ExpiredURL; to == "" {
			h.plain(w, "expired", http.StatusGone)
			return
		}
	}
	location, ok := rewrite.Redirect(to)
	if !ok {
		h.plain(w, "bad_target", http.StatusNotFound)
		return
	}
	if !expired {
		h.record(r, t)
	}
	h.requests.WithLabelValues(t.Kind.String()).Inc()
	w.Header().Set("Location", location)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusFound)
}

var eventTypes = map[token.Kind]event.Type{
	token.Open: event.Open, token.InitialOpen: event.InitialOpen,
	token.Click: event.Click, token.LinkUnsubscribe: event.LinkUnsubscribe,
	token.AmpOpen: event.AmpOpen, token.AmpInitialOpen: event.AmpInitialOpen, token.AmpClick: event.AmpClick,
}

// record writes the event of a GET, with what is known of who made it; a HEAD is
// no person. The recipient is served even where the event cannot be written.
func (h *Handler) record(r *http.Request, t token.Token) {
	f := h.c.State.history.note(t, r.URL.Path, r.Method, h.c.Now())
	if r.Method != http.MethodGet {
		return
	}
	f.agent, f.header, f.since = h.c.State.agents.Read(r.UserAgent()), r.Header, h.c.Now().Sub(t.Issued())
	e := &event.Event{Type: eventTypes[t.Kind], DelvMethod: "esmtp", UserAgent: event.Clip(strings.ToValidUTF8(r.UserAgent(), "?"), 1024), TargetLinkURL: t.Target, Class: classify(f)}
	h.classes.WithLabelValues(className(e.Class), e.Class.Reason).Inc()
	if t.Kind != token.LinkUnsubscribe { // that type has nothing of the client's
		h.describe(e, r, f.agent)
	}
	if t.Kind == token.Click || t.Kind == token.AmpClick {
		if e.TargetLinkName = t.LinkName; e.TargetLinkName == "" {
			e.TargetLinkName = event.DefaultLinkName
		}
	}
	h.write(r, e, t)
}

func className(c event.Class) string {
	if c.Kind == "" {
		return "person"
	}
	return c.Kind
}

// describe fills in what is known of the client.
func (h *Handler) describe(e *event.Event, r *http.Request, a agent.Agent) {
	parsed := a.UserAgent
	parsed.IsPrefetched = e.Class.Kind != ""
	e.UserAgentParsed, e.IsPrefetched = &parsed, parsed.IsPrefetched
	client := h.client(r)
	e.GeoIP = h.c.Geo.lookup(client)
	if h.c.TruncateIP {
		client = truncated(client)
	}
	if client.IsValid() {
		e.IPAddress = client.String()
	}
}

// write makes an event durable, with what the token knows.
func (h *Handler) write(r *http.Request, e *event.Event, t token.Token) {
	if t.Unreported {
		return
	}
	if h.c.State.flood.repeated(r.URL.Path, h.c.Now()) {
		h.repeated.Inc()
		return
	}
	if h.c.State.limit.over(h.client(r), h.c.ClientEvents, h.c.ClientPer, h.c.Now()) {
		h.limited.Inc()
		return
	}
	e.ID, e.MessageID, e.Timestamp = h.c.IDs.Next(), t.MessageID.String(), event.Timestamp{Time: h.c.Now()}
	e.RcptTo, e.SubaccountID = t.Recipient, t.Subaccount
	// The client may hang up before the fsync; the event happened all the same.
	if err := h.c.Events.Record(context.WithoutCancel(r.Context()), e); err != nil {
		h.unsaved.Inc()
		h.c.Log.Error("web: event lost", "err", err, "message_id", e.MessageID, "type", e.Type)
	}
}

func (h *Handler) plain(w http.ResponseWriter, outcome string, status int) {
	h.requests.WithLabelValues(outcome).Inc()
	http.Error(w, http.StatusText(status), status)
}

// NewServer wraps a handler with the limits that face the Internet.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 15 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
