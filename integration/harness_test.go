// Package integration holds the end-to-end tests: the real binary, real
// clients, a real MTA as upstream, and verifiers that are not ours. A test
// that needs a program which is not there is skipped, but fails where
// POSTERN_INTEGRATION is set, as integration/test does.
package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/cmd/postern/demo/ingestd"
	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
)

// postern is the binary under test, built once.
var postern string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "postern-bin-")
	if err != nil {
		panic(err)
	}
	postern = filepath.Join(dir, "postern")
	if out, err := exec.Command("go", "build", "-o", postern, "postern/cmd/postern").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s\n", out)
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// need finds programs, or ends the test.
func need(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			absent(t, n)
		}
	}
}

func absent(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("POSTERN_INTEGRATION") != "" {
		t.Fatalf("%s is not installed", what)
	}
	t.Skipf("%s is not installed", what)
}

// systemPython is Debian's, which has python3-dkim.
const systemPython = "/usr/bin/python3"

func needPython(t *testing.T, module string) {
	t.Helper()
	if err := exec.Command(systemPython, "-c", "import "+module).Run(); err != nil {
		absent(t, "python3 with "+module)
	}
}

// run runs a program and gives what it printed; the test fails where it does.
func run(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	out, err := try(stdin, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(stdin string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	return string(out), err
}

// freePort gives a loopback address that nobody uses. Its port is below those
// that the system gives to connections, which could take it before its user.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+nextPort.Add(1)%20000)
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

var nextPort = func() *atomic.Int64 { // apart from another run of the tests
	n := &atomic.Int64{}
	n.Store(int64(os.Getpid()) * 97)
	return n
}()

// waitFor polls until ok, or fails the test.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		<-tick.C
	}
}

// testSink is a sink that keeps what arrives.
type testSink struct {
	addr string
	mu   sync.Mutex
	got  []*sink.Message
}

func startSink(t *testing.T, c sink.Config) *testSink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &testSink{addr: l.Addr().String()}
	c.Keep = func(m *sink.Message) {
		s.mu.Lock()
		s.got = append(s.got, m)
		s.mu.Unlock()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); sink.New(c).Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func (s *testSink) messages() []*sink.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*sink.Message(nil), s.got...)
}

// next waits until n messages have arrived and gives the last.
func (s *testSink) wait(t *testing.T, n int) *sink.Message {
	t.Helper()
	waitFor(t, fmt.Sprintf("message %d at the sink", n), func() bool { return len(s.messages()) >= n })
	return s.messages()[n-1]
}

// gateway is a running `postern serve`.
type gateway struct {
	dir        string
	config     string
	submission string
	tracker    string
	admin      string
	user       string
	password   string
	record     string // the DKIM record's value
	ingest     *ingestd.Server
	stdin      io.Reader // of serve; nil: nothing
	cmd        *exec.Cmd
	log        *syncBuffer
	exited     chan error
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const apiKey = "00112233445566778899aabbccddeeff00112233"

// newGateway makes keys, a user and a configuration with the real commands.
// extra is put at the configuration's end.
func newGateway(t *testing.T, upstream, extra string) *gateway {
	t.Helper()
	g := &gateway{dir: t.TempDir(), submission: freePort(t), tracker: freePort(t), admin: freePort(t), user: "app", password: "s3cret word",
		ingest: &ingestd.Server{Key: apiKey}}
	endpoint := httptest.NewServer(g.ingest)
	t.Cleanup(endpoint.Close)
	g.config = filepath.Join(g.dir, "postern.toml")
	text := fmt.Sprintf(`hostname = "gw.example.com"
state_dir = "state"
shutdown_grace = "5s"
[log]
level = "debug"
[submission]
listen = [%q]
max_connections_per_source = 10000
[certs]
mode = "self-signed"
[relay]
upstream = [%q]
[tracking]
url = %q
[tracking.web]
listen = [%q]
[[dkim.key]]
domain = "example.com"
selector = "s1"
key_file = "dkim.pem"
[signals]
enabled = true
api_key = %q
upload_url = %q
batch_age = "100ms"
[admin]
listen = %q
%s`, g.submission, upstream, "http://"+g.tracker, g.tracker, apiKey, endpoint.URL+"/api/v1/ingest/events", g.admin, extra)
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", postern, "token", "keygen", filepath.Join(g.dir, "token.keys"))
	bind := run(t, "", postern, "dkim", "keygen", "--domain", "example.com", "--selector", "s1", "--out", filepath.Join(g.dir, "dkim.pem"))
	for _, m := range regexp.MustCompile(`"([^"]*)"`).FindAllStringSubmatch(bind, -1) {
		g.record += m[1]
	}
	run(t, g.password+"\n", postern, "passwd", "--config", g.config, g.user)
	run(t, "", postern, "check", "--config", g.config)
	return g
}

// start runs `serve` and waits until it is ready to work.
func (g *gateway) start(t *testing.T) { t.Helper(); g.startAs(t) }

// startAs is start with more arguments.
func (g *gateway) startAs(t *testing.T, args ...string) {
	t.Helper()
	g.log, g.exited = &syncBuffer{}, make(chan error, 1)
	g.cmd = exec.Command(postern, append([]string{"serve", "--config", g.config}, args...)...)
	g.cmd.Stdin, g.cmd.Stderr, g.cmd.Stdout = g.stdin, g.log, g.log
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := g.exited
	cmd := g.cmd
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", g.log)
		}
	})
	waitFor(t, "the gateway", func() bool {
		select {
		case err := <-exited:
			t.Fatalf("the gateway ended: %v\n%s", err, g.log)
		default:
		}
		status, _ := g.get("/healthz")
		return status == http.StatusOK
	})
}

// submit sends one message and wants it taken.
func (g *gateway) submit(t *testing.T, from, to, message string) {
	t.Helper()
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	defer c.close()
	if code, text := c.send(from, []string{to}, message); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
}

// stop drains the gateway and wants status 0.
func (g *gateway) stop(t *testing.T) {
	t.Helper()
	g.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-g.exited:
		if err != nil {
			t.Errorf("SIGTERM: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the gateway does not stop")
	}
}

// get asks the admin listener.
func (g *gateway) get(path string) (int, string) {
	res, err := http.Get("http://" + g.admin + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// events waits for n events of a type.
func (g *gateway) events(t *testing.T, typ event.Type, n int) []*event.Event {
	t.Helper()
	var out []*event.Event
	waitFor(t, fmt.Sprintf("%d %s events", n, typ), func() bool {
		out = nil
		for _, e := range g.ingest.Events() {
			if e.Type == typ {
				out = append(out, e.Event)
			}
		}
		return len(out) >= n
	})
	if f := g.ingest.Faults(); len(f) > 0 {
		t.Errorf("the ingest endpoint refused: %v", f)
	}
	return out
}

// verifyDKIM asks python3-dkim about a message.
func (g *gateway) verifyDKIM(t *testing.T, message []byte) {
	t.Helper()
	const script = `
import sys, dkim
record = sys.argv[1].encode()
message = sys.stdin.buffer.read()
names = []
def dns(name, timeout=5):
    names.append(name)
    return record
ok = dkim.verify(message, dnsfunc=dns)
print("pass" if ok else "fail", names)
sys.exit(0 if ok else 1)
`
	if out, err := try(string(message), systemPython, "-c", script, g.record); err != nil || !strings.Contains(out, "s1._domainkey.example.com") {
		t.Errorf("python3-dkim: %v %s\n%s", err, out, message)
	}
}

// fetch follows no redirect.
func fetch(t *testing.T, url string) *http.Response {
	t.Helper()
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
