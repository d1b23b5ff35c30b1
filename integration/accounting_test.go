package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/integration/sink"
	"postern/tracking/event"
)

// TestAccounting relays mail, writes the accounting records that PowerMTA would
// write of it into a file that rotates, kills the gateway in between, and finds
// each record once by its event_id.
func TestAccounting(t *testing.T) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "[accounting]\nfiles = [\"acct*.csv\"]\n")
	g.start(t)
	const n = 40
	c := &client{addr: g.submission, user: g.user, pass: g.password}
	for i := range n {
		if code, text := c.send("a@example.com", []string{fmt.Sprintf("r%d@example.net", i)}, newsletter); code != 250 {
			t.Fatalf("%d %s", code, text)
		}
	}
	c.close()
	const header = "type,timeLogged,rcpt,dsnStatus,dsnDiag,bounceCat,vmta,jobId,header_x-sp-message-id\r\n"
	file := filepath.Join(g.dir, "acct.csv")
	kills := setting("POSTERN_ACCOUNTING_KILLS", 4)
	for i, m := range s.messages() {
		id := regexp.MustCompile(`X-Sp-Message-Id: (\w+)`).FindSubmatch(m.Data)[1]
		text := ""
		if _, err := os.Stat(file); err != nil {
			text = header
		}
		text += fmt.Sprintf("d,%d,%s,2.0.0 (success),\"smtp;250 OK, queued\",,mta1,job,%s\r\n", time.Now().Unix(), m.To, id)
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if i%7 == 6 {
			if err := os.Rename(file, filepath.Join(g.dir, fmt.Sprintf("acct-%04d.csv", i))); err != nil {
				t.Fatal(err)
			}
		}
		if kills > 0 && i%(n/kills) == n/kills-1 {
			waitFor(t, "some of the records", func() bool {
				_, m := g.get("/metrics")
				return strings.Contains(m, `accounting_records_total{result="delivery"}`)
			})
			g.cmd.Process.Kill()
			<-g.exited
			g.start(t)
		}
	}
	g.events(t, event.Delivery, n)
	g.stop(t)
	seen := map[string]int{}
	for _, e := range g.ingest.Events() {
		if e.Type == event.Delivery {
			seen[e.RcptTo]++
		}
	}
	for i := range n {
		if got := seen[fmt.Sprintf("r%d@example.net", i)]; got != 1 {
			t.Errorf("r%d: %d delivery events", i, got)
		}
	}
	out := run(t, "", postern, "accounting", "--print", filepath.Join(g.dir, "acct-0006.csv"))
	if strings.Count(out, `"type":"delivery"`) != 7 {
		t.Errorf("--print:\n%s", out)
	}
}
