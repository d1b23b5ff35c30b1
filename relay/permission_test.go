package relay

import (
	"context"
	"testing"

	"postern/relay/envelope"
	"postern/relay/reply"
)

func TestFromDomains(t *testing.T) {
	for _, c := range []struct {
		name, envelope, header string
		code                   int
	}{
		{"own domain", "a@bob.example", "From: a@bob.example\r\n", 250},
		{"below", "a@x.bob.example", "From: a@y.bob.example\r\n", 250},
		{"null path", "", "From: a@bob.example\r\n", 250},
		{"envelope of others", "a@alice.example", "From: a@bob.example\r\n", 550},
		{"From of others", "a@bob.example", "From: a@alice.example\r\n", 550},
		{"second author of others", "a@bob.example", "From: a@bob.example, b@alice.example\r\n", 550},
		{"Sender of others", "a@bob.example", "From: a@bob.example\r\nSender: a@alice.example\r\n", 550},
		{"From that cannot be read", "a@bob.example", "From: <<a@bob.example\r\n", 550},
		{"a display name that looks right", "a@bob.example", "From: \"a@bob.example\" <a@alice.example>\r\n", 550},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			s := submission(c.header+"\r\nx\r\n", "r")
			s.User.FromDomains = []string{"bob.example", "*.bob.example"}
			s.Envelope.From, _ = envelope.FromUnquoted(c.envelope)
			answer := b.relay.Submit(context.Background(), s)
			if answer.Code != c.code || c.code == 550 && answer.Enhanced != (reply.EnhancedCode{5, 7, 1}) {
				t.Errorf("%v", answer)
			}
		})
	}
}

// TestIsRelated: a key, a host or a subaccount of a domain is for who is held to it,
// to a parent or to a child of it.
func TestIsRelated(t *testing.T) {
	for _, c := range []struct {
		pattern, domain string
		want            bool
	}{
		{"a.example", "a.example", true},
		{"a.example", "A.EXAMPLE", true},
		{"a.example", "x.a.example", true},
		{"x.a.example", "a.example", true},
		{"*.a.example", "a.example", true},
		{"*", "any.example", true},
		{"a.example", "b.example", false},
		{"a.example", "xa.example", false},
		{"xa.example", "a.example", false},
		{"bücher.example", "xn--bcher-kva.example", true},
		{"xn--bcher-kva.example", "x.BÜCHER.example", true},
	} {
		if got := isRelated(c.pattern, c.domain); got != c.want {
			t.Errorf("isRelated(%s, %s) = %v, want %v", c.pattern, c.domain, got, c.want)
		}
	}

	held := NewHeldDomains([]string{"", "*.", "*.*", "a.example"})
	if len(held.names) != 1 || !held.Held("a.example") || held.Held("b") {
		t.Errorf("held: %v", held.names)
	}

	r := &Relay{}
	if !r.mayUse(User{}, "a.example") || r.mayUse(User{FromDomains: []string{"b.example"}}, "a.example") ||
		!r.mayUse(User{FromDomains: []string{"b.example", "a.example"}}, "a.example") {
		t.Error("mayUse without holders")
	}
	r.cfg.Holders = held
	if r.mayUse(User{}, "a.example") || !r.mayUse(User{}, "b.example") {
		t.Error("mayUse with holders")
	}
}

func TestHeldDomains(t *testing.T) {
	held := NewHeldDomains([]string{
		"a.example", "*.b.example", "*", "Bücher.example",
		"*.both.example", "both.example", "turned.example", "*.turned.example",
	})

	for domain, want := range map[string]bool{
		"a.example": true, "A.Example": true, "x.a.example": true, "example": false, "xa.example": false,
		"b.example": false, "x.b.example": true, "x.y.b.example": true,
		"bücher.example": true, "xn--bcher-kva.example": true,
		"both.example": true, "x.both.example": true, "turned.example": true, "x.turned.example": true,
		"other.example": false, "": false, "[192.0.2.1]": false,
	} {
		if got := held.Held(domain); got != want {
			t.Errorf("Held(%q) = %v, want %v", domain, got, want)
		}
	}
}
