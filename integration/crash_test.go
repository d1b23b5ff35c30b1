package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
)

// setting reads how long a long test is, which integration/soak raises.
func setting(name string, short int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return short
}

// TestKill kills the gateway at random instants under load and reconciles what
// was acknowledged with what arrived (promises, Reliability 1).
func TestKill(t *testing.T) {
	kills := setting("POSTERN_KILLS", 6)
	for _, queue := range []string{"partial", "always"} {
		t.Run(queue, func(t *testing.T) { killTest(t, queue, kills) })
	}
}

func killTest(t *testing.T, queue string, kills int) {
	var greyMu sync.Mutex
	grey := map[string]bool{}
	s := startSink(t, sink.Config{Script: func(phase, line string) sink.Action {
		if phase == "RCPT" && strings.Contains(line, "<grey") {
			greyMu.Lock()
			defer greyMu.Unlock()
			if !grey[line] {
				grey[line] = true
				return sink.Action{Reply: "450 4.7.1 greylisted"}
			}
		}
		return sink.Action{}
	}})
	g := newGateway(t, s.addr, "")
	appendConfig(t, g, "[relay]", "queue = \""+queue+"\"\nretry_after = [\"300ms\"]")
	g.start(t)
	type acked struct {
		n  int
		to []string
	}
	var mu sync.Mutex
	var all []acked
	serial := 0
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c := &client{addr: g.submission, user: g.user, pass: g.password}
			defer c.close()
			for {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				serial++
				n := serial
				mu.Unlock()
				to := []string{fmt.Sprintf("r%d@example.net", n)}
				if n%5 == 0 {
					to = append(to, fmt.Sprintf("grey%d@example.net", n))
				}
				msg := fmt.Sprintf("From: a@example.com\r\nSubject: m-%d\r\nDate: x\r\nMessage-ID: <%d@x>\r\nContent-Type: text/html\r\n\r\n<body>%s<a href=\"https://example.com/%d\">x</a></body>\r\n", n, n, strings.Repeat("words \r\n", 200), n)
				if code, _ := c.send("a@example.com", to, msg); code == 250 {
					mu.Lock()
					all = append(all, acked{n, to})
					mu.Unlock()
				}
			}
		})
	}
	killed := rand.New(rand.NewPCG(1, uint64(kills)))
	for range kills {
		pause := time.NewTimer(time.Duration(200+killed.IntN(900)) * time.Millisecond)
		<-pause.C
		g.cmd.Process.Kill()
		<-g.exited
		g.start(t)
	}
	close(stop)
	wg.Wait()
	waitFor(t, "an empty retry spool", func() bool {
		_, m := g.get("/metrics")
		return strings.Contains(m, "\npostern_queue_copies 0\n")
	})
	g.stop(t)
	g.start(t) // what was left of the events goes now
	copies := map[string]int{}
	for _, m := range s.messages() {
		subject := regexp.MustCompile(`Subject: (m-\d+)`).FindSubmatch(m.Data)
		copies[m.To+" "+string(subject[1])]++
		if sink.Faulty(m.Data) {
			t.Errorf("a broken message arrived: %q", m.Data)
		}
	}
	missing, doubled, total := 0, 0, 0
	for _, a := range all {
		for _, to := range a.to {
			total++
			n := copies[fmt.Sprintf("%s m-%d", to, a.n)]
			if n == 0 {
				missing++
			}
			if n > 1 {
				doubled++
			}
		}
	}
	injected := func() map[string]bool {
		out := map[string]bool{}
		for _, e := range g.ingest.Events() {
			if e.Type == event.Injection {
				out[e.RcptTo] = true
			}
		}
		return out
	}
	waitFor(t, "the events", func() bool {
		have := injected()
		for _, a := range all {
			for _, to := range a.to {
				if !have[to] {
					return false
				}
			}
		}
		return true
	})
	byMessage := map[string]string{}
	for _, e := range g.ingest.Events() {
		if e.Type == event.Injection {
			if other, ok := byMessage[e.MessageID]; ok && other != e.ID {
				t.Errorf("two injection events for message id %s", e.MessageID)
			}
			byMessage[e.MessageID] = e.ID
		}
	}
	if f := g.ingest.Faults(); len(f) > 0 {
		t.Errorf("the ingest endpoint refused: %v", f)
	}
	t.Logf("%d kills: %d messages and %d copies acknowledged, %d missing, %d sent twice (%.2f %%), %d events uploaded twice with the same id",
		kills, len(all), total, missing, doubled, 100*float64(doubled)/float64(max(1, total)), g.ingest.Duplicates())
	if missing > 0 || len(all) == 0 {
		t.Errorf("%d of %d acknowledged copies are missing", missing, total)
	}
	g.stop(t)
}

// appendConfig puts lines behind a table's head.
func appendConfig(t *testing.T, g *gateway, table, lines string) {
	t.Helper()
	data, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), table+"\n", table+"\n"+lines+"\n", 1)
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "", postern, "check", "--config", g.config)
}

// TestDiskFull fills the disk under the spools: clients get 452, nothing that
// was acknowledged is lost, and mail is taken again when there is space.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		absent(t, "root, to mount a small disk,")
	}
	s := startSink(t, sink.Config{})
	port25, extra := withReports(t, "")
	g := newGateway(t, s.addr, extra)
	appendConfig(t, g, "[signals]", "min_free_space = 0") // the whole disk is smaller than its default
	state := filepath.Join(g.dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", state).CombinedOutput(); err != nil {
		absent(t, "a tmpfs ("+strings.TrimSpace(string(out))+")")
	}
	t.Cleanup(func() { exec.Command("umount", "-l", state).Run() })
	g.start(t)
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	send := func() (int, string) {
		return c.send("a@example.com", []string{"r@example.net"}, "From: a@example.com\r\nTo: r@example.net\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\nx\r\n")
	}
	if code, text := send(); code != 250 {
		t.Fatalf("with space: %d %s", code, text)
	}
	report := func() (code int) { // about that message, to port 25
		t.Helper()
		r := &session{}
		defer dialPlain(t, r, port25)()
		for _, say := range []string{"EHLO mx.example.net", "MAIL FROM:<>", "RCPT TO:<x@bounces.example.com>", "DATA", arf(s.messages()[0].Data) + "."} {
			var text string
			var err error
			if code, text, err = r.command(say); err != nil || code >= 400 && code != 452 {
				t.Errorf("%.40s: %d %s %v", say, code, text, err)
			}
		}
		return code
	}
	filler := filepath.Join(state, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	code, text := send()
	if code != 452 || !strings.HasPrefix(text, "4.3.1 ") {
		t.Errorf("without space: %d %s", code, text)
	}
	// An event still fits where the spool's last page has room: it is durable, and
	// 250 is true. Then there is no more.
	refused := false
	for range 50 {
		refused = refused || report() == 452
	}
	if !refused {
		t.Error("port 25 takes reports that nothing holds")
	}
	arrived := len(s.messages())
	if arrived != 1 {
		t.Errorf("%d messages went upstream", arrived)
	}
	if status, _ := g.get("/healthz"); status != 200 {
		t.Errorf("healthz: %d", status)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if code, text := send(); code != 250 {
		t.Errorf("with space again: %d %s", code, text)
	}
	if code := report(); code != 250 {
		t.Errorf("a report with space again: %d", code)
	}
	g.events(t, event.SpamComplaint, 1)
	g.events(t, event.Injection, 2)
	c.close()
	g.stop(t)
}

// TestManyRecipients sends one transaction to 1000 recipients: each gets a
// copy, over a bounded number of connections.
func TestManyRecipients(t *testing.T) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	g.start(t)
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	var to []string
	for i := range 1000 {
		to = append(to, fmt.Sprintf("r%d@example.net", i))
	}
	start := time.Now()
	if code, text := c.send("a@example.com", to, newsletter); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	t.Logf("1000 recipients in %s", time.Since(start).Round(time.Millisecond))
	seen := map[string]bool{}
	for _, m := range s.messages() {
		seen[m.To] = true
	}
	if len(seen) != 1000 || len(s.messages()) != 1000 {
		t.Errorf("%d copies for %d recipients", len(s.messages()), len(seen))
	}
	if code, text := c.send("a@example.com", append(to, "one-more@example.net"), newsletter); code != 452 && code != 250 {
		t.Errorf("1001 recipients: %d %s", code, text)
	}
	c.close()
	g.stop(t)
	g.events(t, event.Injection, 1000)
}

// TestAway keeps the upstream away while mail waits, and wants it delivered
// soon after its return.
func TestAway(t *testing.T) {
	addr := freePort(t)
	g := newGateway(t, addr, "")
	appendConfig(t, g, "[relay]", "queue = \"always\"\nretry_after = [\"1h\"]")
	g.start(t)
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	for i := range 50 {
		if code, text := c.send("a@example.com", []string{fmt.Sprintf("r%d@example.net", i)}, newsletter); code != 250 {
			t.Fatalf("%d %s", code, text)
		}
	}
	c.close()
	out := run(t, "", postern, "queue", "list", "--config", g.config)
	if n := strings.Count(out, "@example.net"); n != 50 {
		t.Errorf("queue list shows %d:\n%s", n, out)
	}
	g.stop(t)
	if offline := run(t, "", postern, "queue", "list", "--config", g.config); strings.Count(offline, "@example.net") != 50 {
		t.Errorf("queue list without a gateway:\n%s", offline)
	}
	g.start(t)
	got := make(chan string, 100)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		sink.New(sink.Config{Keep: func(m *sink.Message) { got <- m.To }}).Serve(ctx, l)
	}()
	defer func() { cancel(); <-done }()
	for i := range 50 {
		select {
		case <-got:
		case <-time.After(60 * time.Second):
			t.Fatalf("%d of 50 delivered a minute after the upstream's return", i)
		}
	}
	g.stop(t)
}

// TestMixedAnswer: Postfix refuses one of two recipients; the client gets 250,
// its sender a DSN by way of Postfix.
func TestMixedAnswer(t *testing.T) {
	final := startSink(t, sink.Config{})
	g := newGateway(t, startPostfix(t, final.addr), "")
	g.start(t)
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	if code, text := c.send("sender@example.net", []string{"reader@example.net", "nobody@example.net"}, newsletter); code != 250 {
		t.Fatalf("%d %s", code, text)
	}
	c.close()
	var dsn string
	waitFor(t, "the DSN", func() bool {
		for _, m := range final.messages() {
			if m.From == "" && m.To == "sender@example.net" {
				dsn = string(m.Data)
			}
		}
		return dsn != ""
	})
	for _, want := range []string{"Final-Recipient: rfc822;nobody@example.net", "Status: 5.1.1", "no such person"} {
		if !strings.Contains(dsn, want) {
			t.Errorf("no %q in\n%s", want, dsn)
		}
	}
	if e := g.events(t, event.Bounce, 1)[0]; e.RcptTo != "nobody@example.net" || e.BounceClass != "10" || e.ErrorCode != "550" {
		t.Errorf("bounce event %+v", e)
	}
	g.stop(t)
}

// TestSecondInstance: two gateways on one state directory; the second says why
// it does not start.
func TestSecondInstance(t *testing.T) {
	g := newGateway(t, freePort(t), "")
	g.start(t)
	out, err := try("", postern, "serve", "--config", g.config)
	if err == nil || !strings.Contains(out, "in use by another process") {
		t.Errorf("%v: %s", err, out)
	}
	g.stop(t)
}
