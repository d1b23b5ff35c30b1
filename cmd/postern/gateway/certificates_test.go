package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/certs"
	"postern/cmd/postern/config"
)

func TestLeastVersionOfTLS(t *testing.T) {
	for version, want := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		file := writeConfig(t, "")
		replaceIn(t, file, "[certs]\n", "[certs]\nmin_version = \""+version+"\"\n")
		g, _ := startGateway(t, file)
		if got := partOf[*certificates](t, g).store.Config(false).MinVersion; got != want {
			t.Errorf("%s: got %x, want %x", version, got, want)
		}
	}
}

// TestCertificatesChangeWithAReload: those of a file, and back to the local CA.
func TestCertificatesChangeWithAReload(t *testing.T) {
	file := writeConfig(t, "")
	dir := filepath.Dir(file)
	g, log := startGateway(t, file)
	if text := log.take(); !strings.Contains(text, "ca_file="+filepath.Join(dir, "state", "certs")) {
		t.Errorf("got\n%s\nwant the file of the local CA", text)
	}
	parts := partOf[*certificates](t, g)
	serial := func() string {
		c, err := parts.store.Config(false).GetConfigForClient(&tls.ClientHelloInfo{ServerName: "postern.localhost"})
		if err != nil {
			t.Fatal(err)
		}
		return string(c.Certificates[0].Certificate[0])
	}
	first := serial()

	crt, err := os.ReadFile(filepath.Join(dir, "state", "certs", "self-signed.crt"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "state", "certs", "self-signed.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "state", "certs")); err != nil {
		t.Fatal(err)
	}
	g.reload()
	second := serial()
	if second == first {
		t.Error("got the old certificate, want one of a new local CA")
	}

	writeFile(t, dir, "crt.pem", string(crt))
	writeFile(t, dir, "key.pem", string(key))
	replaceIn(t, file, "mode = \"self-signed\"\n", "mode = \"files\"\ncert_file = \"crt.pem\"\nkey_file = \"key.pem\"\n")
	g.reload()
	if got := serial(); got != first {
		t.Errorf("got another certificate than that of the files:\n%s", log.take())
	}

	// The local CA is looked at once a day, and not where files are in use.
	later := parts.renewed.Add(renewEvery + time.Second)
	parts.now = func() time.Time { return later }
	g.round(t.Context())
	if got := serial(); got != first || !parts.renewed.Equal(later) {
		t.Error("got a certificate of the local CA, want that of the files")
	}

	// Back at the local CA, it is renewed again.
	replaceIn(t, file, "mode = \"files\"\n", "mode = \"self-signed\"\n")
	g.reload()
	third := serial()
	if third == first || third != second {
		t.Error("got another certificate than that of the local CA")
	}
	if err := os.RemoveAll(filepath.Join(dir, "state", "certs")); err != nil {
		t.Fatal(err)
	}
	later = later.Add(renewEvery + time.Second)
	g.round(t.Context())
	if got := serial(); got == third {
		t.Error("got the old certificate of the local CA, want a new one")
	}
}

// TestChangedCertificatesAreTaken once their files have stood still.
func TestChangedCertificatesAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := writeConfig(t, "")
		dir := filepath.Dir(file)
		pair := func() []byte { // from a CA of its own each time
			from := t.TempDir()
			made, err := certs.SelfSigned(from, "postern.localhost", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"self-signed.crt", "self-signed.key"} {
				if err := os.Rename(filepath.Join(from, name), filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			return made.Certificate[0]
		}
		pair()
		replaceIn(t, file, "mode = \"self-signed\"\n",
			"mode = \"files\"\ncert_file = \"self-signed.crt\"\nkey_file = \"self-signed.key\"\n")
		g, _ := startGateway(t, file)
		ctx, cancel := context.WithCancel(t.Context())
		watch := newGroup(ctx, func() { t.Error("certificates failed") })
		for _, c := range g.components {
			if c.name == "certificates" {
				watch.run(c)
			}
		}

		want := pair()
		time.Sleep(3 * watchEvery)
		synctest.Wait()

		config, err := partOf[*certificates](t, g).store.Config(false).GetConfigForClient(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(config.Certificates[0].Certificate[0], want) {
			t.Error("got the old certificate, want that of the changed files")
		}
		cancel()
		if err := watch.wait(); err != nil {
			t.Error(err)
		}
	})
}

// TestTheLocalCAIsLookedAtOnceADay: not before a day has passed.
func TestTheLocalCAIsLookedAtOnceADay(t *testing.T) {
	file := writeConfig(t, "")
	g, log := startGateway(t, file)
	log.take()
	certsDir := filepath.Join(filepath.Dir(file), "state", "certs")
	if err := os.RemoveAll(certsDir); err != nil {
		t.Fatal(err)
	}
	c := partOf[*certificates](t, g)
	expiry := c.store.Expiry()
	begin := time.Now()
	now := begin.Add(renewEvery)
	c.renewed = begin
	c.now = func() time.Time { return now }

	g.round(t.Context())
	if _, err := os.Stat(certsDir); err == nil || !c.renewed.Equal(begin) {
		t.Error("looked at it within a day")
	}
	now = begin.Add(renewEvery + time.Second)
	g.round(t.Context())
	if _, err := os.Stat(certsDir); err != nil || !c.renewed.Equal(now) {
		t.Errorf("not looked at after a day: %v", err)
	}
	if c.store.Expiry().Before(expiry) {
		t.Errorf("got %v, want a new certificate in use", c.store.Expiry())
	}

	if err := os.RemoveAll(certsDir); err != nil {
		t.Fatal(err)
	}
	blocked(t, certsDir)
	c.renewLocal()
	if text := log.take(); strings.Count(text, "level=ERROR msg=\"certificate of the local CA not renewed\"") != 1 {
		t.Errorf("got\n%s\nwant that it was not renewed", text)
	}
	if err := g.health.Check(); err != nil {
		t.Errorf("after the rounds: %v, want all alive", err)
	}
}

// withACME starts a gateway that asks an ACME service.
func withACME(t *testing.T) (*Gateway, *certificates) {
	t.Helper()
	file := writeConfig(t, "")
	useACME(t, file, "acme_email = \"a@example.com\"\n"+
		"acme_domains = [\"a.example\", \"b.example\"]\nacme_ca_file = \"ca.pem\"\n")
	writeFile(t, filepath.Dir(file), "ca.pem", testCA)
	g, _ := startGateway(t, file)

	return g, partOf[*certificates](t, g)
}

// TestACMEConfiguration: what the service is asked for.
func TestACMEConfiguration(t *testing.T) {
	g, parts := withACME(t)

	c, err := parts.acmeConfig()
	if err != nil {
		t.Fatal(err)
	}
	if c.Dir != filepath.Join(g.cfg.StateDir, "certs", "acme") || c.Email != "a@example.com" ||
		!slices.Equal(c.Domains, []string{"a.example", "b.example"}) ||
		c.Directory != "https://127.0.0.1:1/" || c.Roots == nil ||
		c.HTTPListen != "127.0.0.3:0" || c.TLSListen != "127.0.0.2:0" ||
		len(c.Interim.Certificate) == 0 || c.Log == nil {
		t.Errorf("got %+v", c)
	}

	before := parts.store.Expiry()
	parts.renewLocal()
	if parts.store.Expiry().Before(before) {
		t.Error("the interim certificate is older than before")
	}

	use := g.inUse(t)
	g.reload()
	next := g.inUse(t)
	if next == use {
		t.Error("a reload is refused")
	}
	if c, err := parts.prepare(next.generation); c.use != nil || c.discard != nil || err != nil {
		t.Error("a reload prepared certificates, which ACME has")
	}
}

// TestChallengesAreAnswered where the tracker does not answer them, and nothing
// else is.
func TestChallengesAreAnswered(t *testing.T) {
	g, parts := withACME(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	listeners := newGroup(ctx, func() { t.Error("a listener failed") })
	for _, c := range g.components { // but for "acme", which would ask the service
		if strings.HasPrefix(c.name, "certs.acme_") {
			listeners.run(c)
		}
	}

	for key, scheme := range map[string]string{"certs.acme_http_listen": "http://", "certs.acme_tls_listen": "https://"} {
		if n := len(g.addrs[key]); n != 1 {
			t.Fatalf("%s: got %d listeners for challenges, want one", key, n)
		}
		url := scheme + g.Addr(key).String() + "/metrics"
		if status, _ := get(t, newClient(nil), url); status != http.StatusNotFound {
			t.Errorf("%s: got %d, want 404 for all but challenges", key, status)
		}
	}
	cancel()
	if err := listeners.wait(); err != nil {
		t.Error(err)
	}

	w := httptest.NewRecorder()
	partOf[*tracker](t, g).handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/nothing", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("the tracker behind ACME: got %d, want 404", w.Code)
	}

	g.cfg.Tracking.Web.Listen = []config.Addr{"127.0.0.1:80"}
	for addr, want := range map[config.OptAddr]bool{"": false, "127.0.0.1:80": false, "127.0.0.1:81": true} {
		if got := parts.needsListener(addr); got != want {
			t.Errorf("%q: got %v, want %v", addr, got, want)
		}
	}
}
