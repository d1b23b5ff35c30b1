//go:build !linux || static

package dkim

import (
	"crypto"
	"crypto/rsa"
	"errors"
)

func accelerate(*rsa.PrivateKey) (crypto.Signer, error) {
	return nil, errors.New("dkim: built without libcrypto")
}

func opensslVersion() string { return "" }
