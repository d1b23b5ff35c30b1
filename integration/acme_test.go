package integration

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/certs"

	"postern/cmd/postern/demo/sink"
)

// startPebble runs Let's Encrypt's ACME test server, which validates for real:
// names by a DNS server of ours, challenges on the ports given. It gives the
// directory, the file of the CA that the server itself shows, and where the
// root of what it issues can be had.
func startPebble(t *testing.T, httpPort, tlsPort, dns string) (directory, caFile, root string) {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "pebble")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/letsencrypt/pebble/v2/cmd/pebble").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := certs.SelfSigned(dir, "pebble.test", time.Now()); err != nil {
		t.Fatal(err)
	}
	addr, manage := freePort(t), freePort(t)
	writeFile(t, filepath.Join(dir, "pebble.json"), fmt.Sprintf(`{"pebble":{"listenAddress":%q,"managementListenAddress":%q,"certificate":%q,"privateKey":%q,"httpPort":%s,"tlsPort":%s}}`,
		addr, manage, filepath.Join(dir, "self-signed.crt"), filepath.Join(dir, "self-signed.key"), httpPort, tlsPort))
	c := exec.Command(binary, "-config", filepath.Join(dir, "pebble.json"), "-dnsserver", dns)
	c.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=5")
	log := &syncBuffer{}
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() {
			t.Logf("pebble: %s", log)
		}
	})
	waitFor(t, "pebble", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return "https://" + addr + "/dir", certs.CAFile(dir), "https://" + manage + "/roots/0"
}

// TestACME obtains certificates by each challenge, on listeners of its own and
// shared with the tracker, and shows them to SMTP and HTTPS clients.
func TestACME(t *testing.T) {
	for _, c := range []struct {
		name, http, tls string // listeners: own, shared, or none
	}{
		{"HTTP-01, listener of its own", "own", ""},
		{"HTTP-01, shared with the tracker", "shared", ""},
		{"TLS-ALPN-01, listener of its own", "", "own"},
		{"TLS-ALPN-01, shared with the tracker", "", "shared"},
	} {
		t.Run(c.name, func(t *testing.T) { obtain(t, c.http, c.tls) })
	}
}

func obtain(t *testing.T, byHTTP, byTLS string) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	address := func(how string) string {
		switch how {
		case "own":
			return freePort(t)
		case "shared":
			return g.tracker
		}
		return ""
	}
	httpAt, tlsAt := address(byHTTP), address(byTLS)
	port := func(addr string) string {
		if addr == "" {
			return "1"
		}
		return portOf(addr)
	}
	directory, caFile, root := startPebble(t, port(httpAt), port(tlsAt), dnsServer(t, map[string][]string{"gw.example.com": {"127.0.0.1"}, "second.example.com": {"127.0.0.1"}}))
	text := strings.Replace(readFile(t, g.config), `mode = "self-signed"`, fmt.Sprintf("mode = \"acme\"\nacme_email = \"ops@example.com\"\nacme_domains = [\"gw.example.com\", \"second.example.com\"]\nacme_directory = %q\nacme_ca_file = %q\nacme_http_listen = %q\nacme_tls_listen = %q", directory, caFile, httpAt, tlsAt), 1)
	if byTLS == "shared" {
		text = strings.Replace(text, "[tracking.web]\n", "[tracking.web]\ntls = true\n", 1)
	}
	writeFile(t, g.config, text)
	run(t, "", postern, "check", "--config", g.config)
	g.start(t)
	roots := pebbleRoot(t, root)
	for _, name := range []string{"gw.example.com", "second.example.com"} {
		waitFor(t, "the certificate for "+name, func() bool { return startTLS(g.submission, name, roots) == nil })
	}
	// A client that names nobody gets the first domain's certificate.
	var shown string
	conf := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		shown = strings.Join(s.PeerCertificates[0].DNSNames, " ")
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: "gw.example.com", Intermediates: chain(s)})
		return err
	}}
	if err := handshake(g.submission, conf); err != nil {
		t.Errorf("without a name: %v, shown %s", err, shown)
	}
	if byTLS == "shared" {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "gw.example.com"}}}
		defer client.CloseIdleConnections()
		res, err := client.Get("https://" + g.tracker + "/")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	g.stop(t)
	// The next start has them at once, with no word to the service.
	g.start(t)
	if err := startTLS(g.submission, "gw.example.com", roots); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	g.stop(t)
}

func chain(s tls.ConnectionState) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		pool.AddCert(c)
	}
	return pool
}

func pebbleRoot(t *testing.T, url string) *x509.CertPool {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(b) {
		t.Fatalf("%s, %v", b, err)
	}
	return pool
}

// startTLS does STARTTLS and verifies the certificate.
func startTLS(addr, name string, roots *x509.CertPool) error {
	return handshake(addr, &tls.Config{ServerName: name, RootCAs: roots})
}

func handshake(addr string, conf *tls.Config) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	s := &session{}
	s.use(conn)
	if err := s.expect("220"); err != nil {
		return err
	}
	for _, line := range []string{"EHLO client.example", "STARTTLS"} {
		if code, text, err := s.command(line); err != nil || code/100 != 2 {
			return fmt.Errorf("%s: %d %s %w", line, code, text, err)
		}
	}
	return tls.Client(conn, conf).Handshake()
}

// TestACMEAway: a first start while the service cannot be reached takes mail all
// the same, with a certificate of the local CA, and says what is wrong.
func TestACMEAway(t *testing.T) {
	s := startSink(t, sink.Config{})
	g := newGateway(t, s.addr, "")
	writeFile(t, g.config, strings.Replace(readFile(t, g.config), `mode = "self-signed"`, fmt.Sprintf("mode = \"acme\"\nacme_directory = \"https://%s/dir\"\nacme_http_listen = %q\nacme_tls_listen = \"\"", freePort(t), freePort(t)), 1))
	g.start(t)
	g.submit(t, "a@example.com", "r@example.net", newsletter)
	s.wait(t, 1)
	roots, err := certs.ReadPool(certs.CAFile(filepath.Join(g.dir, "state", "certs")))
	if err != nil {
		t.Fatal(err)
	}
	if err := startTLS(g.submission, "gw.example.com", roots); err != nil {
		t.Error(err)
	}
	waitFor(t, "a word of it", func() bool { return strings.Contains(g.log.String(), "level=ERROR msg=\"acme: ") })
	g.stop(t)
}
