package config

import (
	"slices"
	"time"

	"postern/relay/envelope"
)

// warnBeforeLastKey is how long before its end a domain's last key gets a warning.
const warnBeforeLastKey = 14 * 24 * time.Hour

// checkSuccessors checks that each successor is another key of the domain, and that
// there are no cycles: all keys of a cycle would be replaced.
func (b *binder) checkSuccessors(keys []DKIMKey) {
	find := func(domain, selector string) int {
		return slices.IndexFunc(keys, func(k DKIMKey) bool {
			return envelope.ASCIIDomain(k.Domain) == envelope.ASCIIDomain(domain) && k.Selector == selector
		})
	}

	for i, k := range keys {
		key := keyOf("dkim.key", i) + ".successor"
		if k.Successor != "" && find(k.Domain, k.Successor) < 0 {
			b.warn(key, "%s has no key with selector %s", k.Domain, k.Successor)
			continue
		}

		next := i
		for range keys {
			if next < 0 || keys[next].Successor == "" {
				break
			}
			next = find(k.Domain, keys[next].Successor)
			if next == i {
				b.problem(key, "leads back to selector %s: none of these keys would sign", k.Selector)
				break
			}
		}
	}
}

// span is the time in which a key signs; with a zero end, for ever.
type span struct {
	begin, end time.Time
	key        string
}

// checkSpans warns of times after now in which a domain has keys and none of them signs,
// and of a domain's last key if it ends soon.
func (b *binder) checkSpans(keys []DKIMKey, now time.Time) {
	domains := map[string][]span{}
	var order []string
	for i, k := range keys {
		s := span{
			begin: k.NotBefore.Time,
			end:   k.NotAfter.End(),
			key:   keyOf("dkim.key", i),
		}
		if !s.end.IsZero() && !s.begin.Before(s.end) {
			b.problem(s.key+".not_after", "before not_before: the key would never sign")
			continue
		}

		domain := envelope.ASCIIDomain(k.Domain)
		if domains[domain] == nil {
			order = append(order, domain)
		}
		domains[domain] = append(domains[domain], s)
	}

	for _, domain := range order {
		b.checkSpansOf(domain, domains[domain], now)
	}
}

// checkSpansOf is checkSpans for the keys of one domain.
func (b *binder) checkSpansOf(domain string, spans []span, now time.Time) {
	slices.SortStableFunc(spans, func(a, c span) int { return a.begin.Compare(c.begin) })
	covered := now // until then a key signs, or a warning says that none does
	last := slices.MaxFunc(spans, func(a, c span) int { return compareEnds(a.end, c.end) })

	for _, s := range spans {
		if s.begin.After(covered) {
			b.warn(s.key+".not_before", "no key of %s signs from %s to %s: mail goes out unsigned",
				domain, moment(covered), moment(s.begin))
			covered = s.begin
		}
		if s.end.IsZero() {
			return
		}
		if s.end.After(covered) {
			covered = s.end
		}
	}

	switch {
	case !last.end.After(now):
		b.warn(last.key+".not_after", "no key of %s signs since %s: mail goes out unsigned", domain, moment(last.end))
	case last.end.Sub(now) < warnBeforeLastKey:
		b.warn(last.key+".not_after", "the last key of %s ends at %s, and no other follows", domain, moment(last.end))
	}
}

// compareEnds compares ends of spans; the zero Time is the latest.
func compareEnds(a, b time.Time) int {
	switch {
	case a.IsZero() && b.IsZero():
		return 0
	case a.IsZero():
		return 1
	case b.IsZero():
		return -1
	}

	return a.Compare(b)
}

// moment returns a time to the minute, in UTC.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
