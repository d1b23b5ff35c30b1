package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/cmd/postern/config"
	"postern/cmd/postern/gateway"
)

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

// startGateway builds a gateway in this process, which does not serve yet.
func startGateway(t *testing.T, file string) (*gateway.Gateway, *buffer) {
	t.Helper()
	log := &buffer{}
	level := new(slog.LevelVar)
	g, err := gateway.New(loadConfig(t, file), slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: level})), level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g, log
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

func TestReloadKeepsWhatTakesEffectAtTheStart(t *testing.T) {
	file := writeConfig(t, "", "")
	g, log := startGateway(t, file)
	log.take()

	replaceIn(t, file, `"postern.localhost"`, `"new.example.com"`)
	replaceIn(t, file, "[relay]\n", "[relay]\njob_header = \"X-Other-Job\"\n")
	replaceIn(t, file, "[tracking.web]\n", "[signals]\nsubaccount = 7\n[dkim]\nexpire = \"30d\"\n"+
		"[log]\nlevel = \"debug\"\n[events]\nkeep = \"1h\"\n[tracking.web]\n")
	g.Reload()
	text := log.take()

	l := g.Live.Load().C
	if got := string(l.Hostname); got != "postern.localhost" {
		t.Errorf("got hostname %s in use, want that of the start", got)
	}
	if got := string(l.Relay.JobHeader); got != "X-Other-Job" {
		t.Errorf("got job_header %s in use, want the new one", got)
	}
	if l.Signals.Subaccount != 7 || l.Log.Level != "debug" {
		t.Errorf("got subaccount %d and level %s, want the new ones", l.Signals.Subaccount, l.Log.Level)
	}
	for key, want := range map[string]int{"hostname": 1, "events.keep": 1, "signals": 0, "dkim": 0, "log.level": 0} {
		if got := strings.Count(text, "key="+key+"\n"); got != want {
			t.Errorf("got %d lines that %s takes effect at the next start, want %d:\n%s", got, key, want, text)
		}
	}
}

func TestPrepareThatFailsChangesNothing(t *testing.T) {
	file := writeConfig(t, "", "")
	g, _ := startGateway(t, file)
	before, expiry := g.Live.Load(), g.Certs.Expiry()

	l := loadConfig(t, file)
	l.Tracking.KeyFile = filepath.Join(t.TempDir(), "missing")
	if _, err := g.Prepare(l); err == nil {
		t.Error("missing token keys: got no error")
	}
	l = loadConfig(t, file)
	l.Certs.Mode = "files"
	l.Certs.CertFile = "missing"
	if _, err := g.Prepare(l); err == nil {
		t.Error("missing certificate: got no error")
	}

	l = loadConfig(t, file)
	n, err := g.Prepare(l)
	if err != nil {
		t.Fatal(err)
	}
	n.C.Users = []config.User{{Name: "bad", Password: "no hash"}}
	n.UseCerts = func() { t.Error("certificates are in use though the users were refused") }
	if err := g.Swap(n); err == nil {
		t.Error("a user without a hash: got no error")
	}
	n.Discard()

	if g.Live.Load() != before || !g.Certs.Expiry().Equal(expiry) {
		t.Error("got another configuration in use, want the old one")
	}
	if _, ok := g.Users.Lookup("app"); !ok {
		t.Error("the old user is gone")
	}
}

func TestReloadKeepsMetrics(t *testing.T) {
	file := writeConfig(t, "", "")
	g, log := startGateway(t, file)
	before := values(t, g.Reg)

	for range 3 {
		g.Reload()
	}

	if text := log.take(); strings.Contains(text, "refused") {
		t.Fatal(text)
	}
	after := values(t, g.Reg)
	for name := range before {
		if _, ok := after[name]; !ok {
			t.Errorf("%s is gone after a reload", name)
		}
	}
}

func TestUsersWatchWaitsUntilTheFileStandsStill(t *testing.T) {
	dir := t.TempDir()
	state := func(n int) config.FileStamp {
		return config.StampFile(writeFile(t, dir, fmt.Sprint(n), strings.Repeat("x", n)))
	}
	a, b, c, none := state(1), state(2), state(3), config.FileStamp{}

	type step struct {
		inUse, now config.FileStamp
		want       bool
	}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"nothing new", []step{{a, a, false}, {a, a, false}}},
		{"changed during the start", []step{{a, b, false}, {a, b, true}, {a, b, false}}},
		{"being written", []step{{a, none, false}, {a, b, false}, {a, c, false}, {a, c, true}, {c, c, false}}},
		{"refused, once", []step{{a, b, false}, {a, b, true}, {a, b, false}, {a, b, false}}},
		{"back again", []step{{a, b, false}, {a, a, false}, {a, b, false}, {a, b, true}}},
		{"removed", []step{{a, none, false}, {a, none, true}, {a, none, false}}},
		{"read by a reload", []step{{a, b, false}, {b, b, false}, {b, b, false}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &gateway.UsersWatch{}
			for i, s := range test.steps {
				if got := w.Look("users.toml", s.inUse, s.now); got != s.want {
					t.Errorf("look %d: got %v, want %v", i, got, s.want)
				}
			}
		})
	}
}

func TestTakeUsers(t *testing.T) {
	entry := func(name string) string {
		return fmt.Sprintf("[[user]]\nname = %q\npassword = %q\n", name, testHash)
	}
	for _, c := range []struct {
		name, text string
		want       string // in the log
		user       string // who is there afterwards
	}{
		{"another user", entry("local") + entry("new"), "users file taken", "new"},
		{"empty", "", "it holds no user", "app"},
		{"a comment alone", "# soon\n", "it holds no user", "app"},
		{"half a table", entry("local") + "[[user]]\nname = \"ne", "unterminated", "app"},
		{"without the user of a source", entry("new"), `no user \"local\" in the users file`, "app"},
		{"a name that may not be", entry("local") + entry("a\nb"), "control characters", "app"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeConfig(t, "", "[[submission.source]]\nnetwork = \"127.0.0.1\"\nrequire_auth = false\nuser = \"local\"\n")
			dir := filepath.Dir(file)
			writeFile(t, dir, "users.toml", entry("app")+entry("local"))
			g, log := startGateway(t, file)
			log.take()

			writeFile(t, dir, "users.toml", c.text)
			w := &gateway.UsersWatch{}
			for range 3 {
				g.LookAtUsers(w)
			}

			text := log.take()
			if strings.Count(text, "msg=") != 1 || !strings.Contains(text, c.want) {
				t.Errorf("got log\n%s\nwant one line with %q", text, c.want)
			}
			if _, ok := g.Users.Lookup(c.user); !ok {
				t.Errorf("user %s is not there", c.user)
			}
		})
	}
}

// TestReloadTakesAnEmptyUsersFile: what an operator asks for is done.
func TestReloadTakesAnEmptyUsersFile(t *testing.T) {
	file := writeConfig(t, "", "")
	g, _ := startGateway(t, file)
	writeFile(t, filepath.Dir(file), "users.toml", "")

	g.Reload()

	if _, ok := g.Users.Lookup("app"); ok {
		t.Error("the user is still there after a reload")
	}
}

func TestTakeUsersLeavesAReloadAlone(t *testing.T) {
	file := writeConfig(t, "", "")
	g, _ := startGateway(t, file)
	old := g.Live.Load().C
	writeFile(t, filepath.Dir(file), "others.toml", fmt.Sprintf("[[user]]\nname = \"new\"\npassword = %q\n", testHash))
	replaceIn(t, file, "[submission]\n", "[submission]\nusers_file = \"others.toml\"\n")
	g.Reload()

	if n, err := g.TakeUsers(old); n != nil || err != nil {
		t.Errorf("got %v, %v, want nothing taken", n, err)
	}

	if _, ok := g.Users.Lookup("new"); !ok {
		t.Error("the new file's user is gone")
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
			g := &gateway.Gateway{}
			if !c.stopBy.IsZero() {
				g.StopBy.Store(&c.stopBy)
			}
			if got := g.GraceLeft(); got.Round(time.Hour) != c.grace {
				t.Errorf("%v left for uploads, want %v", got, c.grace)
			}
			if got := g.LastGrace(); got != c.last {
				t.Errorf("%v left for administration, want %v", got, c.last)
			}
		})
	}
}
