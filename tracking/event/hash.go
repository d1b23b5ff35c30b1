package event

import (
	"crypto/sha1"
	"encoding/base64"
	"strings"
)

// HashRecipient replaces the recipient's address with the SHA-1 hash of the
// lower-cased address and its domain, for privacy_policy = "sha1".
func (e *Event) HashRecipient() {
	if e.RcptTo == "" {
		return
	}

	address := strings.ToLower(e.RcptTo)
	sum := sha1.Sum([]byte(address))
	e.RcptHash = base64.StdEncoding.EncodeToString(sum[:])
	e.RcptDomain = address[strings.LastIndexByte(address, '@')+1:]

	e.RcptTo = ""
	e.RawRcptTo = ""
}
