package main

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

func (g *gateway) startCerts() error {
	version := uint16(tls.VersionTLS12)
	if g.c.Certs.MinVersion == "1.3" {
		version = tls.VersionTLS13
	}

	g.certs = certs.NewStore(version, g.log)

	if g.c.Certs.Mode == "acme" {
		if err := g.startACME(g.c); err != nil {
			return err
		}
	} else {
		use, err := g.prepareCerts(g.c)
		if err != nil {
			return err
		}
		use()
	}

	g.certs.Register(g.reg)
	if g.c.Certs.Mode == "self-signed" {
		g.log.Info("certificate of a local CA, which clients have to be told of", "ca_file", certs.CAFile(g.certsDir()))
	}
	return nil
}

// startACME prepares certificates from an ACME service. Until they are there
// one of the local CA serves.
func (g *gateway) startACME(l *config.Loaded) error {
	c, err := g.acmeConfig(l)
	if err != nil {
		return err
	}

	g.acme = certs.NewACME(c)
	g.certs.UseACME(g.acme)
	return nil
}

// acmeConfig is [certs] with mode = "acme".
func (g *gateway) acmeConfig(l *config.Loaded) (certs.ACMEConfig, error) {
	interim, err := g.localCert(l)
	if err != nil {
		return certs.ACMEConfig{}, err
	}

	c := certs.ACMEConfig{
		Dir:        filepath.Join(g.certsDir(), "acme"),
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

func (g *gateway) certsDir() string { return filepath.Join(g.c.StateDir, "certs") }

// localCert returns a certificate of the local CA.
func (g *gateway) localCert(l *config.Loaded) (tls.Certificate, error) {
	return certs.SelfSigned(g.certsDir(), string(l.Hostname), time.Now())
}

// prepareCerts reads the certificates that a configuration names, which is not
// one with ACME. They are in use once use is called.
func (g *gateway) prepareCerts(l *config.Loaded) (use func(), err error) {
	if l.Certs.Mode == "self-signed" {
		cert, err := g.localCert(l)
		if err != nil {
			return nil, err
		}
		return func() { g.certs.Use(cert) }, nil
	}

	var pairs []certs.Pair
	for _, p := range l.Certs.AllPairs() {
		pairs = append(pairs, certs.Pair(p))
	}
	return g.certs.Prepare(pairs...)
}

// ownACME reports whether an address needs a listener of its own to answer
// challenges: the tracker does not do so there.
func (g *gateway) ownACME(a config.OptAddr) bool {
	return a != "" && !slices.Contains(g.c.Tracking.Web.Listen, config.Addr(a))
}

// serveACME answers challenges and nothing else.
func (g *gateway) serveACME(background context.Context, run func(what string, f func() error)) {
	nothing := http.NotFoundHandler()
	for _, l := range g.acmeHTTP {
		run("certs.acme_http_listen", func() error {
			return serveHTTP(background, web.NewServer(g.acme.HTTPHandler(nothing), g.log), l, g.lastGrace)
		})
	}
	for _, l := range g.acmeTLS {
		run("certs.acme_tls_listen", func() error {
			return serveHTTP(background, web.NewServer(nothing, g.log), tls.NewListener(l, g.certs.Config(true)), g.lastGrace)
		})
	}

	run("acme", func() error { return g.acme.Serve(background) })
}
