package config

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"postern/certs"
)

// Certs says where certificates come from.
type Certs struct {
	Mode           string  `toml:"mode"`
	CertFile       string  `toml:"cert_file"`
	KeyFile        string  `toml:"key_file"`
	Pairs          []Pair  `toml:"pair"`
	MinVersion     string  `toml:"min_version"`
	ACMEEmail      string  `toml:"acme_email"`
	ACMEDomains    []Host  `toml:"acme_domains"`
	ACMEDirectory  string  `toml:"acme_directory"`
	ACMEHTTPListen OptAddr `toml:"acme_http_listen"`
	ACMETLSListen  OptAddr `toml:"acme_tls_listen"`
	ACMECAFile     string  `toml:"acme_ca_file"` // by which the directory is trusted; empty: the system's
}

// Pair is a further certificate, beside cert_file and key_file.
type Pair struct {
	CertFile string `toml:"cert_file"`
	KeyFile  string `toml:"key_file"`
}

// Names returns the domains that certificates are obtained for: acme_domains or the
// hostname, and the tracking domains if they are served over TLS here.
func (c *Config) Names() []Host {
	names := slices.Clone(c.Certs.ACMEDomains)
	if len(names) == 0 {
		names = append(names, c.Hostname)
	}
	if !c.Tracking.Web.TLS {
		return names
	}

	for _, u := range c.trackingURLs() {
		if u.Scheme == "https" && !slices.Contains(names, Host(u.Hostname())) {
			names = append(names, Host(u.Hostname()))
		}
	}

	return names
}

// AllPairs returns cert_file and key_file, and the further pairs.
func (c Certs) AllPairs() []Pair {
	first := Pair{CertFile: c.CertFile, KeyFile: c.KeyFile}

	return append([]Pair{first}, c.Pairs...)
}

// checkCerts checks [certs].
func (b *binder) checkCerts(all *Config) {
	c := &all.Certs
	b.oneOf("certs.min_version", c.MinVersion, "1.2", "1.3")
	c.CertFile = b.Path(c.CertFile)
	c.KeyFile = b.Path(c.KeyFile)

	switch c.Mode {
	case "files":
		b.checkCertificates(all, b.readPairs(c), time.Now())
	case "self-signed":
		b.warnUnusedPairs(c)
	case "acme":
		b.warnUnusedPairs(c)
		b.checkACME(all)
	default:
		b.oneOf("certs.mode", c.Mode, "files", "acme", "self-signed")
	}
}

// readPairs makes the paths of the further pairs absolute and reads all
// certificates, cert_file first. One that cannot be read has no Leaf.
func (b *binder) readPairs(c *Certs) []tls.Certificate {
	first, err := certs.Files(c.CertFile, c.KeyFile)
	if err != nil {
		b.problem("certs.cert_file", "%s", strings.TrimPrefix(err.Error(), "certs: "))
	}

	list := []tls.Certificate{first}
	for i := range c.Pairs {
		p := &c.Pairs[i]
		p.CertFile = b.Path(p.CertFile)
		p.KeyFile = b.Path(p.KeyFile)

		cert, err := certs.Files(p.CertFile, p.KeyFile)
		if err != nil {
			b.problem(keyOf("certs.pair", i)+".cert_file", "%v", err)
		}
		list = append(list, cert)
	}

	return list
}

// warnUnusedPairs warns of certificate files that the mode does not use.
func (b *binder) warnUnusedPairs(c *Certs) {
	for _, key := range []string{"certs.cert_file", "certs.key_file", "certs.pair"} {
		if b.given(key) {
			b.warn(key, "is not used: certs.mode is %q", c.Mode)
		}
	}
}

// checkACME checks the keys of ACME, and that its listeners do not clash with the
// tracker's.
func (b *binder) checkACME(c *Config) {
	a := &c.Certs
	if a.ACMEDirectory != "" && !strings.HasPrefix(a.ACMEDirectory, "https://") {
		b.problem("certs.acme_directory", `want an https address, for example `+
			`"https://acme-v02.api.letsencrypt.org/directory"`)
	}

	a.ACMECAFile = b.Path(a.ACMECAFile)
	if a.ACMECAFile != "" {
		if _, err := certs.ReadPool(a.ACMECAFile); err != nil {
			b.problem("certs.acme_ca_file", "%v", err)
		}
	}

	switch {
	case a.ACMEHTTPListen == "" && a.ACMETLSListen == "":
		b.problem("certs.acme_http_listen", "one of acme_http_listen and acme_tls_listen has to answer challenges")
	case a.ACMEHTTPListen == a.ACMETLSListen:
		b.problem("certs.acme_tls_listen", "the same address as acme_http_listen, which speaks no TLS")
	}

	other := a.ACMEHTTPListen // where the tracker must not listen
	if !c.Tracking.Web.TLS {
		other = a.ACMETLSListen
	}
	for i, l := range c.Tracking.Web.Listen {
		if string(l) == string(other) {
			b.problem(keyOf("tracking.web.listen", i), "the tracker speaks the other of http and https there "+
				"than ACME's challenge: give one of them another address")
		}
	}
}

// renewBefore is how long before its end a certificate gets a warning.
const renewBefore = 14 * 24 * time.Hour

// checkCertificates warns of certificates that clients refuse because they have expired
// or are for other names. list are those of the configured pairs, in order.
func (b *binder) checkCertificates(c *Config, list []tls.Certificate, now time.Time) {
	var leaves []*x509.Certificate
	for i, cert := range list {
		leaf := cert.Leaf
		if leaf == nil {
			continue
		}
		leaves = append(leaves, leaf)

		key := "certs.cert_file"
		if i > 0 {
			key = keyOf("certs.pair", i-1) + ".cert_file"
		}
		switch left := leaf.NotAfter.Sub(now); {
		case left <= 0:
			b.warn(key, "the certificate ran out on %s: clients that verify it refuse to connect", day(leaf.NotAfter))
		case left < renewBefore:
			b.warn(key, "the certificate runs out on %s", day(leaf.NotAfter))
		case leaf.NotBefore.After(now):
			b.warn(key, "the certificate is not valid before %s", day(leaf.NotBefore))
		}
	}
	if len(leaves) == 0 {
		return
	}

	for _, host := range c.tlsNames() {
		fits := func(leaf *x509.Certificate) bool { return leaf.VerifyHostname(host) == nil }
		if !slices.ContainsFunc(leaves, fits) {
			b.warn("certs.cert_file", "no certificate is for %s: clients that verify it refuse to connect; "+
				"the names are %s", host, strings.Join(certificateNames(leaves...), ", "))
		}
	}
}

// tlsNames returns the host names under which clients reach listeners with TLS.
func (c *Config) tlsNames() []string {
	var names []string
	if c.Hostname != "" {
		names = append(names, string(c.Hostname))
	}
	if !c.Tracking.Web.TLS {
		return names
	}

	for _, u := range c.trackingURLs() {
		if u.Scheme == "https" && !slices.Contains(names, u.Hostname()) {
			names = append(names, u.Hostname())
		}
	}

	return names
}

// certificateNames returns the names that certificates are for, "none" if there are
// none.
func certificateNames(leaves ...*x509.Certificate) []string {
	var out []string
	for _, leaf := range leaves {
		out = append(out, leaf.DNSNames...)
		for _, ip := range leaf.IPAddresses {
			out = append(out, ip.String())
		}
	}
	if len(out) == 0 {
		out = []string{"none"}
	}

	return out
}

// day returns the date of a time, in UTC.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
