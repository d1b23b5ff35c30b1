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
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"postern/tracking/spool/atomicfile"
)

const (
	localCALife = 10 * 365 * 24 * time.Hour
	localLife   = 90 * 24 * time.Hour
	renewLocal  = 30 * 24 * time.Hour // before it runs out
)

// CAFile is the certificate of the local CA in a folder: who trusts it, trusts
// what SelfSigned makes there.
func CAFile(dir string) string { return filepath.Join(dir, "ca.crt") }

// SelfSigned reads the certificate that an earlier call left in dir, or makes
// one for host and loopback, signed by a CA of its own, where there is none that
// fits: it is missing, for another name, runs out within 30 days, not of this
// CA, or a crash left half a pair.
func SelfSigned(dir, host string, now time.Time) (tls.Certificate, error) {
	none := tls.Certificate{}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return none, fmt.Errorf("certs: %w", err)
	}
	ca, err := localCA(dir, now)
	if err != nil {
		return none, err
	}
	certFile, keyFile := filepath.Join(dir, "self-signed.crt"), filepath.Join(dir, "self-signed.key")
	c, err := tls.LoadX509KeyPair(certFile, keyFile)
	if unreadable(err) {
		return none, fmt.Errorf("certs: %w", err)
	}
	if err == nil && c.Leaf != nil && c.Leaf.VerifyHostname(host) == nil && now.Add(renewLocal).Before(c.Leaf.NotAfter) && c.Leaf.CheckSignatureFrom(ca.Leaf) == nil {
		return c, nil
	}
	tmpl := &x509.Certificate{
		Subject: pkix.Name{CommonName: host}, DNSNames: []string{host, "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(localLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if err := writePair(certFile, keyFile, tmpl, &ca); err != nil {
		return none, err
	}
	return Files(certFile, keyFile)
}

// localCA reads or makes the CA.
func localCA(dir string, now time.Time) (tls.Certificate, error) {
	certFile, keyFile := CAFile(dir), filepath.Join(dir, "ca.key")
	c, err := tls.LoadX509KeyPair(certFile, keyFile)
	if unreadable(err) { // a new CA would be one that no client trusts
		return c, fmt.Errorf("certs: %w", err)
	}
	if err == nil && c.Leaf != nil && c.Leaf.IsCA && now.Add(localLife).Before(c.Leaf.NotAfter) {
		return c, nil
	}
	tmpl := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Postern local CA " + now.UTC().Format(time.DateTime)}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(localCALife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	if err := writePair(certFile, keyFile, tmpl, nil); err != nil {
		return c, err
	}
	return Files(certFile, keyFile)
}

// unreadable reports whether a file is there and could not be read, which
// says nothing of what it holds.
func unreadable(err error) bool {
	var path *fs.PathError
	return errors.As(err, &path) && !errors.Is(err, fs.ErrNotExist)
}

// writePair makes a key and its certificate, signed by ca or, where that is
// nil, by itself; the file has the chain.
func writePair(certFile, keyFile string, tmpl *x509.Certificate, ca *tls.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	if tmpl.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	parent, signer := tmpl, crypto.PrivateKey(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if ca != nil {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]})...)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})

	// A reader sees each file whole. Where a crash leaves one of the two, they
	// do not fit, and the next call makes both anew.
	err = errors.Join(
		atomicfile.Write(keyFile, keyPEM, atomicfile.Options{}),
		atomicfile.Write(certFile, chain, atomicfile.Options{Perm: 0o644}),
	)
	if err != nil {
		return fmt.Errorf("certs: %w", err)
	}

	return nil
}
