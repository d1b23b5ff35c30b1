package integration

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"postern/cmd/postern/demo/sink"
)

// TestIdleConnections holds many sessions over TLS that do nothing: memory stays
// bounded (promises, Reliability 8) and a newcomer is served.
func TestIdleConnections(t *testing.T) {
	n := setting("POSTERN_IDLE", 300)
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	g.start(t)
	for range n {
		c, err := dialSMTP(g.submission, g.user, g.password)
		if err != nil {
			t.Fatal(err)
		}
		defer c.c.Close()
	}
	newcomer := &client{addr: g.submission, user: g.user, pass: g.password}
	defer newcomer.close()
	if code, text := newcomer.send("a@example.com", []string{"r@example.net"}, newsletter); code != 250 {
		t.Errorf("a newcomer: %d %s", code, text)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	rss := 0
	for _, line := range bytes.Split(status, []byte("\n")) {
		if v, ok := strings.CutPrefix(string(line), "VmRSS:"); ok {
			rss, _ = strconv.Atoi(strings.Fields(v)[0])
		}
	}
	t.Logf("%d idle TLS sessions: %d MiB resident", n, rss/1024)
	if limit := (100 + n*50/1000) << 10; rss > limit { // 1000 of them: 150 MiB
		t.Errorf("%d MiB resident, want at most %d", rss/1024, limit/1024)
	}
}
