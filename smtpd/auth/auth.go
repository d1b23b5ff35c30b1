// Package auth authenticates SMTP clients: against the users file (Users) or at
// the upstream (Passthrough). Both bound failed logins per source and per user.
package auth

import (
	"context"
	"net/netip"

	"postern/relay"
)

// Credentials is one attempt to authenticate.
type Credentials struct {
	Name     string
	Password string
	Source   netip.Addr
}

// Identity is who logged in.
type Identity struct {
	User  relay.User
	Via   relay.Sender // the session's own way upstream; nil: the relay's
	Close func()       // at the session's end; may be nil
}

// Authenticator authenticates clients for submission. Its errors are *reply.Fault: 535
// 5.7.8 for a wrong name or password, 454 4.7.0 for "not now".
type Authenticator interface {
	// Mechanisms are those of AUTH that are on offer, of PLAIN and LOGIN.
	Mechanisms() []string
	Authenticate(context.Context, Credentials) (*Identity, error)
}

// Directory finds users by name; *Users is one.
type Directory interface {
	Lookup(name string) (relay.User, bool)
}
