package envelope

import (
	"errors"
	"strings"
	"testing"
)

// TestParseMailboxesSaysWhere: a list that is not understood is not for the
// first reason and place that make it so.
func TestParseMailboxesSaysWhere(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "no address at byte 0"},
		{"a", "no address at byte 1"},
		{"a b", "no address at byte 3"},
		{"a@b.example,", "no address at byte 12"},
		{"a@b.example, ", "no address at byte 13"},
		{"a@b.example x", "unexpected text at byte 12"},
		{"a@b.example ;", "unexpected text at byte 12"},
		{"a@b.example (x) <c@d.example>", "two addresses without a comma at byte 29"},
		{"a@b.example <a>", "no at sign at byte 14"},
		{"a@b.example (@)", "at sign or bracket in a comment at byte 13"},
		{"a@b.example (x", "comment without its end at byte 14"},
		{"a@b.example (x\\", "comment without its end at byte 15"},
		{"a@b.example (x\\)", "comment without its end at byte 16"},
		{"a@b.example ((x)", "comment without its end at byte 16"},
		{"(<) a@b.example", "at sign or bracket in a comment at byte 1"},
		{"(>) a@b.example", "at sign or bracket in a comment at byte 1"},
		{"(\\<) a@b.example", "at sign, bracket or control character in a comment at byte 2"},
		{"(\\>) a@b.example", "at sign, bracket or control character in a comment at byte 2"},
		{"(\\@) a@b.example", "at sign, bracket or control character in a comment at byte 2"},
		{"(\\\x01) a@b.example", "at sign, bracket or control character in a comment at byte 2"},
		{"(\x01) a@b.example", "control character in a comment at byte 1"},
		{"(\x7f) a@b.example", "control character in a comment at byte 1"},
		{"a\x01@b.example", "no address at byte 1"},
		{"a b@c.example", "at sign in a display name at byte 3"},
		{"a @b.example", "at sign in a display name at byte 2"},
		{"@b.example", "at sign in a display name at byte 0"},
		{"a@", "bad domain at byte 2"},
		{"a@b-", "bad domain at byte 4"},
		{"a@[1", "bad domain at byte 4"},
		{"a@b\u200e", "bad domain at byte 6"},
		{"a..b@c.example", "bad local part at byte 4"},
		{"[a]@c.example", "bad local part at byte 3"},
		{`""@c.example`, "local part empty or too long at byte 2"},
		{"<@c.example>", "local part empty or too long at byte 1"},
		{"\"\u200e\"@c.example", "local part: control character at byte 5"},
		{"\"\xfc\"@c.example", "local part: neither ASCII nor UTF-8 at byte 3"},
		{`"a@b"@c.example`, "at sign or bracket in the local part at byte 5"},
		{"<a@b.example", "no closing bracket at byte 12"},
		{"<a@b.example x", "no closing bracket at byte 13"},
		{"<\"a", "quoted string without its end at byte 3"},
		{"<\"a\x01\"@b.example>", "control character in a quoted string at byte 4"},
		{"\"a\x7f\" <a@b.example>", "control character in a quoted string at byte 3"},
		{"\"a\\\x01\" <a@b.example>", "control character in a quoted string at byte 4"},
		{"\"a\\", "quoted string without its end at byte 3"},
		{"T:", "no address at byte 2"},
		{"T: ;", "no mailbox at byte 4"},
		{"T: (@);", "at sign or bracket in a comment at byte 4"},
		{"T: a@b.example", "group without its end at byte 14"},
		{"T: a@b.example,;", "no address at byte 15"},
		{"T: a@b.example, (@) c@d.example;", "at sign or bracket in a comment at byte 17"},
		{"T: a@b.example (@);", "at sign or bracket in a comment at byte 16"},
		{"T: a@b.example; (x", "comment without its end at byte 18"},
		{"T: U: a@b.example;;", "no address at byte 4"},
		{": a@b.example;", "no address at byte 0"},
		{strings.Repeat("a", 256) + "@b.example", "local part empty or too long at byte 256"},
		{"a@" + domainOf(256), "bad domain at byte 258"},
		{strings.Repeat(" ", 16<<10-10) + "a@b.example", "longer than 16384 bytes"},
	} {
		got, err := ParseMailboxes(c.in)
		if got != nil || !errors.Is(err, ErrMailboxes) || errors.Is(err, ErrUnquotedName) {
			t.Errorf("ParseMailboxes(%q) = %q, %v, want no address", c.in, got, err)
			continue
		}
		if words := strings.TrimPrefix(err.Error(), "address list not understood: "); words != c.want {
			t.Errorf("ParseMailboxes(%q): got %q, want %q", c.in, words, c.want)
		}
	}
}

// TestParseMailboxesLimits reads what is just within the limits, and the odd
// things that all mail programs read alike.
func TestParseMailboxesLimits(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"local part of 255 bytes", strings.Repeat("a", 255) + "@b.example", strings.Repeat("a", 255) + "@b.example"},
		{"domain of 255 bytes", "a@" + domainOf(255), "a@" + domainOf(255)},
		{"list of 16 KiB", strings.Repeat(" ", 16<<10-11) + "a@b.example", "a@b.example"},
		{"IPv6 literal", "a@[IPv6:2001:db8::1-2]", "a@[IPv6:2001:db8::1-2]"},
		{"underscore and hyphen in the domain", "a@_b-c.example", "a@_b-c.example"},
		{"tab in quotes", "\"a\tb\" <a@b.example>", "a@b.example"},
		{"backslash in quotes", `"a\b\\" <a@b.example>`, "a@b.example"},
		{"comment with a quoted parenthesis", `a@b.example (x \) y)`, "a@b.example"},
		{"comment with a quoted backslash", `a@b.example (x \\)`, "a@b.example"},
		{"comment with a tab", "a@b.example (x\ty)", "a@b.example"},
		{"nested comments", "a@b.example ((x) y (z))", "a@b.example"},
		{"tabs", "\ta@b.example\t", "a@b.example"},
		{"tabs in the brackets", "<\ta@b.example\t>", "a@b.example"},
		{"comment first in a group", "T:(x) a@b.example;", "a@b.example"},
		{"comment in an empty group", "T: (x);, a@b.example", "a@b.example"},
		{"two groups", "T: a@b.example;, U: c@d.example, e@f.example ;", "a@b.example c@d.example e@f.example"},
		{"quoted group name", `"T: x": a@b.example;`, "a@b.example"},
		{"the same address in another form", "a@bücher.example <a@xn--bcher-kva.example>", "a@xn--bcher-kva.example"},
		{"the same address behind a comment", "a@b.example (x) <a@b.example>", "a@b.example"},
		{"quoted local part in brackets", `<"a b"@c.example>`, `"a b"@c.example`},
		{"name of one quoted string without a space", `"a"<b@c.example>`, "b@c.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mailboxes, err := ParseMailboxes(c.in)
			var got []string
			for _, a := range mailboxes {
				got = append(got, a.String())
			}
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// TestUnquotedNameSaysWhy: the error of a name that has to be quoted is that of
// the list, too.
func TestUnquotedNameSaysWhy(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"Ex, Inc. <a@b.example>", "a@b.example"},
		{" Ex, Inc. <a@b.example>\t", "a@b.example"},
		{"Ex, Inc. < a@b.example >", "a@b.example"},
		{"a.b, c <a@b.example>", "a@b.example"},
		{"a @b, c <a@b.example>", "a@b.example"},
		{"a@b.example <A@b.example>", "A@b.example a@b.example"},
		{"a@b.example <a@c.example>", "a@c.example a@b.example"},
		{"c@d.example <a@b.example>", "a@b.example c@d.example"},
		{"'c@d.example' <a@b.example>", "a@b.example c@d.example"},
		{"'c@d.example <a@b.example>", "a@b.example c@d.example"},
		{"c@d.example\t<a@b.example>", "a@b.example c@d.example"},
		{"<@b.example>", ""},
		{", <a@b.example>", "a@b.example"},
		{"'c@d.example, e@f.example' <a@b.example>", ""},
		{"(x) c@d.example <a@b.example>", ""},
		{"Ex, Inc. <a@b.example", ""},
		{"Ex, Inc. a@b.example>", ""},
		{"Ex> Inc., <a@b.example>", ""},
		{"Ex,\x7f Inc. <a@b.example>", ""},
		{"Ex,\u0085 Inc. <a@b.example>", ""},
		{"Ex, Inc. a@b.example", ""},
	} {
		mailboxes, err := ParseMailboxes(c.in)
		var got []string
		for _, a := range mailboxes {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != c.want || errors.Is(err, ErrUnquotedName) != (c.want != "") || !errors.Is(err, ErrMailboxes) {
			t.Errorf("ParseMailboxes(%q) = %q, %v, want %q", c.in, got, err, c.want)
		}
		if c.want != "" && !strings.Contains(err.Error(), "display name has to be quoted: address list not understood: ") {
			t.Errorf("ParseMailboxes(%q): got %q, want what is wrong with the list", c.in, err)
		}
	}
}
