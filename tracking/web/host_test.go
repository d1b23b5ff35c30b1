package web

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"postern/tracking/token"
)

// TestTokenOpensOnItsTrackingHostAlone has two customers' tracking hosts, one of
// which had another name before.
func TestTokenOpensOnItsTrackingHostAlone(t *testing.T) {
	base, m, keys := setup(t)
	two := []Site{{Host: "click.bank.example", Former: []string{"old.bank.example"}}, {Host: "click.shop.example", Former: []string{"old.shop.example"}}}
	one := two[:1]
	three := []Site{{Host: "click.bank.example", Former: []string{"old.bank.example", "older.bank.example"}}, two[1]}
	for _, c := range []struct {
		name   string
		sites  []Site
		sealed string
		host   string
		status int
	}{
		{"its own", two, "click.bank.example", "click.bank.example", 302},
		{"its own, in capitals, with a port and a dot", two, "click.bank.example", "CLICK.Bank.example.:8080", 302},
		{"another customer's", two, "click.shop.example", "click.bank.example", 404},
		{"a former one on itself", two, "old.bank.example", "old.bank.example", 302},
		{"a former one on the present one", two, "old.bank.example", "click.bank.example", 302},
		{"a former one on another customer's", two, "old.bank.example", "click.shop.example", 404},
		{"a former one on another customer's former one", two, "old.bank.example", "old.shop.example", 404},
		{"the present one on its own former one", two, "click.bank.example", "old.bank.example", 404},
		{"a former one on another former one of the same", three, "old.bank.example", "older.bank.example", 404},
		{"the present one on another customer's former one", two, "click.bank.example", "old.shop.example", 404},
		{"an unknown one of several", two, "click.bank.example", "other.example", 404},
		{"an address, of several", two, "click.bank.example", "192.0.2.1", 404},
		{"no host, of several", two, "click.bank.example", "", 404},
		{"sealed for an unknown one", two, "other.example", "other.example", 404},
		{"sealed for a mail", two, token.Mail, "click.bank.example", 404},
		{"sealed for no host", two, "", "click.bank.example", 404},
		{"an unknown one where there is one", one, "click.bank.example", "10.0.0.7:8080", 302},
		{"no host, where there is one", one, "click.bank.example", "", 302},
		{"a former one, under an unknown one where there is one", one, "old.bank.example", "10.0.0.7", 302},
		{"the present one on its former one where there is one", one, "click.bank.example", "old.bank.example", 302},
		{"a stranger's where there is one", one, "click.shop.example", "click.shop.example", 404},
		{"sealed for a mail, where there is one", one, token.Mail, "mail", 404},
		{"sealed for no host, where there is one", one, "", "click.bank.example", 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.events = nil
			conf := base.cfg
			conf.Sites, conf.State = c.sites, NewState()
			h := New(conf)
			r := httptest.NewRequest("GET", path(keys, token.Token{Kind: token.Click, Host: c.sealed, Target: "https://x.example/"}), nil)
			r.Host = c.host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.status || (w.Header().Get("Location") != "") != (c.status == 302) {
				t.Errorf("got %d to %q, want %d", w.Code, w.Header().Get("Location"), c.status)
			}
			if got := len(m.all()); (got == 1) != (c.status == 302) {
				t.Errorf("%d events", got)
			}
		})
	}
}

func TestOneClickOnAnotherHostUnsubscribesNobody(t *testing.T) {
	base, m, keys := setup(t)
	conf := base.cfg
	conf.Sites = []Site{{Host: "a.example"}, {Host: "b.example"}}
	h := New(conf)
	for host, status := range map[string]int{"b.example": 404, "x.example": 404, "a.example": 200} {
		m.events = nil
		r := httptest.NewRequest("POST", path(keys, token.Token{Kind: token.ListUnsubscribe, Host: "a.example"}), strings.NewReader("List-Unsubscribe=One-Click"))
		r.Host = host
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != status || (len(m.all()) == 1) != (status == 200) {
			t.Errorf("%s: got %d and %d events, want %d", host, w.Code, len(m.all()), status)
		}
	}
}

// TestUnknownHostIsCountedAndSaid, and said at most once a minute.
func TestUnknownHostIsCountedAndSaid(t *testing.T) {
	base, _, keys := setup(t)
	var log bytes.Buffer
	now := time.Now()
	conf := base.cfg
	conf.Sites = []Site{{Host: "a.example"}, {Host: "b.example"}}
	conf.Log = slog.New(slog.NewTextHandler(&log, nil))
	conf.Now = func() time.Time { return now }
	h := New(conf)
	ask := func(path string) {
		r := httptest.NewRequest("GET", path, nil)
		r.Host = "backend.internal:8080"
		h.ServeHTTP(httptest.NewRecorder(), r)
	}

	ask("/") // from anywhere
	if log.Len() != 0 {
		t.Errorf("a request that is not for a link is logged: %s", &log)
	}
	link := path(keys, token.Token{Kind: token.Click, Host: "a.example", Target: "https://x.example/"})
	for range 5 {
		ask(link)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "does a proxy change Host?") || !strings.Contains(got, "backend.internal") {
		t.Errorf("logged %q, want one line with the question and the host", got)
	}
	now = now.Add(logEvery)
	ask(link)
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("%d lines a minute later, want 2", got)
	}
	if got := value(t, h.unknownHost); got != 7 {
		t.Errorf("%v counted, want 7", got)
	}
}

// TestUnknownHostIsClippedInTheLog: a stranger writes no long lines.
func TestUnknownHostIsClippedInTheLog(t *testing.T) {
	base, _, keys := setup(t)
	conf := base.cfg
	conf.Sites = []Site{{Host: "a.example"}, {Host: "b.example"}}
	h := New(conf)
	log := logged(h)
	r := httptest.NewRequest("GET", path(keys, token.Token{Kind: token.Click, Host: "a.example"}), nil)
	r.Host = strings.Repeat("x.", 150) + "example"
	h.ServeHTTP(httptest.NewRecorder(), r)
	if got := log.String(); !strings.Contains(got, " host="+strings.Repeat("x.", 127)+"x ") {
		t.Errorf("logged %q, want 255 bytes of the host", got)
	}
}

// TestHostOfRequest: what names the host, and who is believed.
func TestHostOfRequest(t *testing.T) {
	h, _, _ := setup(t)
	const proxy, stranger = "10.0.0.1:5", "192.0.2.1:5"
	for _, c := range []struct {
		name, remote, host string
		header             http.Header
		want               string
		unreadable         float64
	}{
		{"Host", stranger, "T.Example:80", nil, "t.example", 0},
		{"a stranger's X-Forwarded-Host", stranger, "t.example", http.Header{"X-Forwarded-Host": {"evil.example"}}, "t.example", 0},
		{"X-Forwarded-Host", proxy, "backend:8080", http.Header{"X-Forwarded-Host": {"T.example:443"}}, "t.example", 0},
		{"the last of a list", proxy, "backend", http.Header{"X-Forwarded-Host": {"evil.example, t.example"}}, "t.example", 0},
		{"the last of several lines", proxy, "backend", http.Header{"X-Forwarded-Host": {"evil.example", "a.example , t.example ,"}}, "t.example", 0},
		{"Forwarded", proxy, "backend", http.Header{"Forwarded": {`for=192.0.2.43;host="t.example:443";proto=https`}}, "t.example", 0},
		{"the last of Forwarded", proxy, "backend", http.Header{"Forwarded": {"host=evil.example;for=1.2.3.4, Host=t.example", "for=192.0.2.1"}}, "t.example", 0},
		{"X-Forwarded-Host before Forwarded", proxy, "backend", http.Header{"X-Forwarded-Host": {"t.example"}, "Forwarded": {"host=a.example"}}, "t.example", 0},
		{"neither", proxy, "t.example", nil, "t.example", 0},
		{"empty ones", proxy, "t.example", http.Header{"X-Forwarded-Host": {"", " , "}}, "t.example", 0},
		{"one that is not a host", proxy, "t.example", http.Header{"X-Forwarded-Host": {"a b"}}, "t.example", 1},
		{"Forwarded that is none", proxy, "t.example", http.Header{"Forwarded": {`host="a.example`}}, "t.example", 1},
		{"IPv6", proxy, "backend", http.Header{"X-Forwarded-Host": {"[2001:DB8::1]:443"}}, "2001:db8::1", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := value(t, h.unreadable)
			r := &http.Request{RemoteAddr: c.remote, Host: c.host, Header: c.header}
			if got := h.host(r); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if got := value(t, h.unreadable) - before; got != c.unreadable {
				t.Errorf("%v counted as unreadable, want %v", got, c.unreadable)
			}
		})
	}
}

func TestSites(t *testing.T) {
	got := Sites(
		Site{Host: "A.example:8080", Former: []string{"old.example", "a.example"}},
		Site{Host: "b.example", Former: []string{"claimed.example", "a.example"}},
		Site{Host: "a.example.", Former: []string{"Old.example", "claimed.example", "older.example"}},
		Site{Host: ""},
	)
	want := []Site{{Host: "a.example", Former: []string{"old.example", "older.example"}}, {Host: "b.example", Former: []string{}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestProbe asks a tracker as `check --online` does, behind proxies of all kinds.
func TestProbe(t *testing.T) {
	base, m, keys := setup(t)
	_, _, others := setup(t)
	proxied := netip.MustParsePrefix("127.0.0.0/8")
	for _, c := range []struct {
		name     string
		sites    []string
		keys     *token.Keys
		director func(*http.Request)
		want     string // in the error; empty: none
		opens    bool
	}{
		{"directly", []string{"localhost", "b.example"}, keys, nil, "", true},
		{"a proxy that changes Host, one tracking host", []string{"localhost"}, keys,
			func(r *http.Request) { r.Host = "backend" }, `the host does not arrive as configured: it is "backend"`, true},
		{"a proxy that changes Host, several tracking hosts", []string{"localhost", "b.example"}, keys,
			func(r *http.Request) { r.Host = "backend" }, `the host does not arrive as configured: it is "backend" there, and links get 404`, false},
		{"a proxy that says which Host it was", []string{"localhost", "b.example"}, keys,
			func(r *http.Request) { r.Header.Set("X-Forwarded-Host", r.Host); r.Host = "backend" }, "", true},
		{"a proxy that names another customer's host", []string{"localhost", "b.example"}, keys,
			func(r *http.Request) { r.Host = "b.example" }, `it is "b.example" there, and links get 404`, false},
		{"a tracker that does not know the host", []string{"a.example", "b.example"}, keys, nil, "does not name this host", false},
		{"a tracker with one other host", []string{"a.example"}, keys, nil, "does not name this host", false},
		{"other keys", []string{"localhost"}, others, nil, "answers 404: it is not a tracker, or has other token keys", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := base.cfg
			conf.Keys, conf.TrustedProxies = c.keys, []netip.Prefix{proxied}
			for _, host := range c.sites {
				conf.Sites = append(conf.Sites, Site{Host: host})
			}
			tracker := httptest.NewServer(New(conf))
			defer tracker.Close()
			asked := tracker
			if c.director != nil {
				to, _ := url.Parse(tracker.URL)
				transport := &http.Transport{DisableKeepAlives: true}
				asked = httptest.NewServer(&httputil.ReverseProxy{
					Rewrite: func(p *httputil.ProxyRequest) {
						p.Out.URL.Scheme = to.Scheme
						p.Out.URL.Host = to.Host
						p.Out.Host = p.In.Host
						p.Out.Header.Set("X-Forwarded-For", "127.0.0.1")
						c.director(p.Out)
					},
					Transport: transport,
				})
				defer asked.Close()
			}

			p := &Prober{Keys: keys}
			err := p.Probe(t.Context(), strings.Replace(asked.URL, "127.0.0.1", "localhost", 1))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			var host *HostError
			if errors.As(err, &host) && host.Opens != c.opens {
				t.Errorf("links open: %v, want %v", host.Opens, c.opens)
			}
		})
	}
	if got := m.all(); len(got) != 0 {
		t.Errorf("a probe makes events: %v", got)
	}
}

// TestUnknownKeyIsSaid, at most once a minute: the key file is likely older than
// that of the gateway.
func TestUnknownKeyIsSaid(t *testing.T) {
	base, _, keys := setup(t)
	var log bytes.Buffer
	now := time.Now()
	conf := base.cfg
	conf.Log = slog.New(slog.NewTextHandler(&log, nil))
	conf.Now = func() time.Time { return now }
	h := New(conf)
	ask := func(path string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code
	}

	link := path(keys, token.Token{Kind: token.Click, Target: "https://x.example/"})
	ask(link + "A") // of a key that is known
	if log.Len() != 0 {
		t.Errorf("a token of a known key is logged: %s", &log)
	}

	newer := strings.Replace(link, "/t/A", "/t/-", 1) // the first byte is the key's number
	for range 3 {
		if got := ask(newer); got != 404 {
			t.Errorf("status %d, want 404", got)
		}
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "is the tracking.key_file of the gateway newer") {
		t.Errorf("logged %q, want one line with the question", got)
	}

	now = now.Add(logEvery)
	ask(newer)
	if got := strings.Count(log.String(), "\n"); got != 2 {
		t.Errorf("%d lines a minute later, want 2", got)
	}
}
