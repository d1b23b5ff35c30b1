package auth

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Rate is N failures within Per, as PowerMTA's smtp-max-auth-failure-rate.
type Rate struct {
	N   int
	Per time.Duration
}

// throttle bounds failed logins per source and per user: after N failures
// within the period no attempt is looked at until the period, counted from
// the first failure, is over.
//
// An attempt under way counts like a failure until its end is known, so that
// guesses made at once are not more than guesses one after the other. Where
// only attempts under way are in the way, the next one waits for them: many
// connections that log in at once with the right password all succeed.
type throttle struct {
	rate Rate
	now  func() time.Time

	mu     sync.Mutex
	counts map[string]*counter
	known  map[string]struct{} // source and user that logged in together before
}

type counter struct {
	failed  int
	first   time.Time     // of the first failure
	asking  int           // attempts under way
	changed chan struct{} // closed when an attempt ends; nil: nobody waits
}

// attempt is a login that is being looked at. It ends with succeed, fail or
// withdraw, of which the first counts.
type attempt struct {
	t      *throttle
	source netip.Addr
	user   string
	keys   []string // of the counters that it counts in
}

// Bounds on what is remembered, whoever asks.
const (
	maxCounted = 100_000
	maxKnown   = 100_000
)

func newThrottle(r Rate, now func() time.Time) *throttle {
	return &throttle{rate: r, now: now, counts: map[string]*counter{}, known: map[string]struct{}{}}
}

func sourceKey(a netip.Addr) string         { return "s" + a.String() }
func userKey(name string) string            { return "u" + name }
func pairKey(a netip.Addr, n string) string { return a.String() + " " + n }

// locked reports whether an attempt is not to be looked at. A user is never
// locked out, by others' guesses, where that user logged in from before.
func (t *throttle) locked(source netip.Addr, user string) bool {
	if t.rate.N == 0 {
		return false
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range t.keys(source, user) {
		if t.full(key, 0) {
			return true
		}
	}

	return false
}

// keys are the counters that decide about an attempt.
func (t *throttle) keys(source netip.Addr, user string) []string {
	if _, known := t.known[pairKey(source, user)]; known {
		return []string{sourceKey(source)}
	}

	return []string{sourceKey(source), userKey(user)}
}

// full reports whether a counter's failures of this period, and others beside
// them, are as many as may be.
func (t *throttle) full(key string, others int) bool {
	c := t.counts[key]
	if c == nil {
		return false
	}
	if c.failed > 0 && t.now().Sub(c.first) >= t.rate.Per {
		c.failed = 0
	}

	return c.failed+others >= t.rate.N
}

// begin begins an attempt, after those under way where these might be the last
// that may fail. Its error is errLocked, or that of ctx.
func (t *throttle) begin(ctx context.Context, source netip.Addr, user string) (*attempt, error) {
	for {
		a, busy, err := t.tryBegin(source, user)
		if busy == nil {
			return a, err
		}

		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// tryBegin begins an attempt, or returns what is closed when it may be tried
// again.
func (t *throttle) tryBegin(source netip.Addr, user string) (*attempt, <-chan struct{}, error) {
	a := &attempt{t: t, source: source, user: user}
	if t.rate.N == 0 {
		return a, nil, nil
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	keys := t.keys(source, user)
	for _, key := range keys {
		if t.full(key, 0) {
			return nil, nil, errLocked
		}
	}
	for _, key := range keys {
		if c := t.counts[key]; c != nil && t.full(key, c.asking) {
			if c.changed == nil {
				c.changed = make(chan struct{})
			}
			return nil, c.changed, nil
		}
	}

	for _, key := range keys {
		t.counter(key).asking++
	}
	a.keys = keys

	return a, nil, nil
}

// counter returns a counter, which it makes where there is none.
func (t *throttle) counter(key string) *counter {
	c := t.counts[key]
	if c == nil {
		if len(t.counts) >= maxCounted {
			t.prune()
		}
		c = &counter{}
		t.counts[key] = c
	}

	return c
}

// prune makes room: what is over is removed, and where that is not enough,
// anything but attempts under way.
func (t *throttle) prune() {
	now := t.now()
	for k, c := range t.counts {
		if c.asking == 0 && now.Sub(c.first) >= t.rate.Per {
			delete(t.counts, k)
		}
	}
	for k, c := range t.counts {
		if len(t.counts) < maxCounted {
			return
		}
		if c.asking == 0 {
			delete(t.counts, k)
		}
	}
}

// end takes the attempt back, and wakes up those that wait for it.
func (a *attempt) end() {
	for _, key := range a.keys {
		c := a.t.counts[key]
		c.asking--
		if c.changed != nil {
			close(c.changed)
			c.changed = nil
		}
		if c.asking == 0 && c.failed == 0 {
			delete(a.t.counts, key)
		}
	}
	a.keys = nil
}

// fail counts the attempt as a failure and returns how many the source has
// now, this one included.
func (a *attempt) fail() int {
	t := a.t
	if t.rate.N == 0 {
		return 1
	}

	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(userKey(a.user))
	n := t.count(sourceKey(a.source))
	a.end()

	return n
}

// count counts a failure.
func (t *throttle) count(key string) int {
	now := t.now()
	c := t.counter(key)
	if c.failed == 0 || now.Sub(c.first) >= t.rate.Per {
		c.failed, c.first = 0, now
	}
	c.failed++

	return c.failed
}

// withdraw ends an attempt of which nobody knows whether it was right.
func (a *attempt) withdraw() {
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	a.end()
}

// succeed ends an attempt that was right, and remembers that the user logged
// in from there.
func (a *attempt) succeed() {
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	a.end()
	a.t.remember(a.source, a.user)
}

// succeeded remembers that the user logged in from there.
func (t *throttle) succeeded(source netip.Addr, user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remember(source, user)
}

func (t *throttle) remember(source netip.Addr, user string) {
	key := pairKey(source, user)
	if _, ok := t.known[key]; !ok && len(t.known) >= maxKnown {
		for k := range t.known {
			delete(t.known, k)
			break
		}
	}
	t.known[key] = struct{}{}
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
