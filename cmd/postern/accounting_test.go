package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAccountingPrintUsesConfiguration: the message id's column and the site's
// classes are those of --config.
func TestAccountingPrintUsesConfiguration(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	conf := write("postern.toml", "[relay]\nmessage_id_header = \"X-My-Id\"\n[accounting.bounce_class]\nhouse = 51\n")
	records := write("acct.csv", "type,timeLogged,rcpt,dsnStatus,dsnDiag,bounceCat,header_x-my-id\n"+
		"b,1795500000,a@example.net,5.0.0,smtp;550 no,house,an-id\n")

	for _, c := range []struct {
		config string
		events int
	}{
		{"", 0},
		{conf, 1},
	} {
		var out, log bytes.Buffer
		cmd := &accountingCmd{Print: true, configFile: configFile{c.config}, Files: []string{records}}
		if err := cmd.Run(&env{ctx: context.Background(), stdout: &out, stderr: &log}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(out.String(), "an-id"); got != c.events {
			t.Errorf("config %q: %d events, want %d: %s%s", c.config, got, c.events, out.String(), log.String())
		}
		if c.events > 0 && !strings.Contains(out.String(), `"51"`) {
			t.Errorf("config %q: %s, want class 51", c.config, out.String())
		}
	}
}
