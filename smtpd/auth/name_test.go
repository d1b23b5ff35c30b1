package auth

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-crypt/crypt/algorithm"

	"postern/relay"

	"postern/relay/reply"
)

func TestParseLogin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, login, password string
		user                  string // empty: refused
		subaccount            uint32
	}{
		{"plain", "alice", "secret", "alice", 0},
		{"in the client's case", "Alice", "secret", "Alice", 0},
		{"international", "jösé@example.com", "geheimniß", "jösé@example.com", 0},
		{"subaccount", "alice:X-MSYS-SUBACCOUNT=7", "secret", "alice", 7},
		{"subaccount without case", "alice:x-msys-Subaccount=7", "secret", "alice", 7},
		{"two subaccounts", "alice:X-MSYS-SUBACCOUNT=7:X-MSYS-SUBACCOUNT=8", "secret", "", 0},
		{"subaccount of none", "alice:X-MSYS-SUBACCOUNT=", "secret", "", 0},
		{"subaccount zero", "alice:X-MSYS-SUBACCOUNT=0", "secret", "", 0},
		{"subaccount and a NUL", "alice:X-MSYS-SUBACCOUNT=7\x00", "secret", "", 0},
		{"subaccount without a name", ":X-MSYS-SUBACCOUNT=7", "secret", "", 0},
		{"no name", "", "secret", "", 0},
		{"NUL in the name", "alice\x00pw", "secret", "", 0},
		{"NUL in the password", "alice", "secret\x00more", "", 0},
		{"line end in the name", "alice\r\n", "secret", "", 0},
		{"line end in the password", "alice", "secret\n", "", 0},
		{"delete in the name", "alice\x7f", "secret", "", 0},
		{"C1 control in the name", "alice\u0085", "secret", "", 0},
		{"not UTF-8", "alice\xff", "secret", "", 0},
		{"long name", strings.Repeat("a", MaxName+1), "secret", "", 0},
		{"longest name", strings.Repeat("a", MaxName), "secret", strings.Repeat("a", MaxName), 0},
		{"long password", "alice", strings.Repeat("a", maxPassword+1), "", 0},
		{"no password", "alice", "", "alice", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseLogin(Credentials{Name: c.login, Password: c.password})
			if (err != nil) != (c.user == "") || got.user != c.user || got.subaccount != c.subaccount {
				t.Errorf("got %+v, %v; want %q, %d", got, err, c.user, c.subaccount)
			}
		})
	}
}

// FuzzParseLogin: what is accepted can be handed on in AUTH PLAIN, and has one
// user whatever the case of its letters.
func FuzzParseLogin(f *testing.F) {
	f.Add("alice", "secret")
	f.Add("Alice:X-MSYS-SUBACCOUNT=12", "")
	f.Add("a\x00b", "c\r\n")
	f.Fuzz(func(t *testing.T, name, password string) {
		n, err := parseLogin(Credentials{Name: name, Password: password})
		if err != nil {
			return
		}
		if strings.ContainsAny(n.user+password, "\x00\r\n") || n.user == "" {
			t.Fatalf("accepted %q, %q as %+v", name, password, n)
		}
		upper, err := parseLogin(Credentials{Name: asciiUpper(name), Password: password})
		if err != nil || upper.key() != n.key() || upper.subaccount != n.subaccount {
			t.Fatalf("%q is %+v, in capitals %+v, %v", name, n, upper, err)
		}
	})
}

func asciiUpper(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, s)
}

// TestUserNamesHaveNoCase: a login has the settings and the limits of its user,
// however its name is spelled.
func TestUserNamesHaveNoCase(t *testing.T) {
	t.Parallel()
	users := newUsers(t, Rate{N: 3, Per: time.Minute}, testUsers())

	who, err := users.Authenticate(context.Background(), credentials("BOB", "secret", home))
	if err != nil || who.User.Name != "bob" || len(who.User.FromDomains) != 2 {
		t.Fatalf("BOB is %+v, %v; want bob", who, err)
	}
	if u, ok := users.Lookup("NoPass"); !ok || u.Name != "nopass" {
		t.Errorf("NoPass is %+v, %v", u, ok)
	}

	for i, name := range []string{"alice", "Alice", "ALICE"} {
		source := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
		if _, err := users.Authenticate(context.Background(), credentials(name, "wrong", source)); err == nil {
			t.Fatalf("%s logged in with a wrong password", name)
		}
	}
	_, err = users.Authenticate(context.Background(), credentials("aLICE", "secret", third))
	if got := reply.For(err); got.Code != 454 {
		t.Errorf("after three failures in three spellings: %v, want 454", err)
	}

	twice := []Entry{{User: relay.User{Name: "Ann"}}, {User: relay.User{Name: "aNN"}}}
	if err := users.Replace(twice); err == nil || !strings.Contains(err.Error(), "Ann and aNN") {
		t.Errorf("two spellings of one name: %v", err)
	}
}

// TestMalformedLoginsCount: what cannot be a login is answered like a wrong
// password, and counts like one.
func TestMalformedLoginsCount(t *testing.T) {
	t.Parallel()
	f := &fakeUpstream{reply: reply.Reply{Code: 235}}
	passthrough := NewPassthrough(f.config())
	passthrough.delay = func(context.Context, time.Duration) {}
	users := newUsers(t, Rate{N: 3, Per: time.Minute}, nil)
	users.delay = passthrough.delay

	for name, auth := range map[string]Authenticator{"upstream": passthrough, "users": users} {
		t.Run(name, func(t *testing.T) {
			for i, l := range []Credentials{
				{Name: "alice\x00pw", Password: "x"},
				{Name: "alice", Password: "x\x00"},
				{Name: "alice:X-MSYS-SUBACCOUNT=x", Password: "x"},
			} {
				l.Source = away
				_, err := auth.Authenticate(context.Background(), l)
				if got := reply.For(err).String(); err == nil || got != errFailed.Reply.String() {
					t.Errorf("login %d: %v, want %v", i, err, errFailed.Reply)
				}
			}
			_, err := auth.Authenticate(context.Background(), credentials("bob", "x", away))
			if got := reply.For(err); got.Code != 454 {
				t.Errorf("after three failures: %v, want 454", err)
			}
		})
	}
	if f.asked != 0 {
		t.Errorf("the upstream was asked %d times", f.asked)
	}
}

// slowDigest takes its time by a clock of the test.
type slowDigest struct {
	algorithm.Digest
	kind  string
	takes time.Duration
	clock *time.Time
}

func (d *slowDigest) Match(string) bool {
	*d.clock = d.clock.Add(d.takes)
	return false
}

func (d *slowDigest) Encode() string { return "$" + d.kind + "$salt$key" }

// TestFailuresTakeTheSameTime, whether a user exists or not, and whatever kind
// of hash it has.
func TestFailuresTakeTheSameTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		kinds map[string]time.Duration
	}{
		{"one kind", map[string]time.Duration{"bcrypt": 283}},
		{"three kinds", map[string]time.Duration{"argon2id": 35, "bcrypt": 283, "sha512": 3}},
		{"none", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			users := newUsers(t, Rate{N: 100, Per: time.Minute}, nil)
			clock := time.Unix(1000, 0)
			users.now = func() time.Time { return clock }
			users.standIn = &slowDigest{kind: "argon2id", takes: 35, clock: &clock}
			users.delay = func(_ context.Context, d time.Duration) { clock = clock.Add(d) }
			entries := map[string]userEntry{"nopass": {}}
			names := []string{"nobody", "nopass"}
			for kind, takes := range c.kinds {
				entries[kind] = userEntry{digest: &slowDigest{kind: kind, takes: takes, clock: &clock}}
				names = append(names, kind)
			}
			users.set = users.measure(entries)

			took := map[string]time.Duration{}
			for i, name := range names {
				start := clock
				source := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) // the first failure of each
				if _, err := users.Authenticate(context.Background(), credentials(name, "wrong", source)); err == nil {
					t.Fatalf("%s logged in", name)
				}
				took[name] = clock.Sub(start)
			}
			for name, d := range took {
				if d != took["nobody"] {
					t.Errorf("%s took %d, nobody %d", name, d, took["nobody"])
				}
			}
		})
	}
}

func TestHashKind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ hash, want string }{
		{"$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$Lq2tUBkwzK3p5D1lPwW6Pg", "$argon2id$v=19$m=64,t=1,p=1"},
		{bcryptSecret, "$2b$4"},
		{"$6$rounds=5000$saltsalt$" + strings.Repeat("a", 86), "$6"},
		{"$6$rounds=9000$saltsalt$" + strings.Repeat("a", 86), "$6$rounds=9000"},
	} {
		d, err := decodeHash(c.hash)
		if err != nil {
			t.Fatal(err)
		}
		if got := hashKind(d); got != c.want {
			t.Errorf("%s: %s, want %s", c.hash, got, c.want)
		}
	}
}
