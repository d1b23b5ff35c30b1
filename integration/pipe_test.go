package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/postern/demo/sink"
	"postern/tracking/event"
	"postern/tracking/token"
)

// TestPipeOverSocket hands records to a gateway that is killed again and again,
// and to its folder while there is none. The pipe has no configuration. Each
// record makes one event.
func TestPipeOverSocket(t *testing.T) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	drop := filepath.Join(g.dir, "drop")
	writeFile(t, g.config, readFile(t, g.config)+fmt.Sprintf("[accounting]\npipe_dir = %q\n", drop))
	keys, err := token.ReadKeys(filepath.Join(g.dir, "token.keys"))
	if err != nil {
		t.Fatal(err)
	}
	a := &accountant{keys: keys}
	args := []string{"accounting", "--pipe", "--socket", filepath.Join(g.dir, "state", "pipe.sock"), "--dir", drop}

	g.start(t)
	pipe := exec.Command(postern, args...)
	pipe.Env = append(os.Environ(), "POSTERN_CONFIG=/nonexistent")
	var said bytes.Buffer
	pipe.Stderr = &said
	in, err := pipe.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pipe.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(in, accountingHeader+a.record())
	want := 1
	g.events(t, event.Delivery, want)

	for range 5 {
		fmt.Fprint(in, a.record())
		g.cmd.Process.Kill()
		<-g.exited
		fmt.Fprint(in, a.record()) // into the file that the gateway handed over
		run(t, accountingHeader+a.record(), postern, args...)
		want += 3
		if left, _ := filepath.Glob(filepath.Join(drop, "*.csv")); len(left) != 1 {
			t.Errorf("got %d files in the folder while there is no gateway, want 1", len(left))
		}

		g.start(t)
		g.events(t, event.Delivery, want)
		waitFor(t, "the folder to be empty", func() bool {
			left, _ := filepath.Glob(filepath.Join(drop, "*"))
			return len(left) == 0
		})
	}
	in.Close()
	if err := pipe.Wait(); err != nil {
		t.Errorf("the pipe: %v\n%s", err, said.String())
	}
	g.stop(t)

	seen := map[string]int{}
	for _, e := range g.ingest.Events() {
		if e.Type == event.Delivery {
			seen[e.RcptTo]++
		}
	}
	for to, n := range seen {
		if n > 1 {
			t.Errorf("the record of %s made %d events, want 1", to, n)
		}
	}
	if len(seen) != want {
		t.Errorf("got events of %d records, want %d", len(seen), want)
	}
	if strings.Contains(said.String(), "LOST") {
		t.Errorf("the pipe says\n%s", said.String())
	}
}
