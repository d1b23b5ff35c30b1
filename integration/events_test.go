package integration

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
)

// TestEventsCommands looks at the spool while the service is away and after it
// is back, and replays what was set aside.
func TestEventsCommands(t *testing.T) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	appendConfig(t, g, "[signals]", "log_verbose = true\nreport = [\"injection\", \"engagement\"]")
	var away atomic.Bool
	away.Store(true)
	g.ingest.Fail = func(int, *http.Request) (int, http.Header, bool) {
		if away.Load() {
			return http.StatusServiceUnavailable, http.Header{"Retry-After": {"1"}}, false
		}
		return 0, nil, true
	}
	g.start(t)
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	defer c.close()
	for range 3 {
		if code, text := c.send("a@example.com", []string{"r@example.net"}, newsletter); code != 250 {
			t.Fatalf("%d %s", code, text)
		}
	}
	stats := run(t, "", postern, "events", "stats", "--config", g.config)
	if !strings.Contains(stats, "injection     3        3") {
		t.Errorf("stats while the service is away:\n%s", stats)
	}
	tail := run(t, "", postern, "events", "tail", "--no-follow", "--type", "injection", "--config", g.config)
	if n := strings.Count(tail, `"type":"injection"`); n != 3 {
		t.Errorf("tail shows %d:\n%s", n, tail)
	}
	raw := run(t, "", postern, "events", "tail", "--no-follow", "--raw", "--type", "reception", "--config", g.config)
	if n := strings.Count(raw, `"type":"reception"`); n != 3 {
		t.Errorf("tail --raw shows %d:\n%s", n, raw)
	}
	waitFor(t, "a failed upload", func() bool { return strings.Contains(g.log.String(), "upload failed") })
	failing := regexp.MustCompile(`(?m)^1 .* failing +(\d+ +){4}[1-9]\d* .*HTTP 503`)
	waitFor(t, "a failing batch", func() bool {
		return failing.MatchString(run(t, "", postern, "events", "batches", "--config", g.config))
	})
	away.Store(false)
	g.events(t, event.Injection, 3)
	waitFor(t, "the log of the transfer", func() bool {
		return strings.Contains(g.log.String(), "Signals: Transferred 3 events in batch 1 successfully (id=")
	})
	batches := run(t, "", postern, "events", "batches", "--config", g.config)
	if !strings.Contains(batches, "  sent  ") || !strings.Contains(batches, "HTTP 503") {
		t.Errorf("batches:\n%s", batches)
	}
	file := filepath.Join(t.TempDir(), "again.ndjson")
	if err := os.WriteFile(file, []byte(tail), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", postern, "events", "replay", "--config", g.config, file) // to the running gateway
	waitFor(t, "the replay", func() bool { return g.ingest.Duplicates() == 3 })
	c.close()
	g.stop(t)
	run(t, "", postern, "events", "replay", "--config", g.config, file) // to the spool itself
	g.start(t)
	waitFor(t, "the second replay", func() bool { return g.ingest.Duplicates() >= 6 })
	g.stop(t)
}

// TestQueueCommands shows, retries and drops copies of a running gateway.
func TestQueueCommands(t *testing.T) {
	var taking atomic.Bool
	s := startSink(t, sink.Config{Script: func(phase, _ string) sink.Action {
		if phase == "RCPT" && !taking.Load() {
			return sink.Action{Reply: "450 4.2.2 full"}
		}
		return sink.Action{}
	}})
	g := newGateway(t, s.addr, "")
	appendConfig(t, g, "[relay]", "queue = \"always\"\nretry_after = [\"1h\"]")
	g.start(t)
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	defer c.close()
	code, text := c.send("a@example.com", []string{"one@example.net", "two@example.net"}, newsletter)
	_, queuedAs, ok := strings.Cut(text, "queued as ")
	if code != 250 || !ok {
		t.Fatalf("%d %s", code, text)
	}
	var list string
	waitFor(t, "two refusals", func() bool {
		list = run(t, "", postern, "queue", "list", "--config", g.config)
		return strings.Count(list, "450 4.2.2 full") == 2
	})
	id := func(to string) string {
		for _, line := range strings.Split(list, "\n") {
			if strings.Contains(line, to) {
				return strings.Fields(line)[0]
			}
		}
		t.Fatalf("no %s in\n%s", to, list)
		return ""
	}
	if msg := run(t, "", postern, "queue", "show", "--config", g.config, id("one@")); !strings.Contains(msg, "X-Sp-Message-Id: "+id("one@")) {
		t.Errorf("show:\n%s", msg)
	}

	// What the client was told leads to both copies, everywhere.
	show := run(t, "", postern, "queue", "show", "--config", g.config, queuedAs)
	tail := run(t, "", postern, "events", "tail", "--no-follow", "--config", g.config, "--message", queuedAs)
	for _, to := range []string{"one@", "two@"} {
		if !strings.Contains(show, id(to)) {
			t.Errorf("show %s: no %s in\n%s", queuedAs, id(to), show)
		}
		if !strings.Contains(tail, `"type":"injection"`) || !strings.Contains(tail, id(to)) {
			t.Errorf("tail %s: no %s in\n%s", queuedAs, id(to), tail)
		}
		line := regexp.MustCompile(`(?m)^.*msg=copy message_id=` + id(to) + ` .* outcome=queued .* session=` + queuedAs + ` .*$`)
		if !line.MatchString(g.log.String()) {
			t.Errorf("no line of %s and %s in\n%s", id(to), queuedAs, g.log.String())
		}
	}

	run(t, "", postern, "queue", "drop", "--config", g.config, id("one@"))
	taking.Store(true)
	run(t, "", postern, "queue", "retry", "--config", g.config, id("two@"))
	m := s.wait(t, 1)
	if m.To != "two@example.net" {
		t.Errorf("sent to %s", m.To)
	}
	g.verifyDKIM(t, m.Data) // whole, as it was signed before it waited
	if out, err := try("", postern, "queue", "retry", "--config", g.config, id("one@")); err == nil {
		t.Errorf("a dropped copy is retried: %s", out)
	}
	waitFor(t, "an empty queue", func() bool {
		return strings.Contains(run(t, "", postern, "queue", "list", "--config", g.config), "nothing waits")
	})
	c.close()
	g.stop(t)
}
