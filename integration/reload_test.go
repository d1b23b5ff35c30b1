package integration

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/postern/demo/sink"
)

// TestReload changes users, links, upstream and DKIM key under a session that
// goes on; a bad configuration is refused and the old one stays.
func TestReload(t *testing.T) {
	needPython(t, "dkim")
	first, second := startSink(t, sink.Config{}), startSink(t, sink.Config{})
	g := newGateway(t, first.addr, "")
	g.start(t)
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	defer c.close()
	send := func() {
		t.Helper()
		if code, text := c.send("a@example.com", []string{"r@example.net"}, newsletter); code != 250 {
			t.Fatalf("%d %s", code, text)
		}
	}
	send()
	good, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(text string, said string) {
		t.Helper()
		n := strings.Count(g.log.String(), said)
		if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		g.cmd.Process.Signal(syscall.SIGHUP)
		waitFor(t, said, func() bool { return strings.Count(g.log.String(), said) > n })
	}
	reload(strings.Replace(string(good), "upstream =", "upstrem =", 1), "relay.upstrem: unknown key, did you mean upstream?")
	send()
	if n := len(first.messages()); n != 2 {
		t.Fatalf("%d messages after a refused reload", n)
	}
	os.Remove(filepath.Join(g.dir, "dkim.pem"))
	bind := run(t, "", postern, "dkim", "keygen", "--domain", "example.com", "--selector", "s1", "--out", filepath.Join(g.dir, "dkim.pem"))
	run(t, "other\n", postern, "passwd", "--config", g.config, "second")
	text := strings.Replace(string(good), first.addr, second.addr, 1)
	text = strings.Replace(text, "http://"+g.tracker, "http://tracker.test", 1)
	reload(text, "configuration reloaded")
	send() // over the session that was there before
	m := second.wait(t, 1)
	if !bytes.Contains(m.Data, []byte("http://tracker.test/t/")) {
		t.Errorf("the links lead elsewhere:\n%s", m.Data)
	}
	g.record = ""
	for _, part := range strings.Split(bind, `"`)[1:] {
		if !strings.HasPrefix(strings.TrimSpace(part), ")") && strings.TrimSpace(part) != "" {
			g.record += part
		}
	}
	g.verifyDKIM(t, m.Data)
	other := &client{addr: g.submission, user: "second", pass: "other"}
	defer other.close()
	if code, text := other.send("a@example.com", []string{"r@example.net"}, newsletter); code != 250 {
		t.Errorf("the new user: %d %s", code, text)
	}
	if status, metrics := g.get("/metrics"); status != http.StatusOK || !strings.Contains(metrics, "postern_certificate_expiry_seconds") {
		t.Errorf("metrics: %d", status)
	}
	c.close()
	other.close()
	g.stop(t)
}

// TestNotify is systemd's end of sd_notify.
func TestNotify(t *testing.T) {
	dir := t.TempDir()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "s"))
	t.Setenv("WATCHDOG_USEC", "100000")
	g := newGateway(t, freePort(t), "")
	g.start(t)
	expect := func(want string) {
		t.Helper()
		socket.SetReadDeadline(time.Now().Add(20 * time.Second))
		buf := make([]byte, 100)
		for {
			n, err := socket.Read(buf)
			if err != nil {
				t.Fatalf("%s: %v", want, err)
			}
			if got := string(buf[:n]); got == want || want == "RELOADING=1" && strings.HasPrefix(got, want+"\nMONOTONIC_USEC=") {
				return
			} else if got != "WATCHDOG=1" {
				t.Fatalf("%s, want %s", got, want)
			}
		}
	}
	expect("READY=1")
	expect("WATCHDOG=1")
	g.cmd.Process.Signal(syscall.SIGHUP)
	expect("RELOADING=1")
	expect("READY=1")
	g.stop(t)
	expect("STOPPING=1")
}

// TestSocketActivation hands the gateway listeners that were open before it, as
// systemd does: connections that came in meanwhile are served.
func TestSocketActivation(t *testing.T) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	var files []*os.File
	for _, addr := range []string{g.submission, g.tracker, freePort(t)} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		files = append(files, f)
	}
	early, err := net.Dial("tcp", g.submission)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	g.log, g.exited = &syncBuffer{}, make(chan error, 1)
	g.cmd = exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=3 exec "$0" serve --config "$1"`, postern, g.config)
	g.cmd.ExtraFiles, g.cmd.Stderr = files, g.log
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		f.Close()
	}
	cmd := g.cmd
	go func() { g.exited <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	early.SetReadDeadline(time.Now().Add(30 * time.Second))
	greeting := make([]byte, 4)
	if _, err := io.ReadFull(early, greeting); err != nil || string(greeting) != "220 " {
		t.Fatalf("%q %v\n%s", greeting, err, g.log)
	}
	waitFor(t, "the gateway", func() bool { status, _ := g.get("/healthz"); return status == 200 })
	if res := fetch(t, "http://"+g.tracker+"/"); res.StatusCode != 404 {
		t.Errorf("tracker: %s", res.Status)
	}
	if !strings.Contains(g.log.String(), "an inherited listener is named by no key") {
		t.Errorf("no word of the listener that is not used:\n%s", g.log)
	}
	g.stop(t)
}
