package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
)

func TestCommandsTalkOverTheSocket(t *testing.T) {
	for _, role := range []string{"all", "tracker"} {
		t.Run(role, func(t *testing.T) {
			p := startProcess(t, nil, "--role", role)
			info, err := os.Stat(filepath.Join(p.state, "admin.sock"))
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != 0o660 {
				t.Errorf("got mode %o of the socket, want 660", got)
			}

			events := writeFile(t, t.TempDir(), "events.ndjson", replayed)
			code, stdout, stderr := execute(t, "", "events", "replay", "--config", p.config, events)
			if code != 0 || !strings.Contains(stdout, "1 events put into the spool") {
				t.Errorf("events replay: got %d %q %q, want 1 event", code, stdout, stderr)
			}
			code, stdout, stderr = execute(t, "", "queue", "list", "--config", p.config)
			if role == "all" && (code != 0 || stdout != "nothing waits\n") {
				t.Errorf("queue list: got %d %q %q, want that nothing waits", code, stdout, stderr)
			}

			for _, path := range []string{"/debug/pprof/", "/queue", "/events", "/demo/stream", "/"} {
				if _, err := p.get(path); err == nil || !strings.Contains(err.Error(), "404") {
					t.Errorf("%s of the TCP listener: got %v, want 404", path, err)
				}
			}
			l, _ := config.Load(p.config, config.Role(role))
			for _, path := range []string{"/debug/pprof/", "/metrics", "/healthz"} {
				body, err := admin.Ask(t.Context(), l.Config, http.MethodGet, path, nil)
				if err != nil {
					t.Errorf("%s of the socket: %v", path, err)
					continue
				}
				body.Close()
			}
			if err := p.stop(t); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(p.state, "admin.sock")); err == nil {
				t.Error("the socket is still there after the end")
			}
		})
	}
}

func TestServeReplacesTheSocketOfAKilledGateway(t *testing.T) {
	p := startProcess(t, nil)
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	if _, err := os.Stat(filepath.Join(p.state, "admin.sock")); err != nil {
		t.Fatalf("no socket is left: %v", err)
	}

	// With no gateway the commands open the spool.
	code, stdout, stderr := execute(t, "", "queue", "list", "--config", p.config)
	if code != 0 || stdout != "nothing waits\n" {
		t.Errorf("after kill -9: got %d %q %q, want that nothing waits", code, stdout, stderr)
	}

	p.start(t, nil)
	if code, _, stderr := execute(t, "", "queue", "list", "--config", p.config); code != 0 {
		t.Errorf("after the restart: got %d %q, want 0", code, stderr)
	}
}

// replayed is an event as it is stored.
const replayed = `{"msys":{"track_event":{"type":"click","event_id":"2","message_id":"m","timestamp":"1795500000",` +
	`"delv_method":"esmtp","rcpt_to":"r@c.example","target_link_url":"http://x.example/","target_link_name":"Raw URL"}}}` + "\n"
