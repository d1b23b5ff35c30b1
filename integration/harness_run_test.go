package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/cmd/postern/demo/sink"
)

// harness runs integration/harness and gives its lines by their names.
func harness(t *testing.T, env []string, args ...string) (lines map[string]string, out string, err error) {
	t.Helper()
	c := exec.Command("./harness", args...)
	c.Env = append(os.Environ(), env...)
	b, err := c.CombinedOutput()
	lines = map[string]string{}
	for line := range strings.Lines(string(b)) {
		verdict, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if name, _, _ := strings.Cut(strings.TrimSpace(rest), ":"); ok {
			lines[name] = verdict
		}
	}
	return lines, string(b), err
}

// TestHarness runs what operators run, against a gateway, which passes
// everything, and against a Postfix that gets things wrong on purpose.
func TestHarness(t *testing.T) {
	need(t, "swaks", "openssl", "curl")
	needPython(t, "dkim")
	s := startSink(t, sink.Config{})
	port25, extra := withReports(t, "")
	g := newGateway(t, s.addr, extra)
	g.start(t)
	box := t.TempDir()
	done := make(chan struct{})
	go func() { // the mailbox's side
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for len(s.messages()) == 0 {
			select {
			case <-t.Context().Done():
				return
			case <-tick.C:
			}
		}
		if err := os.WriteFile(filepath.Join(box, "1.eml"), s.messages()[0].Data, 0o600); err != nil {
			t.Error(err)
		}
	}()
	env := []string{"HARNESS_PASSWORD=" + g.password}
	ca := filepath.Join(g.dir, "state", "certs", "ca.crt")
	lines, out, err := harness(t, env, "--ca-file", ca, "--port", portOf(g.submission), "--port25", portOf(port25), "--user", g.user, "--from", "news@example.com", "--to", "me@example.net",
		"--mailbox", box, "--tracker", "http://"+g.tracker, "--report-domain", "bounces.example.com", "--dkim-record", g.record, "localhost")
	if err != nil || strings.Contains(out, "FAIL") {
		t.Errorf("against ours: %v\n%s", err, out)
	}
	for _, want := range []string{"tls1 is refused", "tls1_1 is refused", "tlsv1_2 is taken", "tlsv1_3 is taken", "the certificate is trusted and names localhost", "no AUTH on offer without TLS", "no mail without TLS", "no relaying without AUTH",
		"the right password is taken", "a tracked mail is taken", "it arrives", "links and pixels lead to the tracker", "a link leads to its target", "the signature is valid", "port 25 refuses strangers", "port 25 takes mail for bounces.example.com", "wrong passwords are refused and counted"} {
		if v := lines[want]; v != "PASS" && !(v == "SKIP" && strings.HasPrefix(want, "tls1")) {
			t.Errorf("%s: %q", want, v)
		}
	}
	<-done
	g.stop(t)
	t.Logf("against ours:\n%s", out)

	final := startSink(t, sink.Config{})
	addr := startPostfix(t, final.addr)
	lines, out, err = harness(t, env, "--ca-file", ca, "--port", portOf(addr), "--port25", portOf(addr), "--user", g.user, "--from", "news@example.com", "--to", "stranger@example.net", "localhost")
	if err == nil {
		t.Error("a Postfix without TLS that relays for all passes")
	}
	for _, want := range []string{"tls1 is refused", "tlsv1_2 is taken", "the certificate is trusted and names localhost", "no mail without TLS", "no relaying without AUTH", "the right password is taken", "port 25 refuses strangers", "wrong passwords are refused and counted"} {
		if lines[want] != "FAIL" {
			t.Errorf("%s: %q", want, lines[want])
		}
	}
	t.Logf("against a Postfix that gets things wrong:\n%s", out)
	if _, _, err := harness(t, nil); err == nil {
		t.Error("no usage without a host")
	}
	_, out, err = harness(t, nil, "--ca-file", filepath.Join(box, "1.eml"), "localhost")
	if err == nil || !strings.Contains(out, "holds no certificate") {
		t.Errorf("a CA file without a certificate: %v\n%s", err, out)
	}
}
