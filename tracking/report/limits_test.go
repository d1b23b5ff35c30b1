package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestCommentOfAField(t *testing.T) {
	for _, c := range []struct{ name, field, want string }{
		{"none", "5.1.1 no such user", ""},
		{"one", "5.1.1 ( no such user )", "no such user"},
		{"up to the last parenthesis", "x (a (b) c) d", "a (b) c"},
		{"without an end", "x (a b", "a b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := comment(c.field); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestLooseRecipientsReach: an address counts in the line that says that mail
// failed, and in the next lines up to maxAfter.
func TestLooseRecipientsReach(t *testing.T) {
	for _, c := range []struct {
		below int
		want  bool
	}{
		{0, true},
		{1, true},
		{maxAfter, true},
		{maxAfter + 1, false},
	} {
		t.Run(fmt.Sprintf("%d lines below", c.below), func(t *testing.T) {
			lines := []string{"Delivery has failed"}
			if c.below == 0 {
				lines[0] += " to bob@b.example"
			}
			for range c.below - 1 {
				lines = append(lines, "text")
			}
			if c.below > 0 {
				lines = append(lines, "bob@b.example")
			}

			got := looseRecipients(lines)

			if found := len(got) == 1 && got[0].Final == "bob@b.example"; found != c.want || len(got) > 1 {
				t.Errorf("got %+v, want it found: %v", got, c.want)
			}
		})
	}
}

// TestLooseRecipientsLines: lines as long as the limit are read, longer ones
// are passed over.
func TestLooseRecipientsLines(t *testing.T) {
	const text = "Delivery has failed to bob@b.example "
	for _, c := range []struct {
		name   string
		length int
		want   int
	}{
		{"at the limit", maxNoticeLine, 1},
		{"above it", maxNoticeLine + 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := text + strings.Repeat("x", c.length-len(text))
			if got := looseRecipients([]string{line}); len(got) != c.want {
				t.Errorf("got %+v, want %d", got, c.want)
			}
		})
	}
}

func TestSenderWithoutAnAddress(t *testing.T) {
	for _, c := range []struct {
		name, field string
		none        bool
	}{
		{"blanks", "From:   \t ", true},
		{"null path with blanks behind", "From: Mail System <> \t", true},
		{"null path with blanks before", "From: \t <>", true},
		{"a name", "From: mailer-daemon", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := headed(c.field).from(); got.none != c.none {
				t.Errorf("got %+v, want none: %v", got, c.none)
			}
		})
	}
}

// TestDaemonsAreNamed holds every local part that only mail systems have.
func TestDaemonsAreNamed(t *testing.T) {
	var not []string
	for local, is := range daemonLocals {
		if !is || !headed("From: <"+local+"@a.example>").from().isDaemon() {
			not = append(not, local)
		}
	}
	slices.Sort(not)

	if len(not) > 0 || len(daemonLocals) == 0 {
		t.Errorf("not taken for mail systems: %q", not)
	}
}
