package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/go-crypt/crypt/algorithm"

	"postern/relay"
)

// Entry is one user of the users file.
type Entry struct {
	relay.User
	Password string // a hash; empty: this user cannot log in
}

// Users authenticates clients by the users file. Logins that were verified are
// cached, so that many connections of one client cost one hash. It is safe for
// concurrent use.
type Users struct {
	throttle *throttle
	hashing  chan struct{} // a place for each password that is being hashed
	delay    func(context.Context, time.Duration)
	now      func() time.Time
	standIn  algorithm.Digest // dummy where no user has a password

	mu       sync.RWMutex // guards what follows
	set      userSet
	cacheKey [32]byte
	cache    map[cacheLine]struct{}
}

// userSet is what a users file says. It does not change.
type userSet struct {
	users       map[string]userEntry // by folded name
	fromDomains bool                 // any user is held to domains
	held        *relay.HeldDomains

	// The passwords of unknown users, and of users without one, are compared
	// with dummy, a hash of the file's slowest kind. slowest is how long that
	// takes where there are several kinds, and no failure is answered sooner.
	dummy   algorithm.Digest
	slowest time.Duration
}

type userEntry struct {
	relay.User
	digest algorithm.Digest // nil: cannot log in
}

// cacheLine is what the cache knows a login by.
type cacheLine = [sha256.Size]byte

const (
	maxHashing  = 8      // passwords hashed at once, if there are so many CPUs
	maxVerified = 10_000 // cached logins
)

// NewUsers returns an authenticator without users, which bounds failed logins by
// a rate.
func NewUsers(rate Rate) (*Users, error) {
	digest, err := nobodysHash()
	if err != nil {
		return nil, err
	}

	u := &Users{
		throttle: newThrottle(rate, time.Now),
		hashing:  make(chan struct{}, min(runtime.NumCPU(), maxHashing)),
		delay:    wait,
		now:      time.Now,
		standIn:  digest,
	}

	return u, u.Replace(nil)
}

// Replace replaces all users and forgets which logins were verified. If it
// returns an error, which is one of Prepare's, nothing has changed.
func (u *Users) Replace(entries []Entry) error {
	use, err := u.Prepare(entries)
	if err != nil {
		return err
	}
	use()

	return nil
}

// Prepare checks entries and changes nothing. The function that it returns
// replaces all users with them, and forgets which logins were verified. Password
// hashes of an unknown kind are an error, and so are two users with the same
// folded name.
func (u *Users) Prepare(entries []Entry) (use func(), err error) {
	users := make(map[string]userEntry, len(entries))
	for _, e := range entries {
		key := FoldName(e.Name)
		if other, ok := users[key]; ok {
			return nil, fmt.Errorf("auth: users %s and %s have the same name", other.Name, e.Name)
		}

		n, err := newEntry(e)
		if err != nil {
			return nil, fmt.Errorf("auth: user %s: %w", e.Name, err)
		}
		users[key] = n
	}
	set := u.measure(users)
	set.held = heldDomains(entries)

	return func() { u.use(set) }, nil
}

func newEntry(e Entry) (userEntry, error) {
	if e.Password == "" {
		return userEntry{User: e.User}, nil
	}

	d, err := decodeHash(e.Password)
	if err != nil {
		return userEntry{}, err
	}

	return userEntry{User: e.User, digest: d}, nil
}

// heldDomains returns the domains that any of the users is held to.
func heldDomains(entries []Entry) *relay.HeldDomains {
	var patterns []string
	for _, e := range entries {
		patterns = append(patterns, e.FromDomains...)
	}

	return relay.NewHeldDomains(patterns)
}

// use replaces the users.
func (u *Users) use(set userSet) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.set = set
	u.cache = map[cacheLine]struct{}{}
	rand.Read(u.cacheKey[:])
}

// measure returns a set of users. Where their hashes are of several kinds, it
// finds the slowest of them.
func (u *Users) measure(users map[string]userEntry) userSet {
	set := userSet{users: users, dummy: u.standIn}
	kinds := map[string]algorithm.Digest{}
	for _, e := range users {
		if len(e.FromDomains) > 0 {
			set.fromDomains = true
		}
		if e.digest != nil {
			kinds[hashKind(e.digest)] = e.digest
		}
	}

	for _, d := range kinds {
		if len(kinds) == 1 {
			set.dummy = d
			break
		}

		start := u.now()
		d.Match("a password that nobody has")
		if took := u.now().Sub(start); took > set.slowest {
			set.slowest = took
			set.dummy = d
		}
	}

	return set
}

// Lookup implements Directory.
func (u *Users) Lookup(name string) (relay.User, bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	e, ok := u.set.users[FoldName(name)]

	return e.User, ok
}

// HasFromDomains implements Settings.
func (u *Users) HasFromDomains() bool {
	u.mu.RLock()
	defer u.mu.RUnlock()

	return u.set.fromDomains
}

// Held implements relay.DomainHolders by the from_domains of all users.
func (u *Users) Held(domain string) bool {
	u.mu.RLock()
	defer u.mu.RUnlock()

	return u.set.held.Held(domain)
}

// Mechanisms implements Authenticator.
func (u *Users) Mechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Authenticate implements Authenticator. Unknown users, and users without a
// password, take as long as others.
func (u *Users) Authenticate(ctx context.Context, l Credentials) (*Identity, error) {
	name, malformed := parseLogin(l)
	key := name.key()

	u.mu.RLock()
	set := u.set
	line := u.cacheLine(key, l.Password)
	_, verified := u.cache[line]
	u.mu.RUnlock()

	entry := set.users[key]
	identity := &Identity{User: name.withSubaccount(entry.User)}
	if verified && malformed == nil {
		if u.throttle.locked(l.Source, key) {
			return nil, notBegun(errLocked)
		}
		u.throttle.succeeded(l.Source, key)

		return identity, nil
	}

	digest := entry.digest
	if malformed != nil {
		digest = nil
	}
	if err := u.verify(ctx, l, key, set, digest); err != nil {
		return nil, err
	}
	u.remember(line, key, entry)

	return identity, nil
}

// verify compares a password with a digest, between the beginning and the end of
// an attempt. No password matches a nil digest.
func (u *Users) verify(ctx context.Context, l Credentials, key string, set userSet, digest algorithm.Digest) error {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()

	a, err := u.throttle.begin(ctx, l.Source, key)
	if err != nil {
		return notBegun(err)
	}
	defer a.withdraw() // where nobody knows whether it was right

	start, right, err := u.match(ctx, digest, set.dummy, l.Password)
	if err != nil {
		return notBegun(err)
	}
	if right {
		a.succeed()
		return nil
	}

	took := u.now().Sub(start)
	u.delay(ctx, delayFor(a.fail())+max(0, set.slowest-took))

	return errFailed
}

// match waits for a place, and compares a password with a digest, or takes as
// long with dummy where that is nil. It returns when the comparison began.
func (u *Users) match(ctx context.Context, digest, dummy algorithm.Digest, password string) (time.Time, bool, error) {
	select {
	case u.hashing <- struct{}{}:
		defer func() { <-u.hashing }()
	case <-ctx.Done():
		return time.Time{}, false, ctx.Err()
	}

	start := u.now()
	if digest == nil {
		dummy.Match(password)
		return start, false, nil
	}

	return start, digest.Match(password), nil
}

// cacheLine returns what the cache knows a login by, under a key that is random
// for each users file. mu is held.
func (u *Users) cacheLine(name, password string) (line cacheLine) {
	h := hmac.New(sha256.New, u.cacheKey[:])
	fmt.Fprintf(h, "%d %s%s", len(name), name, password)
	h.Sum(line[:0])

	return line
}

// remember caches that a login was verified, unless the users were replaced
// meanwhile.
func (u *Users) remember(line cacheLine, name string, e userEntry) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now, ok := u.set.users[name]; !ok || now.digest != e.digest {
		return
	}

	if len(u.cache) >= maxVerified {
		for k := range u.cache {
			delete(u.cache, k)
			break
		}
	}
	u.cache[line] = struct{}{}
}
