package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/postern/config"
)

// TestProblemsAreWrittenOneALine, and other errors behind the program's name.
func TestProblemsAreWrittenOneALine(t *testing.T) {
	var b strings.Builder
	e := &env{stderr: &b}
	e.report(fmt.Errorf("x: %w", config.Problems{{File: "f", Line: 1, Reason: "a"}, {File: "f", Line: 2, Reason: "b"}}))
	e.report(errors.New("c"))
	if got, want := b.String(), "f:1: a\nf:2: b\npostern: c\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestServeRefusesABadConfiguration(t *testing.T) {
	file := writeConfig(t, "", "[log]\nlevel = \"loud\"\nformat = \"xml\"\n[dkim]\nexpire = \"1d\"\n")
	code, stdout, stderr := execute(t, "", "serve", "--config", file)
	for _, want := range []string{"log.level: want one of", "log.format: want one of", "dkim.expire: warning: ", "postern: 2 problems in the configuration\n"} {
		if code != exitFailed || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("got %d %q %q, want %q", code, stdout, stderr, want)
		}
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file = writeConfig(t, "", "")
	replaceIn(t, file, "[submission]\nlisten = [\"127.0.0.1:0\"]", fmt.Sprintf("[submission]\nlisten = [%q]", taken.Addr()))
	code, _, stderr = execute(t, "", "serve", "--config", file)
	if code != exitFailed || !strings.Contains(stderr, "postern: submission.listen: ") || !strings.Contains(stderr, syscall.EADDRINUSE.Error()) {
		t.Errorf("got %d %q, want the address that is taken", code, stderr)
	}
}

// TestServeInThisProcess runs the command itself, in JSON, and ends it.
func TestServeInThisProcess(t *testing.T) {
	was := slog.Default()
	defer slog.SetDefault(was)
	limit := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(limit)
	file := writeConfig(t, "", "[log]\nformat = \"json\"\n[dkim]\nexpire = \"1d\"\n")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stderr := &buffer{}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"serve", "--config", file}, strings.NewReader(""), io.Discard, stderr)
	}()
	text := ""
	eventually(t, "the gateway to be up", func() bool {
		text += stderr.take()
		return strings.Contains(text, `"msg":"postern is up"`)
	})
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("got %d, want 0", code)
	}
	if text += stderr.take(); !strings.Contains(text, "dkim.expire: warning: ") || !strings.HasSuffix(text, "\"msg\":\"stopped\"}\n") {
		t.Errorf("got\n%s\nwant the warning, and stopped as the last line", text)
	}
	if got := debug.SetMemoryLimit(-1); os.Getenv("GOMEMLIMIT") == "" && got != 1<<30+256<<20 {
		t.Errorf("got a limit of %d bytes for the heap, want memory_budget and 256 MiB", got)
	}
}
