// Package certs gives every listener its TLS configuration: certificates from
// files, from an ACME service, or of a local CA for a first try.
//
// On disk, in the folder that it is given: ca.crt and ca.key, the local CA;
// self-signed.crt and self-signed.key, the certificate that it signed; acme/, as
// certmagic lays it out.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Files reads a certificate chain and its key, both PEM.
func Files(certFile, keyFile string) (tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(certFile, keyFile)
	var file *fs.PathError
	switch {
	case err == nil:
		return c, nil
	case errors.As(err, &file):
		return c, fmt.Errorf("certs: %w", err) // which names the file
	}

	return c, fmt.Errorf("certs: %s and its key %s: %w", certFile, keyFile, err)
}

// ServerConfig is a listener's TLS: at least minVersion (tls.VersionTLS12 or
// later), and for TLS 1.2 only AEAD suites with forward secrecy; crypto/tls by
// itself still takes CBC.
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

// ReadPool reads the certificates of a PEM file, to verify a peer with.
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
