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

// UserEntry is one user of the users file.
type Entry struct {
	relay.User
	Password string // a hash; empty: this user cannot log in
}

// Users authenticates clients by the users file. Verification is cached, so that
// a storm of logins does not cost the hash each time. It is safe for
// concurrent use; Replace swaps in a new file.
type Users struct {
	throttle *throttle
	hashing  chan struct{} // a place for each password that is hashed now
	delay    func(context.Context, time.Duration)
	now      func() time.Time
	standIn  algorithm.Digest // where no user has a password

	mu       sync.RWMutex
	set      userSet
	cacheKey [32]byte
	cache    map[[sha256.Size]byte]struct{}
}

// userSet is what a users file says, by folded name.
type userSet struct {
	users       map[string]userEntry
	fromDomains bool // any user is held to domains
	held        *relay.HeldDomains
	// Names that are not there, and users without a password, are verified
	// against dummy, whose kind is the slowest in the file; slowest is how long
	// that takes where there are several kinds, which no failure undercuts.
	dummy   algorithm.Digest
	slowest time.Duration
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

// NewUsers returns an empty set of users with its throttle.
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

// Replace swaps in other users and forgets what was verified. Its errors are
// those of Prepare; the users of before stay then.
func (u *Users) Replace(entries []Entry) error {
	use, err := u.Prepare(entries)
	if err != nil {
		return err
	}
	use()

	return nil
}

// Prepare checks other users and changes nothing: use puts them to use, and
// forgets what was verified. A hash that cannot be read is an error, and so are
// two users whose names differ in ASCII case only.
func (u *Users) Prepare(entries []Entry) (use func(), err error) {
	users := make(map[string]userEntry, len(entries))
	var patterns []string
	for _, e := range entries {
		n := userEntry{User: e.User}
		if e.Password != "" {
			d, err := decodeHash(e.Password)
			if err != nil {
				return nil, fmt.Errorf("smtpd: user %s: %w", e.Name, err)
			}
			n.digest = d
		}

		key := FoldName(e.Name)
		if other, ok := users[key]; ok {
			return nil, fmt.Errorf("smtpd: users %s and %s have the same name", other.Name, e.Name)
		}
		users[key] = n
		patterns = append(patterns, e.FromDomains...)
	}

	set := u.measure(users)
	set.held = relay.NewHeldDomains(patterns)

	return func() { u.put(set) }, nil
}

// put puts a set of users to use.
func (u *Users) put(set userSet) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.set = set
	u.cache = map[[sha256.Size]byte]struct{}{}
	rand.Read(u.cacheKey[:])
}

// measure finds out which kind of hash is the slowest, where there are several.
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
			set.slowest, set.dummy = took, d
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

// Authenticate implements Authenticator. Unknown users and those without a
// password take as long as known ones.
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
			return nil, errNotBegun(errLocked)
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

// Mechanisms implements Authenticator.
func (u *Users) Mechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// verify looks at a password, with its failure counted before. A digest of nil
// is that of nobody.
func (u *Users) verify(ctx context.Context, l Credentials, key string, set userSet, digest algorithm.Digest) error {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	a, err := u.throttle.begin(ctx, l.Source, key)
	if err != nil {
		return errNotBegun(err)
	}

	defer a.withdraw() // where nobody knows whether it was right

	start, right, err := u.match(ctx, digest, set.dummy, l.Password)
	if err != nil {
		return errNotBegun(err)
	}
	if right {
		a.succeed()
		return nil
	}
	took := u.now().Sub(start)
	u.delay(ctx, delayFor(a.fail())+max(0, set.slowest-took))

	return errFailed
}

// match compares a password with a digest, or takes as long with dummy, when
// there is a place for that. It returns when the comparison began.
func (u *Users) match(ctx context.Context, digest, dummy algorithm.Digest, password string) (time.Time, bool, error) {
	select {
	case u.hashing <- struct{}{}:
		defer func() { <-u.hashing }()
	case <-ctx.Done():
		return time.Time{}, false, ctx.Err()
	}

	start := u.now()
	right := false
	if digest == nil {
		dummy.Match(password)
	} else {
		right = digest.Match(password)
	}

	return start, right, nil
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
	if now, ok := u.set.users[name]; !ok || now.digest != e.digest { // replaced meanwhile
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
