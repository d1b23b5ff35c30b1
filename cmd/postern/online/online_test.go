package online

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"postern/cmd/postern/config"
	"postern/cmd/postern/demo/sink"
)

// TestOnlineUpstreams says what each offers, and whether the login works.
func TestOnlineUpstreams(t *testing.T) {
	for _, c := range []struct {
		name   string
		sink   sink.Config
		relay  string
		want   string
		failed int
	}{
		{"no login", sink.Config{}, "", "  ok      upstream ADDR takes mail: plain text, no login\n", 0},
		{"a login", sink.Config{Password: "u:p"}, "username = \"u\"\npassword = \"p\"\n", "  ok      upstream ADDR takes mail: plain text, logged in as u\n", 0},
		{"a login that is refused", sink.Config{Password: "u:q"}, "username = \"u\"\npassword = \"p\"\n", "  failed  upstream ADDR: ", 1},
		{"few extensions", sink.Config{Extensions: []string{"8bitmime"}}, "", "  ok      upstream ADDR takes mail: plain text, no login\n" +
			"  note    upstream ADDR does not offer PIPELINING\n  note    upstream ADDR does not offer DSN\n", 0},
		{"other extensions", sink.Config{Extensions: []string{"PIPELINING", "DSN"}}, "", "  ok      upstream ADDR takes mail: plain text, no login\n" +
			"  note    upstream ADDR does not offer 8BITMIME\n", 0},
		{"TLS that is required and not there", sink.Config{}, "tls = \"required\"\n", "  failed  upstream ADDR: ", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := startSink(t, c.sink)
			file := writeConfig(t, "", "")
			replaceIn(t, file, "127.0.0.1:1\"", addr+"\"")
			replaceIn(t, file, "[relay]\n", "[relay]\n"+c.relay)
			var out strings.Builder
			o := &online{ctx: t.Context(), out: &out, l: loadConfig(t, file)}

			o.upstreams()

			want := strings.ReplaceAll(c.want, "ADDR", addr)
			if got := out.String(); o.failed != c.failed || c.failed == 0 && got != want || !strings.HasPrefix(got, want) {
				t.Errorf("got %d failed,\n%s\nwant %d,\n%s", o.failed, got, c.failed, want)
			}
		})
	}

	l := loadConfig(t, writeConfig(t, "", ""))
	l.Relay.CAFile = "/nowhere"
	var out strings.Builder
	o := &online{ctx: t.Context(), out: &out, l: l}
	if o.upstreams(); o.failed != 1 || !strings.HasPrefix(out.String(), "  failed  upstreams: ") {
		t.Errorf("a CA that is missing: got %d, %q", o.failed, out.String())
	}
}

// TestOnlineAsksEveryUpstreamAndKey: one that fails does not hide the next.
func TestOnlineAsksEveryUpstreamAndKey(t *testing.T) {
	l := loadConfig(t, writeConfig(t, "", ""))
	good := startSink(t, sink.Config{})
	l.Relay.Upstream = []config.Addr{"127.0.0.1:1", config.Addr(good)}
	key := signingKey(t, t.TempDir())
	l.DKIM.Keys = []config.DKIMKey{{Domain: "a.example", Selector: "s", KeyFile: "/nowhere"}, {Domain: "example.com", Selector: "s", KeyFile: key}}
	record, err := recordOf(key)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	o := &online{ctx: t.Context(), out: &out, l: l, dns: TXTResolver(startDNS(t, map[string][]string{"s._domainkey.example.com": {record}}))}

	o.upstreams()
	o.keys()

	got := out.String()
	for _, want := range []string{"  failed  upstream 127.0.0.1:1: ", "  ok      upstream " + good, "  failed  DKIM: ", "  ok      DKIM: s._domainkey.example.com"} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant %q in it", got, want)
		}
	}
	if o.failed != 2 {
		t.Errorf("got %d failed, want 2", o.failed)
	}
}

func TestHostsOfMX(t *testing.T) {
	if got := mxHosts([]*net.MX{{Host: "a.example."}, {Host: "b.example"}}); got != "a.example, b.example" {
		t.Errorf("got %q", got)
	}
}

func TestDomainsOfTheReturnPath(t *testing.T) {
	users := []config.User{{FromDomains: []string{"a.example", "*.a.example", "*"}}, {FromDomains: []string{"b.example", "a.example"}}, {}}
	for _, c := range []struct {
		name    string
		verp    string
		rewrite []config.Rewrite
		want    []string
	}{
		{"VERP", "v.example", []config.Rewrite{{To: "*@r.example"}}, []string{"v.example"}},
		{"rewriting", "", []config.Rewrite{{To: "*@r.example"}, {To: "x@q.example"}, {To: "*@r.example"}, {To: "nothing"}}, []string{"r.example", "q.example"}},
		{"users", "", nil, []string{"a.example", "b.example"}},
	} {
		l := &config.Loaded{Config: config.Default(), Users: users}
		l.Relay.VERPDomain = c.verp
		l.Relay.Rewrite = c.rewrite
		if got := returnPathDomains(l); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestOnlineIngest tells a key that is refused from a service that is away.
func TestOnlineIngest(t *testing.T) {
	for _, c := range []struct {
		status int
		want   string
		failed int
	}{
		{http.StatusOK, "  ok      ingest: URL takes the API key\n", 0},
		{http.StatusUnauthorized, "  failed  ingest: URL refuses the API key (HTTP 401)\n", 1},
		{http.StatusForbidden, "  failed  ingest: URL refuses the API key (HTTP 403)\n", 1},
		{http.StatusBadRequest, "  note    ingest: URL answers HTTP 400 to a question about batches; whether it takes the key is not known\n", 0},
		{http.StatusNotFound, "  note    ingest: URL answers HTTP 404 to a question about batches; whether it takes the key is not known\n", 0},
		{http.StatusUnprocessableEntity, "  note    ingest: URL answers HTTP 422 to a question about batches; whether it takes the key is not known\n", 0},
		{http.StatusInternalServerError, "  failed  ingest: URL answers HTTP 500\n", 1},
		{0, "  failed  ingest: URL does not answer: ", 1},
	} {
		t.Run(fmt.Sprint(c.status), func(t *testing.T) {
			asked := ""
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = r.Header.Get("Authorization") + " " + r.URL.String()
				w.WriteHeader(c.status)
				fmt.Fprint(w, `{"results":[]}`)
			}))
			defer s.Close()
			if c.status == 0 {
				s.Close()
			}
			l := loadConfig(t, writeConfig(t, "", ""))
			l.Signals.Enabled = true
			l.Signals.APIKey = "0123456789abcdef0123456789abcdef01234567"
			l.Signals.UploadURL = config.URL(s.URL)
			var out strings.Builder
			o := &online{ctx: t.Context(), out: &out, l: l}

			o.ingestKey()

			want := strings.ReplaceAll(c.want, "URL", s.URL)
			if got := out.String(); o.failed != c.failed || !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 1 {
				t.Errorf("got %d failed, %q, want %d, %q", o.failed, got, c.failed, want)
			}
			if c.status != 0 && (!strings.HasPrefix(asked, "0123456789abcdef0123456789abcdef01234567"+" ") || !strings.Contains(asked, "00000000-0000-0000-0000-000000000000")) {
				t.Errorf("got a request %q, want the key and a batch that is not there", asked)
			}
		})
	}

	var out strings.Builder
	o := &online{ctx: t.Context(), out: &out, l: loadConfig(t, writeConfig(t, "", ""))}
	if o.ingestKey(); out.String() != "" || o.failed != 0 {
		t.Errorf("no uploads: got %q, want nothing asked", out.String())
	}
}

// TestOnlineAsksEachTrackingAddressOnce, and none where there is none.
func TestOnlineAsksEachTrackingAddressOnce(t *testing.T) {
	l := loadConfig(t, writeConfig(t, "", ""))
	l.Tracking.URL = "http://127.0.0.1:1"
	l.Tracking.Rules = []config.TrackingRule{{}, {URL: "http://127.0.0.1:2"}, {URL: "http://127.0.0.1:1"}, {URL: "http://127.0.0.1:2"}}
	var out strings.Builder
	o := &online{ctx: t.Context(), out: &out, l: l, mx: resolver("")}
	err := o.tracking()
	if got := strings.Count(out.String(), "\n"); got != 2 || err == nil || err.Error() != "2 of the tracking addresses do not lead to this tracker" {
		t.Errorf("got %v and\n%s\nwant two addresses that fail", err, out.String())
	}

	out.Reset()
	l.Tracking.URL = ""
	l.Tracking.Rules = nil
	if err := o.tracking(); err != nil || out.String() != "" {
		t.Errorf("no address: got %v and %q, want nothing", err, out.String())
	}
	l.Tracking.KeyFile = "/nowhere"
	if err := o.tracking(); err == nil {
		t.Error("no keys: got no error")
	}
}

func TestFailedChecksAreCounted(t *testing.T) {
	for n, want := range map[int]string{1: "1 online check failed", 2: "2 online checks failed"} {
		if got := failedChecks(n).Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestResolverOfTheSystem(t *testing.T) {
	if resolver("") != net.DefaultResolver || TXTResolver("") != net.DefaultResolver {
		t.Error("no server: want the system's resolver")
	}
	if !resolver("127.0.0.1:53").PreferGo {
		t.Error("a server: want Go's resolver, which asks it")
	}
}
