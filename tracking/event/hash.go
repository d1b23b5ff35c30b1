package event

import (
	"crypto/sha1"
	"encoding/base64"
	"strings"
)

// HashRecipient puts the hash of the lower-cased address in the place of the
// address: privacy_policy = "sha1" (reference, section 6).
func (e *Event) HashRecipient() {
	if e.RcptTo == "" {
		return
	}

	address := strings.ToLower(e.RcptTo)
	sum := sha1.Sum([]byte(address))
	e.RcptHash = base64.StdEncoding.EncodeToString(sum[:])
	e.RcptDomain = address[strings.LastIndexByte(address, '@')+1:]
	e.RcptTo, e.RawRcptTo = "", ""
}
