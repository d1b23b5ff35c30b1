package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-crypt/crypt/algorithm"

	"postern/relay"
	"postern/relay/reply"
)

// TestNewUsersIsReadyForWork checks the fields that other tests replace.
func TestNewUsersIsReadyForWork(t *testing.T) {
	t.Parallel()
	u, err := NewUsers(Rate{N: 7, Per: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if u.throttle.rate != (Rate{N: 7, Per: time.Hour}) {
		t.Errorf("rate %+v", u.throttle.rate)
	}
	if got, want := cap(u.hashing), min(runtime.NumCPU(), 8); got != want {
		t.Errorf("%d hashes at once, want %d", got, want)
	}
	if u.delay == nil || time.Since(u.now()) > time.Minute || time.Since(u.throttle.now()) > time.Minute {
		t.Error("no delay, or no clock")
	}
	if got, want := hashKind(u.standIn), "$argon2id$v=19$m=19456,t=2,p=1"; got != want {
		t.Errorf("names that are not there cost %s, want %s", got, want)
	}
	if right := u.standIn.Match(""); right {
		t.Error("the password of names that are not there is empty")
	}
}

// TestHashPassword checks the kind and the cost of new hashes.
func TestHashPassword(t *testing.T) {
	t.Parallel()
	hash, err := HashPassword("secret")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("got %s", hash)
	}
	d, err := decodeHash(hash)
	if err != nil {
		t.Fatal(err)
	}
	if !d.Match("secret") || d.Match("Secret") {
		t.Error("the hash is not of the password")
	}
}

// TestHashesAreVerified checks a hash of each kind.
func TestHashesAreVerified(t *testing.T) {
	t.Parallel()
	for kind, hash := range map[string]string{
		"argon2id":     cheapHash("secret"),
		"bcrypt":       bcryptSecret,
		"scrypt":       "$scrypt$ln=4,r=8,p=1$ZLLovWqVaoZxiBSfY5fUoA$/NaxNJyNuI5IlLAwRgNfUHYhhkzP/c65W+Jd6Im77B4",
		"sha512-crypt": "$6$rounds=1000$GgQxdvfq0d38ZT6w$oLo7cZBjgua4MBLe/EthnnpN.CN0kIFkN/sD.SLDqHHXykm8Iq5GLl.6gTvhVNghC81.ZALsVuLvXtk1LyV4E/",
	} {
		t.Run(kind, func(t *testing.T) {
			if err := CheckHash(hash); err != nil {
				t.Fatal(err)
			}
			users := newUsers(t, Rate{}, []Entry{{User: relay.User{Name: "ann"}, Password: hash}})
			for password, want := range map[string]bool{"secret": true, "Secret": false} {
				_, err := users.Authenticate(t.Context(), credentials("ann", password, home))
				if (err == nil) != want {
					t.Errorf("%q: %v, want accepted %v", password, err, want)
				}
			}
		})
	}
}

// TestCacheKeysAreDrawn anew with each users file, and hold name and password
// apart: whoever sees the cache cannot try passwords on it.
func TestCacheKeysAreDrawn(t *testing.T) {
	t.Parallel()
	u := newUsers(t, Rate{}, nil)
	first := u.cacheKey
	if first == ([32]byte{}) {
		t.Error("the key is not drawn")
	}
	before := u.cacheLine("alice", "secret")
	if err := u.Replace(nil); err != nil {
		t.Fatal(err)
	}
	if u.cacheKey == first || u.cacheLine("alice", "secret") == before {
		t.Error("the key is that of the last users file")
	}
	if first[31] == 0 && u.cacheKey[31] == 0 {
		t.Error("the end of the key is not drawn")
	}

	seen := map[[sha256.Size]byte]string{}
	for _, l := range [][2]string{{"ab", "c"}, {"a", "bc"}, {"", "abc"}, {"abc", ""}, {"ab", "d"}, {"1 a", "b"}} {
		line := u.cacheLine(l[0], l[1])
		if other, ok := seen[line]; ok {
			t.Errorf("%q has the line of %s", l, other)
		}
		seen[line] = fmt.Sprint(l)
	}
}

// countingDigest counts its work.
type countingDigest struct {
	algorithm.Digest
	matched int
}

func (d *countingDigest) Match(password string) bool {
	d.matched++
	return password == "secret"
}

func (d *countingDigest) Encode() string { return "$counting$salt$key" }

// TestVerifiedLoginsCostNothing checks the cache of verified logins.
func TestVerifiedLoginsCostNothing(t *testing.T) {
	t.Parallel()
	u := newUsers(t, Rate{N: 2, Per: time.Minute}, nil)
	d := &countingDigest{}
	u.set.users = map[string]userEntry{"ann": {User: relay.User{Name: "ann"}, digest: d}}
	login := func(password string, source int) error {
		_, err := u.Authenticate(t.Context(), credentials("Ann", password, []netip.Addr{home, away, third}[source]))
		return err
	}

	for i, c := range []struct {
		password string
		source   int
		code     int // 0: accepted
		matched  int
	}{
		{"secret", 0, 0, 1},
		{"secret", 0, 0, 1},   // from the cache
		{"secret", 1, 0, 1},   // from elsewhere, too, which is known by now
		{"wrong", 2, 535, 2},  // never from the cache
		{"wrong", 2, 535, 3},  // the last that is looked at
		{"secret", 2, 454, 3}, // locked, though the cache knows it
		{"secret", 0, 0, 3},   // not locked where it logged in before
		{"secret", 1, 0, 3},
	} {
		err := login(c.password, c.source)
		if got := reply.For(err).Code; (err != nil) != (c.code != 0) || err != nil && got != c.code {
			t.Errorf("login %d: %v, want %d", i+1, err, c.code)
		}
		if d.matched != c.matched {
			t.Errorf("login %d: %d hashed, want %d", i+1, d.matched, c.matched)
		}
	}

	if err := u.Replace(nil); err != nil || len(u.cache) != 0 {
		t.Errorf("%d verified logins after another users file: %v", len(u.cache), err)
	}
}

// TestCacheIsBounded, and keeps nothing of a users file that was replaced
// while a password was verified.
func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	u := newUsers(t, Rate{}, nil)
	entry := userEntry{digest: &countingDigest{}}
	u.set.users = map[string]userEntry{"ann": entry}
	line := func(i int) [sha256.Size]byte { return sha256.Sum256(fmt.Append(nil, i)) }
	for i := range maxVerified {
		u.remember(line(i), "ann", entry)
		if len(u.cache) != i+1 {
			t.Fatalf("%d logins remembered, want %d", len(u.cache), i+1)
		}
	}
	u.remember(line(-1), "ann", entry)
	if _, ok := u.cache[line(-1)]; len(u.cache) != maxVerified || !ok {
		t.Errorf("%d logins remembered, the last one %v; want %d, true", len(u.cache), ok, maxVerified)
	}

	u.cache = map[[sha256.Size]byte]struct{}{}
	u.remember(line(1), "bob", entry)
	u.remember(line(2), "ann", userEntry{digest: &countingDigest{}})
	if len(u.cache) != 0 {
		t.Errorf("%d logins of an earlier users file remembered", len(u.cache))
	}
}

// TestReplaceRefuses checks that an error of Replace changes nothing.
func TestReplaceRefuses(t *testing.T) {
	t.Parallel()
	u := newUsers(t, Rate{}, testUsers())
	err := u.Replace([]Entry{{User: relay.User{Name: "ann"}, Password: "plain text"}})
	if err == nil || !strings.HasPrefix(err.Error(), "auth: user ann: not an argon2id, ") || !errors.Is(err, errHash) {
		t.Errorf("got %v", err)
	}
	if _, ok := u.Lookup("alice"); !ok {
		t.Error("the users of before are gone")
	}
	if !u.HasFromDomains() {
		t.Error("bob is held to no domain")
	}
	if err := u.Replace(testUsers()[:1]); err != nil || u.HasFromDomains() {
		t.Errorf("somebody is held to domains: %v", err)
	}
}

// TestLoginsWaitForAPlace checks the limit of hashes at once.
func TestLoginsWaitForAPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUsers(t, Rate{N: 9, Per: time.Hour}, testUsers())
		for range cap(u.hashing) {
			u.hashing <- struct{}{}
		}
		begun := time.Now()
		_, err := u.Authenticate(t.Context(), credentials("alice", "secret", home))
		const want = "454 4.7.0 Temporary authentication failure"
		if got := reply.For(err).String(); err == nil || got != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the cause", err)
		}
		if got := time.Since(begun); got != time.Minute {
			t.Errorf("waited %s, want a minute", got)
		}
		if n := len(u.throttle.counts); n != 0 {
			t.Errorf("%d counters of an attempt of which nobody knows", n)
		}

		<-u.hashing
		for range 3 {
			if _, err := u.Authenticate(t.Context(), credentials("alice", "secret", home)); err != nil {
				t.Errorf("with a place: %v", err)
			}
			if len(u.hashing) != cap(u.hashing)-1 {
				t.Error("the place is not given back")
			}
			u.cache = map[[sha256.Size]byte]struct{}{}
		}
	})
}

func TestDelayFor(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	for i, want := range []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3000 * ms, 3000 * ms} {
		if got := delayFor(i + 1); got != want {
			t.Errorf("after failure %d: %s, want %s", i+1, got, want)
		}
	}
	if got := delayFor(1000); got != 3*time.Second {
		t.Errorf("after failure 1000: %s, want 3s", got)
	}
}

// TestWaitEnds checks both ends of wait.
func TestWaitEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		wait(t.Context(), 3*time.Second)
		if got := time.Since(begun); got != 3*time.Second {
			t.Errorf("waited %s, want 3s", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun = time.Now()
		wait(ctx, time.Hour)
		if got := time.Since(begun); got != time.Second {
			t.Errorf("waited %s, want 1s: nobody is there", got)
		}
	})
}

func TestCheckNameAndPassword(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		want string // empty: none
	}{
		{"name", CheckName("alice@example.com"), ""},
		{"no name", CheckName(""), "missing"},
		{"longest name", CheckName(strings.Repeat("a", 320)), ""},
		{"longer name", CheckName(strings.Repeat("a", 321)), "longer than 320 bytes"},
		{"name in Latin-1", CheckName("\xfc"), "not UTF-8"},
		{"name with a control", CheckName("a\tb"), "must not hold control characters"},
		{"name with a subaccount", CheckName("a:x-msys-subaccount=1"), "must not hold :X-MSYS-SUBACCOUNT="},
		{"password", CheckPassword("~ secret \u0085"), ""},
		{"no password", CheckPassword(""), ""},
		{"longest password", CheckPassword(strings.Repeat("a", 1024)), ""},
		{"longer password", CheckPassword(strings.Repeat("a", 1025)), "longer than 1024 bytes"},
		{"password with a control", CheckPassword("a\x1fb"), "must not hold control characters"},
		{"password with a delete", CheckPassword("a\x7fb"), "must not hold control characters"},
	} {
		got := ""
		if c.err != nil {
			got = c.err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLoginErrorsSayWhat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		login Credentials
		want  string
	}{
		{Credentials{Name: ""}, "user name: missing"},
		{Credentials{Name: "a", Password: "\n"}, "password: must not hold control characters"},
		{Credentials{Name: "a:X-MSYS-SUBACCOUNT=0"}, "user name: subaccount is not a number greater than zero"},
		{Credentials{Name: "a:X-MSYS-SUBACCOUNT=4294967296"}, "user name: subaccount is not a number greater than zero"},
		{Credentials{Name: "a:X-MSYS-SUBACCOUNT=0x1"}, "user name: subaccount is not a number greater than zero"},
	} {
		if _, err := parseLogin(c.login); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.login.Name, err, c.want)
		}
	}
	n, err := parseLogin(Credentials{Name: "a:X-MSYS-SUBACCOUNT=4294967295"})
	if err != nil || n.subaccount != 4294967295 {
		t.Errorf("the last subaccount is %d, %v", n.subaccount, err)
	}
}

// TestSubaccountOfTheUser checks that a login cannot leave the user's subaccount.
func TestSubaccountOfTheUser(t *testing.T) {
	t.Parallel()
	login := loginName{user: "ann", subaccount: 7}
	for own, want := range map[uint32]uint32{0: 7, 1: 1, 9: 9} {
		if got := login.withSubaccount(relay.User{Subaccount: own}).Subaccount; got != want {
			t.Errorf("a user of subaccount %d is in %d, want %d", own, got, want)
		}
	}
}

func TestFoldName(t *testing.T) {
	t.Parallel()
	in := "@AZ[`az{\u00c4\u00e4\u017f\u212a"
	if got, want := FoldName(in), "@az[`az{\u00c4\u00e4\u017f\u212a"; got != want {
		t.Errorf("folded %q, want %q", got, want)
	}
}

// TestOneKindOfHashIsNotMeasured: only where there are several has one to be
// found that is the slowest.
func TestOneKindOfHashIsNotMeasured(t *testing.T) {
	t.Parallel()
	u := newUsers(t, Rate{}, nil)
	d := &countingDigest{}
	set := u.measure(map[string]userEntry{"ann": {digest: d}, "bob": {digest: d}, "nopass": {}})
	if d.matched != 0 || set.dummy != algorithm.Digest(d) || set.slowest != 0 || len(set.users) != 3 {
		t.Errorf("%d hashed, dummy %v, slowest %s, %d users", d.matched, set.dummy, set.slowest, len(set.users))
	}
	if none := u.measure(nil); none.dummy != u.standIn || none.fromDomains {
		t.Errorf("without users: dummy %v, held %v", none.dummy, none.fromDomains)
	}
}

// TestMalformedLoginsAreNobodys, not even those of a user without a name.
func TestMalformedLoginsAreNobodys(t *testing.T) {
	t.Parallel()
	u := newUsers(t, Rate{}, []Entry{{Password: cheapHash("secret")}})
	u.cache[u.cacheLine("", "secret")] = struct{}{}
	for _, name := range []string{"a\x00b", "a:X-MSYS-SUBACCOUNT=x", ""} {
		_, err := u.Authenticate(t.Context(), credentials(name, "secret", home))
		if got := reply.For(err); err == nil || got.Code != 535 {
			t.Errorf("%q: %v, want 535", name, err)
		}
	}
}

// TestFailuresAreNeverAnsweredSooner because a hash took longer than it did
// when it was measured.
func TestFailuresAreNeverAnsweredSooner(t *testing.T) {
	t.Parallel()
	u := newUsers(t, Rate{N: 9, Per: time.Minute}, nil)
	clock := time.Unix(1000, 0)
	u.now = func() time.Time { return clock }
	quick := &slowDigest{kind: "quick", takes: time.Second, clock: &clock}
	slow := &slowDigest{kind: "slow", takes: 2 * time.Second, clock: &clock}
	u.set = u.measure(map[string]userEntry{"ann": {digest: quick}, "bob": {digest: slow}})
	var delay time.Duration
	u.delay = func(_ context.Context, d time.Duration) { delay = d }
	for i, c := range []struct{ takes, want time.Duration }{
		{time.Second, time.Second + 100*time.Millisecond},
		{2 * time.Second, 200 * time.Millisecond},
		{time.Minute, 400 * time.Millisecond},
	} {
		quick.takes = c.takes
		if _, err := u.Authenticate(t.Context(), credentials("ann", "x", home)); err == nil {
			t.Fatal("logged in")
		}
		if delay != c.want {
			t.Errorf("failure %d, of %s: delayed by %s, want %s", i+1, c.takes, delay, c.want)
		}
	}
}

func TestUsersPrepareChangesNothing(t *testing.T) {
	u, err := NewUsers(Rate{})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Replace([]Entry{{User: relay.User{Name: "ann"}}}); err != nil {
		t.Fatal(err)
	}

	use, err := u.Prepare([]Entry{{User: relay.User{Name: "bob"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := u.Lookup("ann"); !ok {
		t.Error("ann is gone before the new users are put to use")
	}
	if _, ok := u.Lookup("bob"); ok {
		t.Error("bob is there before the new users are put to use")
	}

	use()
	if _, ok := u.Lookup("ann"); ok {
		t.Error("ann is still there")
	}
	if _, ok := u.Lookup("bob"); !ok {
		t.Error("bob is not there")
	}
	if use, err := u.Prepare([]Entry{{User: relay.User{Name: "x"}, Password: "plain"}}); err == nil || use != nil {
		t.Errorf("a bad hash: got error %v, want one and nothing to use", err)
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	carol := Entry{User: relay.User{Name: "carol"}, Password: bcryptSecret}
	users := newUsers(t, Rate{N: 100, Per: time.Minute}, append(testUsers(), carol))
	for _, c := range []struct {
		name, user, password string
		code                 int // 0: accepted
		subaccount           uint32
	}{
		{"right", "alice", "secret", 0, 0},
		{"right again, from the cache", "alice", "secret", 0, 0},
		{"wrong", "alice", "Secret", 535, 0},
		{"unknown", "mallory", "secret", 535, 0},
		{"without a password", "nopass", "", 535, 0},
		{"subaccount", "alice:X-MSYS-SUBACCOUNT=123", "secret", 0, 123},
		{"bad subaccount", "alice:X-MSYS-SUBACCOUNT=x", "secret", 535, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := users.Authenticate(context.Background(), credentials(c.user, c.password, home))
			if c.code != 0 {
				if got := reply.For(err); err == nil || got.Code != c.code {
					t.Errorf("got %v, want %d", err, c.code)
				}
				return
			}
			if err != nil || u.User.Subaccount != c.subaccount {
				t.Errorf("got %+v, %v", u, err)
			}
		})
	}
	if err := users.Replace(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := users.Authenticate(context.Background(), Credentials{Name: "alice", Password: "secret"}); err == nil {
		t.Error("a removed user logs in from the cache")
	}
}

const bcryptSecret = "$2b$04$QmQ2QZqzOD3IO4NuQuInEOBJBVJoyRf3cB5XJx0T8CTPVbEuiOlnS"

func TestHashes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, hash string
		ok         bool
	}{
		{"argon2id", "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$Lq2tUBkwzK3p5D1lPwW6Pg", true},
		{"bcrypt", bcryptSecret, true},
		{"sha512-crypt", "$6$rounds=5000$saltsalt$" + strings.Repeat("a", 86), true},
		{"argon2i", "$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$Lq2tUBkwzK3p5D1lPwW6Pg", false},
		{"plain text", "secret", false},
		{"placeholder", "$argon2id$v=19$m=19456,t=2,p=1$...", false},
	} {
		if err := CheckHash(c.hash); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestDelayGrows checks that each failure of a source is answered later, up to a limit.
func TestDelayGrows(t *testing.T) {
	t.Parallel()
	users := newUsers(t, Rate{N: 100, Per: time.Minute}, nil)
	var delays []time.Duration
	users.delay = func(_ context.Context, d time.Duration) { delays = append(delays, d) }
	if err := users.Replace(testUsers()); err != nil {
		t.Fatal(err)
	}
	for range 7 {
		if _, err := users.Authenticate(context.Background(), credentials("alice", "wrong", home)); err == nil {
			t.Fatal("taken")
		}
	}
	for i := 1; i < 5; i++ {
		if delays[i] <= delays[i-1] {
			t.Errorf("delays %v", delays)
		}
	}
	if len(delays) != 7 || delays[6] > maxDelay {
		t.Errorf("delays %v", delays)
	}
}
