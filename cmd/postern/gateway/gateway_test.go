package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/smtp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/cmd/postern/config"
	"postern/cmd/postern/demo/sink"
	"postern/cmd/postern/localsocket"
	"postern/tracking/event"
	"postern/tracking/spool"
)

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

	for _, key := range []string{"submission.listen", "reports.listen"} {
		if got := firstLine(t, dial(t, g.Addr(key))); !strings.HasPrefix(got, "220 postern.localhost") {
			t.Errorf("%s: got %q, want the greeting", key, got)
		}
	}
	implicit := tls.Client(dial(t, g.Addr("submission.listen_tls")), &tls.Config{InsecureSkipVerify: true})
	if got := firstLine(t, implicit); !strings.HasPrefix(got, "220 postern.localhost") {
		t.Errorf("submission with TLS: got %q, want the greeting", got)
	}

	url := "http://" + g.Addr("tracking.web.listen").String() + "/nothing"
	if status, _ := get(t, newClient(nil), url); status != http.StatusNotFound {
		t.Errorf("tracker: got %d, want 404", status)
	}
	checkOperatorsSide(t, g, state)

	if err := stop(); err != nil {
		t.Errorf("got %v at the end, want nil", err)
	}
	if got := read(); got != "STOPPING=1" {
		t.Errorf("the service manager hears %q, want STOPPING=1", got)
	}
	if g.Admin().Ready.Load() {
		t.Error("ready after the end")
	}
	g.checkClosed(t)
	for _, socket := range []string{"admin.sock", "pipe.sock"} {
		if _, err := os.Lstat(filepath.Join(state, socket)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: got %v, want it removed", socket, err)
		}
	}

	text := log.take()
	up := fmt.Sprintf("msg=\"postern is up\" submission=[%s] submission_tls=[%s] tracker=[%s] reports=[%s] admin=[%s] ",
		g.Addr("submission.listen"),
		g.Addr("submission.listen_tls"),
		g.Addr("tracking.web.listen"),
		g.Addr("reports.listen"),
		g.Addr("admin.listen")) + "admin_socket=[" + state + "/admin.sock]\n"
	stopping := strings.Count(text, "msg=stopping\n")
	if !strings.Contains(text, up) || stopping != 1 || !strings.HasSuffix(text, "msg=stopped\n") {
		t.Errorf("got\n%s\nwant %s, stopping, and stopped as the last line", text, up)
	}
}

// checkOperatorsSide asks the listener and the socket of the operators.
func checkOperatorsSide(t *testing.T, g *Gateway, state string) {
	t.Helper()
	url := "http://" + g.Addr("admin.listen").String()
	plain := newClient(nil)
	socket := newClient(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return localsocket.Dial(ctx, filepath.Join(state, "admin.sock"))
	})

	for _, client := range []*http.Client{plain, socket} {
		if status, body := get(t, client, url+"/healthz"); status != http.StatusOK || body != "ok\n" {
			t.Errorf("health: got %d %q", status, body)
		}
		status, body := get(t, client, url+"/metrics")
		if status != http.StatusOK {
			t.Errorf("metrics: got %d, want 200", status)
		}
		for _, want := range []string{
			"\npostern_build_info{",
			"\npostern_queue_oldest_seconds 0\n",
			"\npostern_connections_limit{listener=\"reports\"}",
			"\npostern_memory_budget_used_bytes 0\n",
			"\npostern_reports_memory_budget_used_bytes 0\n",
			"\ngo_goroutines ",
			"\npostern_spool_waiting_events{reader=\"ingest\"} 0\n",
		} {
			if !strings.Contains(body, want) {
				t.Errorf("metrics: got\n%s\nwant %q in it", body, want)
			}
		}
	}

	for _, path := range []string{"/queue", "/debug/pprof/"} {
		if status, _ := get(t, plain, url+path); status != http.StatusNotFound {
			t.Errorf("%s of the listener: got %d, want 404", path, status)
		}
		if status, _ := get(t, socket, url+path); status != http.StatusOK {
			t.Errorf("%s of the socket: got %d, want 200", path, status)
		}
	}
}

// TestAPartThatFailsEndsTheGateway closes each listener from outside.
func TestAPartThatFailsEndsTheGateway(t *testing.T) {
	for what, key := range map[string]string{
		"submission":             "submission.listen",
		"tracker":                "tracking.web.listen",
		"reports":                "reports.listen",
		"admin":                  "admin.listen",
		"admin.socket":           "admin.socket",
		"accounting.pipe_socket": "accounting.pipe_socket",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g, log := startGateway(t, everything(t))
			ended := make(chan error, 1)
			go func() { ended <- g.Serve(t.Context()) }()
			eventually(t, "the gateway to be up", g.admin.Ready.Load)

			g.listenersOf(key)[0].Close()

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

// TestPartsThatAreStarted names them, of what ends first and of what ends last.
func TestPartsThatAreStarted(t *testing.T) {
	for _, c := range []struct {
		name        string
		file        func(t *testing.T) string
		role        config.Role
		front, back string
	}{
		{"the smallest", func(t *testing.T) string { return writeConfig(t, "") }, config.All,
			"submission, tracker, upstream, retry spool, accounting, accounting.pipe_socket",
			"certificates, files, tracker's state, admin, admin.socket"},
		{"everything", everything, config.All,
			"submission, submission, reports, tracker, upstream, retry spool, accounting, accounting.pipe_socket",
			"certificates, files, tracker's state, admin, admin.socket, ingest"},
		{"a tracker", everything, config.Tracker, "tracker", "files, tracker's state, admin, admin.socket, ingest"},
		{"records by standard input", func(t *testing.T) string {
			return writeConfig(t, "[accounting]\npipe = true\n")
		}, config.All,
			"submission, tracker, upstream, retry spool, accounting, accounting.pipe_socket, accounting.pipe",
			"certificates, files, tracker's state, admin, admin.socket"},
		{"logins upstream, no admin", func(t *testing.T) string {
			file := writeConfig(t, "[admin]\nlisten = \"\"\nsocket = \"\"\n")
			replaceIn(t, file, "[submission]\n", "[submission]\nauth = \"upstream\"\n")
			return file
		}, config.All, "submission, tracker, upstream, retry spool, accounting, accounting.pipe_socket",
			"certificates, files, tracker's state, logins upstream"},
		{"ACME", func(t *testing.T) string {
			file := writeConfig(t, "")
			useACME(t, file, "")
			return file
		}, config.All, "submission, tracker, upstream, retry spool, accounting, accounting.pipe_socket",
			"certificates, certs.acme_http_listen, certs.acme_tls_listen, acme, files, tracker's state, admin, admin.socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := startLoaded(t, loadRole(t, c.file(t), c.role))

			for stage, want := range map[stage]string{intake: c.front, carryOn: c.back} {
				got, want := g.names(stage), strings.Split(want, ", ")
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("stage %d: got  %q\nwant %q", stage, got, want)
				}
			}
			if got := g.adminServer(http.NotFoundHandler()).WriteTimeout; got != 0 {
				t.Errorf("got %v for an answer of the operators' side, want no bound", got)
			}
			for listener, want := range map[string]int{
				"submission": g.connections.Submission,
				"reports":    g.connections.Reports,
				"tracker":    g.connections.Tracker,
			} {
				if got := values(t, g.reg)["postern_connections_limit{listener=\""+listener+"\"}"]; got != float64(want) {
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
	file := writeConfig(t, "")
	useUpstream(t, file, addr)
	g, _, stop := serving(t, file)

	c, err := smtp.Dial(g.Addr("submission.listen").String())
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
	if got := values(t, g.Registry())["postern_submission_duration_seconds"]; got != 1 {
		t.Errorf("got %v durations of submissions, want 1", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	injections := 0
	err = spool.ReadDir(EventsDir(g.cfg.Config), func(r spool.Record) bool {
		if ev, err := event.Decode(r.Data); err == nil && ev.Type.PublicName() == "injection" {
			injections++
		}
		return true
	})
	if err != nil || injections != 1 {
		t.Errorf("got %d events of injection, %v, want 1", injections, err)
	}
}

func TestATrackerHandlesNoMail(t *testing.T) {
	file := writeConfig(t, "[signals]\nenabled = true\napi_key = \""+apiKey+"\"\n")
	cfg := loadRole(t, file, config.Tracker)
	g := startLoaded(t, cfg)

	if _, ok := find[*mail](g); ok {
		t.Error("got the way of messages")
	}
	if _, ok := find[*userList](g); ok {
		t.Error("got users")
	}
	if _, ok := find[*certificates](g); ok {
		t.Error("got certificates")
	}
	var keys []string
	for key := range g.addrs {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if want := []string{"admin.listen", "admin.socket", "tracking.web.listen"}; !slices.Equal(keys, want) {
		t.Errorf("got listeners of %v, want %v", keys, want)
	}
	names := slices.Concat(g.names(intake), g.names(carryOn))
	for name, want := range map[string]bool{"ingest": true, "tracker": true, "retry spool": false, "accounting": false} {
		if got := slices.Contains(names, name); got != want {
			t.Errorf("%s: got it served: %v, want %v", name, got, want)
		}
	}
	if partOf[*tracker](t, g).live.Load().handler == nil {
		t.Error("got no tracker in use")
	}

	// It needs no upstream.
	if note, err := g.acceptsMail(t.Context()); note != "" || err != nil {
		t.Errorf("ready: got %q, %v", note, err)
	}
	before := g.current.Load()
	g.reload()
	if g.current.Load() == before {
		t.Error("a reload is refused")
	}
	g.round(t.Context())

	cfg.Tracking.Web.TLS = true
	cfg.StateDir = filepath.Join(t.TempDir(), "other")
	cfg.Admin.Socket = filepath.Join(cfg.StateDir, "admin.sock")
	if _, ok := find[*certificates](startLoaded(t, cfg)); !ok {
		t.Error("with TLS: got no certificates")
	}
}

// TestGraceIsSpentOnce: what ends last has what is left of shutdown_grace, not
// another one.
func TestGraceIsSpentOnce(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name        string
		stopBy      time.Time // zero: not stopping
		grace, last time.Duration
	}{
		{name: "not stopping"},
		{name: "much is left", stopBy: now.Add(time.Hour), grace: time.Hour, last: time.Second},
		{name: "nothing is left", stopBy: now.Add(-time.Hour)},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &Gateway{}
			if !c.stopBy.IsZero() {
				g.stopBy.Store(&c.stopBy)
			}
			if got := g.graceLeft(); got.Round(time.Hour) != c.grace {
				t.Errorf("%v left for uploads, want %v", got, c.grace)
			}
			if got := g.lastGrace(); got != c.last {
				t.Errorf("%v left for administration, want %v", got, c.last)
			}
		})
	}
}
