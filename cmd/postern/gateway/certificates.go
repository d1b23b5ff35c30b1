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
	acme  *certs.ACME // nil: certs.mode is another

	now     func() time.Time
	renewed time.Time // when those of the local CA were looked at
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
		g:       g,
		store:   certs.NewStore(version, g.log),
		now:     time.Now,
		renewed: time.Now(),
	}
	c.store.Register(g.reg)

	switch g.cfg.Certs.Mode {
	case "acme":
		if err := c.addACME(); err != nil {
			return nil, err
		}
	case "self-signed":
		g.log.Info("using a local CA; clients must trust it",
			"ca_file", certs.CAFile(CertsDir(g.cfg.Config)))
	}
	g.reloadables = append(g.reloadables, c)
	g.everyRound(c.renew)
	g.add(carryOn, "certificates", func(ctx context.Context) error {
		c.store.Watch(ctx, watchEvery)
		return nil
	})

	return c, nil
}

// prepare implements reloadable. Files and the local CA change places freely;
// an ACME service's certificates stay.
func (c *certificates) prepare(next *generation) (change, error) {
	switch next.cfg.Certs.Mode {
	case "acme":
		return change{}, nil
	case "self-signed":
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

// renew looks at the certificates of the local CA once a day.
func (c *certificates) renew(context.Context) {
	now := c.now()
	if now.Sub(c.renewed) <= renewEvery {
		return
	}

	c.renewed = now
	c.renewLocal()
}

// renewLocal renews what the local CA has signed, where it runs out soon. With
// ACME, that is what serves until there is a certificate of the service.
func (c *certificates) renewLocal() {
	c.g.reloading.Lock()
	defer c.g.reloading.Unlock()

	cfg := c.g.current.Load().cfg
	if cfg.Certs.Mode == "files" {
		return
	}

	cert, err := localCert(cfg)
	switch {
	case err != nil:
		c.g.log.Error("certificate of the local CA not renewed", "err", err)
	case c.acme != nil:
		c.acme.UseInterim(cert)
	default:
		c.store.Use(cert)
	}
}

// answerChallenges answers an ACME service's challenges in front of a handler.
// Without ACME it returns the handler as it is.
func (c *certificates) answerChallenges(next http.Handler) http.Handler {
	if c.acme == nil {
		return next
	}

	return c.acme.HTTPHandler(next)
}

// addACME adds what fetches certificates from an ACME service. Until they are
// there, one of the local CA serves.
func (c *certificates) addACME() error {
	cfg, err := c.acmeConfig()
	if err != nil {
		return err
	}
	c.acme = certs.NewACME(cfg)
	c.store.UseACME(c.acme)

	g := c.g
	g.onClose(c.acme.Close)
	g.add(carryOn, "acme", c.acme.Serve)
	nothing := http.NotFoundHandler()
	c.bindACME("certs.acme_http_listen", g.cfg.Certs.ACMEHTTPListen, func(ctx context.Context, l net.Listener) error {
		return serveHTTP(ctx, web.NewServer(c.answerChallenges(nothing), g.log), l, g.lastGrace)
	})
	c.bindACME("certs.acme_tls_listen", g.cfg.Certs.ACMETLSListen, func(ctx context.Context, l net.Listener) error {
		return serveHTTP(ctx, web.NewServer(nothing, g.log), tls.NewListener(l, c.store.HTTPConfig()), g.lastGrace)
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

// needsListener reports whether an address needs a listener of its own to
// answer challenges: the tracker does not do so there.
func (c *certificates) needsListener(addr config.OptAddr) bool {
	return addr != "" && !slices.Contains(c.g.cfg.Tracking.Web.Listen, config.Addr(addr))
}

// bindACME adds a listener that answers challenges and nothing else, unless
// the tracker answers them at that address.
func (c *certificates) bindACME(key string, addr config.OptAddr, serve func(context.Context, net.Listener) error) {
	if !c.needsListener(addr) {
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
