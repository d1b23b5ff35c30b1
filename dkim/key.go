package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"postern/relay/envelope"
)

// Key is one signing key, RSA or Ed25519.
type Key struct {
	Domain    string
	Selector  string
	Private   crypto.Signer
	NotBefore time.Time // when it begins to sign; zero: at once
	NotAfter  time.Time // when it ends to sign; zero: never
	// Successor is the selector of the key that replaces it, from the NotBefore
	// of that key on; empty: none does.
	Successor string
}

// Kind names the key's algorithm and, for RSA, its size in bits: "rsa2048",
// "ed25519".
func (k Key) Kind() string {
	switch pub := k.Private.Public().(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa%d", pub.N.BitLen())
	case ed25519.PublicKey:
		return "ed25519"
	}

	return "unknown"
}

// ReadKey reads a private key from a PEM file, in PKCS #1 or PKCS #8. An
// international domain may be given in either of its forms; the key has its
// A-labels.
func ReadKey(domain, selector, file string) (Key, error) {
	ascii, err := ParseDomain(domain)
	if err != nil {
		return Key{}, err
	}
	if err := CheckSelector(selector); err != nil {
		return Key{}, err
	}

	data, err := os.ReadFile(file)
	if err != nil {
		return Key{}, fmt.Errorf("dkim: read key: %w", err)
	}

	block, _ := pem.Decode(data)
	if block == nil {
		return Key{}, fmt.Errorf("dkim: read %s: no PEM block", file)
	}

	private, err := parsePrivate(block)
	if err != nil {
		return Key{}, fmt.Errorf("dkim: read %s: %w", file, err)
	}

	return Key{Domain: ascii, Selector: selector, Private: private}, nil
}

// ParseDomain returns a signing domain as the d= tag has it, in A-labels and in
// lower case (RFC 6376 section 3.5).
func ParseDomain(domain string) (string, error) {
	ascii, err := envelope.ParseDomain(domain)
	if err != nil {
		return "", fmt.Errorf("dkim: %q is not a domain", domain)
	}

	return ascii, nil
}

// CheckSelector returns an error if a selector is not one or more labels of a
// domain name in ASCII (RFC 6376 section 3.1).
func CheckSelector(selector string) error {
	ascii, err := envelope.ParseDomain(selector)
	if err != nil || !strings.EqualFold(ascii, selector) {
		return fmt.Errorf("dkim: %q is not a selector; write for example \"s2026\"", selector)
	}

	return nil
}

// minRSA is the smallest RSA key, in bits. Verifiers reject signatures of smaller
// ones (RFC 8301 section 3.2).
const minRSA = 1024

// parsePrivate reads a private key whose signatures verifiers accept.
func parsePrivate(block *pem.Block) (crypto.Signer, error) {
	switch block.Type {
	case "CERTIFICATE":
		return nil, errors.New("holds a certificate, want the private key")
	case "PUBLIC KEY", "RSA PUBLIC KEY":
		return nil, errors.New("holds a public key, want the private one")
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the private key is encrypted; `openssl pkey -in FILE -out NEW` decrypts it")
	}

	var k any
	var err error
	if block.Type == "RSA PRIVATE KEY" {
		k, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	} else {
		k, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, err
	}

	switch k := k.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < minRSA {
			return nil, fmt.Errorf("RSA key of %d bits, verifiers want at least %d", k.N.BitLen(), minRSA)
		}
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}

	return nil, fmt.Errorf("a key of type %T, want RSA or Ed25519", k)
}

// Generate returns a new key and its PEM (PKCS #8). The kind is rsa2048, rsa3072,
// rsa4096 or ed25519.
func Generate(kind string) (crypto.Signer, []byte, error) {
	k, err := generate(kind)
	if err != nil {
		return nil, nil, err
	}

	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, nil, err
	}

	return k, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// rsaBits are the sizes of the RSA keys that can be generated, by kind.
var rsaBits = map[string]int{
	"rsa2048": 2048,
	"rsa3072": 3072,
	"rsa4096": 4096,
}

func generate(kind string) (crypto.Signer, error) {
	if kind == "ed25519" {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	}

	bits, ok := rsaBits[kind]
	if !ok {
		return nil, fmt.Errorf("dkim: key type %q, want rsa2048, rsa3072, rsa4096 or ed25519", kind)
	}

	return rsa.GenerateKey(rand.Reader, bits)
}

func isRSA(k Key) bool {
	_, ok := k.Private.Public().(*rsa.PublicKey)
	return ok
}

// within reports whether the dates of a key allow it to sign now.
func (k Key) within(now time.Time) bool {
	begun := k.NotBefore.IsZero() || !now.Before(k.NotBefore)
	ended := !k.NotAfter.IsZero() && !now.Before(k.NotAfter)

	return begun && !ended
}
