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
	"strings"
	"sync"
	"testing"

	"postern/cmd/postern/demo/ingestd"
	"postern/cmd/postern/demo/sink"
	"postern/integration/dnsd"
	"postern/tracking/token"
	"postern/tracking/web"
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
	if code != exitFailed || stderr != "postern: 3 of 3 DNS checks got no answer\n" || !strings.Contains(stdout, addr) {
		t.Errorf("nobody answers: got %d %q %q, want the server named", code, stdout, stderr)
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
