package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writeTestPair writes a certificate for a name. The kind of key is "rsa" or
// "ecdsa".
func writeTestPair(t *testing.T, dir, file, name, kind string, serial int64) Pair {
	t.Helper()
	var key any
	var pub any
	if kind == "rsa" {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		key, pub = k, k.Public()
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, pub = k, k.Public()
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := Pair{filepath.Join(dir, file+".crt"), filepath.Join(dir, file+".key")}
	for f, b := range map[string]*pem.Block{p.CertFile: {Type: "CERTIFICATE", Bytes: der}, p.KeyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(f, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// serial returns the serial number of the certificate that a client gets.
func serial(t *testing.T, s *Store, client *tls.Config) int64 {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() {
		srv := tls.Server(b, s.Config())
		srv.Handshake()
		io.Copy(io.Discard, srv)
	}()
	client.InsecureSkipVerify = true
	c := tls.Client(a, client)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func TestStoreChooses(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(tls.VersionTLS12, slog.New(slog.DiscardHandler))
	if err := s.Load(writeTestPair(t, dir, "a", "mail.example", "ecdsa", 1), writeTestPair(t, dir, "b", "mail.example", "rsa", 2), writeTestPair(t, dir, "c", "other.example", "ecdsa", 3)); err != nil {
		t.Fatal(err)
	}
	rsaOnly := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	for _, c := range []struct {
		name   string
		client *tls.Config
		want   int64
	}{
		{"by name", &tls.Config{ServerName: "other.example"}, 3},
		{"the first, for a name that is nobody's", &tls.Config{ServerName: "strange.example"}, 1},
		{"ECDSA before RSA", &tls.Config{ServerName: "mail.example"}, 1},
		{"RSA for who knows no other", &tls.Config{ServerName: "mail.example", MaxVersion: tls.VersionTLS12, CipherSuites: rsaOnly}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := serial(t, s, c.client); got != c.want {
				t.Errorf("certificate %d, want %d", got, c.want)
			}
		})
	}
}

func TestStoreReloads(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(tls.VersionTLS12, slog.New(slog.DiscardHandler))
	p := writeTestPair(t, dir, "a", "mail.example", "ecdsa", 1)
	if err := s.Load(p); err != nil {
		t.Fatal(err)
	}
	later := func(n int) {
		for _, f := range []string{p.CertFile, p.KeyFile} {
			at := time.Now().Add(time.Duration(n) * time.Hour)
			if err := os.Chtimes(f, at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	half, err := os.ReadFile(p.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	writeTestPair(t, dir, "a", "mail.example", "ecdsa", 2)
	whole, err := os.ReadFile(p.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.KeyFile, half, 0o600); err != nil { // the new certificate with the old key
		t.Fatal(err)
	}
	later(1)
	s.check()
	s.check()
	if got := serial(t, s, &tls.Config{ServerName: "mail.example"}); got != 1 {
		t.Errorf("a half-written pair was loaded: certificate %d", got)
	}
	if err := os.WriteFile(p.KeyFile, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	later(2)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.check()
	if got := serial(t, s, &tls.Config{ServerName: "mail.example"}); got != 1 {
		t.Errorf("got certificate %d at the first look, want the old one until the files stand still", got)
	}
	s.Watch(ctx, time.Hour)
	if got := serial(t, s, &tls.Config{ServerName: "mail.example"}); got != 2 {
		t.Errorf("certificate %d after the key came, want 2", got)
	}
	if left := time.Until(s.Expiry()); left > time.Hour || left < 50*time.Minute {
		t.Errorf("expires in %s", left)
	}
}

// TestOldTLS checks that TLS 1.0, TLS 1.1 and CBC cipher suites are refused
// with an alert.
func TestOldTLS(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(tls.VersionTLS12, slog.New(slog.DiscardHandler))
	if err := s.Load(writeTestPair(t, dir, "a", "mail.example", "rsa", 1)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		client *tls.Config
		want   string
	}{
		{"TLS 1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, "remote error: tls: protocol version not supported"},
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11}, "remote error: tls: protocol version not supported"},
		{"CBC", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}}, "remote error: tls: handshake failure"},
		{"no forward secrecy", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, "remote error: tls: handshake failure"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := net.Pipe()
			defer a.Close()
			defer b.Close()
			go func() { tls.Server(b, s.Config()).Handshake() }()
			c.client.InsecureSkipVerify = true
			if err := tls.Client(a, c.client).Handshake(); err == nil || err.Error() != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// later changes the times of files, as a renewal would.
func later(t *testing.T, files ...string) {
	t.Helper()
	at := time.Now().Add(time.Hour)
	for _, f := range files {
		if err := os.Chtimes(f, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStoreForgetsFilesThatAreNoLongerInUse(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(tls.VersionTLS12, slog.New(slog.DiscardHandler))
	old := writeTestPair(t, dir, "old", "mail.example", "ecdsa", 1)
	if err := s.Load(old); err != nil {
		t.Fatal(err)
	}
	now := writeTestPair(t, dir, "now", "mail.example", "ecdsa", 2)
	cert, err := Files(now.CertFile, now.KeyFile)
	if err != nil {
		t.Fatal(err)
	}

	s.Use(cert)
	later(t, old.CertFile, old.KeyFile)
	s.check()
	s.check()

	if got := serial(t, s, &tls.Config{ServerName: "mail.example"}); got != 2 {
		t.Errorf("got certificate %d after the old files changed, want 2", got)
	}
}

func TestPrepareChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s := NewStore(tls.VersionTLS12, slog.New(slog.DiscardHandler))
	old := writeTestPair(t, dir, "old", "mail.example", "ecdsa", 1)
	if err := s.Load(old); err != nil {
		t.Fatal(err)
	}
	client := &tls.Config{ServerName: "mail.example"}

	if _, err := s.Prepare(old, Pair{"missing.crt", "missing.key"}); err == nil {
		t.Error("got no error for a pair that is missing")
	}
	use, err := s.Prepare(writeTestPair(t, dir, "now", "mail.example", "ecdsa", 2))
	if err != nil {
		t.Fatal(err)
	}
	later(t, old.CertFile, old.KeyFile)
	s.check()
	s.check()
	if got := serial(t, s, client); got != 1 {
		t.Errorf("got certificate %d before use, want 1", got)
	}

	use()
	if got := serial(t, s, client); got != 2 {
		t.Errorf("got certificate %d after use, want 2", got)
	}
}
