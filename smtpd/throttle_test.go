package smtpd

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"
)

var (
	home  = netip.MustParseAddr("192.0.2.1")
	away  = netip.MustParseAddr("192.0.2.2")
	third = netip.MustParseAddr("192.0.2.3")
)

// mustBegin begins an attempt that has nothing to wait for.
func mustBegin(t *testing.T, th *throttle, source netip.Addr, user string) *attempt {
	t.Helper()
	a, busy, err := th.tryBegin(source, user)
	if err != nil || busy != nil {
		t.Fatalf("attempt of %s from %s: busy %v, %v", user, source, busy != nil, err)
	}

	return a
}

func TestThrottleLocks(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	th := newThrottle(Rate{N: 2, Per: time.Minute}, func() time.Time { return now })
	th.succeeded(home, "alice")
	mustBegin(t, th, away, "alice").fail()
	if th.locked(away, "alice") {
		t.Error("locked after one failure of two")
	}
	now = now.Add(50 * time.Second)
	mustBegin(t, th, away, "alice").fail()

	for _, c := range []struct {
		name   string
		source netip.Addr
		user   string
		want   bool
	}{
		{"the source", away, "bob", true},
		{"the user from elsewhere", third, "alice", true},
		{"the user from where it logged in before", home, "alice", false},
		{"another user from elsewhere", third, "bob", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := th.locked(c.source, c.user); got != c.want {
				t.Errorf("locked %v, want %v", got, c.want)
			}
			a, busy, err := th.tryBegin(c.source, c.user)
			if got := errors.Is(err, errLocked); got != c.want || busy != nil {
				t.Errorf("attempt locked %v, busy %v, want locked %v", got, busy != nil, c.want)
			}
			if a != nil {
				a.withdraw()
			}
		})
	}

	now = now.Add(10 * time.Second) // a minute after the first failure
	if th.locked(away, "alice") {
		t.Error("still locked when the period, counted from the first failure, is over")
	}
}

// TestThrottleCountsAttemptsUnderWay: guesses made at once are not more than
// guesses one after the other.
func TestThrottleCountsAttemptsUnderWay(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	th := newThrottle(Rate{N: 2, Per: time.Minute}, func() time.Time { return now })
	first, second := mustBegin(t, th, away, "a"), mustBegin(t, th, away, "b")
	_, busy, err := th.tryBegin(away, "c")
	if busy == nil || err != nil {
		t.Fatalf("a third attempt of two: busy %v, %v", busy != nil, err)
	}

	first.succeed()
	select {
	case <-busy:
	default:
		t.Error("the end of an attempt wakes up nobody")
	}
	third := mustBegin(t, th, away, "c")
	second.fail()
	third.fail()
	if _, _, err := th.tryBegin(away, "d"); !errors.Is(err, errLocked) {
		t.Errorf("after two failures: %v, want %v", err, errLocked)
	}
}

// TestThrottleKnownSourceNeverWaits: neither failures nor attempts of others
// keep a user out of where it logged in before.
func TestThrottleKnownSourceNeverWaits(t *testing.T) {
	t.Parallel()
	th := newThrottle(Rate{N: 1, Per: time.Minute}, time.Now)
	th.succeeded(home, "alice")
	guess := mustBegin(t, th, away, "alice")
	mustBegin(t, th, home, "alice").succeed()
	guess.fail()
	mustBegin(t, th, home, "alice").succeed()
}

func TestThrottleBeginEndsWithContext(t *testing.T) {
	t.Parallel()
	th := newThrottle(Rate{N: 1, Per: time.Minute}, time.Now)
	mustBegin(t, th, away, "alice")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := th.begin(ctx, away, "alice"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// TestThrottleForgetsNoAttempt: room is made of counters, never of those that
// an attempt is under way in.
func TestThrottleForgetsNoAttempt(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	th := newThrottle(Rate{N: 2, Per: time.Minute}, func() time.Time { return now })
	a := mustBegin(t, th, home, "alice")
	for i := range maxCounted {
		th.counts[string(rune(i))+"x"] = &counter{failed: 1, first: now}
	}
	mustBegin(t, th, away, "bob").fail()
	if n := len(th.counts); n > maxCounted+1 {
		t.Errorf("%d counters, want at most %d", n, maxCounted+1)
	}
	if n := a.fail(); n != 1 {
		t.Errorf("%d failures, want 1", n)
	}
	if c := th.counts[sourceKey(home)]; c == nil || c.failed != 1 || c.asking != 0 {
		t.Errorf("counter %+v", c)
	}
}
