package relay

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
		if code, status := replyCodes(c.reply); code != c.code || status != c.status {
			t.Errorf("%q: got %q and %q, want %q and %q", c.reply, code, status, c.code, c.status)
		}
	}
}
