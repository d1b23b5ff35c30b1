package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/cmd/postern/gateway"
	"postern/cmd/postern/localsocket"
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

func TestServeRefusesTheSocketOfALivingGateway(t *testing.T) {
	shared := filepath.Join(t.TempDir(), "shared.sock")
	file := writeConfig(t, "", fmt.Sprintf("[admin]\nlisten = \"127.0.0.1:0\"\nsocket = %q\n", shared))
	first, _ := startGateway(t, file)

	other := loadConfig(t, writeConfig(t, "", fmt.Sprintf("[admin]\nlisten = \"127.0.0.1:0\"\nsocket = %q\n", shared)))
	_, err := gateway.New(other, slog.New(slog.DiscardHandler), new(slog.LevelVar))

	if err == nil || !strings.Contains(err.Error(), shared) || !strings.Contains(err.Error(), "another process listens on it") {
		t.Errorf("got %v, want that another process listens on %s", err, shared)
	}
	conn, err := localsocket.Dial(t.Context(), first.C.Admin.Socket)
	if err != nil {
		t.Fatalf("the first gateway no longer listens: %v", err)
	}
	conn.Close()
}

func TestSocketGroupMayPassThroughStateDir(t *testing.T) {
	file := writeConfig(t, "", fmt.Sprintf("[admin]\nlisten = \"127.0.0.1:0\"\nsocket_group = %q\n", strconv.Itoa(os.Getgid())))
	g, _ := startGateway(t, file)

	for name, want := range map[string]os.FileMode{
		"":           0o710,
		"admin.sock": 0o660,
		"events":     0o700,
		"queue":      0o700,
		"accounting": 0o700,
		"certs":      0o700,
	} {
		info, err := os.Stat(filepath.Join(g.C.StateDir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("state_dir/%s: got mode %o, want %o", name, got, want)
		}
	}
}

func TestSocketErrorsSayWhatToDo(t *testing.T) {
	c := config.Default()
	c.Admin.Socket = "/var/lib/postern/admin.sock"
	grouped := *c
	grouped.Admin.SocketGroup = "mailops"
	for _, tc := range []struct {
		name string
		c    *config.Config
		err  error
		want string
	}{
		{"none runs", c, os.ErrNotExist, "no gateway answers on admin.socket: /var/lib/postern/admin.sock"},
		{"one was killed", c, syscall.ECONNREFUSED, "no gateway answers on admin.socket"},
		{"no group", c, syscall.EACCES, "[admin] socket_group names a group that may use it too"},
		{"not in the group", &grouped, syscall.EACCES, "members of group mailops (usermod -aG mailops USER)"},
		{"something else", c, io.ErrUnexpectedEOF, "admin.socket: unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := admin.ExplainSocket(tc.c, tc.err).Error()
			if !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want it to hold %q", got, tc.want)
			}
		})
	}

	c.Admin.Socket = ""
	if _, err := admin.Ask(context.Background(), c, http.MethodGet, "/queue", nil); !errors.Is(err, admin.ErrNoGateway) {
		t.Errorf("without a socket: got %v, want errNoGateway", err)
	}
}

// replayed is an event as it is stored.
const replayed = `{"msys":{"track_event":{"type":"click","event_id":"2","message_id":"m","timestamp":"1795500000",` +
	`"delv_method":"esmtp","rcpt_to":"r@c.example","target_link_url":"http://x.example/","target_link_name":"Raw URL"}}}` + "\n"
