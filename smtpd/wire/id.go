package wire

import (
	"crypto/rand"
	"encoding/base32"
	"net/netip"
)

var sessionIDs = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func newSessionID() string {
	var b [10]byte
	rand.Read(b[:])

	return sessionIDs.EncodeToString(b[:])
}

// SessionID returns the id of the connection's session.
func (c *Conn) SessionID() string { return c.id }

// Source returns what limits count the connection by.
func (c *Conn) Source() netip.Addr { return c.cfg.Source }
