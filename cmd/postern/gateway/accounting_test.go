package gateway

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMessageIDsAreOursWithTheKeysInUse(t *testing.T) {
	g, _ := startGateway(t, writeConfig(t, ""))
	id := g.current.Load().keys.NewID(time.Now()).String()
	if !g.isOurID(id) || g.isOurID("another") || g.isOurID("") {
		t.Error("want our own id, and no other")
	}
	if got := g.messageIDHeader(); got != "X-Sp-Message-Id" {
		t.Errorf("got %s", got)
	}
}

// pipedRecords are what PowerMTA writes to a pipe.
const pipedRecords = "type,timeLogged,rcpt,dsnStatus,dsnDiag,header_X-Sp-Message-Id\n" +
	"d,1795500000,a@example.net,2.0.0,smtp;250 ok,id1\n"

// TestStandardInputBringsRecords with [accounting] pipe = true; its end while
// the gateway runs is worth a line.
func TestStandardInputBringsRecords(t *testing.T) {
	g, log := startGateway(t, writeConfig(t, ""))
	log.take()
	const ended = "level=WARN msg=\"accounting.pipe: standard input has ended, no more records come that way\""

	if err := servePipe(t.Context(), strings.NewReader(pipedRecords), PipeDir(g.cfg.Config), g.log); err != nil {
		t.Fatal(err)
	}
	if got := left(t, PipeDir(g.cfg.Config)); got != pipedRecords {
		t.Errorf("got %q, want the records", got)
	}
	if text := log.take(); strings.Count(text, ended) != 1 {
		t.Errorf("got\n%s\nwant %s", text, ended)
	}

	below := filepath.Join(g.cfg.File, "x")
	if err := servePipe(t.Context(), strings.NewReader(pipedRecords), below, g.log); err == nil {
		t.Error("a folder that cannot be made: got no error")
	}
	if text := log.take(); strings.Contains(text, ended) {
		t.Errorf("where it failed: got\n%s\nwant no word of its end", text)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, w := io.Pipe()
	defer w.Close()
	if err := servePipe(ctx, r, PipeDir(g.cfg.Config), g.log); err != nil {
		t.Errorf("at the end: got %v, want nil", err)
	}
	r.Close()
	if text := log.take(); strings.Contains(text, ended) {
		t.Errorf("at the end: got\n%s\nwant no word of it", text)
	}
}

// TestPipeFolderIsTheGroups, unless it is there already.
func TestPipeFolderIsTheGroups(t *testing.T) {
	group := fmt.Sprint(os.Getgid())
	for _, c := range []struct {
		name, group string
		there       bool
		want        os.FileMode
	}{
		{"no group", "", false, os.ModeDir | 0o700},
		{"a group", group, false, os.ModeDir | os.ModeSetgid | 0o770},
		{"there already", group, true, os.ModeDir | 0o750},
	} {
		dir := filepath.Join(t.TempDir(), "a", "b")
		if c.there {
			if err := os.MkdirAll(dir, 0o750); err != nil {
				t.Fatal(err)
			}
		}
		if err := preparePipeDir(dir, c.group); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode() != c.want {
			t.Errorf("%s: got %v, %v, want mode %v", c.name, info, err, c.want)
		}
	}
	if err := preparePipeDir("", group); err != nil {
		t.Errorf("no folder: got %v, want nil", err)
	}
}

// left returns what a pipe left in a folder.
func left(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	return out.String()
}
