package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// renewBefore is how long before its end a certificate is worth a warning.
const renewBefore = 14 * 24 * time.Hour

// writable asks access(2) whether files can be made in a folder: W_OK and X_OK.
const writable = 2 | 1

// checkStateDir wants a folder that can be written to, or one that can be made.
func (b *binder) checkStateDir(dir string) {
	info, err := os.Stat(dir)
	switch {
	case err == nil && !info.IsDir():
		b.problem("state_dir", "%s is a file, not a folder", dir)
		return
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		parent := dir
		for errors.Is(err, fs.ErrNotExist) && parent != filepath.Dir(parent) {
			parent = filepath.Dir(parent)
			_, err = os.Stat(parent)
		}
		dir = parent
	default:
		b.problem("state_dir", "%v", err)
		return
	}

	if err := syscall.Access(dir, writable); err != nil {
		b.problem("state_dir", "%s cannot be written by user %d: %v", dir, os.Getuid(), err)
	}
}

// warnReadable warns of a file with secrets that every user may read.
func (b *binder) warnReadable(key, file, what string) {
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm()&0o004 == 0 || b.has(key) {
		return
	}

	name := filepath.Base(file)
	b.warn(key, "every user of this machine can read %s, which holds %s: chmod o-r %s", name, what, name)
}

// checkSecrets warns of files with secrets that others can read.
func (b *binder) checkSecrets(c *Config) {
	b.warnReadable("tracking.key_file", c.Tracking.KeyFile, "the keys of all tracked links")
	if c.Certs.Mode == "files" {
		b.warnReadable("certs.key_file", c.Certs.KeyFile, "a private key")
		for i, p := range c.Certs.Pairs {
			b.warnReadable(keyOf("certs.pair", i)+".key_file", p.KeyFile, "a private key")
		}
	}
	for i, k := range c.DKIM.Keys {
		b.warnReadable(keyOf("dkim.key", i)+".key_file", k.KeyFile, "a private key")
	}
	for _, key := range b.inPlace {
		b.warnReadable(key, b.file, "this secret")
	}
}

// checkGlobs warns of patterns that no file matches.
func (b *binder) checkGlobs(a Accounting) {
	for i, pattern := range a.Files {
		if found, err := filepath.Glob(pattern); err == nil && len(found) == 0 {
			b.warn(keyOf("accounting.files", i), "no file matches %s yet", pattern)
		}
	}
}

// checkCertificates warns of certificates that clients will refuse: run out, or
// for other names. list are those of the configured pairs, in order.
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
			b.warn("certs.cert_file", "no certificate is for %s: clients that verify it refuse to connect; the names are %s",
				host, strings.Join(certificateNames(leaves...), ", "))
		}
	}
}

// tlsNames are the host names under which clients reach listeners with TLS.
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

// trackingURLs are tracking.url and those of the rules.
func (c *Config) trackingURLs() []*url.URL {
	all := []URL{c.Tracking.URL}
	for _, r := range c.Tracking.Rules {
		all = append(all, r.URL)
	}

	var out []*url.URL
	for _, u := range all {
		if p, err := url.Parse(string(u)); err == nil && p.Host != "" {
			out = append(out, p)
		}
	}

	return out
}

// certificateNames are the names that certificates are for.
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

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
