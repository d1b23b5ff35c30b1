package smtpd

import (
	"crypto/rand"
	"encoding/base32"
)

var sessionIDs = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newSessionID() string {
	var b [10]byte
	rand.Read(b[:])

	return sessionIDs.EncodeToString(b[:])
}
