package integration

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
)

// smallState puts a gateway's state on a small disk of its own.
func smallState(t *testing.T, g *gateway, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		absent(t, "root, to mount a small disk,")
	}
	state := filepath.Join(g.dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "tmpfs", state).CombinedOutput()
	if err != nil {
		absent(t, "a tmpfs ("+strings.TrimSpace(string(out))+")")
	}
	t.Cleanup(func() { exec.Command("umount", "-l", state).Run() })

	return state
}

// metric reads a value of the running gateway, 0 where it is not there.
func (g *gateway) metric(t *testing.T, name string) int {
	t.Helper()
	_, text := g.get("/metrics")
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}

	return int(n)
}

// TestFullDiskDrains lets the retry spool fill the disk while the upstream does
// not take its mail and the ingest service no events. When both are back every
// copy is sent once, over an orderly restart in the middle too, and new mail is
// accepted.
func TestFullDiskDrains(t *testing.T) {
	for _, c := range []struct {
		queue, minFree string
		restart        bool
	}{
		{"always", "0", false},
		{"always", "2MiB", true},
		{"partial", "0", true},
		{"partial", "2MiB", false},
	} {
		t.Run(fmt.Sprint(c.queue, " ", c.minFree, " restart ", c.restart), func(t *testing.T) {
			fullDiskDrains(t, c.queue, c.minFree, c.restart)
		})
	}
}

func fullDiskDrains(t *testing.T, queue, minFree string, restart bool) {
	var away atomic.Bool
	away.Store(true)
	s := startSink(t, sink.Config{Script: func(phase, line string) sink.Action {
		switch {
		case !away.Load():
		case queue == "always" && phase == "connect":
			return sink.Action{Drop: true}
		case phase == "RCPT" && strings.Contains(line, "<later"):
			return sink.Action{Reply: "450 4.7.1 later"}
		}
		return sink.Action{}
	}})
	g := newGateway(t, s.addr, "")
	g.ingest.Fail = func(int, *http.Request) (int, http.Header, bool) {
		return http.StatusServiceUnavailable, nil, !away.Load()
	}
	appendConfig(t, g, "[relay]", "queue = \""+queue+"\"\nretry_after = [\"2s\", \"5s\"]")
	appendConfig(t, g, "[signals]", "min_free_space = \""+minFree+"\"")
	smallState(t, g, "24m")
	g.start(t)

	acked := fillWithMail(t, g, queue)
	waiting := g.metric(t, "postern_queue_copies")
	t.Logf("%d copies acknowledged, %d wait", len(acked), waiting)
	if waiting < 500 {
		t.Fatalf("only %d copies wait", waiting)
	}
	waitFor(t, "an attempt of every copy", func() bool {
		return g.metric(t, `postern_queue_attempts_total{result="deferred"}`) > waiting
	})

	away.Store(false)
	if restart {
		waitFor(t, "some deliveries", func() bool { return g.metric(t, "postern_queue_copies") < waiting*3/4 })
		g.stop(t)
		g.start(t)
	}
	waitFor(t, "an empty retry spool", func() bool { return g.metric(t, "postern_queue_copies") == 0 })

	c := &client{addr: g.submission, user: g.user, pass: g.password}
	drained := time.Now()
	waitFor(t, "new mail to be accepted", func() bool {
		code, text := c.send("a@example.com", []string{"new@example.net"}, storedMessage(0))
		c.close() // many refusals end a session
		if code != 250 && code != 452 {
			t.Fatalf("%d %s", code, text)
		}
		return code == 250
	})
	t.Logf("mail is accepted %s after the retry spool was empty", time.Since(drained).Round(time.Millisecond))
	waitFor(t, "the new message", func() bool { return g.metric(t, "postern_queue_copies") == 0 })
	g.stop(t)
	g.start(t)
	if n := g.metric(t, "postern_queue_copies"); n != 0 {
		t.Errorf("after an orderly restart %d copies wait", n)
	}
	g.stop(t)

	copies := map[string]int{}
	for _, m := range s.messages() {
		copies[m.To]++
	}
	lost, twice := 0, 0
	for _, to := range acked {
		switch n := copies[to]; {
		case n == 0:
			lost++
		case n > 1:
			twice++
		}
	}
	if lost+twice > 0 {
		t.Errorf("of %d copies %d were lost and %d sent twice", len(acked), lost, twice)
	}
}

func storedMessage(n int) string {
	return fmt.Sprintf("From: a@example.com\r\nTo: r@example.net\r\nDate: x\r\nMessage-ID: <%d@x>\r\n\r\n%s", n,
		strings.Repeat("0123456789 0123456789 0123456789 0123456789 0123456789\\\r\n", 100))
}

// fillWithMail sends until the disk is full and returns whose copies were
// acknowledged.
func fillWithMail(t *testing.T, g *gateway, queue string) (acked []string) {
	t.Helper()
	var mu sync.Mutex
	var serial atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c := &client{addr: g.submission, user: g.user, pass: g.password}
			defer c.close()
			for refused := 0; refused < 5; {
				n := serial.Add(1)
				to := []string{fmt.Sprintf("later%d@example.net", n)}
				if queue == "partial" {
					to = append(to, fmt.Sprintf("now%d@example.net", n))
				}
				switch code, text := c.send("a@example.com", to, storedMessage(int(n))); code {
				case 250:
					mu.Lock()
					acked = append(acked, to...)
					mu.Unlock()
				case 452:
					refused++
				default:
					t.Errorf("%d %s", code, text)
					return
				}
			}
		})
	}
	wg.Wait()

	return acked
}

// TestDescriptorsRunOut: strangers without a login take all descriptors of the
// process while mail is accepted. When they have gone, every event of it is
// uploaded.
func TestDescriptorsRunOut(t *testing.T) {
	need(t, "prlimit")
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	g.start(t)
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	defer c.close()
	send := func(n int) int {
		code, _ := c.send("a@example.com", []string{fmt.Sprintf("r%d@example.net", n)}, storedMessage(n))
		return code
	}
	if code := send(0); code != 250 {
		t.Fatalf("before: %d", code)
	}

	pid := strconv.Itoa(g.cmd.Process.Pid)
	run(t, "", "prlimit", "--pid", pid, "--nofile=64:64")
	var strangers []net.Conn
	defer func() {
		for _, conn := range strangers {
			conn.Close()
		}
	}()
	waitFor(t, "descriptors to run out", func() bool {
		conn, err := net.Dial("tcp", g.submission)
		if err == nil {
			strangers = append(strangers, conn)
		}
		fds, err := os.ReadDir("/proc/" + pid + "/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds) >= 64
	})

	for range 30 { // who take what comes free
		conn, err := net.Dial("tcp", g.submission)
		if err != nil {
			t.Fatal(err)
		}
		strangers = append(strangers, conn)
	}

	accepted := 1
	for n := 1; n <= 10; n++ {
		if send(n) == 250 {
			accepted++
		}
	}
	if accepted < 2 {
		t.Error("no mail was accepted")
	}
	for _, conn := range strangers {
		conn.Close()
	}
	g.events(t, event.Injection, accepted)
	g.stop(t)
}

// TestMinFreeRefusesWhatItCannotKeep: with less free than min_free_space, mail
// is refused, and events that were acknowledged before are still uploaded.
func TestMinFreeRefusesWhatItCannotKeep(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	g.ingest.Fail = func(int, *http.Request) (int, http.Header, bool) {
		return http.StatusServiceUnavailable, nil, !away.Load()
	}
	appendConfig(t, g, "[signals]", `min_free_space = "1MiB"`)
	g.start(t)
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	to := []string{"r@example.net"}
	for n := range 3 {
		if code, text := c.send("a@example.com", to, storedMessage(n)); code != 250 {
			t.Fatalf("%d %s", code, text)
		}
	}
	c.close()
	g.stop(t)

	text := strings.Replace(readFile(t, g.config), `min_free_space = "1MiB"`, `min_free_space = "900GiB"`, 1)
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start(t)
	for n := range 3 {
		code, text := c.send("a@example.com", to, storedMessage(n))
		if code != 452 || !strings.HasPrefix(text, "4.3.1 ") {
			t.Errorf("without min_free_space free: %d %s", code, text)
		}
	}
	c.close()
	if full := g.metric(t, "postern_spool_full"); full != 1 {
		t.Errorf("postern_spool_full is %d, want 1", full)
	}
	if status, body := g.get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "not enough disk space") {
		t.Errorf("readyz: %d %s", status, body)
	}
	away.Store(false)
	g.events(t, event.Injection, 3)
	g.stop(t)
	if n := len(s.messages()); n != 3 {
		t.Errorf("%d messages arrived, want 3", n)
	}
}

// TestRetriesKeepToTheMemoryBudget: large messages that wait are sent as far as
// the budget goes when the upstream is back.
func TestRetriesKeepToTheMemoryBudget(t *testing.T) {
	const budget, besides = 128, 256 // MiB
	var away atomic.Bool
	away.Store(true)
	s := startSink(t, sink.Config{Script: func(phase, line string) sink.Action {
		if phase == "connect" && away.Load() {
			return sink.Action{Drop: true}
		}
		if phase == "." {
			return sink.Action{Delay: 500 * time.Millisecond}
		}
		return sink.Action{}
	}})
	g := newGateway(t, s.addr, "")
	appendConfig(t, g, "[relay]", "queue = \"always\"\nretry_after = [\"1h\"]")
	text := readFile(t, g.config)
	if err := os.WriteFile(g.config, []byte(fmt.Sprintf("memory_budget = \"%dMiB\"\n", budget)+text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start(t)
	body := storedMessage(0) + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 23<<20/78)
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	for n := range 16 {
		if code, text := c.send("a@example.com", []string{fmt.Sprintf("r%d@example.net", n)}, body); code != 250 {
			t.Fatalf("%d %s", code, text)
		}
	}
	c.close()
	away.Store(false)
	waitFor(t, "an empty retry spool", func() bool { return g.metric(t, "postern_queue_copies") == 0 })
	status := readFile(t, fmt.Sprintf("/proc/%d/status", g.cmd.Process.Pid))
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(status)
	if m == nil {
		t.Fatalf("no peak in\n%s", status)
	}
	peak, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("peak %d MiB", peak>>10)
	if peak>>10 > budget+besides {
		t.Errorf("peak of %d MiB, budget %d MiB and %d MiB for all else", peak>>10, budget, besides)
	}
	g.stop(t)
}
