package relay

import (
	"slices"
	"sync"
	"time"

	"postern/dkim"
	"postern/relay/envelope"
	"postern/relay/reply"
)

// chooseKeys finds the keys that sign a message. A message that none is found
// for is refused, or goes unsigned.
func (r *Relay) chooseKeys(m *outgoing) error {
	if r.cfg.Signing.Signer == nil {
		return nil
	}

	keys, why, err := r.keysFor(m)
	if err != nil {
		return err
	}
	if len(keys) > 0 {
		m.keys = keys
		return nil
	}

	if r.cfg.Signing.Require {
		return reply.Refuse(550, reply.EnhancedCode{5, 7, 20}, "No DKIM key for "+domainText(m)+" (From): "+why)
	}
	r.unsigned.Inc()
	r.noteUnsigned(m, why)
	return nil
}

// domainText names the domain of From for people.
func domainText(m *outgoing) string {
	if a := m.policy.origin.author(); !a.IsNull() {
		return refusedText(a.Domain)
	}
	return "the domain"
}

// keysFor returns the keys that sign: the one that X-MSYS-API asks for, where
// its domain is the user's to sign for, else the one that the operator gave the
// user, else those of the author's domain. Where there are none, why says so.
func (r *Relay) keysFor(m *outgoing) (keys []dkim.Key, why string, err error) {
	user := m.s.User

	if api := m.policy.api; api != nil && api.Options.DKIMKey != "" {
		k, ok := r.cfg.Signing.Signer.Named(api.Options.DKIMKey, m.at)
		switch {
		case !ok || !r.mayUse(user, k.Domain) || r.sentAsHeld(m):
			return nil, "", msysRefusal("no such dkim_key for you")
		case m.policy.origin.author().IsNull():
			// A reader that finds an address below the key's domain in it would
			// take the signature for that one's (RFC 7489 section 3.1.1).
			return nil, "From is not understood", nil
		}
		return []dkim.Key{k}, "", nil
	}

	if user.DKIMKey != "" {
		if k, ok := r.cfg.Signing.Signer.Named(user.DKIMKey, m.at); ok {
			return []dkim.Key{k}, "", nil
		}
		if r.notes.due("dkim_key of "+user.Name, r.cfg.Now()) {
			r.cfg.Log.Error("the user's dkim_key is not there; the From domain's signs",
				"user", user.Name, "dkim_key", user.DKIMKey)
		}
	}

	author := m.policy.origin.author()
	if author.IsNull() {
		return nil, "From is not understood", nil
	}

	keys = r.cfg.Signing.Signer.KeysFor(envelope.ASCIIDomain(author.Domain), m.at)
	switch {
	case len(keys) == 0:
		return nil, "there is none", nil
	case !r.mayUse(user, keys[0].Domain) || r.sentAsHeld(m):
		return nil, "the domain belongs to other users", nil
	}
	return keys, "", nil
}

// sentAsHeld reports whether a user that is held to no domain sends as one that
// another user is held to. A parent's signature would count for it, too (RFC
// 7489 section 3.1.1).
func (r *Relay) sentAsHeld(m *outgoing) bool {
	if len(m.s.User.FromDomains) > 0 {
		return false
	}
	return slices.ContainsFunc(m.policy.origin.from, func(a envelope.Address) bool {
		return !r.mayUse(m.s.User, a.Domain)
	})
}

// signsFor reports whether there is a key of a domain, and the user may have
// its signature.
func (r *Relay) signsFor(u User, domain string) bool {
	return r.cfg.Signing.Signer.Has(domain) && r.mayUse(u, domain)
}

// noteUnsigned logs a message that goes without a signature, at most once a
// minute for each domain.
func (r *Relay) noteUnsigned(m *outgoing, why string) {
	domain := envelope.ASCIIDomain(m.policy.origin.author().Domain)
	if !r.notes.due("unsigned "+domain, r.cfg.Now()) {
		return
	}
	r.cfg.Log.Warn("message relayed without a DKIM signature", "session", m.s.Session, "user", m.s.User.Name,
		"domain", domain, "reason", why)
}

const (
	noteEvery = time.Minute
	maxNotes  = 1000 // subjects that are remembered
)

// notes remembers what was logged lately, so that each subject is logged at
// most once every noteEvery. It is safe for concurrent use.
type notes struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// due reports whether a subject may be logged again. Above maxNotes subjects
// within noteEvery, new ones are not.
func (n *notes) due(subject string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	if at, ok := n.last[subject]; ok && now.Sub(at) < noteEvery && !now.Before(at) {
		return false
	}

	if len(n.last) >= maxNotes {
		for s, at := range n.last {
			if now.Sub(at) >= noteEvery || now.Before(at) {
				delete(n.last, s)
			}
		}
	}
	if len(n.last) >= maxNotes {
		return false
	}

	if n.last == nil {
		n.last = map[string]time.Time{}
	}
	n.last[subject] = now
	return true
}
