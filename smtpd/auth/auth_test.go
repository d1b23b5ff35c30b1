package auth

import (
	"context"
	"testing"
	"time"

	"postern/relay"
	"postern/relay/reply"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestLoginLimits checks limits against the documentation.
func TestLoginLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"login name", MaxName, 320},
		{"password", maxPassword, 1024},
		{"hashes at once", maxHashing, 8},
		{"verified logins", maxVerified, 10000},
		{"counters of failures", maxCounted, 100000},
		{"known sources", maxKnown, 100000},
		{"pause after failures", maxDelay, 3 * time.Second},
		{"login at the upstream", loginTimeout, time.Minute},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
}

// TestLoginContextsEnd checks that contexts of logins end with them.
func TestLoginContextsEnd(t *testing.T) {
	t.Parallel()
	contexts := map[string]context.Context{}
	keep := func(name string, ctx context.Context) {
		contexts[name] = ctx
		if ctx.Err() != nil {
			t.Errorf("%s: the context has ended before: %v", name, ctx.Err())
		}
	}

	f := &fakeUpstream{reply: reply.Reply{Code: 235}}
	conf := f.config()
	login := conf.Login
	conf.Login = func(ctx context.Context, user, password string) (relay.Sender, func(), reply.Reply, error) {
		keep("login at the upstream", ctx)
		return login(ctx, user, password)
	}
	_, err := NewPassthrough(conf).Authenticate(t.Context(), credentials("ann", "x", home))
	if err != nil {
		t.Fatal(err)
	}

	users := newUsers(t, Rate{N: 3, Per: time.Minute}, testUsers())
	users.delay = func(ctx context.Context, _ time.Duration) { keep("delay", ctx) }
	if _, err := users.Authenticate(t.Context(), credentials("alice", "x", home)); err == nil {
		t.Fatal("a wrong password is right")
	}

	for _, name := range []string{"login at the upstream", "delay"} {
		if ctx := contexts[name]; ctx == nil || ctx.Err() == nil {
			t.Errorf("%s: the context %v goes on", name, ctx)
		}
	}
}
