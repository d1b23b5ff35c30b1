package relay

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"postern/dkim"
	"postern/relay/dialect"
	"postern/relay/envelope"
	"postern/relay/message"
	"postern/relay/reply"
)

// Reasons for which a message has no key to sign it.
const (
	whyUnclearFrom  = "From is not understood"
	whyNoKey        = "there is none"
	whyOthersDomain = "the domain belongs to other users"
)

// chooseKeys returns the keys that sign a message. A message without any is
// refused if signatures are required, else it goes out unsigned.
func (r *Relay) chooseKeys(s *Submission, h *headers, now time.Time) ([]dkim.Key, error) {
	if r.cfg.Signing.Signer == nil {
		return nil, nil
	}

	keys, why, err := r.keysFor(s.User, h, now)
	if err != nil {
		return nil, err
	}
	if len(keys) > 0 {
		return keys, nil
	}

	if r.cfg.Signing.Require {
		text := "No DKIM key for " + domainText(&h.origin) + " (From): " + why
		return nil, reply.Refuse(550, reply.EnhancedCode{5, 7, 20}, text)
	}
	r.unsigned.Inc()
	r.noteUnsigned(s, &h.origin, why)
	return nil, nil
}

// domainText names the domain of From for people.
func domainText(o *originators) string {
	if a := o.author(); !a.IsNull() {
		return refusedText(a.Domain)
	}
	return "the domain"
}

// keysFor returns the keys that sign: the one that the sender asks for, if the
// user may sign for its domain, else the one that the operator gave the user,
// else those of the author's domain. If there are none, why says so.
func (r *Relay) keysFor(u User, h *headers, now time.Time) (keys []dkim.Key, why string, err error) {
	if h.instructions.DKIMKey != "" {
		return r.keyAskedFor(u, h, now)
	}
	if k, ok := r.keyOfUser(u, now); ok {
		return []dkim.Key{k}, "", nil
	}

	author := h.origin.author()
	if author.IsNull() {
		return nil, whyUnclearFrom, nil
	}

	keys = r.cfg.Signing.Signer.KeysFor(envelope.ASCIIDomain(author.Domain), now)
	switch {
	case len(keys) == 0:
		return nil, whyNoKey, nil
	case !r.mayUse(u, keys[0].Domain) || r.sentAsHeld(u, &h.origin):
		return nil, whyOthersDomain, nil
	}
	return keys, "", nil
}

// keyAskedFor returns the key that the sender asks for.
func (r *Relay) keyAskedFor(u User, h *headers, now time.Time) (keys []dkim.Key, why string, err error) {
	k, ok := r.cfg.Signing.Signer.Named(h.instructions.DKIMKey, now)

	switch {
	case !ok || !r.mayUse(u, k.Domain) || r.sentAsHeld(u, &h.origin):
		return nil, "", dialect.RefuseMsysAPI("no such dkim_key for you")
	case h.origin.author().IsNull():
		// A reader that finds an address below the key's domain in it would
		// take the signature for that one's (RFC 7489 section 3.1.1).
		return nil, whyUnclearFrom, nil
	}
	return []dkim.Key{k}, "", nil
}

// keyOfUser returns the key that the operator gave the user, if any.
func (r *Relay) keyOfUser(u User, now time.Time) (dkim.Key, bool) {
	if u.DKIMKey == "" {
		return dkim.Key{}, false
	}

	k, ok := r.cfg.Signing.Signer.Named(u.DKIMKey, now)
	if !ok && r.notes.due("dkim_key of "+u.Name, r.cfg.Now()) {
		r.cfg.Log.Error("the user's dkim_key is missing; the key of the From domain is used",
			"user", u.Name, "dkim_key", u.DKIMKey)
	}
	return k, ok
}

// sentAsHeld reports whether a user that is held to no domain sends as one that
// another user is held to. A parent's signature would count for it, too (RFC
// 7489 section 3.1.1).
func (r *Relay) sentAsHeld(u User, o *originators) bool {
	if len(u.FromDomains) > 0 {
		return false
	}

	return slices.ContainsFunc(o.from, func(a envelope.Address) bool { return !r.mayUse(u, a.Domain) })
}

// signsFor reports whether there is a key of a domain and the user may sign
// with it.
func (r *Relay) signsFor(u User, domain string) bool {
	return r.cfg.Signing.Signer.Has(domain) && r.mayUse(u, domain)
}

// noteUnsigned logs a message that goes out without a signature, at most once a
// minute for each domain.
func (r *Relay) noteUnsigned(s *Submission, o *originators, why string) {
	domain := envelope.ASCIIDomain(o.author().Domain)
	if !r.notes.due("unsigned "+domain, r.cfg.Now()) {
		return
	}

	r.cfg.Log.Warn("message relayed without a DKIM signature",
		"session", s.Session, "user", s.User.Name, "domain", domain, "reason", why)
}

// withoutBroken returns a header without the signatures that rewriting breaks,
// if they are of a domain that we sign for and the user may sign for.
// Signatures of other domains are kept.
func (r *Relay) withoutBroken(u User, header []byte) (kept []byte, dropped bool) {
	if r.cfg.Signing.Signer == nil {
		return header, false
	}

	kept = make([]byte, 0, len(header))
	for _, f := range message.Fields(header) {
		if f.Is("DKIM-Signature") && r.signsFor(u, dkim.SigningDomain(f.Value())) {
			dropped = true
			continue
		}
		kept = append(kept, f.Raw...)
	}

	return kept, dropped
}

// sign returns the signature of a rendered copy, which begins with its own
// fields. Without keys it is empty.
func (r *Relay) sign(m *outgoing, own, rendered []byte) ([]byte, error) {
	if len(m.keys) == 0 {
		return nil, nil
	}

	header, body, _ := message.Split(rendered)
	shared := m.signed.prepare(header[len(own):])
	times := dkim.Times{Signed: m.at, Expire: r.cfg.Signing.Life}
	signature, err := shared.Sign(m.keys, own, body, times)
	if err != nil {
		return nil, reply.Defer(451, reply.EnhancedCode{4, 7, 0}, "Message could not be signed, try again later", err)
	}
	return signature, nil
}

// sharedHeader is the header that the copies of a message have in common,
// prepared for their signatures once. It is safe for concurrent use.
type sharedHeader struct {
	mu       sync.Mutex
	header   []byte
	prepared *dkim.Header
}

// prepare returns the prepared form of a copy's header without its own fields.
// It is computed again only if the header differs from the last one.
func (s *sharedHeader) prepare(header []byte) *dkim.Header {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.prepared == nil || !bytes.Equal(s.header, header) {
		s.header = bytes.Clone(header)
		s.prepared = dkim.NewHeader(header)
	}
	return s.prepared
}
