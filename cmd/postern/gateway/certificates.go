package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"postern/certs"
	"postern/cmd/postern/config"
	"postern/tracking/web"
)

// certificates are those of all listeners.
type certificates struct {
	g     *Gateway
	store *certs.Store

	// answerChallenges answers an ACME service's challenges in front of a
	// handler; without ACME it returns the handler as it is.
	answerChallenges func(next http.Handler) http.Handler
	// useLocal puts a renewed certificate of the local CA to use; nil where
	// the certificates come from files.
	useLocal func(tls.Certificate)

	renewed time.Time
}

// CertsDir is the folder of certificates that the gateway makes or fetches.
func CertsDir(c *config.Config) string { return filepath.Join(c.StateDir, "certs") }

// addCertificates adds the certificates, by certs.mode.
func (g *Gateway) addCertificates() (*certificates, error) {
	version := uint16(tls.VersionTLS12)
	if g.cfg.Certs.MinVersion == "1.3" {
		version = tls.VersionTLS13
	}
	c := &certificates{
		g:                g,
		store:            certs.NewStore(version, g.log),
		answerChallenges: func(next http.Handler) http.Handler { return next },
		renewed:          time.Now(),
	}
	c.store.Register(g.reg)

	switch g.cfg.Certs.Mode {
	case "acme":
		if err := c.addACME(); err != nil {
			return nil, err
		}
		g.everyRound(c.renewLocal)
	case "self-signed":
		g.log.Info("certificate of a local CA, which clients have to be told of",
			"ca_file", certs.CAFile(CertsDir(g.cfg.Config)))
		c.useLocal = func(cert tls.Certificate) { c.store.Use(cert) }
		g.reloadables = append(g.reloadables, c)
		g.everyRound(c.renewLocal)
	default:
		g.reloadables = append(g.reloadables, c)
	}
	g.add(carryOn, "certificates", func(ctx context.Context) error {
		c.store.Watch(ctx, watchEvery)
		return nil
	})

	return c, nil
}

// prepare implements reloadable, for certificates that are not an ACME
// service's.
func (c *certificates) prepare(next *generation) (change, error) {
	if next.cfg.Certs.Mode == "self-signed" {
		cert, err := localCert(next.cfg)
		return change{use: func() { c.store.Use(cert) }}, err
	}

	var pairs []certs.Pair
	for _, p := range next.cfg.Certs.AllPairs() {
		pairs = append(pairs, certs.Pair(p))
	}
	use, err := c.store.Prepare(pairs...)

	return change{use: use}, err
}

// localCert returns a certificate of the local CA.
func localCert(cfg *config.Loaded) (tls.Certificate, error) {
	return certs.SelfSigned(CertsDir(cfg.Config), string(cfg.Hostname), time.Now())
}

// renewEvery is how often certificates of the local CA are looked at.
const renewEvery = 24 * time.Hour

// renewLocal renews what the local CA has signed, where it runs out soon.
func (c *certificates) renewLocal(context.Context) {
	if time.Since(c.renewed) < renewEvery {
		return
	}
	c.renewed = time.Now()

	c.g.reloading.Lock()
	defer c.g.reloading.Unlock()

	cert, err := localCert(c.g.current.Load().cfg)
	if err != nil {
		c.g.log.Error("certificate of the local CA not renewed", "err", err)
		return
	}
	c.useLocal(cert)
}

// addACME adds what fetches certificates from an ACME service. Until they are
// there, one of the local CA serves.
func (c *certificates) addACME() error {
	cfg, err := c.acmeConfig()
	if err != nil {
		return err
	}
	client := certs.NewACME(cfg)
	c.store.UseACME(client)
	c.answerChallenges = client.HTTPHandler
	c.useLocal = client.UseInterim

	g := c.g
	g.onClose(client.Close)
	g.add(carryOn, "acme", client.Serve)
	nothing := http.NotFoundHandler()
	c.bindACME("certs.acme_http_listen", g.cfg.Certs.ACMEHTTPListen, func(ctx context.Context, l net.Listener) error {
		return serveHTTP(ctx, web.NewServer(client.HTTPHandler(nothing), g.log), l, g.lastGrace)
	})
	c.bindACME("certs.acme_tls_listen", g.cfg.Certs.ACMETLSListen, func(ctx context.Context, l net.Listener) error {
		return serveHTTP(ctx, web.NewServer(nothing, g.log), tls.NewListener(l, c.store.Config(true)), g.lastGrace)
	})

	return nil
}

func (c *certificates) acmeConfig() (certs.ACMEConfig, error) {
	cfg := c.g.cfg
	interim, err := localCert(cfg)
	if err != nil {
		return certs.ACMEConfig{}, err
	}

	out := certs.ACMEConfig{
		Dir:        filepath.Join(CertsDir(cfg.Config), "acme"),
		Email:      cfg.Certs.ACMEEmail,
		Directory:  cfg.Certs.ACMEDirectory,
		HTTPListen: string(cfg.Certs.ACMEHTTPListen),
		TLSListen:  string(cfg.Certs.ACMETLSListen),
		Interim:    interim,
		Log:        c.g.log,
	}
	for _, n := range cfg.Names() {
		out.Domains = append(out.Domains, string(n))
	}
	if cfg.Certs.ACMECAFile != "" {
		if out.Roots, err = certs.ReadPool(cfg.Certs.ACMECAFile); err != nil {
			return certs.ACMEConfig{}, err
		}
	}

	return out, nil
}

// bindACME adds a listener that answers challenges and nothing else, unless
// the tracker answers them at that address.
func (c *certificates) bindACME(key string, addr config.OptAddr, serve func(context.Context, net.Listener) error) {
	if addr == "" || slices.Contains(c.g.cfg.Tracking.Web.Listen, config.Addr(addr)) {
		return
	}

	c.g.bind(binding{
		key:   key,
		addr:  string(addr),
		name:  key,
		stage: carryOn,
		room:  newConnectionLimit(config.ACMEConnections),
		serve: serve,
	})
}
