package smtpd

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/go-crypt/crypt"
	"github.com/go-crypt/crypt/algorithm"
	"github.com/go-crypt/crypt/algorithm/argon2"
	"github.com/go-crypt/crypt/algorithm/bcrypt"
	"github.com/go-crypt/crypt/algorithm/scrypt"
	"github.com/go-crypt/crypt/algorithm/shacrypt"

	"postern/relay"
)

// UserEntry is one user of the users file.
type UserEntry struct {
	relay.User
	Password string // a hash; empty: this user cannot log in
}

// Users is who may submit, by the users file. Verification is cached, so that
// a storm of logins does not cost the hash each time. It is safe for
// concurrent use; Replace swaps in a new file.
type Users struct {
	throttle *throttle
	hashing  chan struct{} // a place for each password that is hashed now
	delay    func(context.Context, time.Duration)

	mu       sync.RWMutex
	users    map[string]userEntry
	held     *relay.HeldDomains
	cacheKey [32]byte
	cache    map[[sha256.Size]byte]struct{}
	dummy    algorithm.Digest
}

type userEntry struct {
	relay.User
	digest algorithm.Digest // nil: cannot log in
}

const (
	maxHashing  = 8 // at once, whatever the machine
	maxVerified = 10_000
	maxDelay    = 3 * time.Second
)

// NewUsers makes an empty set of users with its throttle.
func NewUsers(rate Rate) (*Users, error) {
	dummy, err := HashPassword(rand.Text())
	if err != nil {
		return nil, err
	}
	digest, err := decodeHash(dummy)
	if err != nil {
		return nil, err
	}
	u := &Users{throttle: newThrottle(rate, time.Now), hashing: make(chan struct{}, min(runtime.NumCPU(), maxHashing)), delay: wait, dummy: digest}
	return u, u.Replace(nil)
}

// delayFor is the pause before the answer to a source's n-th failure.
func delayFor(n int) time.Duration { return min(100*time.Millisecond<<min(n-1, 5), maxDelay) }

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Replace swaps in other users and forgets what was verified.
func (u *Users) Replace(entries []UserEntry) error {
	users := make(map[string]userEntry, len(entries))
	var patterns []string
	for _, e := range entries {
		n := userEntry{User: e.User}
		if e.Password != "" {
			d, err := decodeHash(e.Password)
			if err != nil {
				return fmt.Errorf("smtpd: user %s: %w", e.Name, err)
			}
			n.digest = d
		}
		users[e.Name] = n
		patterns = append(patterns, e.FromDomains...)
	}
	held := relay.NewHeldDomains(patterns)

	u.mu.Lock()
	defer u.mu.Unlock()
	u.held = held
	u.users, u.cache = users, map[[sha256.Size]byte]struct{}{}
	rand.Read(u.cacheKey[:])
	return nil
}

// Lookup finds a user's settings by name.
func (u *Users) Lookup(name string) (relay.User, bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	e, ok := u.users[name]
	return e.User, ok
}

// Held implements relay.DomainHolders by the from_domains of all users.
func (u *Users) Held(domain string) bool {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.held.Held(domain)
}

const subaccountSuffix = ":X-MSYS-SUBACCOUNT="

// Authenticate implements Authenticator. Unknown users and those without a
// password take as long as known ones.
func (u *Users) Authenticate(ctx context.Context, l Login) (*Identity, error) {
	name, suffix, _ := strings.Cut(l.Name, subaccountSuffix)
	if u.throttle.locked(l.Source, name) {
		return nil, errNotNow("Too many failed logins, try again later", errLocked)
	}
	u.mu.RLock()
	e, known := u.users[name]
	key := u.cacheLine(name, l.Password)
	_, verified := u.cache[key]
	u.mu.RUnlock()
	if !verified {
		failed, err := u.verify(ctx, l, name, e.digest)
		if err != nil {
			return nil, err
		}
		if failed > 0 {
			u.delay(ctx, delayFor(failed))
			return nil, errFailed
		}
		u.remember(key, name, e)
	}
	if !known {
		return nil, errFailed
	}
	u.throttle.succeeded(l.Source, name)
	user := e.User
	if !withSubaccount(&user, l.Name, suffix) {
		return nil, errFailed
	}
	return &Identity{User: user}, nil
}

// Mechanisms implements Authenticator.
func (u *Users) Mechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// withSubaccount takes the subaccount that a login's name ends with, unless the
// user has its own, which is the account's boundary.
func withSubaccount(user *relay.User, login, suffix string) bool {
	if !strings.Contains(login, subaccountSuffix) {
		return true
	}
	n, err := strconv.ParseUint(suffix, 10, 32)
	if err != nil || n == 0 {
		return false
	}
	if user.Subaccount == 0 {
		user.Subaccount = uint32(n)
	}
	return true
}

// verify hashes the password. failed is 0 where it is right, else how many
// failures the source has.
func (u *Users) verify(ctx context.Context, l Login, name string, d algorithm.Digest) (failed int, err error) {
	select {
	case u.hashing <- struct{}{}:
		defer func() { <-u.hashing }()
	case <-ctx.Done():
		return 0, errNotNow("Temporary authentication failure", ctx.Err())
	}
	if u.throttle.locked(l.Source, name) { // by guesses that were being looked at
		return 0, errNotNow("Too many failed logins, try again later", errLocked)
	}
	if d == nil {
		u.dummy.Match(l.Password)
	} else if d.Match(l.Password) {
		return 0, nil
	}
	return max(1, u.throttle.fail(l.Source, name)), nil
}

// cacheLine is what the cache knows a login by, under a key that is drawn
// anew with each users file. Called under mu.
func (u *Users) cacheLine(name, password string) (key [sha256.Size]byte) {
	h := hmac.New(sha256.New, u.cacheKey[:])
	fmt.Fprintf(h, "%d %s%s", len(name), name, password)
	h.Sum(key[:0])
	return key
}

func (u *Users) remember(key [sha256.Size]byte, name string, e userEntry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now, ok := u.users[name]; !ok || now.digest != e.digest { // replaced meanwhile
		return
	}
	if len(u.cache) >= maxVerified {
		for k := range u.cache {
			delete(u.cache, k)
			break
		}
	}
	u.cache[key] = struct{}{}
}

// HashPassword makes an argon2id hash with the parameters that OWASP names for
// login storms: 19 MiB, two passes.
func HashPassword(password string) (string, error) {
	h, err := argon2.New(argon2.WithVariantID(), argon2.WithM(19456), argon2.WithT(2), argon2.WithP(1))
	if err != nil {
		return "", fmt.Errorf("smtpd: argon2id: %w", err)
	}
	d, err := h.Hash(password)
	if err != nil {
		return "", fmt.Errorf("smtpd: argon2id: %w", err)
	}
	return d.Encode(), nil
}

var errHash = errors.New("not an argon2id, bcrypt, scrypt or sha512-crypt hash (`postern passwd` makes one)")

// CheckHash tells whether a password hash of the users file is of a kind that
// Postern verifies.
func CheckHash(hash string) error { _, err := decodeHash(hash); return err }

func decodeHash(hash string) (algorithm.Digest, error) {
	d := crypt.NewDecoder()
	for _, register := range []func(algorithm.DecoderRegister) error{
		argon2.RegisterDecoderArgon2id, bcrypt.RegisterDecoder, scrypt.RegisterDecoder, shacrypt.RegisterDecoderSHA512} {
		if err := register(d); err != nil {
			return nil, fmt.Errorf("smtpd: %w", err)
		}
	}
	digest, err := d.Decode(hash)
	if err != nil {
		return nil, errHash
	}
	return digest, nil
}
