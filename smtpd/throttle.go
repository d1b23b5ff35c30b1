package smtpd

import (
	"net/netip"
	"sync"
	"time"
)

// Rate is N failures within Per, as PowerMTA's smtp-max-auth-failure-rate.
type Rate struct {
	N   int
	Per time.Duration
}

// throttle counts failed logins per source and per user: after N failures
// within the period no attempt is looked at until the period, counted from
// the first failure, is over (reference, section 4).
type throttle struct {
	rate Rate
	now  func() time.Time

	mu     sync.Mutex
	counts map[string]*failures
	known  map[string]struct{} // source and user that logged in together before
}

type failures struct {
	n     int
	first time.Time
}

// Bounds on what is remembered, whoever asks.
const (
	maxCounted = 100_000
	maxKnown   = 100_000
)

func newThrottle(r Rate, now func() time.Time) *throttle {
	return &throttle{rate: r, now: now, counts: map[string]*failures{}, known: map[string]struct{}{}}
}

func sourceKey(a netip.Addr) string         { return "s" + a.String() }
func userKey(name string) string            { return "u" + name }
func pairKey(a netip.Addr, n string) string { return a.String() + " " + n }

// locked tells whether an attempt is not to be looked at. A user is never
// locked out, by others' guesses, where that user logged in from before.
func (t *throttle) locked(source netip.Addr, user string) bool {
	if t.rate.N == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over(sourceKey(source)) {
		return true
	}
	_, known := t.known[pairKey(source, user)]
	return !known && t.over(userKey(user))
}

func (t *throttle) over(key string) bool {
	f := t.counts[key]
	if f == nil {
		return false
	}
	if t.now().Sub(f.first) >= t.rate.Per {
		delete(t.counts, key)
		return false
	}
	return f.n >= t.rate.N
}

// fail counts a failure and returns how many the source has now.
func (t *throttle) fail(source netip.Addr, user string) int {
	if t.rate.N == 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(userKey(user))
	return t.count(sourceKey(source))
}

func (t *throttle) count(key string) int {
	now := t.now()
	f := t.counts[key]
	if f == nil || now.Sub(f.first) >= t.rate.Per {
		if f == nil && len(t.counts) >= maxCounted {
			t.prune(now)
		}
		f = &failures{first: now}
		t.counts[key] = f
	}
	f.n++
	return f.n
}

// prune makes room: what is over goes, and where that is not enough, any.
func (t *throttle) prune(now time.Time) {
	for k, f := range t.counts {
		if now.Sub(f.first) >= t.rate.Per {
			delete(t.counts, k)
		}
	}
	for k := range t.counts {
		if len(t.counts) < maxCounted {
			return
		}
		delete(t.counts, k)
	}
}

// succeeded remembers that the user logged in from there.
func (t *throttle) succeeded(source netip.Addr, user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= maxKnown {
		for k := range t.known {
			delete(t.known, k)
			break
		}
	}
	t.known[pairKey(source, user)] = struct{}{}
}
