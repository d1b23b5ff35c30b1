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

// ACMEConfig says how certificates come from an ACME service (RFC 8555).
type ACMEConfig struct {
	Dir       string // where certificates, keys and the account are kept
	Domains   []string
	Email     string
	Directory string         // the service's; empty: Let's Encrypt
	Roots     *x509.CertPool // to verify the service by; nil: the system's
	// The addresses that answer challenges, which their user listens on:
	// HTTPHandler on the one (HTTP-01), TLS with GetCertificate and the protocol
	// ALPN on the other (TLS-ALPN-01). Empty: that challenge is not used.
	HTTPListen, TLSListen string
	// Interim is used where there is no certificate yet.
	Interim tls.Certificate
	Log     *slog.Logger
}

// ALPN is the protocol of TLS-ALPN-01 (RFC 8737).
const ALPN = "acme-tls/1"

// ACME obtains and renews certificates. It is safe for concurrent use.
type ACME struct {
	c       ACMEConfig
	interim atomic.Pointer[tls.Certificate]
	cache   *certmagic.Cache
	magic   *certmagic.Config
	issuer  *certmagic.ACMEIssuer
	stopped sync.Once
}

// NewACME makes an ACME; nothing is asked of the service before Serve.
func NewACME(c ACMEConfig) *ACME {
	log := zap.New(slogCore{c.Log})
	a := &ACME{c: c}
	a.UseInterim(c.Interim)
	a.cache = certmagic.NewCache(certmagic.CacheOptions{GetConfigForCert: a.configFor, Logger: log})

	// SMTP clients often send no name: they get the first domain's.
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

// configFor returns how a certificate of the cache is kept up.
func (a *ACME) configFor(certmagic.Certificate) (*certmagic.Config, error) { return a.magic, nil }

// hostPort reads an address that the configuration has checked.
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

// Serve obtains certificates, and renews them in time, until ctx ends. The
// listeners of the challenges have to be open.
func (a *ACME) Serve(ctx context.Context) error {
	defer a.Close()

	if err := a.magic.ManageAsync(ctx, a.c.Domains); err != nil {
		return fmt.Errorf("certs: acme: %w", err)
	}
	<-ctx.Done()

	return nil
}

// Close gives back what NewACME took. Serve does so at its end.
func (a *ACME) Close() { a.stopped.Do(a.cache.Stop) }

// GetCertificate answers a handshake, a challenge's too. Before the first
// certificate is there, or where none can be had, it is the interim one.
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

// UseInterim replaces the interim certificate, before it runs out.
func (a *ACME) UseInterim(c tls.Certificate) { a.interim.Store(&c) }

// HTTPHandler answers challenges and leaves all else to next.
func (a *ACME) HTTPHandler(next http.Handler) http.Handler {
	return a.issuer.HTTPChallengeHandler(next)
}

// Expiry is when the first of the certificates runs out; the interim one's
// where a domain has none.
func (a *ACME) Expiry() time.Time {
	var first time.Time
	for _, d := range a.c.Domains {
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
