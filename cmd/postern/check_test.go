package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"postern/cmd/postern/config"
	"postern/integration/dnsd"
	"postern/tracking/token"
	"postern/tracking/web"

	"postern/cmd/postern/demo/ingestd"
	"postern/cmd/postern/demo/sink"
)

func TestCheckExitStatus(t *testing.T) {
	const warning = "[dkim]\nexpire = \"1d\"\n"
	for _, c := range []struct {
		name, more     string
		args           []string
		code           int
		stdout, stderr string // parts
	}{
		{"good", "", nil, 0, "Listeners\n  submission.listen         127.0.0.1:0           mail from 1 user, after STARTTLS\n", ""},
		{"strictly good", "", []string{"--strict"}, 0, "Events\n  kept on this machine for 1d, uploaded nowhere\n", ""},
		{"a tracker", "", []string{"--role", "tracker"}, 0, "Listeners\n  tracking.web.listen ", ""},
		{"a warning", warning, nil, 0, "Listeners\n", "dkim.expire: warning: shorter than"},
		{"a warning, strictly", warning, []string{"--strict"}, exitFailed, "Listeners\n", "\npostern: 1 warning in the configuration, and --strict\n"},
		{"two warnings, strictly", warning + "[[submission.source]]\nnetwork = \"0.0.0.0/0\"\nrequire_auth = false\nuser = \"app\"\n", []string{"--strict"}, exitFailed,
			"Listeners\n", "\npostern: 2 warnings in the configuration, and --strict\n"},
		{"an error", "[log]\nlevel = \"loud\"\n", nil, exitFailed, "", "\npostern: 1 error in the configuration\n"},
		{"two errors and a warning", "[log]\nlevel = \"loud\"\nformat = \"xml\"\n" + warning, nil, exitFailed, "", "\npostern: 2 errors in the configuration\n"},
		{"an error that a tracker does not care about", "[dkim]\nrsa = \"x\"\n", []string{"--role", "tracker"}, 0, "Listeners\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeConfig(t, "", c.more)
			replaceIn(t, file, "[submission]\n", "[submission]\nmax_connections = 9\nmax_connections_per_source = 9\n") // which any limit allows
			replaceIn(t, file, "[tracking.web]\n", "[tracking.web]\nmax_connections = 9\n")
			code, stdout, stderr := execute(t, "", append([]string{"check", "--config", file}, c.args...)...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || c.stdout == "" && stdout != "" {
				t.Errorf("got %d %q, want %d %q", code, stdout, c.code, c.stdout)
			}
			if !strings.Contains(stderr, c.stderr) || c.stderr == "" && stderr != "" {
				t.Errorf("got stderr %q, want %q", stderr, c.stderr)
			}
		})
	}
}

// TestCheckWarnsOfTheLimitOfThisShell, which is no matter for --strict.
func TestCheckWarnsOfTheLimitOfThisShell(t *testing.T) {
	file := writeConfig(t, "", "")
	replaceIn(t, file, "[submission]\n", "[submission]\nmax_connections = 1000000000\n")
	code, stdout, stderr := execute(t, "", "check", "--strict", "--config", file)
	want := regexp.MustCompile(`^\S+:\d+: submission\.max_connections: warning: if the service has the limits of this shell: the limit of open files is \d+`)
	if code != 0 || !want.MatchString(stderr) || !strings.HasPrefix(stdout, "Listeners\n") {
		t.Errorf("got %d %q %q, want 0 and %s", code, stdout, stderr, want)
	}
}

func TestCountWritesTheNoun(t *testing.T) {
	for n, want := range map[int]string{0: "0 errors", 1: "1 error", 2: "2 errors"} {
		if got := count(n, "error"); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

// startSink starts a sink and returns its address.
func startSink(t *testing.T, c sink.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = sink.New(c).Serve(ctx, l) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return l.Addr().String()
}

// startDNS starts a DNS server and returns its address.
func startDNS(t *testing.T, records map[string][]string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { dnsd.Serve(ctx, c, records) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return c.LocalAddr().String()
}

// world is what `check --online` asks, all of it on this machine.
type world struct {
	file, dir string
	upstream  string
	tracker   *httptest.Server
	ingest    *httptest.Server
}

// startWorld writes a configuration whose world is as it should be. more goes
// to the configuration's end, relay into its [relay].
func startWorld(t *testing.T, s sink.Config, ingest http.Handler, relay, more string) *world {
	t.Helper()
	w := &world{upstream: startSink(t, s)}
	live := http.NewServeMux()
	w.tracker = httptest.NewServer(live)
	t.Cleanup(w.tracker.Close)
	w.ingest = httptest.NewServer(ingest)
	t.Cleanup(w.ingest.Close)

	w.file = writeConfig(t, "", more+fmt.Sprintf("[signals]\nenabled = true\napi_key = %q\nupload_url = %q\n", testAPIKey, w.ingest.URL+"/upload"))
	w.dir = filepath.Dir(w.file)
	replaceIn(t, w.file, "127.0.0.1:1\"", w.upstream+"\"")
	replaceIn(t, w.file, "[relay]\n", "[relay]\n"+relay)
	replaceIn(t, w.file, "http://localhost", w.tracker.URL)
	signingKey(t, w.dir)
	live.Handle("/", trackerOf(t, w.file))
	return w
}

// trackerOf returns the tracker of a configuration.
func trackerOf(t *testing.T, file string) http.Handler {
	t.Helper()

	l := loadConfig(t, file)
	keys, err := token.ReadKeys(l.Tracking.KeyFile)
	if err != nil {
		t.Fatal(err)
	}

	return web.New(web.Config{Keys: keys, Sites: l.Tracking.Sites()})
}

// testAPIKey is that of an ingest service.
const testAPIKey = "0123456789abcdef0123456789abcdef01234567"

func (w *world) check(t *testing.T, dns map[string][]string, args ...string) (int, string, string) {
	t.Helper()
	return execute(t, "", append([]string{"check", "--online", "--config", w.file, "--dns", startDNS(t, dns)}, args...)...)
}

const onlineKeys = "[[dkim.key]]\ndomain = \"example.com\"\nselector = \"s\"\nkey_file = \"dkim.pem\"\n" +
	"[reports]\nlisten = [\"127.0.0.1:0\"]\nbounce_domains = [\"b.example\", \"*.many.example\"]\nfbl_domains = [\"f.example\"]\n"

func onlinePart(t *testing.T, stdout string) string {
	t.Helper()
	_, online, ok := strings.Cut(stdout, "\nOnline\n")
	if !ok {
		t.Fatalf("got\n%s\nwant a part about the world", stdout)
	}
	return online
}

// TestCheckOnlineSaysWhatItFound where all is well.
func TestCheckOnlineSaysWhatItFound(t *testing.T) {
	w := startWorld(t, sink.Config{}, &ingestd.Server{Key: testAPIKey}, "verp_domain = \"b.example\"\n", onlineKeys)
	record, err := recordOf(filepath.Join(w.dir, "dkim.pem"))
	if err != nil {
		t.Fatal(err)
	}

	code, stdout, stderr := w.check(t, map[string][]string{
		"s._domainkey.example.com": {record},
		"b.example":                {"v=spf1 -all", "MX Postern.localhost"},
		"f.example":                {"MX a.example"},
	})

	want := "  ok      upstream " + w.upstream + " takes mail: plain text, no login\n" +
		"  ok      DKIM: s._domainkey.example.com holds the key on disk\n" +
		"  ok      MX: b.example leads to Postern.localhost\n" +
		"  note    MX of *.many.example: not asked, for it names many domains\n" +
		"  note    MX: f.example leads to a.example, which has to be this gateway, postern.localhost\n" +
		"  ok      SPF: b.example has \"v=spf1 -all\"\n" +
		"  ok      ingest: " + w.ingest.URL + "/upload takes the API key\n" +
		w.tracker.URL + ": ok, this tracker answers\n"
	if got := onlinePart(t, stdout); code != 0 || got != want {
		t.Errorf("got %d\n%s%s\nwant\n%s", code, got, stderr, want)
	}
}

// TestCheckOnlineCountsWhatFailed where nothing is well.
func TestCheckOnlineCountsWhatFailed(t *testing.T) {
	w := startWorld(t, sink.Config{Script: func(phase, _ string) sink.Action {
		if phase == "connect" {
			return sink.Action{Reply: "554 go away", Drop: true}
		}
		return sink.Action{}
	}}, &ingestd.Server{Key: "another"}, "verp_domain = \"b.example\"\n", onlineKeys)
	w.tracker.Close()

	code, stdout, stderr := w.check(t, nil)

	got := onlinePart(t, stdout)
	for _, want := range []string{
		"  failed  upstream " + w.upstream + ": ",
		"  failed  DKIM: s._domainkey.example.com is not published",
		"  failed  MX: b.example has no record: bounces and complaints do not come here; publish \"b.example. MX 10 postern.localhost.\"\n",
		"  failed  MX: f.example has no record",
		"  failed  SPF: b.example has no record",
		"  failed  ingest: " + w.ingest.URL + "/upload refuses the API key (HTTP 401)\n",
		"\n" + w.tracker.URL + ": ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%s\nwant %q in it", got, want)
		}
	}
	if want := "postern: 6 online checks failed\n1 of the tracking addresses do not lead to this tracker\n"; code != exitFailed || !strings.HasSuffix(stderr, want) {
		t.Errorf("got %d %q, want %q", code, stderr, want)
	}
	if strings.Contains(got, "  ok ") {
		t.Errorf("got\n%s\nwant nothing ok", got)
	}
}

// TestCheckOnlineOfATracker asks neither upstreams nor the DNS for mail.
func TestCheckOnlineOfATracker(t *testing.T) {
	w := startWorld(t, sink.Config{}, &ingestd.Server{Key: testAPIKey}, "", onlineKeys)
	code, stdout, stderr := w.check(t, nil, "--role", "tracker")
	want := "  ok      ingest: " + w.ingest.URL + "/upload takes the API key\n" + w.tracker.URL + ": ok, this tracker answers\n"
	if got := onlinePart(t, stdout); code != 0 || got != want {
		t.Errorf("got %d\n%s%s\nwant\n%s", code, got, stderr, want)
	}
}

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
	o := &online{ctx: t.Context(), out: &out, l: l, dns: txtResolver(startDNS(t, map[string][]string{"s._domainkey.example.com": {record}}))}

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
			l.Signals.APIKey = testAPIKey
			l.Signals.UploadURL = config.URL(s.URL)
			var out strings.Builder
			o := &online{ctx: t.Context(), out: &out, l: l}

			o.ingestKey()

			want := strings.ReplaceAll(c.want, "URL", s.URL)
			if got := out.String(); o.failed != c.failed || !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 1 {
				t.Errorf("got %d failed, %q, want %d, %q", o.failed, got, c.failed, want)
			}
			if c.status != 0 && (!strings.HasPrefix(asked, testAPIKey+" ") || !strings.Contains(asked, "00000000-0000-0000-0000-000000000000")) {
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
	e := &env{ctx: t.Context(), stdout: &out}
	err := checkOnline(e, l, "")
	if got := strings.Count(out.String(), "\n"); got != 2 || err == nil || err.Error() != "2 of the tracking addresses do not lead to this tracker" {
		t.Errorf("got %v and\n%s\nwant two addresses that fail", err, out.String())
	}

	out.Reset()
	l.Tracking.URL = ""
	l.Tracking.Rules = nil
	if err := checkOnline(e, l, ""); err != nil || out.String() != "" {
		t.Errorf("no address: got %v and %q, want nothing", err, out.String())
	}
	l.Tracking.KeyFile = "/nowhere"
	if err := checkOnline(e, l, ""); err == nil {
		t.Error("no keys: got no error")
	}
}

// TestDKIMVerifyAsksTheServerThatIsNamed and counts what failed and what was
// not answered.
func TestDKIMVerifyAsksTheServerThatIsNamed(t *testing.T) {
	dir := t.TempDir()
	key := signingKey(t, dir)
	record, err := recordOf(key)
	if err != nil {
		t.Fatal(err)
	}
	verify := func(dns string) (int, string, string) {
		return execute(t, "", "dkim", "verify", "--domain", "example.com", "--selector", "s", "--key", key, "--dns", dns)
	}

	code, stdout, stderr := verify(startDNS(t, map[string][]string{
		"s._domainkey.example.com": {record}, "example.com": {"v=spf1 -all"}, "_dmarc.example.com": {"v=DMARC1; p=reject"},
	}))
	if code != 0 || strings.Count(stdout, "\n") != 3 || strings.Count(stdout, "ok ") != 3 || stderr != "" {
		t.Errorf("all is there: got %d %q %q, want three that are ok", code, stdout, stderr)
	}

	code, stdout, stderr = verify(startDNS(t, map[string][]string{"example.com": {"v=spf1 -all"}}))
	if code != exitFailed || strings.Count(stdout, "\n") != 3 || stderr != "postern: 2 of 3 DNS checks failed\n" {
		t.Errorf("two are missing: got %d %q %q, want 2 of 3", code, stdout, stderr)
	}

	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := closed.LocalAddr().String()
	closed.Close()
	code, stdout, stderr = verify(addr)
	if code != exitFailed || stderr != "postern: 3 of 3 could not be made: the DNS did not answer\n" || !strings.Contains(stdout, addr) {
		t.Errorf("nobody answers: got %d %q %q, want the server named", code, stdout, stderr)
	}
}

func TestResolverOfTheSystem(t *testing.T) {
	if resolver("") != net.DefaultResolver || txtResolver("") != net.DefaultResolver {
		t.Error("no server: want the system's resolver")
	}
	if !resolver("127.0.0.1:53").PreferGo {
		t.Error("a server: want Go's resolver, which asks it")
	}
}

// TestAccountingPrintGoesOnBehindAFileThatCannotBeOpened.
func TestAccountingPrintGoesOnBehindAFileThatCannotBeOpened(t *testing.T) {
	t.Setenv(configEnv, writeConfig(t, "", ""))
	dir := t.TempDir()
	record := func(name, id string) string {
		return writeFile(t, dir, name, "type,timeLogged,rcpt,dsnStatus,dsnDiag,header_X-Sp-Message-Id\nd,1795500000,a@example.net,2.0.0,smtp;250 ok,"+id+"\n")
	}
	first, second := record("first.csv", "id1"), record("second.csv", "id2")
	locked := filepath.Join(dir, "gone.csv")
	var out, log strings.Builder

	err := (&accountingCmd{Print: true, Files: []string{first, locked, second}}).Run(&env{ctx: t.Context(), stdout: &out, stderr: &log})

	if err == nil || !strings.Contains(err.Error(), locked) {
		t.Errorf("got %v, want the file named", err)
	}
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, `"id1"`) || !strings.Contains(got, `"id2"`) || !strings.Contains(got, `"type":"delivery"`) {
		t.Errorf("got %q, want the events of both", got)
	}
}

func TestAccountingUsage(t *testing.T) {
	file := writeFile(t, t.TempDir(), "a.csv", "")
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, "want --print FILE..., or --pipe"},
		{"print nothing", []string{"--print"}, "want --print FILE..., or --pipe"},
		{"files alone", []string{file}, "want --print FILE..., or --pipe"},
		{"a socket and --print", []string{"--print", "--socket", "/x", file}, "--socket and --dir are for --pipe"},
		{"a folder and --print", []string{"--print", "--dir", "/x", file}, "--socket and --dir are for --pipe"},
		{"both", []string{"--print", "--pipe", file}, "--print and --pipe can't be used together"},
		{"a file that is missing", []string{"--print", file + ".not"}, "no such file"},
	} {
		code, stdout, stderr := execute(t, "", append([]string{"accounting"}, c.args...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: got %d %q %q, want %d %q", c.name, code, stdout, stderr, exitUsage, c.want)
		}
	}
}

const pipedRecords = "type,timeLogged,rcpt,dsnStatus,dsnDiag,header_X-Sp-Message-Id\nd,1795500000,a@example.net,2.0.0,smtp;250 ok,id1\n"

// left returns what a pipe left in a folder.
func left(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	return out.String()
}

// TestAccountingPipeKeepsRecords where there is no gateway: in --dir, or where
// the configuration says.
func TestAccountingPipeKeepsRecords(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(configEnv, filepath.Join(dir, "nowhere.toml"))
	if code, stdout, stderr := execute(t, pipedRecords, "accounting", "--pipe", "--dir", filepath.Join(dir, "own")); code != 0 || stdout != "" {
		t.Errorf("--dir: got %d %q %q", code, stdout, stderr)
	}
	if got := left(t, filepath.Join(dir, "own")); got != pipedRecords {
		t.Errorf("--dir: got %q, want the records", got)
	}
	nobody := filepath.Join(dir, "nobody.sock")
	if code, _, stderr := execute(t, pipedRecords, "accounting", "--pipe", "--socket", nobody, "--dir", filepath.Join(dir, "beside")); code != 0 {
		t.Errorf("--socket and --dir: got %d %q", code, stderr)
	}
	if got := left(t, filepath.Join(dir, "beside")); got != pipedRecords {
		t.Errorf("--socket and --dir: got %q, want the records", got)
	}

	file := writeConfig(t, "", "")
	state := filepath.Join(filepath.Dir(file), "state")
	if code, _, stderr := execute(t, pipedRecords, "accounting", "--pipe", "--config", file); code != 0 || strings.Contains(stderr, "no --dir") {
		t.Errorf("--config: got %d %q", code, stderr)
	}
	if got := left(t, filepath.Join(state, "accounting", "pipe")); got != pipedRecords {
		t.Errorf("--config: got %q, want the records in state_dir", got)
	}
	replaceIn(t, file, "[admin]\n", "[accounting]\npipe_dir = \"dropped\"\n[admin]\n")
	replaceIn(t, file, "[relay]\n", "[relay]\ntls = \"x\"\n") // which keeps no record from the disk
	if code, _, stderr := execute(t, pipedRecords, "accounting", "--pipe", "--config", file); code != 0 {
		t.Errorf("pipe_dir: got %d %q", code, stderr)
	}
	if got := left(t, filepath.Join(filepath.Dir(file), "dropped")); got != pipedRecords {
		t.Errorf("pipe_dir: got %q, want the records there", got)
	}

	code, _, stderr := execute(t, pipedRecords, "accounting", "--pipe", "--config", filepath.Join(dir, "nowhere.toml"))
	if code != exitFailed || !strings.Contains(stderr, "no such file") || !strings.Contains(stderr, "the configuration does not say where records go; give --socket or --dir") {
		t.Errorf("no configuration: got %d %q, want what to do", code, stderr)
	}
}

// TestAccountingPipeGivesRecordsToTheGateway by its socket, named or of the
// configuration.
func TestAccountingPipeGivesRecordsToTheGateway(t *testing.T) {
	file := writeConfig(t, "", "")
	state := filepath.Join(filepath.Dir(file), "state")
	g, _ := serving(t, file)
	socket := filepath.Join(state, "pipe.sock")

	code, _, stderr := execute(t, pipedRecords, "accounting", "--pipe", "--socket", socket)
	if code != 0 || !strings.Contains(stderr, "no --dir: records that come while there is no gateway can be lost") {
		t.Errorf("--socket: got %d %q, want a word of what can be lost", code, stderr)
	}
	if code, _, stderr := execute(t, pipedRecords, "accounting", "--pipe", "--config", file); code != 0 {
		t.Errorf("--config: got %d %q", code, stderr)
	}

	// A record whose message id is not ours makes no event, and is counted.
	eventually(t, "both records", func() bool {
		n := 0.0
		for name, v := range values(t, g.Registry()) {
			if strings.HasPrefix(name, "postern_accounting_") && strings.Contains(name, "records") {
				n += v
			}
		}
		return n >= 2
	})
}
