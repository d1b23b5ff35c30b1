package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/go-crypt/crypt"
	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/scrypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"
)

// HashPassword returns a password's argon2id hash, for the users file. The
// parameters are OWASP's: 19 MiB, two passes.
func HashPassword(password string) (string, error) {
	d, err := hashPassword(password)
	if err != nil {
		return "", err
	}

	return d.Encode(), nil
}

func hashPassword(password string) (algorithm.Digest, error) {
	h, err := argon2.New(argon2.WithVariantID(), argon2.WithM(19456), argon2.WithT(2), argon2.WithP(1))
	if err != nil {
		return nil, fmt.Errorf("auth: argon2id: %w", err)
	}
	d, err := h.Hash(password)
	if err != nil {
		return nil, fmt.Errorf("auth: argon2id: %w", err)
	}

	return d, nil
}

// nobodysHash returns the hash of a random password. There is one in a process.
var nobodysHash = sync.OnceValues(func() (algorithm.Digest, error) { return hashPassword(rand.Text()) })

var errHash = errors.New("not an argon2id, bcrypt, scrypt or sha512-crypt hash (`postern passwd` makes one)")

// CheckHash returns an error unless a hash is of a kind that Users verifies.
func CheckHash(hash string) error {
	_, err := decodeHash(hash)
	return err
}

func decodeHash(hash string) (algorithm.Digest, error) {
	d := crypt.NewDecoder()
	for _, register := range []func(algorithm.DecoderRegister) error{
		argon2.RegisterDecoderArgon2id,
		bcrypt.RegisterDecoder,
		scrypt.RegisterDecoder,
		shacrypt.RegisterDecoderSHA512,
	} {
		if err := register(d); err != nil {
			return nil, fmt.Errorf("auth: %w", err)
		}
	}

	digest, err := d.Decode(hash)
	if err != nil {
		return nil, errHash
	}

	return digest, nil
}

// hashKind returns the algorithm and the parameters of a hash: all of it but salt
// and key, which are the last two fields, or in bcrypt the last one.
func hashKind(d algorithm.Digest) string {
	f := strings.Split(d.Encode(), "$")
	if strings.HasPrefix(f[1], "2") { // bcrypt
		return strings.Join(f[:3], "$")
	}

	return strings.Join(f[:len(f)-2], "$")
}
