package systemd

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is more than anything here takes.
const patience = time.Minute

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

func TestNotifierReadsItsEnvironment(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		name     string
		env      map[string]string
		socket   string
		watchdog time.Duration
	}{
		{"nothing", nil, "", 0},
		{"path", map[string]string{"NOTIFY_SOCKET": "/run/n"}, "/run/n", 0},
		{"abstract", map[string]string{"NOTIFY_SOCKET": "@n"}, "\x00n", 0},
		{"watchdog", map[string]string{"WATCHDOG_USEC": "30000000"}, "", 30 * time.Second},
		{"ours", map[string]string{"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": pid}, "", 30 * time.Second},
		{"another's", map[string]string{"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": pid + "1"}, "", 0},
		{"no number", map[string]string{"WATCHDOG_USEC": "soon"}, "", 0},
		{"negative", map[string]string{"WATCHDOG_USEC": "-1"}, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := NewNotifier(func(k string) string { return c.env[k] })
			if n.socket != c.socket || n.watchdog != c.watchdog {
				t.Errorf("got %q and %v, want %q and %v", n.socket, n.watchdog, c.socket, c.watchdog)
			}
		})
	}
}

func TestReloadingCarriesTheMonotonicTime(t *testing.T) {
	name, read := manager(t)
	n := &Notifier{socket: name}

	n.Reloading()
	n.Send("READY=1")

	if got := read(); !regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*$`).MatchString(got) {
		t.Errorf("got %q, want RELOADING=1 with MONOTONIC_USEC", got)
	}
	if got := read(); got != "READY=1" {
		t.Errorf("got %q, want READY=1", got)
	}
}

func TestWatchdogIsSilentWhileAPartIsStuck(t *testing.T) {
	name, read := manager(t)
	n := &Notifier{socket: name, watchdog: time.Second}
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))

	stuck := n.beat(errors.New("event spool: no sign of life"), false, log)
	stuck = n.beat(errors.New("event spool: no sign of life"), stuck, log)
	if !stuck {
		t.Error("got not stuck, want stuck")
	}
	n.Send("MARK=1")
	if got := read(); got != "MARK=1" {
		t.Errorf("got %q, want no word to the watchdog", got)
	}
	if got := strings.Count(logged.String(), "event spool"); got != 1 {
		t.Errorf("got %d lines about it, want one:\n%s", got, logged.String())
	}

	if stuck = n.beat(nil, stuck, log); stuck {
		t.Error("got stuck, want that it goes on")
	}
	if got := read(); got != "WATCHDOG=1" {
		t.Errorf("got %q, want WATCHDOG=1", got)
	}
}
