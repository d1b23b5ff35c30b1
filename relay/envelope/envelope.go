package envelope

import (
	"fmt"
	"strings"
)

// Recipient is one RCPT command: an address and its DSN parameters (RFC 3461).
type Recipient struct {
	Address      Address
	Notify       []string // NEVER, or any of SUCCESS, FAILURE, DELAY; none: not given
	OriginalType string   // of ORCPT: rfc822 or utf-8; empty: not given
	Original     string   // of ORCPT, decoded
}

// MailParams are the ESMTP parameters of MAIL.
type MailParams struct {
	Size       int64  // in bytes, as declared; 0: not given
	UTF8       bool   // SMTPUTF8 was given
	NeedsUTF8  bool   // an address or the header requires SMTPUTF8
	Return     string // RET: FULL or HDRS; empty: not given
	EnvelopeID string // ENVID, decoded; empty: not given
}

// Envelope is the sender and the recipients of a message.
type Envelope struct {
	From       Address
	Params     MailParams
	Recipients []Recipient
}

// Xtext encodes a parameter value (RFC 3461 section 4).
func Xtext(s string) string {
	const hex = "0123456789ABCDEF"

	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c > ' ' && c <= '~' && c != '+' && c != '=' {
			b.WriteByte(c)
		} else {
			b.WriteString("+" + string(hex[c>>4]) + string(hex[c&15]))
		}
	}

	return b.String()
}

// UTF8Xtext encodes an address as utf-8-addr-xtext (RFC 6533 section 3).
// Characters that are not ASCII become \x{HEX}.
func UTF8Xtext(s string) string {
	var b strings.Builder
	for _, c := range s {
		if c > ' ' && c <= '~' && c != '+' && c != '=' && c != '\\' {
			b.WriteRune(c)
		} else {
			fmt.Fprintf(&b, "\\x{%X}", c)
		}
	}

	return b.String()
}
