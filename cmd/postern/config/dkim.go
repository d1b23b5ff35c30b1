package config

import (
	"crypto/rsa"
	"strings"
	"time"

	"postern/dkim"
	"postern/relay"
	"postern/relay/envelope"
)

// expireSlack is how much longer than relay.bounce_after a signature must be valid: for
// the way from the upstream to the last recipient.
const expireSlack = 24 * time.Hour

// checkDKIM checks [dkim] and reads the keys.
func (b *binder) checkDKIM(c *Config) {
	d := &c.DKIM
	b.oneOf("dkim.rsa", d.RSA, "auto", "go")

	if least := c.Relay.BounceAfter.Std() + expireSlack; d.Expire > 0 && d.Expire.Std() < least {
		b.warn("dkim.expire", "shorter than relay.bounce_after and a day (%s): mail that waits in the retry spool "+
			"may go out with an expired signature", Duration(least))
	}

	seen := map[string]bool{}
	for i := range d.Keys {
		k := &d.Keys[i]
		key := keyOf("dkim.key", i)
		k.KeyFile = b.Path(k.KeyFile)
		if k.Domain == "" || k.Selector == "" || k.KeyFile == "" {
			b.problem(key, "a key wants domain, selector and key_file")
			continue
		}
		b.checkKey(*k, key, seen)
	}

	b.checkSuccessors(d.Keys)
	b.checkSpans(d.Keys, time.Now())
}

// checkKey checks one key. seen holds the keys before it.
func (b *binder) checkKey(k DKIMKey, key string, seen map[string]bool) {
	domain, err := dkim.ParseDomain(k.Domain)
	if err != nil {
		b.problem(key+".domain", "%v", err)
	}

	selectorErr := dkim.CheckSelector(k.Selector)
	if selectorErr != nil {
		b.problem(key+".selector", "%v", selectorErr)
	}
	if err != nil || selectorErr != nil {
		return
	}

	name := strings.ToLower(dkim.RecordName(domain, k.Selector))
	if seen[name] {
		b.problem(key+".selector", "%s has a key with selector %s already", k.Domain, k.Selector)
	}
	seen[name] = true

	private, err := dkim.ReadKey(k.Domain, k.Selector, k.KeyFile)
	if err != nil {
		b.problem(key+".key_file", "%v", err)
		return
	}
	if pub, ok := private.Private.Public().(*rsa.PublicKey); ok && pub.N.BitLen() < goodRSA {
		b.warn(key+".key_file", "an RSA key of %d bits: receivers want %d (RFC 8301 section 3.2)",
			pub.N.BitLen(), goodRSA)
	}
}

// goodRSA is the size of RSA keys that signers should use, in bits (RFC 8301
// section 3.2).
const goodRSA = 2048

// checkHeldKeys warns of keys that do not sign for users without from_domains, because
// another user is held to their domains.
func checkHeldKeys(b *binder, l *Loaded) (out Problems) {
	var patterns, free []string
	for _, u := range l.Users {
		patterns = append(patterns, u.FromDomains...)
		if len(u.FromDomains) == 0 {
			free = append(free, u.Name)
		}
	}
	if len(free) == 0 {
		return nil
	}

	held := relay.NewHeldDomains(patterns)
	for i, k := range l.DKIM.Keys {
		if !held.Held(k.Domain) {
			continue
		}
		key := keyOf("dkim.key", i) + ".domain"
		p := b.newProblem(key, "the key %s signs nothing of users without from_domains (%s), "+
			"for another user is held to %s; give them from_domains, or the key as dkim_key",
			k.Selector, strings.Join(free, ", "), k.Domain)
		p.Warn = true
		out = append(out, p)
	}

	return out
}

// checkUnsigned warns of domains that users send from and no key signs for.
// Without any key nothing is signed here at all, which the summary says.
func checkUnsigned(b *binder, l *Loaded) (out Problems) {
	if len(l.DKIM.Keys) == 0 {
		return nil
	}

	what := "goes unsigned"
	if l.DKIM.Require {
		what = "is refused, for dkim.require is set"
	}
	for _, d := range l.unsignedDomains() {
		p := b.newProblem("dkim.key", "none signs for %s, which is in the from_domains of %s: its mail %s",
			d, strings.Join(l.usersOf(d), ", "), what)
		p.Warn = true
		out = append(out, p)
	}

	return out
}

// isDomainPattern reports whether s is a domain, "*.domain" or "*", as in from_domains.
func isDomainPattern(s string) bool {
	_, err := envelope.ParseDomain(strings.TrimPrefix(s, "*."))

	return s == "*" || err == nil
}

// DKIM holds the signing keys.
type DKIM struct {
	Require bool      `toml:"require"`
	Expire  Duration  `toml:"expire"`
	RSA     string    `toml:"rsa"`
	Keys    []DKIMKey `toml:"key"`
}

// DKIMKey is a signing key.
type DKIMKey struct {
	Domain   string `toml:"domain"`
	Selector string `toml:"selector"`
	KeyFile  string `toml:"key_file"`

	// NotBefore and NotAfter are the first and the last day (or moment) on which the
	// key signs. Successor is the selector of the key that replaces it.
	NotBefore Date   `toml:"not_before"`
	NotAfter  Date   `toml:"not_after"`
	Successor string `toml:"successor"`
}
