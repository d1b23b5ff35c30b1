package integration

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
)

// TestMailInBrowser opens a mail as it arrived in Chromium: both pixels load,
// the link lands where it would have, and the events come to the ingest
// endpoint as a person's.
func TestMailInBrowser(t *testing.T) {
	var landed atomic.Value
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		landed.Store(r.URL.String())
		fmt.Fprint(w, "<title>landed</title>")
	}))
	defer target.Close()
	var page atomic.Value
	mail := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, page.Load())
	}))
	defer mail.Close()
	b := startBrowser(t, strings.TrimPrefix(mail.URL, "http://"), strings.TrimPrefix(mail.URL, "http://"))
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	g.start(t)
	g.submit(t, "a@example.com", "reader@example.net", "From: a@example.com\r\nSubject: x\r\nDate: x\r\nMessage-ID: <1@x>\r\nContent-Type: text/html\r\n\r\n<html><body><a id=\"x\" href=\""+target.URL+"/landing?a=1&amp;b=%C3%A4#end\">go</a></body></html>\r\n")
	_, body, _ := strings.Cut(string(s.wait(t, 1).Data), "\r\n\r\n")
	page.Store(body)
	b.open(mail.URL)
	var pixels int
	b.eval(`[...document.images].filter(i => i.complete && i.naturalWidth === 1).length`, &pixels)
	if pixels != 2 {
		t.Errorf("%d pixels were loaded, want 2", pixels)
	}
	b.eval(`document.getElementById("x").click()`, nil)
	waitFor(t, "the landing", func() bool { return landed.Load() == "/landing?a=1&b=%C3%A4" })
	for _, typ := range []event.Type{event.Open, event.InitialOpen, event.Click} {
		e := g.events(t, typ, 1)[0]
		if e.RcptTo != "reader@example.net" || e.IPAddress != "127.0.0.1" || !strings.Contains(e.UserAgent, "HeadlessChrome") || e.UserAgentParsed == nil || e.UserAgentParsed.OSFamily != "Linux" {
			t.Errorf("%s: %+v %+v", typ, e, e.UserAgentParsed)
		}
		if typ == event.Click && e.TargetLinkURL != target.URL+"/landing?a=1&b=%C3%A4#end" {
			t.Errorf("target %s", e.TargetLinkURL)
		}
	}
	g.stop(t)
}

// TestTrackerRole runs a tracker alone, with nothing but the key file, over
// HTTPS and HTTP/2, for links that a gateway elsewhere made.
func TestTrackerRole(t *testing.T) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	g.start(t)
	g.submit(t, "a@example.com", "reader@example.net", newsletter)
	link := regexp.MustCompile(`/t/[\w-]{40,}`).FindString(string(s.wait(t, 1).Data))
	g.stop(t)

	lone := *g
	lone.dir, lone.admin, lone.tracker = t.TempDir(), freePort(t), freePort(t)
	lone.config = filepath.Join(lone.dir, "tracker.toml")
	if err := os.Link(filepath.Join(g.dir, "token.keys"), filepath.Join(lone.dir, "token.keys")); err != nil {
		t.Fatal(err)
	}
	text := readFile(t, g.config)
	upload := regexp.MustCompile(`upload_url = .*`).FindString(text)
	writeFile(t, lone.config, fmt.Sprintf("hostname = \"t.example.com\"\nstate_dir = \"state\"\n[certs]\nmode = \"self-signed\"\n[tracking]\nurl = \"https://%[1]s\"\n[tracking.web]\nlisten = [%[1]q]\ntls = true\n"+
		"[signals]\nenabled = true\napi_key = %[2]q\n%[3]s\nbatch_age = \"100ms\"\n[admin]\nlisten = %[4]q\n", lone.tracker, apiKey, upload, lone.admin))
	if out, err := try("", postern, "check", "--config", lone.config); err == nil {
		t.Errorf("a tracker's configuration is good for everything: %s", out)
	}
	run(t, "", postern, "check", "--role", "tracker", "--config", lone.config)
	lone.startAs(t, "--role", "tracker")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	res, err := client.Get("https://" + lone.tracker + link)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.ProtoMajor != 2 || res.StatusCode != http.StatusOK && res.StatusCode != http.StatusFound {
		t.Errorf("%s %s", res.Proto, res.Status)
	}
	waitFor(t, "the tracker's event", func() bool {
		for _, e := range g.ingest.Events() {
			if e.RcptTo == "reader@example.net" && (e.Type == event.Click || e.Type == event.Open || e.Type == event.InitialOpen) {
				return true
			}
		}
		return false
	})
	if conn, err := net.Dial("tcp", g.submission); err == nil {
		conn.Close()
		t.Error("a tracker listens for submissions")
	}
	lone.stop(t)
}

// TestCheckOnline asks tracking domains that lead here, nowhere, to nothing, to
// a stranger, and to a certificate that does not fit.
func TestCheckOnline(t *testing.T) {
	s := startSink(t, sink.Config{})
	stranger := httptest.NewServer(http.NotFoundHandler())
	defer stranger.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	port := func(u string) string { p, _ := url.Parse(u); return p.Port() }
	nothing := freePort(t)
	g := newGateway(t, s.addr, "")
	good := "http://track.test:" + portOf(g.tracker)
	text := strings.Replace(readFile(t, g.config), `url = "http://`+g.tracker+`"`, `url = "`+good+`"`, 1)
	for i, u := range []string{"http://nowhere.test", "http://stranger.test:" + port(stranger.URL), "http://track.test:" + portOf(nothing), "https://secure.test:" + port(secure.URL), "https://track.test:" + portOf(g.tracker)} {
		text += fmt.Sprintf("[[tracking.rule]]\nsender_or_from = \"d%d.example\"\nurl = %q\n", i, u)
	}
	writeFile(t, g.config, text)
	g.start(t)
	dns := dnsServer(t, map[string][]string{"track.test": {"127.0.0.1"}, "stranger.test": {"127.0.0.1"}, "secure.test": {"127.0.0.1"}})
	out, err := try("", postern, "check", "--config", g.config, "--online", "--dns", dns)
	if err == nil {
		t.Error("all is said to be well")
	}
	for _, want := range []string{
		good + ": ok",
		"http://nowhere.test: no address in the DNS for nowhere.test",
		"stranger.test at 127.0.0.1 answers 404 Not Found, and is not this tracker",
		"where nothing listens on port " + portOf(nothing),
		"whose certificate is for",
		"speaks no TLS, though links begin with https://",
		"5 of the tracking addresses",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no word of %q in:\n%s", want, out)
		}
	}
	g.stop(t)
	if len(g.ingest.Events()) > 0 {
		t.Error("a check made events")
	}
}

// TestLinksOpenOnTheirHostAlone has two tracking domains on one tracker, and a
// proxy's Host that is neither.
func TestLinksOpenOnTheirHostAlone(t *testing.T) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "[[tracking.rule]]\nsender_or_from = \"customer.example\"\nurl = \"https://click.customer.example\"\nformer = [\"old.customer.example\"]\n")
	g.start(t)
	g.submit(t, "a@example.com", "reader@example.net", strings.Replace(newsletter, "news@example.com", "news@customer.example", 1))
	link := regexp.MustCompile(`https://click\.customer\.example(/t/[\w-]{40,})`).FindStringSubmatch(string(s.wait(t, 1).Data))
	if link == nil {
		t.Fatalf("no link of the rule's host in:\n%s", s.wait(t, 1).Data)
	}

	for host, want := range map[string]int{
		"click.customer.example":     http.StatusOK,
		"Click.Customer.Example.:80": http.StatusOK,
		g.tracker:                    http.StatusNotFound,
		"old.customer.example":       http.StatusNotFound,
		"backend.internal":           http.StatusNotFound,
	} {
		r, err := http.NewRequest("GET", "http://"+g.tracker+link[1], nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode/100 != want/100 && (want != http.StatusOK || res.StatusCode != http.StatusFound) {
			t.Errorf("%s: got %d, want %d", host, res.StatusCode, want)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if _, metrics := g.get("/metrics"); !strings.Contains(metrics, "postern_web_unknown_host_total 1") {
		t.Error("the unknown host is not counted")
	}
	g.stop(t)
}
