package smtpd

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

// sessionID returns the id of the connection's session.
func (c *conn) sessionID() string { return c.id }

// source returns what limits count the connection by.
func (c *conn) source() netip.Addr { return c.cfg.source }
