package dkim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestInternationalDomain: a key that was given with U-labels signs for both
// forms of its domain, and has the A-labels in d=.
func TestInternationalDomain(t *testing.T) {
	_, pem, err := Generate("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, pem, 0o600); err != nil {
		t.Fatal(err)
	}

	k, err := ReadKey("B\u00fccher.example", "s", file)
	if err != nil || k.Domain != "xn--bcher-kva.example" {
		t.Fatalf("read as %q, %v, want xn--bcher-kva.example", k.Domain, err)
	}

	s := NewSigner([]Key{k})
	for _, domain := range []string{"b\u00fccher.example", "xn--bcher-kva.example", "XN--BCHER-KVA.example", "news.b\u00fccher.example"} {
		if keys := s.KeysFor(domain, time.Now()); len(keys) != 1 || keys[0].Domain != k.Domain {
			t.Errorf("%s: keys %+v, want that of %s", domain, keys, k.Domain)
		}
	}
	for _, name := range []string{"b\u00fccher.example", "xn--bcher-kva.example", "s._domainkey.b\u00fccher.example", "S._domainkey.xn--bcher-kva.example.", "s"} {
		if _, ok := s.Named(name, time.Now()); !ok {
			t.Errorf("no key named %q", name)
		}
	}
	if !s.Has("b\u00fccher.example") || s.Has("news.b\u00fccher.example") {
		t.Error("Has knows another domain than that of the key")
	}
}

func TestReadKeyRefusesNames(t *testing.T) {
	for _, c := range []struct{ domain, selector string }{
		{"a b.example", "s"}, {"a.example;", "s"}, {"", "s"}, {"*.a.example", "s"}, {"a.example\r\nx", "s"},
		{"a.example", ""}, {"a.example", "s;"}, {"a.example", "s t"}, {"a.example", "-s"}, {"a.example", "s\u00fc"},
	} {
		if _, err := ReadKey(c.domain, c.selector, "nowhere"); err == nil || os.IsNotExist(err) {
			t.Errorf("ReadKey(%q, %q): %v", c.domain, c.selector, err)
		}
	}
}

// TestReadKeyRefusesSmallRSA: in either form, for verifiers take no signature of
// such a key (RFC 8301 section 3.2).
func TestReadKeyRefusesSmallRSA(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")

	for _, bits := range []int{512, 1024} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}

		for kind, der := range map[string][]byte{
			"RSA PRIVATE KEY": x509.MarshalPKCS1PrivateKey(k),
			"PRIVATE KEY":     pkcs8,
		} {
			file := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
				t.Fatal(err)
			}

			_, err := ReadKey("a.example", "s", file)
			if small := err != nil && strings.Contains(err.Error(), "RSA key of 512 bits"); small != (bits == 512) {
				t.Errorf("%s of %d bits: got error %v", kind, bits, err)
			}
		}
	}
}
