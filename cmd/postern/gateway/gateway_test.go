package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/smtp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/cmd/postern/config"
	"postern/cmd/postern/health"
	"postern/cmd/postern/localsocket"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/demo"
	"postern/cmd/postern/demo/sink"
	"postern/cmd/postern/gateway"
	"postern/relay/queue"
	"postern/tracking/event"
	"postern/tracking/ingest"
	"postern/tracking/spool"
)

// buildGateway starts a gateway of a configuration that a test has changed after it
// was checked.
func buildGateway(t *testing.T, l *config.Loaded) (*gateway.Gateway, error) {
	t.Helper()
	return gateway.New(l, slog.New(slog.DiscardHandler), new(slog.LevelVar))
}

// TestAStartThatFailsHoldsNothing breaks one thing after the other. Each time
// the start says what it was, and what it had opened is free again: the same
// state starts once it is mended.
func TestAStartThatFailsHoldsNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, l *config.Loaded)
		want  string
	}{
		{"the event spool is a file", func(t *testing.T, l *config.Loaded) {
			blocked(t, filepath.Join(l.StateDir, "events"))
		}, "events"},
		{"the retry spool is a file", func(t *testing.T, l *config.Loaded) {
			blocked(t, filepath.Join(l.StateDir, "queue"))
		}, "queue"},
		{"too few descriptors", func(_ *testing.T, l *config.Loaded) {
			l.Relay.MaxConnections = 1 << 40
		}, "submission.max_connections: the limit of open files is "},
		{"certificates that are missing", func(_ *testing.T, l *config.Loaded) {
			l.Certs.Mode = "files"
			l.Certs.CertFile = "/nowhere"
		}, "/nowhere"},
		{"a local CA that cannot be made", func(t *testing.T, l *config.Loaded) {
			blocked(t, filepath.Join(l.StateDir, "certs"))
		}, "certs"},
		{"ACME without an interim certificate", func(t *testing.T, l *config.Loaded) {
			l.Certs.Mode = "acme"
			blocked(t, filepath.Join(l.StateDir, "certs"))
		}, "certs"},
		{"ACME with a CA that is missing", func(_ *testing.T, l *config.Loaded) {
			l.Certs.Mode = "acme"
			l.Certs.ACMECAFile = "/nowhere"
		}, "/nowhere"},
		{"a rate that is none", func(_ *testing.T, l *config.Loaded) {
			l.Users[0].Password = "no hash"
		}, "hash"},
		{"token keys that are missing", func(_ *testing.T, l *config.Loaded) {
			l.Tracking.KeyFile = "/nowhere"
		}, "/nowhere"},
		{"a GeoIP database that is missing", func(_ *testing.T, l *config.Loaded) {
			l.Tracking.Web.GeoIPDB = "/nowhere"
		}, "/nowhere"},
		{"a file for apps that is missing", func(_ *testing.T, l *config.Loaded) {
			l.Tracking.Web.AssetLinks = "/nowhere"
		}, "/nowhere"},
		{"a DKIM key that is missing", func(_ *testing.T, l *config.Loaded) {
			l.DKIM.Keys = []config.DKIMKey{{Domain: "a.example", Selector: "s", KeyFile: "/nowhere"}}
		}, "/nowhere"},
		{"a CA for the upstream that is missing", func(_ *testing.T, l *config.Loaded) {
			l.Relay.CAFile = "/nowhere"
		}, "/nowhere"},
		{"a folder for reports that is a file", func(_ *testing.T, l *config.Loaded) {
			l.Reports.Keep = l.File
		}, filepath.Base("postern.toml")},
		{"events that are none", func(_ *testing.T, l *config.Loaded) {
			l.Signals.Enabled = true
			l.Signals.Report = []string{"clack"}
		}, "signals.report: "},
		{"a ledger that is a file", func(t *testing.T, l *config.Loaded) {
			l.Signals.Enabled = true
			blocked(t, filepath.Join(l.StateDir, "events", "ledger"))
		}, "ledger"},
		{"a folder for records that is a file", func(t *testing.T, l *config.Loaded) {
			blocked(t, filepath.Join(l.StateDir, "accounting"))
		}, "accounting"},
		{"a socket that is a file", func(t *testing.T, l *config.Loaded) {
			blocked(t, l.Admin.Socket)
		}, "admin.socket: "},
		{"a pipe's socket that is a file", func(t *testing.T, l *config.Loaded) {
			blocked(t, l.Accounting.PipeSocket)
		}, "accounting.pipe_socket: "},
		{"a folder for the pipe below a file", func(_ *testing.T, l *config.Loaded) {
			l.Accounting.PipeDir = filepath.Join(l.File, "x")
		}, "accounting.pipe_dir: "},
		{"a group for the pipe's folder that is none", func(t *testing.T, l *config.Loaded) {
			l.Accounting.PipeDir = filepath.Join(t.TempDir(), "x")
			l.Accounting.PipeGroup = "no-such-group-here"
		}, "no-such-group-here"},
		{"a group for a socket that is none", func(_ *testing.T, l *config.Loaded) {
			l.Admin.SocketGroup = "no-such-group-here"
		}, "admin.socket: "},
		{"an address that is taken", func(t *testing.T, l *config.Loaded) {
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { taken.Close() })
			l.Submission.Listen = []config.Addr{config.Addr(taken.Addr().String())}
			l.Tracking.Web.Listen = l.Submission.Listen
		}, "submission.listen: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := everything(t)
			l := loadConfig(t, file)
			if err := os.MkdirAll(l.StateDir, 0o700); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, l)

			g, err := buildGateway(t, l)
			if err == nil {
				g.Close()
				t.Fatal("got no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
			for _, listener := range g.Listeners {
				if _, err := listener.Accept(); err == nil {
					t.Errorf("%s still listens", listener.Addr())
				}
			}

			mend(t, l.StateDir)
			g, err = buildGateway(t, loadConfig(t, file))
			if err != nil {
				t.Fatalf("mended: %v", err)
			}
			g.Close()
		})
	}
}

// blocked puts a file where a folder, or a socket, is to be.
func blocked(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("blocked"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// mend removes what blocked put there.
func mend(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if b, err := os.ReadFile(path); err == nil && string(b) == "blocked" {
			return os.Remove(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBothAddressesThatAreTakenAreNamed: all that is wrong with listeners is
// said at once.
func TestBothAddressesThatAreTakenAreNamed(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	l := loadConfig(t, writeConfig(t, "", ""))
	addr := config.Addr(taken.Addr().String())
	l.Submission.Listen = []config.Addr{addr}
	l.Tracking.Web.Listen = []config.Addr{addr}
	l.Admin.SocketGroup = "no-such-group-here"

	_, err = buildGateway(t, l)
	for _, want := range []string{"submission.listen: ", "tracking.web.listen: ", "admin.socket: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// everything is a configuration with every kind of listener.
func everything(t *testing.T) string {
	t.Helper()
	file := writeConfig(t, "", "[reports]\nlisten = [\"127.0.0.1:0\"]\nbounce_domains = [\"b.example\"]\n"+
		"[signals]\nenabled = true\napi_key = \""+demo.DemoAPIKey+"\"\nupload_url = \"http://127.0.0.1:1/upload\"\n")
	replaceIn(t, file, "[submission]\n", "[submission]\nlisten_tls = [\"127.0.0.1:0\"]\n")
	return file
}

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

// TestServeServesEveryListener asks each of them, and the service manager's
// socket; after the end none answers, and the sockets are gone.
func TestServeServesEveryListener(t *testing.T) {
	name, read := manager(t)
	t.Setenv("NOTIFY_SOCKET", name)
	file := everything(t)
	state := filepath.Join(filepath.Dir(file), "state")
	g, log, stop := serving(t, file)
	if got := read(); got != "READY=1" {
		t.Errorf("the service manager hears %q first, want READY=1", got)
	}

	dial := func(l net.Listener) net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for what, l := range map[string]net.Listener{"submission": g.Submission[0], "reports": g.Port25[0]} {
		if got := firstLine(t, dial(l)); !strings.HasPrefix(got, "220 postern.localhost") {
			t.Errorf("%s: got %q, want the greeting", what, got)
		}
	}
	implicit := tls.Client(dial(g.SubmissionTLS[0]), &tls.Config{InsecureSkipVerify: true})
	if got := firstLine(t, implicit); !strings.HasPrefix(got, "220 postern.localhost") {
		t.Errorf("submission with TLS: got %q, want the greeting", got)
	}

	get := func(client *http.Client, url string) (int, string) {
		r, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(body)
	}
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	socket := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return localsocket.Dial(ctx, filepath.Join(state, "admin.sock"))
	}}}
	adm := "http://" + g.AdminListeners[0].Addr().String()
	if status, _ := get(plain, "http://"+g.Web[0].Addr().String()+"/nothing"); status != http.StatusNotFound {
		t.Errorf("tracker: got %d, want 404", status)
	}
	for _, client := range []*http.Client{plain, socket} {
		if status, body := get(client, adm+admin.HealthPath); status != http.StatusOK || body != "ok\n" {
			t.Errorf("health: got %d %q", status, body)
		}
		if status, body := get(client, adm+"/metrics"); status != http.StatusOK || !strings.Contains(body, "\npostern_build_info{") ||
			!strings.Contains(body, "\npostern_queue_oldest_seconds 0\n") || !strings.Contains(body, "\npostern_connections_limit{listener=\"reports\"}") ||
			!strings.Contains(body, "\npostern_memory_budget_used_bytes 0\n") || !strings.Contains(body, "\npostern_reports_memory_budget_used_bytes 0\n") ||
			!strings.Contains(body, "\ngo_goroutines ") || !strings.Contains(body, "\npostern_spool_waiting_events{reader=\"ingest\"} 0\n") {
			t.Errorf("metrics: got %d\n%s", status, body)
		}
	}
	if status, _ := get(plain, adm+"/queue"); status != http.StatusNotFound {
		t.Errorf("the queue by the listener: got %d, want 404", status)
	}
	if status, _ := get(socket, adm+"/queue"); status != http.StatusOK {
		t.Errorf("the queue by the socket: got %d, want 200", status)
	}
	if status, _ := get(socket, adm+"/debug/pprof/"); status != http.StatusOK {
		t.Errorf("profiles by the socket: got %d, want 200", status)
	}
	if status, _ := get(plain, adm+"/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("profiles by the listener: got %d, want 404", status)
	}

	if err := stop(); err != nil {
		t.Errorf("got %v at the end, want nil", err)
	}
	if got := read(); got != "STOPPING=1" {
		t.Errorf("the service manager hears %q, want STOPPING=1", got)
	}
	if g.Admin.Ready.Load() {
		t.Error("ready after the end")
	}
	for _, l := range g.Listeners {
		if _, err := l.Accept(); err == nil {
			t.Errorf("%s still listens", l.Addr())
		}
	}
	for _, socket := range []string{"admin.sock", "pipe.sock"} {
		if _, err := os.Lstat(filepath.Join(state, socket)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got %v, want it removed", socket, err)
		}
	}

	text := log.take()
	up := fmt.Sprintf("msg=\"postern is up\" submission=[%s] submission_tls=[%s] tracker=[%s] reports=[%s] admin=[%s] admin_socket=[%s/admin.sock]\n",
		g.Submission[0].Addr(), g.SubmissionTLS[0].Addr(), g.Web[0].Addr(), g.Port25[0].Addr(), g.AdminListeners[0].Addr(), state)
	if !strings.Contains(text, up) || !strings.HasSuffix(text, "msg=stopped\n") || strings.Count(text, "msg=stopping\n") != 1 {
		t.Errorf("got\n%s\nwant %s, stopping, and stopped as the last line", text, up)
	}
}

// TestAPartThatFailsEndsTheGateway closes each listener from outside.
func TestAPartThatFailsEndsTheGateway(t *testing.T) {
	for what, of := range map[string]func(g *gateway.Gateway) net.Listener{
		"submission":             func(g *gateway.Gateway) net.Listener { return g.Submission[0] },
		"tracker":                func(g *gateway.Gateway) net.Listener { return g.Web[0] },
		"reports":                func(g *gateway.Gateway) net.Listener { return g.Port25[0] },
		"admin":                  func(g *gateway.Gateway) net.Listener { return g.AdminListeners[0] },
		"admin.socket":           func(g *gateway.Gateway) net.Listener { return g.AdminSockets[0] },
		"accounting.pipe_socket": func(g *gateway.Gateway) net.Listener { return g.PipeSockets[0] },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g, log := startGateway(t, everything(t))
			ended := make(chan error, 1)
			go func() { ended <- g.Serve(t.Context()) }()
			eventually(t, "the gateway to be up", g.Admin.Ready.Load)

			of(g).Close()

			err := <-ended
			if err == nil || !strings.HasPrefix(err.Error(), what+": ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want what failed, and nothing else", err)
			}
			if text := log.take(); !strings.HasSuffix(text, "msg=stopped\n") {
				t.Errorf("got\n%s\nwant stopped as the last line", text)
			}
		})
	}
}

// TestAnUploaderWithoutItsCursorEndsTheStart: nothing that was started goes on.
func TestAnUploaderWithoutItsCursorEndsTheStart(t *testing.T) {
	g, _ := startGateway(t, everything(t))
	if err := g.Spool.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if g.Spool, err = spool.Open(spool.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}

	err = g.Serve(t.Context())
	if err == nil || g.Admin.Ready.Load() {
		t.Errorf("got %v, ready %v, want an error before it is ready", err, g.Admin.Ready.Load())
	}
	for _, l := range g.Listeners {
		if _, err := l.Accept(); err == nil {
			t.Errorf("%s still listens", l.Addr())
		}
	}
}

// TestBindingsHaveTheirRoom: each address by its key, with the bound on its
// connections; 0: its server has one of its own.
func TestBindingsHaveTheirRoom(t *testing.T) {
	file := everything(t)
	replaceIn(t, file, "mode = \"self-signed\"\n", "mode = \"acme\"\nacme_directory = \"https://127.0.0.1:1/\"\n"+
		"acme_http_listen = \"127.0.0.3:0\"\nacme_tls_listen = \"127.0.0.2:0\"\n")
	g, _ := startGateway(t, file)
	g.Connections.Tracker = 9

	var got []string
	for _, b := range g.Bindings() {
		room := 0
		if b.Room != nil {
			room = cap(b.Room.Free)
		}
		got = append(got, fmt.Sprintf("%s %s %d", b.Key, b.Addr, room))
	}
	want := []string{
		"submission.listen 127.0.0.1:0 0",
		"submission.listen_tls 127.0.0.1:0 0",
		"reports.listen 127.0.0.1:0 0",
		"tracking.web.listen 127.0.0.1:0 9",
		"certs.acme_http_listen 127.0.0.3:0 16",
		"certs.acme_tls_listen 127.0.0.2:0 16",
		"admin.listen 127.0.0.1:0 32",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(g.Listeners) != len(want)+2 {
		t.Errorf("got %d listeners, want these and two sockets", len(g.Listeners))
	}

	g.C.Certs.ACMEHTTPListen = ""
	g.C.Certs.ACMETLSListen = "127.0.0.1:0" // the tracker's
	g.C.Admin.Listen = ""
	if got := len(g.Bindings()); got != 4 {
		t.Errorf("got %d bindings, want those of mail and of the tracker alone", got)
	}
}

func TestLeastVersionOfTLS(t *testing.T) {
	for version, want := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		file := writeConfig(t, "", "")
		replaceIn(t, file, "[certs]\n", "[certs]\nmin_version = \""+version+"\"\n")
		g, _ := startGateway(t, file)
		if got := g.Certs.Config(false).MinVersion; got != want {
			t.Errorf("%s: got %x, want %x", version, got, want)
		}
	}
}

// TestPartsThatAreStarted names them, of what ends first and of what ends last.
func TestPartsThatAreStarted(t *testing.T) {
	acme := "mode = \"acme\"\nacme_directory = \"https://127.0.0.1:1/\"\nacme_http_listen = \"127.0.0.3:0\"\nacme_tls_listen = \"127.0.0.2:0\"\n"
	for _, c := range []struct {
		name        string
		file        func(t *testing.T) string
		role        config.Role
		front, back string
	}{
		{"the smallest", func(t *testing.T) string { return writeConfig(t, "", "") }, config.All,
			"submission, tracker, upstream, retry spool, accounting, accounting.pipe_socket",
			"certificates, files, tracker's state, admin, admin.socket"},
		{"everything", everything, config.All,
			"submission, submission, reports, tracker, upstream, retry spool, accounting, accounting.pipe_socket",
			"certificates, files, tracker's state, admin, admin.socket, ingest"},
		{"a tracker", everything, config.Tracker, "tracker", "files, tracker's state, admin, admin.socket, ingest"},
		{"records by standard input", func(t *testing.T) string { return writeConfig(t, "", "[accounting]\npipe = true\n") }, config.All,
			"submission, tracker, upstream, retry spool, accounting, accounting.pipe_socket, accounting.pipe",
			"certificates, files, tracker's state, admin, admin.socket"},
		{"logins upstream, no admin", func(t *testing.T) string {
			file := writeConfig(t, "", "[admin]\nlisten = \"\"\nsocket = \"\"\n")
			replaceIn(t, file, "[submission]\n", "[submission]\nauth = \"upstream\"\n")
			return file
		}, config.All, "submission, tracker, upstream, retry spool, accounting, accounting.pipe_socket", "certificates, files, tracker's state, logins upstream"},
		{"ACME", func(t *testing.T) string {
			file := writeConfig(t, "", "")
			replaceIn(t, file, "mode = \"self-signed\"\n", acme)
			return file
		}, config.All, "submission, tracker, upstream, retry spool, accounting, accounting.pipe_socket",
			"certificates, certs.acme_http_listen, certs.acme_tls_listen, acme, files, tracker's state, admin, admin.socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, problems := config.Load(c.file(t), c.role)
			if f := problems.Fatal(); len(f) > 0 {
				t.Fatal(f)
			}
			g, err := buildGateway(t, l)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()

			var front, back []string
			g.ServeFront(t.Context(), func(what string, _ func() error) { front = append(front, what) })
			if err := g.ServeBack(t.Context(), func(what string, _ func() error) { back = append(back, what) }); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(front, ", "); got != c.front {
				t.Errorf("front: got  %s\nwant %s", got, c.front)
			}
			if got := strings.Join(back, ", "); got != c.back {
				t.Errorf("back: got  %s\nwant %s", got, c.back)
			}
			if got := g.AdminServer(http.NotFoundHandler()).WriteTimeout; got != 0 {
				t.Errorf("got %v for an answer of the operators' side, want no bound", got)
			}
			for listener, want := range map[string]int{"submission": g.Connections.Submission, "reports": g.Connections.Reports, "tracker": g.Connections.Tracker} {
				if got := values(t, g.Reg)["postern_connections_limit{listener=\""+listener+"\"}"]; got != float64(want) {
					t.Errorf("%s: got a limit of %v connections, want %d", listener, got, want)
				}
			}
		})
	}
}

// TestMailGoesThrough hands a message in, and looks at what arrives, what is
// recorded and what is counted.
func TestMailGoesThrough(t *testing.T) {
	arrived := make(chan *sink.Message, 1)
	addr := startSink(t, sink.Config{Keep: func(m *sink.Message) { arrived <- m }})
	file := writeConfig(t, "", "")
	replaceIn(t, file, "127.0.0.1:1\"", addr+"\"")
	g, _, stop := serving(t, file)

	c, err := smtp.Dial(g.Submission[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	steps := []func() error{
		func() error { return c.StartTLS(&tls.Config{InsecureSkipVerify: true}) },
		func() error { return c.Auth(smtp.PlainAuth("", "app", "secret", "127.0.0.1")) },
		func() error { return c.Mail("news@example.com") },
		func() error { return c.Rcpt("a@example.net") },
		func() error {
			w, err := c.Data()
			if err != nil {
				return err
			}
			_, err = io.WriteString(w, "From: news@example.com\r\nSubject: x\r\n\r\nbody\r\n")
			return errors.Join(err, w.Close())
		},
		c.Quit,
	}
	for i, step := range steps {
		if err := step(); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}

	m := <-arrived
	if m.From != "news@example.com" || m.To != "a@example.net" || !bytes.Contains(m.Data, []byte("Subject: x\r\n")) {
		t.Errorf("got %s to %s:\n%s", m.From, m.To, m.Data)
	}
	if got := values(t, g.Reg)["postern_submission_duration_seconds"]; got != 1 {
		t.Errorf("got %v durations of submissions, want 1", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	injections := 0
	if err := spool.ReadDir(filepath.Join(filepath.Dir(file), "state", "events"), func(r spool.Record) bool {
		if ev, err := event.Decode(r.Data); err == nil && ev.Type.PublicName() == "injection" {
			injections++
		}
		return true
	}); err != nil || injections != 1 {
		t.Errorf("got %d events of injection, %v, want 1", injections, err)
	}
}

// TestServeReloadsOnEachSignal, and tells the service manager.
func TestServeReloadsOnEachSignal(t *testing.T) {
	name, read := manager(t)
	t.Setenv("NOTIFY_SOCKET", name)
	file := writeConfig(t, "", "")
	g, log := startGateway(t, file)
	ctx, cancel := context.WithCancel(t.Context())
	hup := make(chan os.Signal)
	ended := make(chan error, 1)
	go func() { ended <- g.ServeWithReload(ctx, hup) }()
	if got := read(); got != "READY=1" {
		t.Errorf("got %q, want READY=1", got)
	}
	log.take()

	for range 2 {
		hup <- os.Interrupt
		if got := read(); !strings.HasPrefix(got, "RELOADING=1\n") {
			t.Errorf("got %q, want RELOADING=1", got)
		}
		if got := read(); got != "READY=1" {
			t.Errorf("got %q, want READY=1", got)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if text := log.take(); strings.Count(text, "msg=\"configuration reloaded\" file="+file+"\n") != 2 {
		t.Errorf("got\n%s\nwant two reloads", text)
	}
}

// TestReloadIsAllOrNothing refuses what is wrong, whether the check says so or
// a part does, and says what it was.
func TestReloadIsAllOrNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(t *testing.T, file string)
		want   []string
	}{
		{"two mistakes", func(t *testing.T, file string) {
			replaceIn(t, file, "[relay]\n", "[relay]\ntls = \"x\"\nqueue = \"x\"\n")
		}, []string{"relay.tls: want one of", "relay.queue: want one of"}},
		{"not TOML", func(t *testing.T, file string) { replaceIn(t, file, "[relay]\n", "[relay\n") }, []string{":12: "}},
		{"no file", func(t *testing.T, file string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}, []string{"no such file"}},
		{"a folder for reports that cannot be made", func(t *testing.T, file string) {
			replaceIn(t, file, "[relay]\n", "[reports]\nkeep = \"users.toml\"\n[relay]\n")
		}, []string{"users.toml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeConfig(t, "", "")
			g, log := startGateway(t, file)
			before, expiry := g.Live.Load(), g.Certs.Expiry()
			log.take()
			c.change(t, file)

			g.Reload()

			text := log.take()
			if got := strings.Count(text, "level=ERROR msg=\"reload refused, the old configuration goes on\""); got != len(c.want) {
				t.Errorf("got\n%s\nwant %d refusals", text, len(c.want))
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("got\n%s\nwant %q in it", text, want)
				}
			}
			if strings.Contains(text, "configuration reloaded") || g.Live.Load() != before || !g.Certs.Expiry().Equal(expiry) {
				t.Errorf("got another configuration in use:\n%s", text)
			}
		})
	}
}

// TestReloadWarns of what is dangerous, of what takes effect at the next start,
// and of too few descriptors.
func TestReloadWarns(t *testing.T) {
	file := writeConfig(t, "", "")
	g, log := startGateway(t, file)
	log.take()
	g.Connections.Tracker++ // more than the limit allows now
	replaceIn(t, file, "[relay]\n", "[dkim]\nexpire = \"1d\"\n[log]\nformat = \"json\"\n[relay]\n")

	g.Reload()

	text := log.take()
	for _, want := range []string{
		"level=WARN msg=\"in the configuration\" problem=\"" + file + ":13: dkim.expire: warning: shorter than",
		"level=WARN msg=\"this change takes effect at the next start\" key=log.format\n",
		"level=WARN msg=\"relay.max_connections leaves too few descriptors for the connections of clients, whose limits change at the next start\" open_files=",
		"level=INFO msg=\"configuration reloaded\"",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("got\n%s\nwant %q in it", text, want)
		}
	}

	g.Connections.Tracker--
	g.Reload()
	if text := log.take(); strings.Contains(text, "descriptors") {
		t.Errorf("got\n%s\nwant no word of descriptors", text)
	}
	for _, more := range []func(*config.Connections){
		func(c *config.Connections) { c.Submission++ },
		func(c *config.Connections) { c.Reports++ },
	} {
		was := g.Connections
		more(&g.Connections)
		g.CheckDescriptors(g.C)
		g.Connections = was
		if text := log.take(); strings.Count(text, "descriptors") != 1 {
			t.Errorf("got %q, want a word of descriptors", text)
		}
	}
}

// TestReloadRetiresThePool: connections to the old upstream are closed.
func TestReloadRetiresThePool(t *testing.T) {
	s := sink.Config{}
	addr := startSink(t, s)
	file := writeConfig(t, "", "")
	replaceIn(t, file, "127.0.0.1:1\"", addr+"\"")
	g, _ := startGateway(t, file)
	old := g.Live.Load()
	if err := g.Reachable(t.Context()); err != nil {
		t.Fatal(err)
	}

	g.Reload()

	if g.Live.Load() == old || g.Live.Load().Pool == old.Pool {
		t.Error("got the old pool, want a new one")
	}
	replaceIn(t, file, addr, "127.0.0.1:1")
	g.Reload()
	if err := g.Reachable(t.Context()); err == nil {
		t.Error("reachable: got no error, want that the new upstream is not there")
	}
}

func TestReloadChangesTheLevel(t *testing.T) {
	file := writeConfig(t, "", "[log]\nlevel = \"warn\"\n")
	g, _ := startGateway(t, file)
	for level, want := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "error": slog.LevelError, "warn": slog.LevelWarn} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, now, _ := strings.Cut(string(text), "[log]\nlevel = ")
		now, _, _ = strings.Cut(now, "\n")
		replaceIn(t, file, "[log]\nlevel = "+now, "[log]\nlevel = \""+level+"\"")
		g.Reload()
		if got := g.Level.Level(); got != want {
			t.Errorf("%s: got %v", level, got)
		}
	}
}

// TestCertificatesChangeWithAReload: those of a file, and back to the local CA.
func TestCertificatesChangeWithAReload(t *testing.T) {
	file := writeConfig(t, "", "")
	dir := filepath.Dir(file)
	g, log := startGateway(t, file)
	if text := log.take(); !strings.Contains(text, "ca_file="+filepath.Join(dir, "state", "certs")) {
		t.Errorf("got\n%s\nwant the file of the local CA", text)
	}
	serial := func() string {
		c, err := g.Certs.Config(false).GetConfigForClient(&tls.ClientHelloInfo{ServerName: "postern.localhost"})
		if err != nil {
			t.Fatal(err)
		}
		return string(c.Certificates[0].Certificate[0])
	}
	first := serial()

	crt, err := os.ReadFile(filepath.Join(dir, "state", "certs", "self-signed.crt"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "state", "certs", "self-signed.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "state", "certs")); err != nil {
		t.Fatal(err)
	}
	g.Reload()
	second := serial()
	if second == first {
		t.Error("got the old certificate, want one of a new local CA")
	}

	writeFile(t, dir, "crt.pem", string(crt))
	writeFile(t, dir, "key.pem", string(key))
	replaceIn(t, file, "mode = \"self-signed\"\n", "mode = \"files\"\ncert_file = \"crt.pem\"\nkey_file = \"key.pem\"\n")
	g.Reload()
	if got := serial(); got != first {
		t.Errorf("got another certificate than that of the files:\n%s", log.take())
	}

	// The local CA is looked at once a day, and not where files are in use.
	w := gateway.FilesWatch{Renewed: time.Now()}
	g.LookAtFiles(&w, w.Renewed.Add(gateway.RenewEvery+time.Second))
	if got := serial(); got != first {
		t.Error("got a certificate of the local CA, want that of the files")
	}
}

// TestTheLocalCAIsLookedAtOnceADay.
func TestTheLocalCAIsLookedAtOnceADay(t *testing.T) {
	file := writeConfig(t, "", "")
	g, log := startGateway(t, file)
	log.take()
	certsDir := filepath.Join(filepath.Dir(file), "state", "certs")
	if err := os.RemoveAll(certsDir); err != nil {
		t.Fatal(err)
	}
	expiry := g.Certs.Expiry()
	begin := time.Now()
	w := gateway.FilesWatch{Renewed: begin}

	g.LookAtFiles(&w, begin.Add(gateway.RenewEvery))
	if _, err := os.Stat(certsDir); err == nil || !w.Renewed.Equal(begin) {
		t.Error("looked at it within a day")
	}
	later := begin.Add(gateway.RenewEvery + time.Second)
	g.LookAtFiles(&w, later)
	if _, err := os.Stat(certsDir); err != nil || !w.Renewed.Equal(later) {
		t.Errorf("not looked at after a day: %v", err)
	}
	if g.Certs.Expiry().Before(expiry) {
		t.Errorf("got %v, want a new certificate in use", g.Certs.Expiry())
	}

	if err := os.RemoveAll(certsDir); err != nil {
		t.Fatal(err)
	}
	blocked(t, certsDir)
	g.RenewLocal()
	if text := log.take(); strings.Count(text, "level=ERROR msg=\"certificate of the local CA not renewed\"") != 1 {
		t.Errorf("got\n%s\nwant that it was not renewed", text)
	}
	if err := g.Health.Check(); err != nil {
		t.Errorf("after the rounds: %v, want all alive", err)
	}
}

// TestFilesAreTakenWhenTheyChange: the users file, in two looks.
func TestFilesAreTakenWhenTheyChange(t *testing.T) {
	file := writeConfig(t, "", "")
	g, _ := startGateway(t, file)
	writeFile(t, filepath.Dir(file), "users.toml", fmt.Sprintf("[[user]]\nname = \"new\"\npassword = %q\n", testHash))
	w := gateway.FilesWatch{Renewed: time.Now()}
	for range 2 {
		g.LookAtFiles(&w, time.Now())
	}
	if _, ok := g.Users.Lookup("new"); !ok {
		t.Error("the new user is not there")
	}
}

// TestUpstreamsThatWereAwayAreLookedAt: one that is back is used again.
func TestUpstreamsThatWereAwayAreLookedAt(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	addr := startSink(t, sink.Config{Script: func(phase, _ string) sink.Action {
		if phase == "connect" && away.Load() {
			return sink.Action{Reply: "421 4.3.2 away", Drop: true}
		}
		return sink.Action{}
	}})
	file := writeConfig(t, "", "")
	replaceIn(t, file, "127.0.0.1:1\"", addr+"\"")
	g, _ := startGateway(t, file)
	if err := g.Reachable(t.Context()); err == nil {
		t.Error("away: got no error")
	}

	away.Store(false)
	g.ProbeUpstreams(t.Context())

	if err := g.Reachable(t.Context()); err != nil {
		t.Errorf("after a look: %v, want it reachable", err)
	}
}

func TestATrackerHandlesNoMail(t *testing.T) {
	file := writeConfig(t, "", "[signals]\nenabled = true\napi_key = \""+demo.DemoAPIKey+"\"\n")
	l, problems := config.Load(file, config.Tracker)
	if f := problems.Fatal(); len(f) > 0 {
		t.Fatal(f)
	}
	g, err := buildGateway(t, l)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()

	if g.Smtp != nil || g.Reports != nil || g.Users != nil || g.Certs != nil || g.Queue != nil || g.Accounting != nil ||
		len(g.Submission)+len(g.SubmissionTLS)+len(g.Port25)+len(g.PipeSockets) != 0 {
		t.Errorf("got parts that handle mail: %+v", g)
	}
	if n := g.Live.Load(); n.Relay != nil || n.Pool != nil || n.Intake != nil || n.Web == nil {
		t.Errorf("got %+v, want the tracker alone", n)
	}
	if g.Uploader == nil || len(g.Web) != 1 || len(g.AdminSockets) != 1 {
		t.Error("got no uploader, tracker or socket")
	}
	if err := g.Reachable(t.Context()); err != nil {
		t.Errorf("reachable: got %v, want nil, for it needs no upstream", err)
	}
	if note, err := g.AcceptsMail(t.Context()); note != "" || err != nil {
		t.Errorf("ready: got %q, %v", note, err)
	}
	before := g.Live.Load()
	g.Reload()
	if g.Live.Load() == before {
		t.Error("a reload is refused")
	}
	g.LookAtFiles(&gateway.FilesWatch{}, time.Now())

	l.Tracking.Web.TLS = true
	l.StateDir = filepath.Join(t.TempDir(), "other")
	l.Admin.Socket = filepath.Join(l.StateDir, "admin.sock")
	secure, err := buildGateway(t, l)
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	if secure.Certs == nil {
		t.Error("with TLS: got no certificates")
	}
}

// TestReadyNamesASpoolWithoutRoom: mail is not taken, whatever the upstream says.
func TestReadyNamesASpoolWithoutRoom(t *testing.T) {
	g, _ := startGateway(t, writeConfig(t, "", "[signals]\nmin_free_space = \"900TiB\"\n"))
	if _, err := g.AcceptsMail(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "event spool: ") {
		t.Errorf("got %v, want the event spool named", err)
	}

	g, _ = startGateway(t, writeConfig(t, "", ""))
	other, err := spool.Open(spool.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	events := g.Spool
	defer events.Close()
	g.Spool = other
	for n := int64(1) << 60; n > 0; n /= 2 { // all the room that there is
		for {
			release, err := g.Queue.Reserve(n)
			if err != nil {
				break
			}
			defer release()
		}
	}
	if _, err := g.AcceptsMail(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "retry spool: ") {
		t.Errorf("got %v, want the retry spool named", err)
	}
}

// TestReportsAreTakenForTheirDomains of the configuration in use.
func TestReportsAreTakenForTheirDomains(t *testing.T) {
	file := writeConfig(t, "", "[reports]\nlisten = [\"127.0.0.1:0\"]\nbounce_domains = [\"b.example\", \"*.w.example\"]\nfbl_domains = [\"f.example\"]\n")
	g, _ := startGateway(t, file)
	for domain, want := range map[string]bool{"b.example": true, "B.EXAMPLE": true, "x.w.example": true, "w.example": false, "f.example": true, "other.example": false} {
		if got := g.Takes(domain); got != want {
			t.Errorf("%s: got %v, want %v", domain, got, want)
		}
	}
	if err := g.Take(t.Context(), []string{"x@b.example"}, []byte(bounceMail)); err != nil {
		t.Errorf("a bounce: %v", err)
	}
}

// TestPartsShowSignsOfLife: each of those that can hang is watched.
func TestPartsShowSignsOfLife(t *testing.T) {
	g, _ := startGateway(t, everything(t))
	if err := g.Health.Check(); err != nil {
		t.Fatalf("got %v, want all alive", err)
	}
	type part struct {
		name  string
		begin func() func()
	}
	for _, p := range []part{
		{"event spool", g.Appends.Begin},
		{"retry spool", g.Puts.Begin},
		{"cursor of uploads", g.Commits.Begin},
		{"files and upstreams", g.Rounds.Begin},
	} {
		end := p.begin()
		defer end()
	}
	for name, bound := range map[string]time.Duration{"disk": gateway.DiskBound, "accept": gateway.AcceptBound, "round": gateway.RoundBound} {
		if want := map[string]time.Duration{"disk": 2 * time.Minute, "accept": time.Minute, "round": 5 * time.Minute}[name]; bound != want {
			t.Errorf("%s: got %v, want %v", name, bound, want)
		}
	}
}

// TestWorkIsShownWhileItLasts: what is under way in the spools is seen by the
// health check.
func TestWorkIsShownWhileItLasts(t *testing.T) {
	g, _ := startGateway(t, everything(t))
	mark := time.Now()
	idle := func(what string, alive time.Time) {
		t.Helper()
		if alive.Before(mark) {
			t.Errorf("%s: got %v, want it idle", what, alive)
		}
	}

	ev, err := event.Decode(storedEvent(t, event.Click, "m1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Recorder().Record(t.Context(), ev, ev); err != nil {
		t.Fatal(err)
	}
	mark = time.Now()
	idle("appends", g.Appends.Alive())
	release, err := g.Recorder().Reserve(1000)
	if err != nil {
		t.Fatal(err)
	}
	release()
	if _, err := g.Recorder().Reserve(1 << 62); err == nil {
		t.Error("more room than there is: got no error")
	}

	if err := (gateway.WatchedQueue{Queue: g.Queue, Work: &g.Puts}).Put(t.Context(), &queue.Transaction{ID: "x", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	mark = time.Now()
	idle("puts", g.Puts.Alive())
	s := &seenSource{work: &g.Commits}
	at := spool.Position{Segment: 1, Offset: 2}
	if err := (gateway.WatchedSource{Source: s, Work: &g.Commits}).Commit(at); !errors.Is(err, errSeen) || s.at != at || !s.alive.Before(time.Now()) {
		t.Errorf("got %v at %v", err, s.at)
	}
	mark = time.Now()
	idle("commits", g.Commits.Alive())

	count := 0
	if err := spool.ReadDir(g.EventsDir(), func(spool.Record) bool { count++; return true }); err != nil || count != 2 {
		t.Errorf("got %d events, %v, want both", count, err)
	}
	if err := (gateway.Recorder{Spool: g.Spool}).Record(t.Context(), ev); err != nil {
		t.Errorf("without a watch: %v", err)
	}
}

var errSeen = errors.New("seen")

// seenSource notes what is under way while it commits.
type seenSource struct {
	ingest.Source
	work  *health.Work
	at    spool.Position
	alive time.Time
}

func (s *seenSource) Commit(at spool.Position) error {
	s.at = at
	s.alive = s.work.Alive()
	return errSeen
}

// TestMessageIDsAreOursWithTheKeysInUse.
func TestMessageIDsAreOursWithTheKeysInUse(t *testing.T) {
	g, _ := startGateway(t, writeConfig(t, "", ""))
	id := g.Live.Load().Keys.NewID(time.Now()).String()
	if !g.OurID(id) || g.OurID("another") || g.OurID("") {
		t.Error("want our own id, and no other")
	}
	if got := g.MessageIDHeader(); got != "X-Sp-Message-Id" {
		t.Errorf("got %s", got)
	}
}

// TestACMEConfiguration: what the service is asked for, and who answers its
// challenges.
func TestACMEConfiguration(t *testing.T) {
	file := writeConfig(t, "", "")
	replaceIn(t, file, "mode = \"self-signed\"\n", "mode = \"acme\"\nacme_email = \"a@example.com\"\nacme_domains = [\"a.example\", \"b.example\"]\n"+
		"acme_directory = \"https://127.0.0.1:1/\"\nacme_http_listen = \"127.0.0.3:0\"\nacme_tls_listen = \"127.0.0.2:0\"\nacme_ca_file = \"ca.pem\"\n")
	writeFile(t, filepath.Dir(file), "ca.pem", testCA)
	g, _ := startGateway(t, file)

	c, err := g.AcmeConfig(g.C)
	if err != nil {
		t.Fatal(err)
	}
	if c.Dir != filepath.Join(g.C.StateDir, "certs", "acme") || !slices.Equal(c.Domains, []string{"a.example", "b.example"}) || c.Email != "a@example.com" ||
		c.Directory != "https://127.0.0.1:1/" || c.Roots == nil || c.HTTPListen != "127.0.0.3:0" || c.TLSListen != "127.0.0.2:0" ||
		len(c.Interim.Certificate) == 0 || c.Log == nil {
		t.Errorf("got %+v", c)
	}
	if len(g.AcmeHTTP) != 1 || len(g.AcmeTLS) != 1 {
		t.Errorf("got %d and %d listeners for challenges, want one each", len(g.AcmeHTTP), len(g.AcmeTLS))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer func() {
		cancel()
		wg.Wait()
	}()
	g.ServeACME(ctx, func(what string, f func() error) {
		if what == "acme" {
			return // which would ask the service
		}
		wg.Go(func() {
			if err := f(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, url := range []string{"http://" + g.AcmeHTTP[0].Addr().String(), "https://" + g.AcmeTLS[0].Addr().String()} {
		r, err := client.Get(url + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404 for all but challenges", url, r.StatusCode)
		}
	}

	g.C.Tracking.Web.Listen = []config.Addr{"127.0.0.1:80"}
	for addr, want := range map[config.OptAddr]bool{"": false, "127.0.0.1:80": false, "127.0.0.1:81": true} {
		if got := g.OwnACME(addr); got != want {
			t.Errorf("%q: got %v, want %v", addr, got, want)
		}
	}
	w := httptest.NewRecorder()
	g.TrackerHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/nothing", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("the tracker behind ACME: got %d, want 404", w.Code)
	}
	before := g.Certs.Expiry()
	g.RenewLocal()
	if g.Certs.Expiry().Before(before) {
		t.Error("the interim certificate is older than before")
	}
	g.Reload()
	if g.Live.Load().UseCerts != nil {
		t.Error("a reload prepared certificates, which ACME has")
	}
}

func TestSourcesOfLoginsUpstream(t *testing.T) {
	addr := startSink(t, sink.Config{Password: "u:p"})
	file := writeConfig(t, "", "")
	replaceIn(t, file, "127.0.0.1:1\"", addr+"\"")
	replaceIn(t, file, "[submission]\n", "[submission]\nauth = \"upstream\"\n")
	g, _ := startGateway(t, file)
	if got := g.Authenticator(); got == nil || any(got) == any(g.Users) {
		t.Error("got the users file, want the upstream asked")
	}

	sender, end, _, err := g.LoginUpstream(t.Context(), "u", "p")
	if err != nil || sender == nil || end == nil {
		t.Fatalf("got %v, %v, want a login", sender, err)
	}
	end()
	sender, end, reply, _ := g.LoginUpstream(t.Context(), "u", "wrong")
	if sender != nil || end != nil || reply.Code < 400 {
		t.Errorf("a wrong password: got %v, %+v, want the refusal and no sender", sender, reply)
	}
}

// TestTheTrackerBelievesItsProxies: PROXY comes before TLS.
func TestTheTrackersListener(t *testing.T) {
	g, _ := startGateway(t, writeConfig(t, "", ""))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := g.TrackerListener(l); got != l {
		t.Errorf("got %T, want the listener itself", got)
	}
	g.C.Tracking.Web.TLS = true
	if got := g.TrackerListener(l); fmt.Sprintf("%T", got) != "*tls.listener" {
		t.Errorf("with TLS: got %T", got)
	}
	g.C.Tracking.Web.TLS = false
	g.C.Tracking.Web.TrustedProxies = loadConfig(t, writeEveryKey(t)).Tracking.Web.TrustedProxies
	if got := g.TrackerListener(l); got == l || fmt.Sprintf("%T", got) == "*tls.listener" {
		t.Errorf("with proxies: got %T", got)
	}
}

// TestServeHTTPDrains: a request under way ends, as far as grace goes.
func TestServeHTTPDrains(t *testing.T) {
	for _, c := range []struct {
		name  string
		grace time.Duration
		whole bool
	}{
		{"with time", patience, true},
		{"without", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			entered, gate := make(chan struct{}), make(chan struct{})
			s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				select {
				case <-gate:
				case <-r.Context().Done():
				}
			})}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- gateway.ServeHTTP(ctx, s, l, func() time.Duration { return c.grace }) }()
			answered := make(chan error, 1)
			go func() {
				client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				r, err := client.Get("http://" + l.Addr().String())
				if err == nil {
					r.Body.Close()
				}
				answered <- err
			}()
			<-entered

			cancel()
			if c.whole {
				close(gate)
			}

			if err := <-answered; (err == nil) != c.whole {
				t.Errorf("got %v, want the answer %v", err, c.whole)
			}
			if err := <-ended; err != nil {
				t.Errorf("got %v, want nil", err)
			}
		})
	}
}

func TestAddrsOfListeners(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := gateway.Addrs([]net.Listener{l, nil, l}); !slices.Equal(got, []string{l.Addr().String(), l.Addr().String()}) {
		t.Errorf("got %v", got)
	}
}
