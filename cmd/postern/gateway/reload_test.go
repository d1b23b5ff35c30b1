package gateway

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/cmd/postern/config"
	"postern/cmd/postern/demo/sink"
)

func TestReloadKeepsWhatTakesEffectAtTheStart(t *testing.T) {
	file := writeConfig(t, "")
	g, log := startGateway(t, file)
	log.take()

	replaceIn(t, file, `"postern.localhost"`, `"new.example.com"`)
	replaceIn(t, file, "[relay]\n", "[relay]\njob_header = \"X-Other-Job\"\n")
	replaceIn(t, file, "[tracking.web]\n", "[signals]\nsubaccount = 7\n[dkim]\nexpire = \"30d\"\n"+
		"[log]\nlevel = \"debug\"\n[events]\nkeep = \"1h\"\n[tracking.web]\n")
	g.reload()
	text := log.take()

	l := g.current.Load().cfg
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
	file := writeConfig(t, "")
	g, _ := startGateway(t, file)
	store := partOf[*certificates](t, g).store
	before, expiry := g.inUse(t), store.Expiry()

	l := loadConfig(t, file)
	l.Tracking.KeyFile = filepath.Join(t.TempDir(), "missing")
	if _, err := g.prepare(l); err == nil {
		t.Error("missing token keys: got no error")
	}
	l = loadConfig(t, file)
	l.Certs.Mode = "files"
	l.Certs.CertFile = "missing"
	if _, err := g.prepare(l); err == nil {
		t.Error("missing certificate: got no error")
	}

	l = loadConfig(t, file)
	l.Users = []config.User{{Name: "bad", Password: "no hash"}}
	if _, err := g.prepare(l); err == nil {
		t.Error("a user without a hash: got no error")
	}

	if g.inUse(t) != before || !store.Expiry().Equal(expiry) {
		t.Error("got another configuration in use, want the old one")
	}
	if _, ok := partOf[*userList](t, g).users.Lookup("app"); !ok {
		t.Error("the old user is gone")
	}
}

// fakePart is a part that a reload changes, which notes what becomes of it.
type fakePart struct {
	err  error
	said *[]string
	name string
}

func (f fakePart) prepare(*generation) (change, error) {
	*f.said = append(*f.said, f.name+" prepared")
	return change{
		use:     func() { *f.said = append(*f.said, f.name+" used") },
		discard: func() { *f.said = append(*f.said, f.name+" discarded") },
	}, f.err
}

// TestWhatAFailedPartLeavesIsGivenBack: all that was prepared before it, once,
// and nothing that comes behind it.
func TestWhatAFailedPartLeavesIsGivenBack(t *testing.T) {
	g, _ := startGateway(t, writeConfig(t, ""))
	before := g.inUse(t)
	var said []string
	g.reloadables = append(g.reloadables,
		fakePart{said: &said, name: "a"},
		fakePart{said: &said, name: "b", err: errors.New("no")},
		fakePart{said: &said, name: "c"})

	g.reload()

	if want := []string{"a prepared", "b prepared", "a discarded"}; !slices.Equal(said, want) {
		t.Errorf("got %q, want %q", said, want)
	}
	if g.inUse(t) != before {
		t.Error("got another configuration in use, want the old one")
	}

	said = nil
	g.reloadables[len(g.reloadables)-2] = fakePart{said: &said, name: "b"}
	g.reload()
	want := []string{"a prepared", "b prepared", "c prepared", "a used", "b used", "c used"}
	if !slices.Equal(said, want) {
		t.Errorf("got %q, want %q", said, want)
	}
}

// inUse is what a reload replaces, of all parts that handle mail and links.
type inUse struct {
	generation *generation
	mail       *mailGeneration
	tracker    *trackerGeneration
}

func (g *Gateway) inUse(t *testing.T) inUse {
	t.Helper()
	return inUse{
		generation: g.current.Load(),
		mail:       partOf[*mail](t, g).live.Load(),
		tracker:    partOf[*tracker](t, g).live.Load(),
	}
}

func TestReloadKeepsMetrics(t *testing.T) {
	file := writeConfig(t, "")
	g, log := startGateway(t, file)
	before := values(t, g.reg)

	for range 3 {
		g.reload()
	}

	if text := log.take(); strings.Contains(text, "refused") {
		t.Fatal(text)
	}
	after := values(t, g.reg)
	for name := range before {
		if _, ok := after[name]; !ok {
			t.Errorf("%s is gone after a reload", name)
		}
	}
}

// TestServeReloadsOnEachSignal, and tells the service manager.
func TestServeReloadsOnEachSignal(t *testing.T) {
	name, read := manager(t)
	t.Setenv("NOTIFY_SOCKET", name)
	file := writeConfig(t, "")
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
		{"not TOML", func(t *testing.T, file string) { replaceIn(t, file, "[relay]\n", "[relay\n") }, []string{":11: "}},
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
			file := writeConfig(t, "")
			g, log := startGateway(t, file)
			store := partOf[*certificates](t, g).store
			before, expiry := g.inUse(t), store.Expiry()
			log.take()
			c.change(t, file)

			g.reload()

			text := log.take()
			const refused = "level=ERROR msg=\"reload refused, the old configuration goes on\""
			if got := strings.Count(text, refused); got != len(c.want) {
				t.Errorf("got\n%s\nwant %d refusals", text, len(c.want))
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("got\n%s\nwant %q in it", text, want)
				}
			}
			if strings.Contains(text, "configuration reloaded") || g.inUse(t) != before || !store.Expiry().Equal(expiry) {
				t.Errorf("got another configuration in use:\n%s", text)
			}
		})
	}
}

// TestReloadWarns of what is dangerous, of what takes effect at the next start,
// and of too few descriptors.
func TestReloadWarns(t *testing.T) {
	file := writeConfig(t, "")
	g, log := startGateway(t, file)
	log.take()
	g.connections.Tracker++ // more than the limit allows now
	replaceIn(t, file, "[relay]\n", "[dkim]\nexpire = \"1d\"\n[log]\nformat = \"json\"\n[relay]\n")

	g.reload()

	text := log.take()
	for _, want := range []string{
		"level=WARN msg=\"in the configuration\" problem=\"" + file + ":12: dkim.expire: warning: shorter than",
		"level=WARN msg=\"this change takes effect at the next start\" key=log.format\n",
		"level=WARN msg=\"relay.max_connections leaves too few descriptors for the connections of clients, " +
			"whose limits change at the next start\" open_files=",
		"level=INFO msg=\"configuration reloaded\"",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("got\n%s\nwant %q in it", text, want)
		}
	}

	g.connections.Tracker--
	g.reload()
	if text := log.take(); strings.Contains(text, "descriptors") {
		t.Errorf("got\n%s\nwant no word of descriptors", text)
	}
	for _, more := range []func(*config.Connections){
		func(c *config.Connections) { c.Submission++ },
		func(c *config.Connections) { c.Reports++ },
	} {
		was := g.connections
		more(&g.connections)
		g.checkDescriptors(g.cfg)
		g.connections = was
		if text := log.take(); strings.Count(text, "descriptors") != 1 {
			t.Errorf("got %q, want a word of descriptors", text)
		}
	}
}

// TestReloadRetiresThePool: connections to the old upstream are closed.
func TestReloadRetiresThePool(t *testing.T) {
	addr := startSink(t, sink.Config{})
	file := writeConfig(t, "")
	useUpstream(t, file, addr)
	g, _ := startGateway(t, file)
	m := partOf[*mail](t, g)
	old := m.live.Load()
	if err := m.Reachable(t.Context()); err != nil {
		t.Fatal(err)
	}

	g.reload()

	if m.live.Load() == old || m.live.Load().pool == old.pool {
		t.Error("got the old pool, want a new one")
	}
	replaceIn(t, file, addr, "127.0.0.1:1")
	g.reload()
	if err := m.Reachable(t.Context()); err == nil {
		t.Error("reachable: got no error, want that the new upstream is not there")
	}
}

func TestReloadChangesTheLevel(t *testing.T) {
	file := writeConfig(t, "[log]\nlevel = \"warn\"\n")
	g, _ := startGateway(t, file)
	for level, want := range map[string]slog.Level{
		"debug": slog.LevelDebug,
		"info":  slog.LevelInfo,
		"error": slog.LevelError,
		"warn":  slog.LevelWarn,
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, now, _ := strings.Cut(string(text), "[log]\nlevel = ")
		now, _, _ = strings.Cut(now, "\n")
		replaceIn(t, file, "[log]\nlevel = "+now, "[log]\nlevel = \""+level+"\"")
		g.reload()
		if got := g.level.Level(); got != want {
			t.Errorf("%s: got %v", level, got)
		}
	}
}
