package online

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/cmd/postern/config"
	"postern/cmd/postern/demo/sink"
	"postern/dkim"
	"postern/integration/dnsd"
	"postern/smtpd/auth"
	"postern/tracking/token"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startSink starts a sink and returns its address.
func startSink(t *testing.T, c sink.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = sink.New(c).Serve(ctx, l) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return l.Addr().String()
}

// startDNS starts a DNS server and returns its address.
func startDNS(t *testing.T, records map[string][]string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { dnsd.Serve(ctx, c, records) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return c.LocalAddr().String()
}

// testHash is the hash of "secret".
var testHash = func() string {
	h, err := auth.HashPassword("secret")
	if err != nil {
		panic(err)
	}
	return h
}()

// writeFile writes a file of a test's folder and returns its path.
func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// writeConfig makes a folder with everything that a gateway needs, which
// listens on ports that the system chooses, and returns the configuration
// file. extra goes to its top level, more at its end.
func writeConfig(t *testing.T, extra, more string) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := token.AddKey(filepath.Join(dir, "token.keys"), time.Now()); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "users.toml", fmt.Sprintf("[[user]]\nname = \"app\"\npassword = %q\n", testHash))
	if !strings.Contains(more, "[admin]") {
		more += "[admin]\nlisten = \"127.0.0.1:0\"\n"
	}

	return writeFile(t, dir, "postern.toml", fmt.Sprintf(`hostname = "postern.localhost"
state_dir = %q
shutdown_grace = "2s"
%s

[submission]
listen = ["127.0.0.1:0"]

[certs]
mode = "self-signed"

[relay]
upstream = ["127.0.0.1:1"]

[tracking]
url = "http://localhost"

[tracking.web]
listen = ["127.0.0.1:0"]
%s
`, filepath.Join(dir, "state"), extra, more))
}

func loadConfig(t *testing.T, file string) *config.Loaded {
	t.Helper()
	l, problems := config.Load(file, config.All)
	if fatal := problems.Fatal(); len(fatal) > 0 {
		t.Fatal(fatal)
	}
	return l
}

// replaceIn replaces a part of a file.
func replaceIn(t *testing.T, file, old, with string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("%s does not hold %q", file, old)
	}
	writeFile(t, filepath.Dir(file), filepath.Base(file), strings.Replace(string(b), old, with, 1))
}

// signingKey makes a key file for example.com with selector s.
func signingKey(t *testing.T, dir string) string {
	t.Helper()
	_, pem, err := dkim.Generate("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, dir, "dkim.pem", string(pem))
}

func recordOf(keyFile string) (string, error) {
	k, err := dkim.ReadKey("example.com", "s", keyFile)
	if err != nil {
		return "", err
	}
	return dkim.RecordValue(k.Private)
}
