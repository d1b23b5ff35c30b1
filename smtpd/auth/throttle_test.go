package auth

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"testing"
	"testing/synctest"
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

// TestThrottleWithoutRate checks that the zero rate counts and locks nothing.
func TestThrottleWithoutRate(t *testing.T) {
	t.Parallel()
	th := newThrottle(Rate{}, time.Now)
	for range 3 {
		if n := mustBegin(t, th, home, "alice").fail(); n != 1 {
			t.Errorf("failure %d, want 1", n)
		}
	}
	if th.locked(home, "alice") || len(th.counts) != 0 {
		t.Errorf("locked, or %d counters", len(th.counts))
	}
	one := newThrottle(Rate{N: 1, Per: time.Minute}, time.Now)
	if one.locked(home, "alice") {
		t.Error("locked without a failure")
	}
	if n := mustBegin(t, one, home, "alice").fail(); n != 1 || !one.locked(home, "alice") {
		t.Errorf("failure %d, not locked after the only one that may be", n)
	}
}

// TestThrottleCounts checks the count of a source, and the end of its period.
func TestThrottleCounts(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	th := newThrottle(Rate{N: 3, Per: time.Minute}, func() time.Time { return now })
	for i, c := range []struct {
		after time.Duration
		user  string
		want  int
	}{
		{0, "a", 1},
		{30 * time.Second, "b", 2},
		{30*time.Second - 1, "c", 3},
		{1, "d", 1}, // a minute after the first
	} {
		now = now.Add(c.after)
		if n := mustBegin(t, th, home, c.user).fail(); n != c.want {
			t.Errorf("failure %d counts as %d, want %d", i+1, n, c.want)
		}
	}
	mustBegin(t, th, home, "d").fail()
	mustBegin(t, th, home, "e").fail()
	now = now.Add(time.Minute - 1)
	if !th.locked(home, "x") {
		t.Error("not locked within the period")
	}
	now = now.Add(1)
	if th.locked(home, "x") || th.locked(away, "d") {
		t.Error("locked after the period")
	}
	if c := th.counts[sourceKey(home)]; c.failed != 0 {
		t.Errorf("%d failures of an earlier period", c.failed)
	}
}

// TestThrottleKeepsUsersAndSourcesApart: a user's name is never a source's
// counter, nor a pair another one's.
func TestThrottleKeepsUsersAndSourcesApart(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		sourceKey(home):       "s192.0.2.1",
		userKey("192.0.2.1"):  "u192.0.2.1",
		pairKey(home, "s a"):  "192.0.2.1 s a",
		userKey("s192.0.2.1"): "us192.0.2.1",
	} {
		if key != want {
			t.Errorf("got %q, want %q", key, want)
		}
	}
}

// TestThrottleForgetsEndedAttempts checks that counters without failures are removed.
func TestThrottleForgetsEndedAttempts(t *testing.T) {
	t.Parallel()
	th := newThrottle(Rate{N: 9, Per: time.Minute}, time.Now)
	first, second := mustBegin(t, th, home, "alice"), mustBegin(t, th, home, "bob")
	if c := th.counts[sourceKey(home)]; len(th.counts) != 3 || c.asking != 2 {
		t.Errorf("%d counters, %+v", len(th.counts), c)
	}
	first.withdraw()
	first.withdraw()
	if c := th.counts[sourceKey(home)]; len(th.counts) != 2 || c.asking != 1 {
		t.Errorf("%d counters, %+v; an attempt ends once", len(th.counts), c)
	}
	second.succeed()
	second.withdraw()
	if len(th.counts) != 0 {
		t.Errorf("%d counters of nobody", len(th.counts))
	}
	failed := mustBegin(t, th, home, "alice")
	failed.fail()
	failed.withdraw()
	if c := th.counts[userKey("alice")]; c == nil || c.failed != 1 || c.asking != 0 {
		t.Errorf("counter %+v, want one failure", c)
	}
	another := mustBegin(t, th, home, "alice")
	another.withdraw()
	if c := th.counts[userKey("alice")]; c == nil || c.failed != 1 {
		t.Errorf("counter %+v: an attempt without an end has taken the failure with it", c)
	}
}

// TestThrottleWakesAllThatWait checks that every end of an attempt wakes the others.
func TestThrottleWakesAllThatWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		th := newThrottle(Rate{N: 1, Per: time.Hour}, time.Now)
		running := mustBegin(t, th, away, "alice")
		done := make(chan error, 3)
		for range 3 {
			go func() {
				a, err := th.begin(t.Context(), away, "alice")
				if err == nil {
					time.Sleep(time.Second)
					a.succeed()
				}
				done <- err
			}()
		}
		synctest.Wait()
		if len(done) != 0 {
			t.Error("an attempt does not wait for the last that may fail")
		}
		running.withdraw()
		begun := time.Now()
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if got := time.Since(begun); got > 3*time.Second {
			t.Errorf("took %s", got)
		}
		if len(th.counts) != 0 {
			t.Errorf("%d counters", len(th.counts))
		}
	})
}

// TestThrottlePrunes what is over first, and then anything but attempts under
// way, and no more than it has to.
func TestThrottlePrunes(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	th := newThrottle(Rate{N: 9, Per: time.Minute}, func() time.Time { return now })
	fill := func(n int) {
		clear(th.counts)
		for i := range n {
			th.counts[userKey(strconv.Itoa(i))] = &counter{failed: 1, first: now.Add(-time.Minute + 1)}
		}
	}

	fill(maxCounted - 1)
	th.counts["over"] = &counter{failed: 1, first: now.Add(-time.Minute)}
	th.counts["over, asking"] = &counter{failed: 1, first: now.Add(-time.Minute), asking: 1}
	th.prune()
	if th.counts["over"] != nil || th.counts["over, asking"] == nil || len(th.counts) != maxCounted-1 {
		t.Errorf("%d counters, want %d: those that are over are removed first", len(th.counts), maxCounted-1)
	}

	fill(maxCounted - 1)
	th.counter("new")
	if len(th.counts) != maxCounted {
		t.Errorf("%d counters, want %d: there was room", len(th.counts), maxCounted)
	}
	if th.counter("new") != th.counts["new"] {
		t.Error("a counter is made anew")
	}
	th.counter("another")
	if len(th.counts) != maxCounted {
		t.Errorf("%d counters, want %d", len(th.counts), maxCounted)
	}
}

// TestThrottleKnowsSomePairs checks the limit of known pairs.
func TestThrottleKnowsSomePairs(t *testing.T) {
	t.Parallel()
	th := newThrottle(Rate{N: 9, Per: time.Minute}, time.Now)
	for i := range maxKnown {
		th.known[strconv.Itoa(i)] = struct{}{}
	}
	delete(th.known, "7")
	mustBegin(t, th, home, "alice").succeed()
	if _, ok := th.known[pairKey(home, "alice")]; !ok || len(th.known) != maxKnown {
		t.Errorf("%d pairs, alice's %v; want %d, true", len(th.known), ok, maxKnown)
	}
	th.succeeded(home, "alice")
	if _, ok := th.known[pairKey(home, "alice")]; !ok || len(th.known) != maxKnown {
		t.Errorf("again: %d pairs, alice's %v; want %d, true", len(th.known), ok, maxKnown)
	}
	th.succeeded(home, "bob")
	if _, ok := th.known[pairKey(home, "bob")]; !ok || len(th.known) != maxKnown {
		t.Errorf("%d pairs, bob's %v; want %d, true", len(th.known), ok, maxKnown)
	}
}
