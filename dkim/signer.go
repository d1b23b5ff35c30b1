package dkim

import (
	"slices"
	"sort"
	"strings"
	"time"

	"postern/relay/envelope"
)

// Signer holds the keys of the domains that it signs for.
type Signer struct{ byDomain map[string][]Key }

// NewSigner returns a signer with keys. Two keys of one domain both sign, RSA
// first.
func NewSigner(keys []Key) *Signer {
	s := &Signer{byDomain: map[string][]Key{}}
	for _, k := range keys {
		k.Domain = envelope.ASCIIDomain(k.Domain)
		s.byDomain[k.Domain] = append(s.byDomain[k.Domain], k)
	}

	for _, list := range s.byDomain {
		sort.SliceStable(list, func(i, j int) bool { return isRSA(list[i]) && !isRSA(list[j]) })
	}

	return s
}

// active returns the keys of a list that sign now: those within their dates
// whose successor does not sign yet.
func active(list []Key, now time.Time) []Key {
	var out []Key

	for _, k := range list {
		if k.within(now) && !k.isReplaced(list, now) {
			out = append(out, k)
		}
	}

	return out
}

// isReplaced reports whether the successor of a key is in the list and signs.
func (k Key) isReplaced(list []Key, now time.Time) bool {
	return k.Successor != "" && slices.ContainsFunc(list, func(next Key) bool {
		return next.Selector == k.Successor && next.within(now)
	})
}

// KeysFor returns the keys that sign for a From domain: its own, else those of
// the nearest parent, whose d= aligns in relaxed mode (RFC 7489 section 3.1.1).
func (s *Signer) KeysFor(domain string, now time.Time) []Key {
	domain = envelope.ASCIIDomain(domain)
	for {
		if keys := active(s.byDomain[domain], now); len(keys) > 0 {
			return keys
		}

		_, parent, ok := strings.Cut(domain, ".")
		if !ok {
			return nil
		}
		domain = parent
	}
}

// Has reports whether there is a key of that domain itself.
func (s *Signer) Has(domain string) bool {
	return len(s.byDomain[envelope.ASCIIDomain(domain)]) > 0
}

// SigningDomain returns the d= tag in the value of a DKIM-Signature field; empty
// if there is none.
func SigningDomain(value string) string { return tags(value)["d"] }

// Named returns a key by SELECTOR, SELECTOR._domainkey.DOMAIN or DOMAIN. A bare
// selector that several keys have names none of them.
func (s *Signer) Named(name string, now time.Time) (found Key, ok bool) {
	name = normalName(name)
	if keys := active(s.byDomain[name], now); len(keys) > 0 {
		return keys[0], true
	}

	var bySelector []Key
	for _, list := range s.byDomain {
		for _, k := range list {
			if !k.within(now) {
				continue
			}
			if name == strings.ToLower(RecordName(k.Domain, k.Selector)) {
				return k, true
			}
			if name == strings.ToLower(k.Selector) {
				bySelector = append(bySelector, k)
			}
		}
	}

	if len(bySelector) != 1 {
		return Key{}, false
	}
	return bySelector[0], true
}

// normalName returns the name of a key with its domain in ASCII, and in lower
// case.
func normalName(name string) string {
	name = strings.TrimSuffix(name, ".")

	selector, domain, ok := strings.Cut(name, "._domainkey.")
	if !ok {
		return envelope.ASCIIDomain(name)
	}
	return strings.ToLower(RecordName(envelope.ASCIIDomain(domain), selector))
}
