package wire

import (
	"crypto/rand"
	"encoding/base32"
)

var sessionIDs = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newSessionID returns 80 random bits as 16 letters and digits.
func newSessionID() string {
	var b [10]byte
	rand.Read(b[:])

	return sessionIDs.EncodeToString(b[:])
}
