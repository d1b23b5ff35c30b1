package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"postern/cmd/postern/config"
	"postern/cmd/postern/demo/sink"
	"postern/smtpd/auth"
	"postern/tracking/token"
)

var update = flag.Bool("update", false, "write testdata anew")

// asGateway makes the test binary serve the configuration file that it names.
const asGateway = "POSTERN_TEST_GATEWAY"

func TestMain(m *testing.M) {
	if file := os.Getenv(asGateway); file != "" {
		if err := serveFile(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}

	goleak.VerifyTestMain(m)
}

// serveFile serves a configuration until SIGTERM.
func serveFile(file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	cfg, problems := config.Load(file, config.All)
	if fatal := problems.Fatal(); len(fatal) > 0 {
		return fatal
	}
	g, err := New(cfg, slog.New(slog.DiscardHandler), new(slog.LevelVar))
	if err != nil {
		return err
	}

	return g.Serve(ctx)
}

// patience is more than anything here takes.
const patience = time.Minute

// apiKey has the form of a key of the ingest service.
const apiKey = "abababababababababababababababababababab"

// writeFile writes a file of a test's folder and returns its path.
func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}

	return file
}

// replaceIn replaces a part of a file.
func replaceIn(t *testing.T, file, old, with string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("%s does not hold %q", file, old)
	}

	writeFile(t, filepath.Dir(file), filepath.Base(file), strings.Replace(string(b), old, with, 1))
}

// testHash is the hash of "secret".
var testHash = func() string {
	h, err := auth.HashPassword("secret")
	if err != nil {
		panic(err)
	}

	return h
}()

// userEntry is a user of a users file, whose password is "secret".
func userEntry(name string) string {
	return fmt.Sprintf("[[user]]\nname = %q\npassword = %q\n", name, testHash)
}

// writeConfig makes a folder with everything that a gateway needs, which
// listens on ports that the system chooses, and returns the configuration
// file. more goes to its end.
func writeConfig(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := token.AddKey(filepath.Join(dir, "token.keys"), time.Now()); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "users.toml", userEntry("app"))
	if !strings.Contains(more, "[admin]") {
		more += "[admin]\nlisten = \"127.0.0.1:0\"\n"
	}

	return writeFile(t, dir, "postern.toml", fmt.Sprintf(`hostname = "postern.localhost"
state_dir = %q
shutdown_grace = "2s"

[submission]
listen = ["127.0.0.1:0"]

[certs]
mode = "self-signed"

[relay]
upstream = ["127.0.0.1:1"]

[tracking]
url = "http://localhost"

[tracking.web]
listen = ["127.0.0.1:0"]
%s
`, filepath.Join(dir, "state"), more))
}

// everything is a configuration with every kind of listener.
func everything(t *testing.T) string {
	t.Helper()
	file := writeConfig(t, "[reports]\nlisten = [\"127.0.0.1:0\"]\nbounce_domains = [\"b.example\"]\n"+
		"[signals]\nenabled = true\napi_key = \""+apiKey+"\"\nupload_url = \"http://127.0.0.1:1/upload\"\n")
	replaceIn(t, file, "[submission]\n", "[submission]\nlisten_tls = [\"127.0.0.1:0\"]\n")

	return file
}

// useUpstream replaces the upstream of a configuration that writeConfig made.
func useUpstream(t *testing.T, file, addr string) {
	t.Helper()
	replaceIn(t, file, "127.0.0.1:1\"", addr+"\"")
}

// useACME has a configuration that writeConfig made ask an ACME service that is
// not there. Challenges are answered at addresses of their own.
func useACME(t *testing.T, file, more string) {
	t.Helper()
	replaceIn(t, file, "mode = \"self-signed\"\n", "mode = \"acme\"\nacme_directory = \"https://127.0.0.1:1/\"\n"+
		"acme_http_listen = \"127.0.0.3:0\"\nacme_tls_listen = \"127.0.0.2:0\"\n"+more)
}

func loadConfig(t *testing.T, file string) *config.Loaded {
	t.Helper()
	return loadRole(t, file, config.All)
}

func loadRole(t *testing.T, file string, role config.Role) *config.Loaded {
	t.Helper()
	cfg, problems := config.Load(file, role)
	if fatal := problems.Fatal(); len(fatal) > 0 {
		t.Fatal(fatal)
	}

	return cfg
}

// buffer is a log that a test reads.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// take returns what was logged since the last call.
func (b *buffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.b.Reset()
	return b.b.String()
}

// buildGateway builds a gateway of a configuration that a test may have changed
// after it was checked.
func buildGateway(cfg *config.Loaded) (*Gateway, error) {
	return New(cfg, slog.New(slog.DiscardHandler), new(slog.LevelVar))
}

// startGateway builds a gateway in this process, which does not serve yet.
func startGateway(t *testing.T, file string) (*Gateway, *buffer) {
	t.Helper()
	log := &buffer{}
	level := new(slog.LevelVar)
	handler := slog.NewTextHandler(log, &slog.HandlerOptions{Level: level})
	g, err := New(loadConfig(t, file), slog.New(handler), level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)

	return g, log
}

// startLoaded is startGateway for a configuration that a test has loaded.
func startLoaded(t *testing.T, cfg *config.Loaded) *Gateway {
	t.Helper()
	g, err := buildGateway(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)

	return g
}

// serving runs a gateway in this process. stop ends it, and returns what Serve
// returned; the test's end does as well.
func serving(t *testing.T, file string) (g *Gateway, log *buffer, stop func() error) {
	t.Helper()
	g, log = startGateway(t, file)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ctx) }()

	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	eventually(t, "the gateway to be up", g.admin.Ready.Load)

	return g, log, stop
}

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()

	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// find returns the part of a gateway that is a T, and whether there is one.
func find[T reloadable](g *Gateway) (part T, ok bool) {
	for _, r := range g.reloadables {
		if part, ok := r.(T); ok {
			return part, true
		}
	}

	return part, false
}

// partOf returns the part of a gateway that is a T.
func partOf[T reloadable](t *testing.T, g *Gateway) T {
	t.Helper()
	part, ok := find[T](g)
	if !ok {
		t.Fatalf("got no %T", part)
	}

	return part
}

// round does what is done in every round of looking after things.
func (g *Gateway) round(ctx context.Context) {
	for _, f := range g.rounds {
		f(ctx)
	}
}

// names returns the sorted names of the components of a stage.
func (g *Gateway) names(s stage) []string {
	var out []string
	for _, c := range g.components {
		if c.stage == s {
			out = append(out, c.name)
		}
	}
	slices.Sort(out)

	return out
}

// listenersOf returns the open listeners of a key.
func (g *Gateway) listenersOf(key string) []net.Listener {
	var out []net.Listener
	for _, l := range g.listeners {
		for _, a := range g.addrs[key] {
			if l.Addr().String() == a.String() {
				out = append(out, l)
			}
		}
	}

	return out
}

// checkClosed holds that nothing listens any more.
func (g *Gateway) checkClosed(t *testing.T) {
	t.Helper()
	for _, l := range g.listeners {
		if _, err := l.Accept(); err == nil {
			t.Errorf("%s still listens", l.Addr())
		}
	}
}

// values are all time series of a registry.
func values(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}

	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += fmt.Sprintf("{%s=%q}", l.GetName(), l.GetValue())
			}
			switch {
			case m.Counter != nil:
				out[name] = m.Counter.GetValue()
			case m.Gauge != nil:
				out[name] = m.Gauge.GetValue()
			case m.Histogram != nil:
				out[name] = float64(m.Histogram.GetSampleCount())
				for _, b := range m.Histogram.Bucket {
					out[fmt.Sprintf("%s{le=%v}", name, b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
			}
		}
	}

	return out
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

// manager is a service manager's socket.
func manager(t *testing.T) (name string, read func() string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })

	return name, func() string {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1000)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}

		return string(b[:n])
	}
}

func dial(t *testing.T, addr net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}

	return c
}

// firstLine is what a server says first on a connection, which it closes.
func firstLine(t *testing.T, c net.Conn) string {
	t.Helper()
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}

	return line
}

// newClient returns a client that keeps no connection open, and believes any
// certificate. dial may be nil.
func newClient(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:       dial,
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	}}
}

func get(t *testing.T, client *http.Client, url string) (status int, body string) {
	t.Helper()
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}

	return r.StatusCode, string(b)
}

// unusedAddr is an address that nobody listens on.
func unusedAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	return l.Addr().String()
}

// process is a gateway in a process of its own.
type process struct {
	cmd   *exec.Cmd
	admin string
	ended chan error // what Wait returned
}

// healthy reports whether the process answers its health check.
func (p *process) healthy() bool {
	r, err := newClient(nil).Get("http://" + p.admin + "/healthz")
	if err != nil {
		return false
	}
	r.Body.Close()

	return r.StatusCode == http.StatusOK
}

// stop sends SIGTERM and returns how the process ended.
func (p *process) stop(t *testing.T) error {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	select {
	case err := <-p.ended:
		return err
	case <-time.After(patience):
		return errors.Join(errors.New("still there after SIGTERM"), p.cmd.Process.Kill(), <-p.ended)
	}
}

// serveCommand serves a configuration file in a process of its own, which
// inherits sockets.
func serveCommand(file string, sockets ...*os.File) *exec.Cmd {
	// LISTEN_PID is the process's own, which the shell still is.
	c := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	c.Env = append(os.Environ(), asGateway+"="+file, fmt.Sprint("LISTEN_FDS=", len(sockets)))
	c.ExtraFiles = sockets

	return c
}

// startListening starts a process with these addresses for submission, and
// inherited sockets.
func startListening(t *testing.T, listen string, sockets ...*os.File) *process {
	t.Helper()

	p, err := tryListening(t, listen, sockets...)
	if err != nil {
		t.Fatal(err)
	}

	return p
}

// tryListening is startListening that returns an error where the process ends
// at once: an address may have been taken since it was looked for.
func tryListening(t *testing.T, listen string, sockets ...*os.File) (*process, error) {
	t.Helper()

	p := &process{admin: unusedAddr(t), ended: make(chan error, 1)}
	file := writeConfig(t, fmt.Sprintf("[admin]\nlisten = %q\n", p.admin))
	replaceIn(t, file, "[submission]\nlisten = [\"127.0.0.1:0\"]", "[submission]\nlisten = "+listen)

	p.cmd = serveCommand(file, sockets...)
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })

	var err error
	eventually(t, "the health check", func() bool {
		select {
		case err = <-p.ended:
			err = errors.Join(errors.New("the gateway has ended"), err)
			return true
		default:
			return p.healthy()
		}
	})

	return p, err
}
