package auth

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Rate is N failures within Per, as in PowerMTA's smtp-max-auth-failure-rate. No
// N means no limit.
type Rate struct {
	N   int
	Per time.Duration
}

// throttle bounds failed logins per source and per user. After N failures no
// credentials are checked until Per has passed since the first of them.
//
// An attempt counts as a failure until its outcome is known, so that guesses in
// parallel are not more than guesses one after the other. Where only attempts
// under way fill a counter, the next one waits for them: many connections that
// log in together with the right password all succeed.
type throttle struct {
	rate Rate
	now  func() time.Time

	mu     sync.Mutex
	counts map[string]*counter
	known  map[string]struct{} // pairs of a source and a user that has logged in from it
}

type counter struct {
	failed  int
	first   time.Time     // of the first failure
	asking  int           // attempts under way
	changed chan struct{} // closed when an attempt ends; nil: nobody waits
}

// attempt is a login that is being checked. It ends with succeed, fail or
// withdraw; after the first of them the others do nothing.
type attempt struct {
	t      *throttle
	source netip.Addr
	user   string
	keys   []string // of the counters that count it
}

// Bounds on memory, whoever asks.
const (
	maxCounted = 100_000 // counters
	maxKnown   = 100_000 // pairs
)

// maxDelay bounds the pause before a failure is answered.
const maxDelay = 3 * time.Second

func newThrottle(r Rate, now func() time.Time) *throttle {
	return &throttle{
		rate:   r,
		now:    now,
		counts: map[string]*counter{},
		known:  map[string]struct{}{},
	}
}

func sourceKey(a netip.Addr) string            { return "s" + a.String() }
func userKey(name string) string               { return "u" + name }
func pairKey(a netip.Addr, name string) string { return a.String() + " " + name }

// locked reports whether credentials are not to be checked now. Guesses of others
// never lock a user out of a source that the user has logged in from.
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

// keys returns the keys of the counters that decide about an attempt. mu is held.
func (t *throttle) keys(source netip.Addr, user string) []string {
	if _, known := t.known[pairKey(source, user)]; known {
		return []string{sourceKey(source)}
	}

	return []string{sourceKey(source), userKey(user)}
}

// full reports whether a counter has reached the rate with its failures of this
// period and others. mu is held.
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

// begin begins an attempt. It waits for attempts under way that would reach the
// rate if all of them failed. Its error is errLocked, or that of ctx.
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

// tryBegin begins an attempt, or returns a channel that is closed when it may be
// tried again.
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
			return nil, c.wait(), nil
		}
	}

	for _, key := range keys {
		t.counter(key).asking++
	}
	a.keys = keys

	return a, nil, nil
}

// wait returns a channel that is closed when an attempt ends.
func (c *counter) wait() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}

	return c.changed
}

// counter returns the counter of a key, a new one where there is none. mu is held.
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

// prune removes counters whose period is over, and where that is not enough, any
// without attempts under way. mu is held.
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

// end removes the attempt from its counters, and wakes up those that wait for it.
// mu is held.
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

// fail ends the attempt as a failure, and returns how many failures the source has
// in this period.
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

// count counts a failure, and returns how many there are in this period. mu is
// held.
func (t *throttle) count(key string) int {
	now := t.now()
	c := t.counter(key)
	if c.failed == 0 || now.Sub(c.first) >= t.rate.Per {
		c.failed = 0
		c.first = now
	}
	c.failed++

	return c.failed
}

// withdraw ends an attempt without an outcome.
func (a *attempt) withdraw() {
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	a.end()
}

// succeed ends an attempt that was right, and remembers that the user has logged
// in from the source.
func (a *attempt) succeed() {
	a.t.mu.Lock()
	defer a.t.mu.Unlock()
	a.end()
	a.t.remember(a.source, a.user)
}

// succeeded remembers that a user has logged in from a source.
func (t *throttle) succeeded(source netip.Addr, user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remember(source, user)
}

// remember is succeeded with mu held.
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

// delayFor returns the pause before a source's n-th failure is answered: 100 ms,
// doubled with each failure.
func delayFor(n int) time.Duration { return min(100*time.Millisecond<<min(n-1, 5), maxDelay) }

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
