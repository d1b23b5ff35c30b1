package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

func TestHostPort(t *testing.T) {
	for _, c := range []struct {
		addr, host string
		port       int
	}{
		{"192.0.2.1:80", "192.0.2.1", 80},
		{"[2001:db8::1]:443", "2001:db8::1", 443},
		{"mail.example:8080", "mail.example", 8080},
		{":80", "", 80},
		{"0.0.0.0:80", "", 80},
		{"[::]:80", "", 80},
		{"", "", 0},
		{"192.0.2.1", "", 0},
	} {
		if host, port := hostPort(c.addr); host != c.host || port != c.port {
			t.Errorf("%q: got %q, %d, want %q, %d", c.addr, host, port, c.host, c.port)
		}
	}
}

// TestACMEConfig checks that the service is asked for what is configured.
func TestACMEConfig(t *testing.T) {
	roots := x509.NewCertPool()
	for _, c := range []struct {
		name      string
		config    ACMEConfig
		directory string
		host      string
		http, tls int
	}{
		{"nothing", ACMEConfig{}, certmagic.LetsEncryptProductionCA, "", 0, 0},
		{"HTTP alone", ACMEConfig{HTTPListen: "192.0.2.1:8080"}, certmagic.LetsEncryptProductionCA, "192.0.2.1", 8080, 0},
		{"TLS alone", ACMEConfig{TLSListen: "192.0.2.2:8443", Email: "a@b.example"}, certmagic.LetsEncryptProductionCA, "192.0.2.2", 0, 8443},
		{
			"both, of a service of one's own",
			ACMEConfig{HTTPListen: "192.0.2.1:8080", TLSListen: "192.0.2.2:8443", Directory: "https://acme.example/", Roots: roots},
			"https://acme.example/", "192.0.2.1", 8080, 8443,
		},
		{"everywhere", ACMEConfig{HTTPListen: ":8080", TLSListen: "192.0.2.2:8443"}, certmagic.LetsEncryptProductionCA, "192.0.2.2", 8080, 8443},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.Dir, c.config.Domains = t.TempDir(), []string{"a.example", "b.example"}
			c.config.Log = slog.New(slog.DiscardHandler)
			a := NewACME(c.config)
			defer a.cache.Stop()
			if magic, err := a.configFor(certmagic.Certificate{}); magic != a.magic || err != nil {
				t.Errorf("certificates are kept up by %p, %v", magic, err)
			}
			i := a.issuer
			if i.CA != c.directory || i.Email != c.config.Email || !i.Agreed || i.TrustedRoots != c.config.Roots || i.Logger == nil {
				t.Errorf("asks %s as %q, agreed %v", i.CA, i.Email, i.Agreed)
			}
			if i.ListenHost != c.host || i.AltHTTPPort != c.http || i.AltTLSALPNPort != c.tls {
				t.Errorf("challenges on %q, %d and %d; want %q, %d and %d", i.ListenHost, i.AltHTTPPort, i.AltTLSALPNPort, c.host, c.http, c.tls)
			}
			if i.DisableHTTPChallenge != (c.config.HTTPListen == "") || i.DisableTLSALPNChallenge != (c.config.TLSListen == "") {
				t.Errorf("without HTTP-01 %v, without TLS-ALPN-01 %v", i.DisableHTTPChallenge, i.DisableTLSALPNChallenge)
			}
			if a.magic.DefaultServerName != "a.example" || a.magic.FallbackServerName != "a.example" || a.magic.Logger == nil {
				t.Errorf("without a name %q, for an unknown one %q", a.magic.DefaultServerName, a.magic.FallbackServerName)
			}
			if storage, ok := a.magic.Storage.(*certmagic.FileStorage); !ok || storage.Path != c.config.Dir {
				t.Errorf("kept in %v, want %s", a.magic.Storage, c.config.Dir)
			}
			if len(a.magic.Issuers) != 1 || a.magic.Issuers[0] != certmagic.Issuer(i) {
				t.Errorf("issuers %v", a.magic.Issuers)
			}
		})
	}
}

// quietACME returns an ACME whose service does not reply, with certificates for
// some domains.
func quietACME(t *testing.T, directory string, domains ...string) (a *ACME, interim tls.Certificate) {
	t.Helper()
	dir := t.TempDir()
	interim, err := SelfSigned(dir, "interim.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}

	return NewACME(ACMEConfig{
		Dir:        filepath.Join(dir, "acme"),
		Domains:    domains,
		Directory:  directory,
		HTTPListen: "127.0.0.1:1",
		Interim:    interim,
		Log:        slog.New(slog.DiscardHandler),
	}), interim
}

// obtained gives an ACME a certificate, as the service would.
func obtained(t *testing.T, a *ACME, name string, end time.Time) tls.Certificate {
	t.Helper()
	c, err := SelfSigned(t.TempDir(), name, end.Add(-localLife))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.magic.CacheUnmanagedTLSCertificate(context.Background(), c, nil); err != nil {
		t.Fatal(err)
	}

	return c
}

// TestACMEExpiryIsThatOfTheFirst checks the first expiry, with the interim
// certificate for domains that have none.
func TestACMEExpiryIsThatOfTheFirst(t *testing.T) {
	a, interim := quietACME(t, "", "a.example", "b.example", "c.example")
	defer a.cache.Stop()
	now := time.Now().Truncate(time.Second)
	check := func(step string, want time.Time) {
		t.Helper()
		if got := a.Expiry(); !got.Equal(want) {
			t.Errorf("%s: got %s, want %s", step, got, want)
		}
	}
	const day = 24 * time.Hour
	check("none", interim.Leaf.NotAfter)
	obtained(t, a, "a.example", now.Add(100*day))
	check("one lasts longer", interim.Leaf.NotAfter)
	obtained(t, a, "b.example", now.Add(40*day))
	check("one expires first", now.Add(40*day))
	obtained(t, a, "c.example", now.Add(50*day))
	check("in the middle", now.Add(40*day))
}

// TestACMEAnswersHandshakes checks which certificate a client gets, by its
// server name or without one.
func TestACMEAnswersHandshakes(t *testing.T) {
	a, _ := quietACME(t, "", "a.example", "b.example")
	defer a.cache.Stop()
	s := NewStore(tls.VersionTLS12, slog.New(slog.DiscardHandler))
	s.UseACME(a)
	first := obtained(t, a, "a.example", time.Now().Add(100*24*time.Hour))
	second := obtained(t, a, "b.example", time.Now().Add(100*24*time.Hour))
	for _, c := range []struct {
		name, server string
		http         bool
		offers       []string
		want         tls.Certificate
		protocol     string
	}{
		{"by name", "b.example", false, nil, second, ""},
		{"without one", "", false, nil, first, ""},
		{"an unknown one", "x.example", false, nil, first, ""},
		{"HTTP", "b.example", true, []string{"h2"}, second, "h2"},
		{"HTTP/1.1", "b.example", true, []string{"http/1.1"}, second, "http/1.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, y := net.Pipe()
			defer x.Close()
			defer y.Close()
			config := s.Config()
			if c.http {
				config = s.HTTPConfig()
			}
			go tls.Server(x, config).Handshake()
			client := tls.Client(y, &tls.Config{InsecureSkipVerify: true, ServerName: c.server, NextProtos: c.offers})
			if err := client.Handshake(); err != nil {
				t.Fatal(err)
			}
			state := client.ConnectionState()
			if got := state.PeerCertificates[0]; got.SerialNumber.Cmp(c.want.Leaf.SerialNumber) != 0 {
				t.Errorf("got the certificate of %v, want that of %v", got.DNSNames, c.want.Leaf.DNSNames)
			}
			if state.NegotiatedProtocol != c.protocol {
				t.Errorf("got protocol %q, want %q", state.NegotiatedProtocol, c.protocol)
			}
		})
	}
	if got := s.current.Load().http.NextProtos; !slices.Equal(got, []string{"h2", "http/1.1", ALPN}) {
		t.Errorf("HTTP listeners negotiate %v", got)
	}
	if ALPN != "acme-tls/1" {
		t.Errorf("the challenge's protocol is %q", ALPN)
	}

	conn, other := net.Pipe()
	defer conn.Close()
	defer other.Close()
	empty, _ := quietACME(t, "", "a.example")
	defer empty.cache.Stop()
	for _, c := range []struct {
		protocols []string
		interim   bool
	}{{nil, true}, {[]string{"h2"}, true}, {[]string{ALPN, "h2"}, true}, {[]string{ALPN}, false}} {
		got, err := empty.GetCertificate(&tls.ClientHelloInfo{Conn: conn, ServerName: "a.example", SupportedProtos: c.protocols})
		if c.interim && (err != nil || got.Leaf.VerifyHostname("interim.example") != nil) || !c.interim && err == nil {
			t.Errorf("without a certificate, offered %v: got %v", c.protocols, err)
		}
	}
}

// TestACMEServesUntilItsContextEnds checks that Serve contacts the service, and
// returns when its context ends.
func TestACMEServesUntilItsContextEnds(t *testing.T) {
	asked := make(chan string, 100)
	service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.URL.Path:
		default:
		}
		http.Error(w, "not today", http.StatusServiceUnavailable)
	}))
	defer service.Close()
	dir := t.TempDir()
	interim, err := SelfSigned(dir, "interim.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(service.Certificate())
	a := NewACME(ACMEConfig{
		Dir:        filepath.Join(dir, "acme"),
		Domains:    []string{"a.example"},
		Directory:  service.URL + "/directory",
		Roots:      roots,
		HTTPListen: "127.0.0.1:1",
		Interim:    interim,
		Log:        slog.New(slog.DiscardHandler),
	})

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- a.Serve(ctx) }()
	if path := <-asked; path != "/directory" {
		t.Errorf("asked for %s", path)
	}
	select {
	case err := <-ended:
		t.Errorf("ended by itself: %v", err)
	default:
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	defer func() {
		if recover() == nil {
			t.Error("the cache still runs")
		}
	}()
	a.cache.Stop() // a second time
}

// TestHTTPChallenges checks that challenges are answered, and that other
// requests are passed on.
func TestHTTPChallenges(t *testing.T) {
	a, _ := quietACME(t, "", "a.example")
	defer a.cache.Stop()
	h := a.HTTPHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://a.example/t/abc", nil))
	if w.Code != http.StatusTeapot {
		t.Errorf("got %d, want the next handler's", w.Code)
	}
}

// TestACMEInterim checks that clients get the interim certificate while there
// is no other, but challenges do not.
func TestACMEInterim(t *testing.T) {
	dir := t.TempDir()
	interim, err := SelfSigned(dir, "a.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a := NewACME(ACMEConfig{Dir: filepath.Join(dir, "acme"), Domains: []string{"a.example"}, HTTPListen: "127.0.0.1:1", Interim: interim, Log: slog.New(slog.DiscardHandler)})
	defer a.cache.Stop()
	s := NewStore(tls.VersionTLS12, slog.New(slog.DiscardHandler))
	s.UseACME(a)
	if !s.Expiry().Equal(interim.Leaf.NotAfter) {
		t.Errorf("expiry %s", s.Expiry())
	}
	conn, other := net.Pipe() // certmagic's log names the client
	defer conn.Close()
	defer other.Close()
	got, err := a.GetCertificate(&tls.ClientHelloInfo{Conn: conn, ServerName: "a.example", CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}})
	if err != nil || got.Leaf.SerialNumber.Cmp(interim.Leaf.SerialNumber) != 0 {
		t.Errorf("%v", err)
	}
	if _, err := a.GetCertificate(&tls.ClientHelloInfo{Conn: conn, ServerName: "a.example", SupportedProtos: []string{ALPN}}); err == nil {
		t.Error("a challenge that nobody set is answered")
	}
}

func TestACMEInterimIsRenewed(t *testing.T) {
	dir := t.TempDir()
	old, err := SelfSigned(dir, "a.example", time.Now().Add(-localLife))
	if err != nil {
		t.Fatal(err)
	}
	a := NewACME(ACMEConfig{Dir: filepath.Join(dir, "acme"), Domains: []string{"a.example"}, HTTPListen: "127.0.0.1:1", Interim: old, Log: slog.New(slog.DiscardHandler)})
	defer a.cache.Stop()

	renewed, err := SelfSigned(dir, "a.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a.UseInterim(renewed)

	if got := a.Expiry(); !got.Equal(renewed.Leaf.NotAfter) || got.Before(time.Now()) {
		t.Errorf("got expiry %v, want the renewed one's %v", got, renewed.Leaf.NotAfter)
	}
}
