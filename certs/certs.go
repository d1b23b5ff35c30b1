// Package certs provides the TLS configurations of all listeners, with
// certificates from files (Store.Load), from an ACME service (ACME), or from a
// local CA for first tests (SelfSigned).
//
// A directory of certificates holds ca.crt and ca.key, the local CA;
// self-signed.crt and self-signed.key, the certificate that it issued; and acme/,
// in the layout of certmagic.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Files reads a certificate chain and its private key, both PEM. The error names
// the file.
func Files(certFile, keyFile string) (tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err == nil {
		return c, nil
	}

	var withName *fs.PathError
	if errors.As(err, &withName) {
		return c, fmt.Errorf("certs: %w", err)
	}

	return c, fmt.Errorf("certs: %s and its key %s: %w", certFile, keyFile, err)
}

// ServerConfig returns the TLS configuration of a listener: at least minVersion
// (and at least TLS 1.2), and for TLS 1.2 only AEAD cipher suites with forward
// secrecy (RFC 9325 section 4.2), whereas crypto/tls itself also accepts CBC.
func ServerConfig(list []tls.Certificate, minVersion uint16) *tls.Config {
	return &tls.Config{
		Certificates: list,
		MinVersion:   max(minVersion, tls.VersionTLS12),
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// ReadPool reads the certificates of a PEM file as a pool to verify peers.
func ReadPool(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("certs: %w", err)
	}

	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("certs: %s: no PEM certificate", file)
	}

	return pool, nil
}
