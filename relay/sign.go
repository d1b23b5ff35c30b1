package relay

import (
	"bytes"
	"slices"
	"sync"

	"postern/dkim"
	"postern/relay/dialect"
	"postern/relay/envelope"
	"postern/relay/message"
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

	if name := m.policy.instructions.DKIMKey; name != "" {
		k, ok := r.cfg.Signing.Signer.Named(name, m.at)
		switch {
		case !ok || !r.mayUse(user, k.Domain) || r.sentAsHeld(m):
			return nil, "", dialect.RefuseMsysAPI("no such dkim_key for you")
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

// dropBroken removes signatures that the rewriting breaks, where they are of a
// domain that we sign for and that is the user's to sign for; signatures of
// other domains are kept.
func (r *Relay) dropBroken(m *outgoing) (dropped bool) {
	if r.cfg.Signing.Signer == nil {
		return false
	}

	out := make([]byte, 0, len(m.policy.header))
	for _, f := range message.Fields(m.policy.header) {
		if f.Is("DKIM-Signature") && r.signsFor(m.s.User, dkim.SigningDomain(f.Value())) {
			dropped = true
			continue
		}
		out = append(out, f.Raw...)
	}

	m.policy.header = out
	return dropped
}

// render writes a copy into buf and returns its signature, which goes before it.
// The same copy has the same bytes each time.
func (r *Relay) render(m *outgoing, c *copyOf, buf *copyBuffer) (signature []byte, err error) {
	head := m.head(r, c)

	buf.b = append(slices.Grow(buf.b[:0], m.plan.Size()+len(head)), head...)
	if err := m.plan.Render(buf, r.stamper(m, c)); err != nil {
		return nil, err
	}

	if len(m.keys) == 0 {
		return nil, nil
	}

	header, body, _ := message.Split(buf.b)
	shared := m.signing.prepare(header[len(head):])
	signature, err = shared.Sign(m.keys, head, body, dkim.Times{Signed: m.at, Expire: r.cfg.Signing.Life})
	if err != nil {
		return nil, reply.Defer(451, reply.EnhancedCode{4, 7, 0}, "Message could not be signed, try again later", err)
	}
	return signature, nil
}

// sharedHeader is the header that the copies of a message have in common, prepared
// for their signatures once. It is safe for concurrent use.
type sharedHeader struct {
	mu       sync.Mutex
	header   []byte
	prepared *dkim.Header
}

// prepare returns the prepared form of a copy's header without its own fields.
// Another header than the last one is prepared anew.
func (s *sharedHeader) prepare(header []byte) *dkim.Header {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.prepared == nil || !bytes.Equal(s.header, header) {
		s.header = bytes.Clone(header)
		s.prepared = dkim.NewHeader(header)
	}
	return s.prepared
}
