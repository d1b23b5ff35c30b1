package dkim

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
)

// RSAMode selects the implementation of RSA.
type RSAMode string

// Modes of RSA.
const (
	RSAAuto RSAMode = "auto" // libcrypto where it can be loaded
	RSAGo   RSAMode = "go"   // crypto/rsa
)

// errDiffers says that two implementations disagree, of which neither can be
// trusted to be right.
var errDiffers = errors.New("dkim: libcrypto and crypto/rsa sign differently; crypto/rsa is used")

// Fast returns the key with the implementation that the mode selects, after both
// have signed once with it. The key that is returned works even if err is not
// nil: it says why libcrypto is not used.
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

// RSAImplementation returns the name of the implementation that a mode selects,
// with its version.
func RSAImplementation(mode RSAMode) string {
	if v := opensslVersion(); v != "" && mode != RSAGo {
		return "libcrypto, " + v
	}

	return "crypto/rsa"
}
