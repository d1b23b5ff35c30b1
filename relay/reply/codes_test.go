package reply

import (
	"testing"
)

// TestReplyCodesAtTheirBounds.
func TestReplyCodesAtTheirBounds(t *testing.T) {
	for _, c := range []struct{ reply, code, status string }{
		{"200 x", "200", ""},
		{"199 x", "", ""},
		{"599 5.1.1", "599", "5.1.1"},
		{"600 5.1.1", "", ""},
		{"55 5.1.1", "", ""},
		{"5500 5.1.1", "", ""},
		{"+50 x", "", ""},
		{"250 2.1.5 x", "250", "2.1.5"},
		{"550 3.1.1 x", "550", ""},
		{"550 5.1 x", "550", ""},
		{"550 5.1.1.1 x", "550", ""},
		{"550 55.1.1 x", "550", ""},
		{"550 5.123.999 x", "550", "5.123.999"},
		{"550 5.1234.1 x", "550", ""},
		{"550 5.1.x y", "550", ""},
		{"550 5.1. y", "550", ""},
		{"550 .1.1 y", "550", ""},
		{"5.1.1", "", "5.1.1"},
	} {
		if code, status := ParseCodes(c.reply); code != c.code || status != c.status {
			t.Errorf("%q: got %q and %q, want %q and %q", c.reply, code, status, c.code, c.status)
		}
	}
}

// TestReplyCodes: codes are read where they belong, never out of the text.
func TestReplyCodes(t *testing.T) {
	for _, c := range []struct{ reply, code, status string }{
		{"550 5.1.1 no such user", "550", "5.1.1"},
		{"450 4.2.0 later", "450", "4.2.0"},
		{"550 no such user 5.1.1", "550", ""},
		{"550 see 4.4.7 below", "550", ""},
		{"550 10.0.0.1 is listed", "550", ""},
		{"550 5.1.1", "550", "5.1.1"},
		{"550 5.1.1234 x", "550", ""},
		{"550 5..1 x", "550", ""},
		{"4.4.7 not delivered", "", "4.4.7"},
		{"550", "550", ""},
		{"", "", ""},
		{"999 5.1.1 x", "", ""},
	} {
		code, status := ParseCodes(c.reply)
		if code != c.code || status != c.status {
			t.Errorf("%q: got %q and %q, want %q and %q", c.reply, code, status, c.code, c.status)
		}
	}
}
