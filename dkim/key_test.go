package dkim

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"maps"
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

// TestReadKeyRefusesFiles: what is wrong with a key's file is said in words.
func TestReadKeyRefusesFiles(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	_, good, err := Generate("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	const encrypted = "the private key is encrypted; `openssl pkey -in FILE -out NEW` decrypts it"

	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "no PEM block"},
		{"DER", ecDER, "no PEM block"},
		{"cut short", good[:len(good)/2], "no PEM block"},
		{"certificate", block("CERTIFICATE", ecDER), "holds a certificate, want the private key"},
		{"public key", block("PUBLIC KEY", ecDER), "holds a public key, want the private one"},
		{"public RSA key", block("RSA PUBLIC KEY", ecDER), "holds a public key, want the private one"},
		{"encrypted", block("ENCRYPTED PRIVATE KEY", ecDER), encrypted},
		{"other bytes", block("PRIVATE KEY", []byte("x")), "asn1: "},
		{"other bytes as PKCS#1", block("RSA PRIVATE KEY", []byte("x")), "asn1: "},
		{"PKCS#8 said to be PKCS#1", block("RSA PRIVATE KEY", ecDER), "use ParsePKCS8PrivateKey instead"},
		{"another algorithm", block("PRIVATE KEY", ecDER), "a key of type *ecdsa.PrivateKey, want RSA or Ed25519"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "key.pem")
			if err := os.WriteFile(file, c.data, 0o600); err != nil {
				t.Fatal(err)
			}

			k, err := ReadKey("a.example", "s", file)
			want := "dkim: read " + file + ": "
			if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), c.want) || k.Private != nil {
				t.Errorf("got %v, want %s%s", err, want, c.want)
			}
		})
	}

	dir := t.TempDir()
	if _, err := ReadKey("a.example", "s", filepath.Join(dir, "none.pem")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := ReadKey("a.example", "s", dir); err == nil || !strings.HasPrefix(err.Error(), "dkim: read key: ") {
		t.Errorf("a directory: %v", err)
	}
}

// TestReadKeyFindsKeyInFile: behind other text, with other line ends.
func TestReadKeyFindsKeyInFile(t *testing.T) {
	private, data, err := Generate("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, []byte("# a key\r\n"+strings.ReplaceAll(string(data), "\n", "\r\n")), 0o600); err != nil {
		t.Fatal(err)
	}

	k, err := ReadKey("Example.org", "S1", file)
	if err != nil || k.Domain != "example.org" || k.Selector != "S1" || !private.(ed25519.PrivateKey).Equal(k.Private) {
		t.Errorf("got %+v, %v", k, err)
	}
}

func TestGenerate(t *testing.T) {
	if want := map[string]int{"rsa2048": 2048, "rsa3072": 3072, "rsa4096": 4096}; !maps.Equal(rsaBits, want) {
		t.Errorf("sizes %v, want %v", rsaBits, want)
	}

	for _, kind := range []string{"rsa2048", "ed25519"} {
		private, data, err := Generate(kind)
		if err != nil {
			t.Fatal(err)
		}
		block, rest := pem.Decode(data)
		if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
			t.Fatalf("%s: PEM %s", kind, data)
		}
		read, err := parsePrivate(block)
		if err != nil {
			t.Fatal(err)
		}
		if got := (Key{Private: read}).Kind(); got != kind {
			t.Errorf("read as %s, want %s", got, kind)
		}
		if !private.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(read.Public()) {
			t.Errorf("%s: another key is read", kind)
		}
	}

	for _, kind := range []string{"", "rsa", "rsa1024", "RSA2048", "ed448"} {
		k, data, err := Generate(kind)
		if err == nil || !strings.Contains(err.Error(), "want rsa2048, rsa3072, rsa4096 or ed25519") || k != nil || data != nil {
			t.Errorf("%q gives %T, %v", kind, k, err)
		}
	}
}
