// Package auth authenticates SMTP clients: by the users file (Users) or at the
// upstream (Passthrough). Both bound failed logins per source and per user, and
// answer a source's failures later and later.
package auth

import (
	"context"
	"net/netip"

	"postern/relay"
)

// Credentials are one attempt to authenticate.
type Credentials struct {
	Name     string     // may end in a subaccount: name:X-MSYS-SUBACCOUNT=42
	Password string     // in plain text
	Source   netip.Addr // what failures are counted by: an IPv4 address or an IPv6 /64
}

// Identity is who logged in.
type Identity struct {
	User  relay.User
	Via   relay.Sender // the session's own connection to the upstream; nil: the relay's
	Close func()       // to be called at the end of the session; may be nil
}

// Authenticator authenticates clients for submission. It is safe for concurrent
// use.
type Authenticator interface {
	// Mechanisms returns the mechanisms of AUTH to offer, of PLAIN and LOGIN.
	Mechanisms() []string
	// Authenticate checks credentials. Its errors are *reply.Fault: 535 5.7.8 for
	// a wrong name or password, 454 4.7.0 where they could not be checked now. It
	// may wait before it returns a failure.
	Authenticate(context.Context, Credentials) (*Identity, error)
}

// Directory finds users by name; *Users is one.
type Directory interface {
	Lookup(name string) (relay.User, bool)
}
