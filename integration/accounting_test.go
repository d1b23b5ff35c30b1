package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
	"postern/tracking/token"
)

const accountingHeader = "type,timeLogged,rcpt,dsnStatus,dsnDiag,bounceCat,vmta,jobId,header_x-sp-message-id\r\n"

// accountant writes delivery records as PowerMTA would, each of a message id of
// its own.
type accountant struct {
	keys *token.Keys
	dir  string
	n    atomic.Int64
}

func (a *accountant) record() string {
	id := a.keys.NewID(time.Now())
	return fmt.Sprintf("d,%d,r%d@example.net,2.0.0 (success),\"smtp;250 OK, queued\",,mta1,job,%s\r\n", time.Now().Unix(), a.n.Add(1), id)
}

// write appends to acct.csv until stop, each record in two writes, and renames
// the file every so many records.
func (a *accountant) write(stop <-chan struct{}) error {
	file := filepath.Join(a.dir, "acct.csv")
	for round := 0; ; round++ {
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		if _, err := f.WriteString(accountingHeader); err != nil {
			return err
		}
		for range 150 {
			select {
			case <-stop:
				return f.Close()
			case <-time.After(time.Millisecond): // the rate of the load
			}
			text := a.record()
			half := len(text) / 2
			if _, err := f.WriteString(text[:half]); err != nil {
				return err
			}
			if _, err := f.WriteString(text[half:]); err != nil {
				return err
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err := os.Rename(file, filepath.Join(a.dir, fmt.Sprintf("acct-%04d.csv", round))); err != nil {
			return err
		}
	}
}

// TestAccounting kills the gateway while accounting files grow and rotate, and
// finds each record once, by its event_id.
func TestAccounting(t *testing.T) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "[accounting]\nfiles = [\"acct*.csv\"]\n")
	keys, err := token.ReadKeys(filepath.Join(g.dir, "token.keys"))
	if err != nil {
		t.Fatal(err)
	}
	g.start(t)
	a := &accountant{keys: keys, dir: g.dir}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- a.write(stop) }()
	kills := setting("POSTERN_ACCOUNTING_KILLS", 20)
	for range kills {
		before := a.n.Load()
		waitFor(t, "some more records", func() bool { return a.n.Load() > before+40 })
		g.cmd.Process.Kill()
		<-g.exited
		g.start(t)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	n := int(a.n.Load())
	g.events(t, event.Delivery, n)
	g.stop(t)
	seen, twice := map[string]int{}, 0
	for _, e := range g.ingest.Events() {
		if e.Type == event.Delivery {
			if seen[e.RcptTo]++; seen[e.RcptTo] > 1 {
				twice++
			}
		}
	}
	t.Logf("%d kills, %d records: %d lost, %d doubled, %d uploaded again with the same event_id", kills, n, n-len(seen), twice, g.ingest.Duplicates())
	if len(seen) != n || twice > 0 {
		t.Errorf("%d records made %d events, %d of them doubled", n, len(seen), twice)
	}
	out := run(t, "", postern, "accounting", "--print", filepath.Join(g.dir, "acct-0000.csv"))
	if strings.Count(out, `"type":"delivery"`) != 150 {
		t.Errorf("--print:\n%s", out)
	}
}

// TestAccountingPipe: records that are piped while no gateway runs, and while
// one does, become events.
func TestAccountingPipe(t *testing.T) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	keys, err := token.ReadKeys(filepath.Join(g.dir, "token.keys"))
	if err != nil {
		t.Fatal(err)
	}
	a := &accountant{keys: keys}
	run(t, accountingHeader+a.record()+a.record(), postern, "accounting", "--pipe", "--config", g.config)
	g.start(t)
	g.events(t, event.Delivery, 2)
	hanging := exec.Command(postern, "accounting", "--pipe", "--config", g.config)
	if _, err := hanging.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := hanging.Start(); err != nil {
		t.Fatal(err)
	}
	pipe := exec.Command(postern, "accounting", "--pipe", "--config", g.config)
	in, err := pipe.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pipe.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(in, accountingHeader+a.record())
	g.events(t, event.Delivery, 3) // the pipe is still open
	fmt.Fprint(in, a.record())
	g.events(t, event.Delivery, 4)
	in.Close()
	if err := pipe.Wait(); err != nil {
		t.Error(err)
	}
	hanging.Process.Signal(syscall.SIGTERM)
	if err := hanging.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	waitFor(t, "the pipe's files to go", func() bool {
		left, _ := filepath.Glob(filepath.Join(g.dir, "state", "accounting", "pipe", "*"))
		return len(left) == 0
	})
	g.stop(t)

	// pipe = true: serve's own standard input, up to its end and beyond.
	writeFile(t, g.config, readFile(t, g.config)+"[accounting]\npipe = true\n")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	g.stdin = r
	g.start(t)
	fmt.Fprint(w, accountingHeader+a.record())
	g.events(t, event.Delivery, 5)
	g.stop(t) // with the pipe open
	g.start(t)
	fmt.Fprint(w, accountingHeader+a.record())
	g.events(t, event.Delivery, 6)
	w.Close()
	waitFor(t, "a word of the end", func() bool { return strings.Contains(g.log.String(), "standard input has ended") })
	if status, _ := g.get("/readyz"); status != 200 {
		t.Errorf("not ready after the pipe's end: %d", status)
	}
	g.stop(t)
}
