package gateway

import (
	"context"
	"crypto/tls"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"postern/certs"
	"postern/cmd/postern/config"
	"postern/tracking/web"
)

func (g *Gateway) startCerts() error {
	version := uint16(tls.VersionTLS12)
	if g.C.Certs.MinVersion == "1.3" {
		version = tls.VersionTLS13
	}

	g.Certs = certs.NewStore(version, g.log)

	if g.C.Certs.Mode == "acme" {
		if err := g.startACME(g.C); err != nil {
			return err
		}
	} else {
		use, err := g.prepareCerts(g.C)
		if err != nil {
			return err
		}
		use()
	}

	g.Certs.Register(g.Reg)
	if g.C.Certs.Mode == "self-signed" {
		g.log.Info("certificate of a local CA, which clients have to be told of", "ca_file", certs.CAFile(g.CertsDir()))
	}
	return nil
}

// startACME prepares certificates from an ACME service. Until they are there
// one of the local CA serves.
func (g *Gateway) startACME(l *config.Loaded) error {
	c, err := g.AcmeConfig(l)
	if err != nil {
		return err
	}

	g.Acme = certs.NewACME(c)
	g.Certs.UseACME(g.Acme)
	return nil
}

// acmeConfig is [certs] with mode = "acme".
func (g *Gateway) AcmeConfig(l *config.Loaded) (certs.ACMEConfig, error) {
	interim, err := g.localCert(l)
	if err != nil {
		return certs.ACMEConfig{}, err
	}

	c := certs.ACMEConfig{
		Dir:        filepath.Join(g.CertsDir(), "acme"),
		Email:      l.Certs.ACMEEmail,
		Directory:  l.Certs.ACMEDirectory,
		HTTPListen: string(l.Certs.ACMEHTTPListen),
		TLSListen:  string(l.Certs.ACMETLSListen),
		Interim:    interim,
		Log:        g.log,
	}
	for _, n := range l.Names() {
		c.Domains = append(c.Domains, string(n))
	}
	if l.Certs.ACMECAFile != "" {
		c.Roots, err = certs.ReadPool(l.Certs.ACMECAFile)
	}

	return c, err
}

func (g *Gateway) CertsDir() string { return filepath.Join(g.C.StateDir, "certs") }

// localCert returns a certificate of the local CA.
func (g *Gateway) localCert(l *config.Loaded) (tls.Certificate, error) {
	return certs.SelfSigned(g.CertsDir(), string(l.Hostname), time.Now())
}

// prepareCerts reads the certificates that a configuration names, which is not
// one with ACME. They are in use once use is called.
func (g *Gateway) prepareCerts(l *config.Loaded) (use func(), err error) {
	if l.Certs.Mode == "self-signed" {
		cert, err := g.localCert(l)
		if err != nil {
			return nil, err
		}
		return func() { g.Certs.Use(cert) }, nil
	}

	var pairs []certs.Pair
	for _, p := range l.Certs.AllPairs() {
		pairs = append(pairs, certs.Pair(p))
	}
	return g.Certs.Prepare(pairs...)
}

// ownACME reports whether an address needs a listener of its own to answer
// challenges: the tracker does not do so there.
func (g *Gateway) OwnACME(a config.OptAddr) bool {
	return a != "" && !slices.Contains(g.C.Tracking.Web.Listen, config.Addr(a))
}

// serveACME answers challenges and nothing else.
func (g *Gateway) ServeACME(background context.Context, run func(what string, f func() error)) {
	nothing := http.NotFoundHandler()
	for _, l := range g.AcmeHTTP {
		run("certs.acme_http_listen", func() error {
			return ServeHTTP(background, web.NewServer(g.Acme.HTTPHandler(nothing), g.log), l, g.LastGrace)
		})
	}
	for _, l := range g.AcmeTLS {
		run("certs.acme_tls_listen", func() error {
			return ServeHTTP(background, web.NewServer(nothing, g.log), tls.NewListener(l, g.Certs.Config(true)), g.LastGrace)
		})
	}

	run("acme", func() error { return g.Acme.Serve(background) })
}
