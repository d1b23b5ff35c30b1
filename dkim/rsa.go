package dkim

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
)

// RSAMode chooses the implementation of RSA: [dkim] rsa.
type RSAMode string

// The modes.
const (
	RSAAuto RSAMode = "auto" // libcrypto where it can be loaded
	RSAGo   RSAMode = "go"   // crypto/rsa
)

// errDiffers: two implementations that disagree are not to be trusted.
var errDiffers = errors.New("dkim: libcrypto and crypto/rsa sign differently; crypto/rsa is used")

// Fast returns the key with the signer that the mode asks for. The key signs
// once both ways; err says why crypto/rsa stays where libcrypto was wanted, and
// is not a reason to stop.
func (k Key) Fast(mode RSAMode) (Key, error) {
	private, ok := k.Private.(*rsa.PrivateKey)
	if !ok || mode == RSAGo {
		return k, nil
	}

	fast, err := accelerate(private)
	if err != nil {
		return k, err
	}

	digest := sha256.Sum256([]byte("postern"))
	a, errA := private.Sign(rand.Reader, digest[:], crypto.SHA256)
	b, errB := fast.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err := errors.Join(errA, errB); err != nil || !bytes.Equal(a, b) {
		return k, errors.Join(errDiffers, err)
	}
	k.Private = fast

	return k, nil
}

// RSAImplementation returns what signs with RSA, for `postern version`.
func RSAImplementation(mode RSAMode) string {
	if v := opensslVersion(); v != "" && mode != RSAGo {
		return "libcrypto, " + v
	}

	return "crypto/rsa"
}
