package gateway

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern/cmd/postern/config"
	"postern/cmd/postern/localsocket"
	"postern/tracking/spool"
)

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
		{"a hash that is none", func(_ *testing.T, l *config.Loaded) {
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
		{"a group for the pipe's socket that is none", func(_ *testing.T, l *config.Loaded) {
			l.Accounting.PipeGroup = "no-such-group-here"
		}, "accounting.pipe_socket: "},
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

			g := newGateway(l, slog.New(slog.DiscardHandler), new(slog.LevelVar))
			err := g.start()
			if err == nil {
				g.close()
				t.Fatal("got no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
			g.checkClosed(t)

			mend(t, l.StateDir)
			g, err = buildGateway(loadConfig(t, file))
			if err != nil {
				t.Fatalf("mended: %v", err)
			}
			g.close()
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
	l := loadConfig(t, writeConfig(t, ""))
	addr := config.Addr(taken.Addr().String())
	l.Submission.Listen = []config.Addr{addr}
	l.Tracking.Web.Listen = []config.Addr{addr}
	l.Admin.SocketGroup = "no-such-group-here"

	_, err = buildGateway(l)
	for _, want := range []string{"submission.listen: ", "tracking.web.listen: ", "admin.socket: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

// TestAnUploaderWithoutItsCursorEndsTheStart: what was opened for it is free
// again.
func TestAnUploaderWithoutItsCursorEndsTheStart(t *testing.T) {
	file := everything(t)
	g := newGateway(loadConfig(t, file), slog.New(slog.DiscardHandler), new(slog.LevelVar))
	s, err := spool.Open(spool.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	if err := g.addUploader(&events{spool: s}); err == nil || !strings.Contains(err.Error(), IngestReader) {
		t.Errorf("got %v, want an error that names the reader", err)
	}
	if slices.Contains(g.names(carryOn), "ingest") {
		t.Error("got uploads without a cursor")
	}
	g.close()

	if _, err := os.Stat(filepath.Join(EventsDir(g.cfg.Config), "ledger")); err != nil {
		t.Fatalf("got no uploader that was opened: %v", err)
	}
	startLoaded(t, loadConfig(t, file))
}

func TestServeRefusesTheSocketOfALivingGateway(t *testing.T) {
	shared := filepath.Join(t.TempDir(), "shared.sock")
	file := writeConfig(t, fmt.Sprintf("[admin]\nlisten = \"127.0.0.1:0\"\nsocket = %q\n", shared))
	first, _ := startGateway(t, file)

	other := loadConfig(t, writeConfig(t, fmt.Sprintf("[admin]\nlisten = \"127.0.0.1:0\"\nsocket = %q\n", shared)))
	_, err := buildGateway(other)

	if err == nil || !strings.Contains(err.Error(), shared) ||
		!strings.Contains(err.Error(), "another process listens on it") {
		t.Errorf("got %v, want that another process listens on %s", err, shared)
	}
	conn, err := localsocket.Dial(t.Context(), first.cfg.Admin.Socket)
	if err != nil {
		t.Fatalf("the first gateway no longer listens: %v", err)
	}
	conn.Close()
}

func TestSocketGroupMayPassThroughStateDir(t *testing.T) {
	group := strconv.Itoa(os.Getgid())
	file := writeConfig(t, fmt.Sprintf("[admin]\nlisten = \"127.0.0.1:0\"\nsocket_group = %q\n", group))
	g, _ := startGateway(t, file)

	for name, want := range map[string]os.FileMode{
		"":           0o710,
		"admin.sock": 0o660,
		"events":     0o700,
		"queue":      0o700,
		"accounting": 0o700,
		"certs":      0o700,
	} {
		info, err := os.Stat(filepath.Join(g.cfg.StateDir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("state_dir/%s: got mode %o, want %o", name, got, want)
		}
	}
}
