package web

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// addresses is a resolver that knows hosts. One that it does not hold is not
// found; one with no address gets no answer.
type addresses map[string][]string

func (a addresses) LookupHost(_ context.Context, host string) ([]string, error) {
	switch addrs, ok := a[host]; {
	case !ok:
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	case len(addrs) == 0:
		return nil, &net.DNSError{Err: "timeout", Name: host, IsTimeout: true}
	default:
		return addrs, nil
	}
}

// certificate makes a certificate that signs itself.
func certificate(t *testing.T, host string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: host},
		DNSNames:              []string{host, "also." + host},
		NotBefore:             until.Add(-24 * time.Hour),
		NotAfter:              until,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}

	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestProbeSaysWhatRecipientsMeet has a tracker behind all kinds of faults.
func TestProbeSaysWhatRecipientsMeet(t *testing.T) {
	base, _, keys := setup(t)
	conf := base.cfg
	conf.Sites = []Site{{Host: "t.example"}}
	tracker := New(conf)
	answer := func(status int, header, value, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if header != "" {
				w.Header().Set(header, value)
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	later := time.Now().Add(time.Hour)
	expired := time.Date(2025, 1, 31, 12, 0, 0, 0, time.UTC)

	for _, c := range []struct {
		name    string
		cert    *tls.Certificate // nil: no TLS
		trusted bool
		scheme  string
		handler http.Handler
		want    string // ADDR and PORT stand for those of the server; empty: all is well
	}{
		{"well", nil, true, "http", tracker, ""},
		{"well, with TLS", new(certificate(t, "t.example", later)), true, "https", tracker, ""},
		{"a certificate of nobody", new(certificate(t, "t.example", later)), false, "https", tracker,
			"t.example leads to 127.0.0.1, whose certificate was not issued by a CA that browsers trust"},
		{"another's certificate", new(certificate(t, "x.example", later)), true, "https", tracker,
			"t.example leads to 127.0.0.1, whose certificate is for x.example, also.x.example and not for t.example"},
		{"an old certificate", new(certificate(t, "t.example", expired)), true, "https", tracker,
			"t.example leads to 127.0.0.1, whose certificate was valid until 2025-01-31"},
		{"no TLS", nil, true, "https", tracker, "t.example leads to 127.0.0.1, where port PORT speaks no TLS, though links begin with https://"},
		{"another server", nil, true, "http", answer(200, "", "", "<html>"), "t.example at 127.0.0.1 answers 200 OK, and is not this tracker"},
		{"a broken server", nil, true, "http", answer(500, "", "", ""), "t.example at 127.0.0.1 answers 500 Internal Server Error, and is not this tracker"},
		{"a redirect", nil, true, "http", answer(301, "Location", "https://t.example/", ""),
			"t.example at 127.0.0.1 redirects to https://t.example/ instead of answering: let /t/ through to the tracker"},
		{"another server's 404", nil, true, "http", answer(404, "", "", "nothing here"), "t.example at 127.0.0.1 answers 404 Not Found, and is not this tracker"},
		{"a 404 like the tracker's", nil, true, "http", answer(404, "", "", "Not Found\n"),
			"t.example at 127.0.0.1 answers 404: it is not a tracker, or has other token keys"},
		{"an answer that breaks off", nil, true, "http", answer(200, "Content-Length", "100", "x"), "t.example at 127.0.0.1 does not complete its answer: unexpected EOF"},
		{"a connection that breaks off", nil, true, "http", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			"t.example leads to 127.0.0.1, which does not answer as a tracker: EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(c.handler)
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			p := &Prober{Keys: keys, Resolver: addresses{"t.example": {"127.0.0.1"}}, Roots: x509.NewCertPool()}
			if c.cert == nil {
				s.Start()
			} else {
				s.TLS = &tls.Config{Certificates: []tls.Certificate{*c.cert}}
				s.StartTLS()
				if c.trusted {
					p.Roots.AddCert(c.cert.Leaf)
				}
			}
			defer s.Close()
			at, _ := url.Parse(s.URL)

			got := ""
			if err := p.Probe(t.Context(), c.scheme+"://t.example:"+at.Port()); err != nil {
				got = err.Error()
			}
			if want := strings.ReplaceAll(c.want, "PORT", at.Port()); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestProbeWithoutAServer(t *testing.T) {
	_, _, keys := setup(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	resolver := addresses{"t.example": {"127.0.0.1"}, "silent.example": nil}
	probe := func(base string, timeout time.Duration) string {
		p := &Prober{Keys: keys, Resolver: resolver, Timeout: timeout}
		return fmt.Sprint(p.Probe(t.Context(), base))
	}

	if got, want := probe("http://t.example:"+port, time.Nanosecond), "t.example leads to 127.0.0.1, which does not answer on port "+port+" in time"; got != want {
		t.Errorf("out of time: got %q, want %q", got, want)
	}
	l.Close()
	for base, want := range map[string]string{
		"http://t.example:" + port: "t.example leads to 127.0.0.1, where nothing listens on port " + port,
		"http://127.0.0.1:" + port: "127.0.0.1 leads to 127.0.0.1, where nothing listens on port " + port,
		"http://none.example":      "no address in the DNS for none.example: links lead nowhere; publish an A, AAAA or CNAME record that leads to the tracker",
		"http://silent.example":    "cannot look up silent.example in the DNS: lookup silent.example: timeout",
		"http://a b":               `parse "http://a b": invalid character " " in host name`,
	} {
		if got := probe(base, 0); got != want {
			t.Errorf("%s: got %q, want %q", base, got, want)
		}
	}
	if probeTimeout != 15*time.Second {
		t.Errorf("a probe takes up to %v, want 15s", probeTimeout)
	}
}

// TestProbeAsksEveryAddress: one of several that leads elsewhere is noticed.
func TestProbeAsksEveryAddress(t *testing.T) {
	base, _, keys := setup(t)
	asked := make(chan string, 2)
	tracker := New(base.cfg)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- fmt.Sprint(r.UserAgent(), " ", r.Close)
		tracker.ServeHTTP(w, r)
	}))
	defer s.Close()
	at, _ := url.Parse(s.URL)

	p := &Prober{Keys: keys, Resolver: addresses{"t.example": {"127.0.0.1", "127.0.0.2"}}}
	err := p.Probe(t.Context(), "http://t.example:"+at.Port())
	if err == nil {
		t.Error("an address where nothing listens is not noticed")
	}
	if got := <-asked; got != "postern-check true" { // and the connection is not kept
		t.Errorf("asked by %q, want postern-check true", got)
	}
}

// TestProbeReadsNoEndlessAnswer: what is not a tracker may say what it likes.
func TestProbeReadsNoEndlessAnswer(t *testing.T) {
	_, _, keys := setup(t)
	gone := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		for {
			if _, err := io.WriteString(w, strings.Repeat("x", 4096)); err != nil {
				return
			}
		}
	}))
	defer s.Close()

	p := &Prober{Keys: keys, Timeout: time.Minute}
	err := p.Probe(t.Context(), s.URL)
	if err == nil || !strings.HasSuffix(err.Error(), "answers 200 OK, and is not this tracker") {
		t.Errorf("got %v", err)
	}
	<-gone // the connection was closed
	if maxAnswer != 4096 {
		t.Errorf("%d bytes are read, want 4096", maxAnswer)
	}
}

func TestPlainWords(t *testing.T) {
	u, _ := url.Parse("https://t.example")
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"a link is not repeated", &url.Error{Op: "Get", URL: "https://t.example/t/secret", Err: io.EOF}, "which does not answer as a tracker: EOF"},
		{"TLS that is none", tls.RecordHeaderError{Msg: "x"}, "where port 443 speaks no TLS, though links begin with https://"},
		{"a certificate that may not be used so", &tls.CertificateVerificationError{Err: errors.New("no usage")}, "whose certificate is not valid: no usage"},
		{"a certificate of another fault", x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.TooManyIntermediates},
			"which does not answer as a tracker: x509: too many intermediates for path length constraint"},
		{"a read that fails", &net.OpError{Op: "read", Err: io.ErrUnexpectedEOF}, "which does not answer as a tracker: read: unexpected EOF"},
		{"a dial that fails", &net.OpError{Op: "dial", Err: io.ErrUnexpectedEOF}, "where nothing listens on port 443"},
		{"a dial that takes too long", &net.OpError{Op: "dial", Err: context.DeadlineExceeded}, "which does not answer on port 443 in time"},
	} {
		if got := plainWords(c.err, u, portOf(u)).Error(); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPortOf(t *testing.T) {
	for s, want := range map[string]string{"http://x": "80", "https://x": "443", "https://x:80": "80", "http://[::1]:443": "443"} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := portOf(u); got != want {
			t.Errorf("%s: port %s, want %s", s, got, want)
		}
	}
}

func TestHostErrorSaysWhatToDo(t *testing.T) {
	const advice = "let the proxy pass Host on, or send X-Forwarded-Host and be named in tracking.web.trusted_proxies"
	for want, e := range map[string]HostError{
		"a.example at 192.0.2.1 leads to a tracker with our token keys, whose configuration does not name this host: " +
			"links get 404; give it the same url, former and rules in [tracking]": {Asked: "a.example", Arrived: "a.example", At: "192.0.2.1"},
		"a.example at 192.0.2.1 leads to this tracker, but the host does not arrive as configured: it is \"b\" there; " +
			"links open, because there is only one tracking host; before you add another, " + advice: {Asked: "a.example", Arrived: "b", At: "192.0.2.1", Opens: true},
		"a.example at 192.0.2.1 leads to this tracker, but the host does not arrive as configured: it is \"b\" there, " +
			"and links get 404; " + advice: {Asked: "a.example", Arrived: "b", At: "192.0.2.1"},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestProbeNamesHosts: who was asked, what arrived and where.
func TestProbeNamesHosts(t *testing.T) {
	base, _, keys := setup(t)
	for _, c := range []struct {
		name  string
		sites []Site
		host  string // that arrives; empty: as asked
		want  HostError
	}{
		{"several, another one arrives", []Site{{Host: "t.example"}, {Host: "b.example"}}, "b.example",
			HostError{Asked: "t.example", Arrived: "b.example", At: "127.0.0.1"}},
		{"one, another one arrives", []Site{{Host: "t.example"}}, "b.example",
			HostError{Asked: "t.example", Arrived: "b.example", At: "127.0.0.1", Opens: true}},
		{"not configured", []Site{{Host: "b.example"}}, "", HostError{Asked: "t.example", Arrived: "t.example", At: "127.0.0.1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf := base.cfg
			conf.Sites = c.sites
			tracker := New(conf)
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.host != "" {
					r.Host = c.host
				}
				tracker.ServeHTTP(w, r)
			}))
			defer s.Close()
			at, _ := url.Parse(s.URL)

			p := &Prober{Keys: keys, Resolver: addresses{"t.example": {"127.0.0.1"}}}
			var got *HostError
			if err := p.Probe(t.Context(), "http://t.example:"+at.Port()); !errors.As(err, &got) || *got != c.want {
				t.Errorf("got %+v (%v), want %+v", got, err, c.want)
			}
		})
	}
}
