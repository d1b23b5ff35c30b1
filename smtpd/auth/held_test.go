package auth

import (
	"testing"

	"postern/relay"
)

// TestHeldFollowsUsers checks that Held changes with the users.
func TestHeldFollowsUsers(t *testing.T) {
	t.Parallel()
	u := newUsers(t, Rate{}, nil)
	if u.Held("a.example") {
		t.Error("a.example is held without any user")
	}

	entry := func(name string, domains ...string) Entry {
		return Entry{User: relay.User{Name: name, FromDomains: domains}}
	}
	if err := u.Replace([]Entry{entry("a", "a.example", "*.b.example"), entry("c")}); err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]bool{
		"a.example":   true,
		"x.b.example": true,
		"b.example":   false,
		"c.example":   false,
	} {
		if got := u.Held(domain); got != want {
			t.Errorf("Held(%q) = %v, want %v", domain, got, want)
		}
	}

	if err := u.Replace([]Entry{entry("c", "c.example")}); err != nil {
		t.Fatal(err)
	}
	if u.Held("a.example") || !u.Held("c.example") {
		t.Error("the old users' domains are still held, or the new ones' are not")
	}
}
