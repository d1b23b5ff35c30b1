package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"postern/tracking/spool/atomicfile"
)

const (
	localCALife = 10 * 365 * 24 * time.Hour
	localLife   = 90 * 24 * time.Hour
	renewLocal  = 30 * 24 * time.Hour // before expiry
)

// CAFile returns the name of the local CA's certificate in a directory. Clients
// that trust it trust the certificates that SelfSigned issues there.
func CAFile(dir string) string { return filepath.Join(dir, "ca.crt") }

// SelfSigned returns the certificate in dir for host and the loopback addresses,
// issued by a local CA. It reuses that of a previous call unless it is missing or
// incomplete, is for another name, expires within 30 days, or was issued by
// another CA; the CA is created if necessary. now is the current time.
func SelfSigned(dir, host string, now time.Time) (tls.Certificate, error) {
	return localFiles{dir: dir}.selfSigned(host, now)
}

// localFiles are the files of the local CA in a directory.
type localFiles struct {
	dir string
	fs  atomicfile.FS // nil: the operating system's
}

func (l localFiles) selfSigned(host string, now time.Time) (tls.Certificate, error) {
	none := tls.Certificate{}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return none, fmt.Errorf("certs: %w", err)
	}

	ca, err := l.ca(now)
	if err != nil {
		return none, err
	}

	pair := Pair{
		CertFile: filepath.Join(l.dir, "self-signed.crt"),
		KeyFile:  filepath.Join(l.dir, "self-signed.key"),
	}
	c, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	if unreadable(err) {
		return none, fmt.Errorf("certs: %w", err)
	}

	if err == nil && serves(c.Leaf, host, now) && c.Leaf.CheckSignatureFrom(ca.Leaf) == nil {
		return c, nil
	}

	if err := l.writePair(pair, localTemplate(host, now), &ca); err != nil {
		return none, err
	}

	return Files(pair.CertFile, pair.KeyFile)
}

// localTemplate returns the template of a certificate for host and loopback.
func localTemplate(host string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: host},
		DNSNames:              []string{host, "localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(localLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
}

// serves reports whether a certificate is for host and need not be renewed yet.
func serves(c *x509.Certificate, host string, now time.Time) bool {
	return c.VerifyHostname(host) == nil && now.Add(renewLocal).Before(c.NotAfter)
}

// ca returns the CA, which it creates if there is none or if it expires before a
// certificate that it would issue now.
func (l localFiles) ca(now time.Time) (tls.Certificate, error) {
	pair := Pair{CertFile: CAFile(l.dir), KeyFile: filepath.Join(l.dir, "ca.key")}
	c, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	if unreadable(err) { // no client would trust a new CA
		return c, fmt.Errorf("certs: %w", err)
	}

	if err == nil && c.Leaf.IsCA && now.Add(localLife).Before(c.Leaf.NotAfter) {
		return c, nil
	}

	tmpl := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Postern local CA " + now.UTC().Format(time.DateTime)},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(localCALife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	if err := l.writePair(pair, tmpl, nil); err != nil {
		return c, err
	}

	return Files(pair.CertFile, pair.KeyFile)
}

// unreadable reports whether the error is of a file that exists and could not be
// read, so that its contents are unknown.
func unreadable(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path) && !errors.Is(err, fs.ErrNotExist)
}

// writePair creates a key and its certificate, signed by ca or, if that is nil, by
// itself, and writes both. The file of the certificate has the whole chain.
func (l localFiles) writePair(pair Pair, tmpl *x509.Certificate, ca *tls.Certificate) error {
	keyPEM, chain, err := generatePair(tmpl, ca)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}

	// Each file is replaced atomically. After a crash between the two they do not
	// match, and the next call replaces both.
	err = atomicfile.Write(pair.KeyFile, keyPEM, atomicfile.Options{FS: l.fs})
	if err == nil {
		err = atomicfile.Write(pair.CertFile, chain, atomicfile.Options{FS: l.fs, Perm: 0o644})
	}
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}

	return nil
}

// generatePair returns a new key, and its certificate followed by that of ca, both
// in PEM form. x509 chooses the serial number (RFC 5280 section 4.1.2.2).
func generatePair(tmpl *x509.Certificate, ca *tls.Certificate) (keyPEM, chain []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}

	parent, signer := tmpl, crypto.PrivateKey(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}

	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, err
	}

	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}

	chain = certPEM(der)
	if ca != nil {
		chain = append(chain, certPEM(ca.Certificate[0])...)
	}

	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), chain, nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
