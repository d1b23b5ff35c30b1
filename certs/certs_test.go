package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"postern/integration/faultfs"
)

// handshake runs a handshake over a pipe and returns the client's error.
func handshake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go tls.Server(a, server).Handshake()
	b.SetDeadline(time.Now().Add(10 * time.Second))
	return tls.Client(b, client).Handshake()
}

func TestServerConfig(t *testing.T) {
	c, err := SelfSigned(t.TempDir(), "mail.example.org", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	server := ServerConfig([]tls.Certificate{c}, 0)
	for _, v := range []struct {
		name     string
		min, max uint16
		suites   []uint16
		ok       bool
	}{
		{"TLS 1.0", tls.VersionTLS10, tls.VersionTLS10, nil, false},
		{"TLS 1.1", tls.VersionTLS11, tls.VersionTLS11, nil, false},
		{"TLS 1.2", tls.VersionTLS12, tls.VersionTLS12, nil, true},
		{"TLS 1.3", tls.VersionTLS13, tls.VersionTLS13, nil, true},
		{"TLS 1.2 with CBC", tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}, false},
	} {
		t.Run(v.name, func(t *testing.T) {
			err := handshake(t, server, &tls.Config{MinVersion: v.min, MaxVersion: v.max, CipherSuites: v.suites, InsecureSkipVerify: true})
			if (err == nil) != v.ok {
				t.Errorf("got %v, want ok %v", err, v.ok)
			}
		})
	}
}

func TestSelfSignedIsKept(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	serial := func(host string, now time.Time) string {
		c, err := SelfSigned(dir, host, now)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	first := serial("a.example", now)
	if serial("a.example", now) != first {
		t.Error("made anew at the second start")
	}
	if serial("a.example", now.Add(localLife)) == first {
		t.Error("kept although it expires")
	}
	if serial("b.example", now) == first {
		t.Error("kept for another name")
	}
	if err := os.WriteFile(filepath.Join(dir, "self-signed.crt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	serial("b.example", now) // half a pair is no reason not to start
	// Who trusts the CA's file trusts what it signed, also what it signs anew.
	pool, err := ReadPool(CAFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{now, now.Add(localLife)} {
		c, err := SelfSigned(dir, "b.example", at)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"b.example", "localhost", "127.0.0.1"} {
			if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: at}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if err := os.Remove(filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	c, err := SelfSigned(dir, "b.example", now)
	if err != nil {
		t.Fatal(err)
	}
	if pool, err = ReadPool(CAFile(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Errorf("after a new CA: %v", err)
	}
}

func TestSelfSignedMakesNoOtherCAWhereTheOldCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	if _, err := SelfSigned(dir, "a.example", time.Now()); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "ca.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(key, 0o700); err != nil { // which no read succeeds on
		t.Fatal(err)
	}
	before, err := os.ReadFile(CAFile(dir))
	if err != nil {
		t.Fatal(err)
	}

	fsys, err := faultfs.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (localFiles{dir: dir, fs: fsys}).selfSigned("a.example", time.Now()); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("got %v, want that the key cannot be read", err)
	}
	if calls := fsys.Calls(); len(calls) > 0 {
		t.Errorf("calls %v, want nothing written", calls)
	}

	after, err := os.ReadFile(CAFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	if string(after) != string(before) {
		t.Error("got another CA, want the old one")
	}
}
