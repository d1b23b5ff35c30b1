package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// ACMEConfig says how certificates are obtained from an ACME service (RFC 8555).
type ACMEConfig struct {
	// Dir is where certificates, keys and the account are stored.
	Dir string

	// Domains are the names of the certificates, one certificate each. There
	// must be at least one.
	Domains []string
	Email   string

	// Directory is the URL of the service. Default: Let's Encrypt.
	Directory string

	// Roots verify the service. Default: the system's.
	Roots *x509.CertPool

	// HTTPListen and TLSListen are the addresses on which the caller answers
	// challenges: on the first with HTTPHandler (HTTP-01, RFC 8555 section 8.3),
	// on the second with GetCertificate and the protocol ALPN (TLS-ALPN-01, RFC
	// 8737). If one is empty, its challenge is not used.
	HTTPListen string
	TLSListen  string

	// Interim is presented until there is a certificate.
	Interim tls.Certificate

	Log *slog.Logger
}

// ALPN is the protocol that a challenge of TLS-ALPN-01 negotiates (RFC 8737).
const ALPN = "acme-tls/1"

// ACME obtains and renews certificates. It is safe for concurrent use.
type ACME struct {
	cfg     ACMEConfig
	interim atomic.Pointer[tls.Certificate]
	cache   *certmagic.Cache
	magic   *certmagic.Config
	issuer  *certmagic.ACMEIssuer
	stopped sync.Once
}

// NewACME returns an ACME that must be closed. The service is not contacted before
// Serve.
func NewACME(c ACMEConfig) *ACME {
	log := zap.New(slogCore{c.Log})
	a := &ACME{cfg: c}
	a.UseInterim(c.Interim)
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: a.configFor,
		Logger:           log,
	})

	// SMTP clients often send no server name: they get the first domain's
	// certificate.
	a.magic = certmagic.New(a.cache, certmagic.Config{
		Storage:            &certmagic.FileStorage{Path: c.Dir},
		DefaultServerName:  c.Domains[0],
		FallbackServerName: c.Domains[0],
		Logger:             log,
	})

	directory := c.Directory
	if directory == "" {
		directory = certmagic.LetsEncryptProductionCA
	}

	host, httpPort := hostPort(c.HTTPListen)
	tlsHost, tlsPort := hostPort(c.TLSListen)
	if host == "" {
		host = tlsHost
	}

	a.issuer = certmagic.NewACMEIssuer(a.magic, certmagic.ACMEIssuer{
		CA:                      directory,
		Email:                   c.Email,
		Agreed:                  true,
		TrustedRoots:            c.Roots,
		Logger:                  log,
		DisableHTTPChallenge:    c.HTTPListen == "",
		DisableTLSALPNChallenge: c.TLSListen == "",
		ListenHost:              host,
		AltHTTPPort:             httpPort,
		AltTLSALPNPort:          tlsPort,
	})
	a.magic.Issuers = []certmagic.Issuer{a.issuer}

	return a
}

// configFor returns the configuration by which a certificate is renewed.
func (a *ACME) configFor(certmagic.Certificate) (*certmagic.Config, error) { return a.magic, nil }

// hostPort splits an address that has been validated. The host is empty if it
// stands for all addresses of the machine.
func hostPort(addr string) (string, int) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0
	}

	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = ""
	}

	n, _ := strconv.Atoi(port)

	return host, n
}

// Serve obtains certificates and renews them until ctx ends, and then closes the
// ACME. The caller must already listen for challenges.
func (a *ACME) Serve(ctx context.Context) error {
	defer a.Close()

	if err := a.magic.ManageAsync(ctx, a.cfg.Domains); err != nil {
		return fmt.Errorf("certs: acme: %w", err)
	}

	<-ctx.Done()

	return nil
}

// Close ends the goroutines that NewACME started. It may be called repeatedly.
func (a *ACME) Close() { a.stopped.Do(a.cache.Stop) }

// GetCertificate returns the certificate for a handshake, which may be that of a
// challenge. If there is none for the name, it is the interim certificate.
func (a *ACME) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c, err := a.magic.GetCertificate(hello)
	if err == nil {
		return c, nil
	}

	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == ALPN {
		return nil, err
	}

	return a.interim.Load(), nil
}

// UseInterim replaces the interim certificate, such as before it expires.
func (a *ACME) UseInterim(c tls.Certificate) { a.interim.Store(&c) }

// HTTPHandler returns a handler that answers challenges, and passes all other
// requests to next.
func (a *ACME) HTTPHandler(next http.Handler) http.Handler {
	return a.issuer.HTTPChallengeHandler(next)
}

// Expiry returns when the first of the certificates expires. A domain that has
// none has the interim certificate.
func (a *ACME) Expiry() time.Time {
	var first time.Time
	for _, d := range a.cfg.Domains {
		end := a.interim.Load().Leaf.NotAfter
		for _, c := range a.cache.AllMatchingCertificates(d) {
			end = c.Leaf.NotAfter
		}

		if first.IsZero() || end.Before(first) {
			first = end
		}
	}

	return first
}
