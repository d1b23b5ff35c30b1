package auth

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/go-crypt/crypt/algorithm/argon2"

	"postern/relay"
)

// cheapHash hashes a password with less work than HashPassword.
func cheapHash(password string) string {
	h, err := argon2.New(argon2.WithVariantID(), argon2.WithM(64), argon2.WithT(1), argon2.WithP(1))
	if err != nil {
		panic(err)
	}
	d, err := h.Hash(password)
	if err != nil {
		panic(err)
	}
	return d.Encode()
}

// noDelay is for the delay of an Authenticator whose failures need not wait.
func noDelay(context.Context, time.Duration) {}

// newUsers is NewUsers with cheap hashes, and without pauses after failures.
func newUsers(t testing.TB, rate Rate, entries []Entry) *Users {
	t.Helper()
	standIn, err := decodeHash(cheapHash("nobody's"))
	if err != nil {
		t.Fatal(err)
	}
	u := &Users{
		throttle: newThrottle(rate, time.Now),
		hashing:  make(chan struct{}, maxHashing),
		delay:    noDelay,
		now:      time.Now,
		standIn:  standIn,
	}
	if err := u.Replace(entries); err != nil {
		t.Fatal(err)
	}
	return u
}

var testUsers = sync.OnceValue(func() []Entry {
	hash := cheapHash("secret")
	return []Entry{
		{User: relay.User{Name: "alice", Tracking: true}, Password: hash},
		{
			User: relay.User{
				Name:        "bob",
				Tracking:    true,
				FromDomains: []string{"bob.example", "*.bob.example"},
			},
			Password: hash,
		},
		{User: relay.User{Name: "nopass"}},
	}
})

// credentials returns one attempt to authenticate.
func credentials(name, password string, source netip.Addr) Credentials {
	return Credentials{
		Name:     name,
		Password: password,
		Source:   source,
	}
}
