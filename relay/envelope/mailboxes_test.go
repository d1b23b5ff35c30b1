package envelope

import (
	"errors"
	"net/mail"
	"strings"
	"testing"
)

func TestParseMailboxes(t *testing.T) {
	long := strings.Repeat("a", 65)

	for _, c := range []struct{ name, in, want string }{
		{"address alone", "a@b.example", "a@b.example"},
		{"address in brackets", "<a@b.example>", "a@b.example"},
		{"display name", "News <a@b.example>", "a@b.example"},
		{"no space before the bracket", "News<a@b.example>", "a@b.example"},
		{"spaces in the brackets", "News < a@b.example >", "a@b.example"},
		{"dots in the display name", "Example Inc. <a@b.example>", "a@b.example"},
		{"square brackets in the display name", "[Example] News <a@b.example>", "a@b.example"},
		{"quoted display name", `"Doe, John (x) <x>" <a@b.example>`, "a@b.example"},
		{"quoted quotes", `"a \" b" <a@b.example>`, "a@b.example"},
		{"another address as quoted display name", `"ceo@c.example" <a@b.example>`, "a@b.example"},
		{"encoded words", "=?utf-8?q?=C3=A9?= =?utf-8?b?w6k=?= <a@b.example>", "a@b.example"},
		{"8-bit display name", "M\xfcller <a@b.example>", "a@b.example"},
		{"UTF-8 display name", "Müller <a@b.example>", "a@b.example"},
		{"comment behind", "a@b.example (News)", "a@b.example"},
		{"comments everywhere between tokens", "(a) News (b (c)) <a@b.example> (d)", "a@b.example"},
		{"folded", "News\t  <a@b.example>", "a@b.example"},
		{"several mailboxes", "a@b.example, C <c@d.example>", "a@b.example c@d.example"},
		{"group", "Team: a@b.example, C <c@d.example>;", "a@b.example c@d.example"},
		{"group and mailbox", "Team: a@b.example;, c@d.example", "a@b.example c@d.example"},
		{"quoted local part", `"odd one"@b.example`, `"odd one"@b.example`},
		{"quoted local part that needs no quotes", `"a"@b.example`, "a@b.example"},
		{"long local part", long + "@b.example", long + "@b.example"},
		{"upper case", "A@B.Example", "A@B.Example"},
		{"U-label", "a@bücher.example", "a@bücher.example"},
		{"A-label", "a@xn--bcher-kva.example", "a@xn--bcher-kva.example"},
		{"UTF-8 local part", "ä@b.example", "ä@b.example"},
		{"address literal", "a@[192.0.2.1]", "a@[192.0.2.1]"},
		{"the same address as display name", "a@b.example <a@B.example>", "a@B.example"},

		{"empty", "", ""},
		{"null path", "<>", ""},
		{"display name alone", "News", ""},
		{"address in a comment", "a@b.example (<ceo@c.example>)", ""},
		{"quoted at sign in a comment", `a@b.example (ceo\@c.example)`, ""},
		{"at sign in the local part", `"a@b"@b.example`, ""},
		{"address in the local part", `"a<ceo@c.example>"@b.example`, ""},
		{"quoted bracket in the local part", `"a\<b"@b.example`, ""},
		{"two at signs", "a@b.example@c.example", ""},
		{"white space before the at sign", "a @b.example", ""},
		{"white space after the at sign", "a@ b.example", ""},
		{"comment before the at sign", "a(x)@b.example", ""},
		{"comment in the brackets", "<a@b.example(x)>", ""},
		{"obsolete route", "<@r.example:a@b.example>", ""},
		{"obsolete local part", `a."b"@b.example`, ""},
		{"obsolete domain", "a@b . example", ""},
		{"empty group", "Team:;", ""},
		{"group in a group", "Team: Inner: a@b.example;;", ""},
		{"group without an end", "Team: a@b.example", ""},
		{"empty element", "a@b.example,,c@d.example", ""},
		{"comma at the end", "a@b.example,", ""},
		{"semicolon for a comma", "a@b.example; c@d.example", ""},
		{"garbage behind", "a@b.example x", ""},
		{"garbage behind the bracket", "<a@b.example> x", ""},
		{"second address behind", "<a@b.example> <c@d.example>", ""},
		{"two opening brackets", "<<a@b.example>", ""},
		{"no closing bracket", "News <a@b.example", ""},
		{"comment without an end", "a@b.example (x", ""},
		{"closing parenthesis alone", "a@b.example )", ""},
		{"trailing dot", "a@b.example.", ""},
		{"leading dot", "a@.b.example", ""},
		{"empty label", "a@b..example", ""},
		{"hyphen at the end", "a@b-.example", ""},
		{"no domain", "a@", ""},
		{"domain that has no A-label form", "a@b\u200e.example", ""},
		{"domain that is not UTF-8", "a@b\xfc.example", ""},
		{"local part that is not UTF-8", "\xfc@b.example", ""},
		{"NUL", "a\x00@b.example", ""},
		{"NUL in a display name", "\"a\x00\" <a@b.example>", ""},
		{"control in a comment", "a@b.example (\x1b)", ""},
		{"line end", "a@b.example\r\nBcc: x@c.example", ""},
		{"local part without end", strings.Repeat("a", 256) + "@b.example", ""},
		{"longer than any list", strings.Repeat("a@b.example, ", 2000) + "a@b.example", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			mailboxes, err := ParseMailboxes(c.in)

			var got []string
			for _, a := range mailboxes {
				got = append(got, a.String())
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("ParseMailboxes(%q) = %q, %v, want %q", c.in, got, err, c.want)
			}
			if (err == nil) != (c.want != "") || err != nil && !errors.Is(err, ErrMailboxes) {
				t.Errorf("ParseMailboxes(%q): error %v", c.in, err)
			}
		})
	}
}

// TestParseMailboxesUnquoted: an address in angle brackets behind a name that has
// to be quoted is returned with an error of its own, as long as no second address
// can be found in the field, or the name is one as a whole.
func TestParseMailboxesUnquoted(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"comma", "Example, Inc. <a@b.example>", "a@b.example"},
		{"commas and dots", "Doe, John Q., Jr. <a@b.example>", "a@b.example"},
		{"comma in 8-bit text", "Müller, Söhne <a@b.example>", "a@b.example"},
		{"comma behind an encoded word", "=?utf-8?q?M=C3=BCller?=, Inc. <a@b.example>", "a@b.example"},
		{"colon", "Today: News <a@b.example>", "a@b.example"},
		{"semicolon", "Peter; Paul <a@b.example>", "a@b.example"},
		{"parenthesis", "News :) <a@b.example>", "a@b.example"},
		{"quote without an end", `"News <a@b.example>`, "a@b.example"},
		{"backslash", `AC\DC <a@b.example>`, "a@b.example"},
		{"another address as display name", "ceo@c.example <a@b.example>", "a@b.example ceo@c.example"},
		{"another local part as display name", "b@b.example <a@b.example>", "a@b.example b@b.example"},
		{"at sign and no dot in the name", "Shop @ Home <a@b.example>", "a@b.example"},
		{"another address in single quotes", "'ceo@c.example' <a@b.example>", "a@b.example ceo@c.example"},

		{"at sign and a dot in the name", "Shop @Home, Inc. <a@b.example>", ""},
		{"at sign and another dot in the name", "ceo @ c。example <a@b.example>", ""},
		{"address in the name", "From ceo@c.example, Inc. <a@b.example>", ""},
		{"address in brackets before", "Ex, <ceo@c.example> <a@b.example>", ""},
		{"text behind the bracket", "Ex, Inc. <a@b.example> x", ""},
		{"comment behind the bracket", "Ex, Inc. <a@b.example> (ceo@c.example)", ""},
		{"obsolete route", "Ex, Inc. <@c.example:a@b.example>", ""},
		{"at sign in the local part", `Ex, Inc. <"a@c.example"@b.example>`, ""},
		{"no address in the brackets", "Ex, Inc. <a>", ""},
		{"control character", "Ex, \x1bInc. <a@b.example>", ""},
		{"line end", "Ex,\nInc. <a@b.example>", ""},
		{"several mailboxes", "Ex, Inc. <a@b.example>, C <c@d.example>", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			mailboxes, err := ParseMailboxes(c.in)

			var got []string
			for _, a := range mailboxes {
				got = append(got, a.String())
			}
			if strings.Join(got, " ") != c.want || errors.Is(err, ErrUnquotedName) != (c.want != "") {
				t.Errorf("ParseMailboxes(%q) = %q, %v, want %q", c.in, got, err, c.want)
			}
			if !errors.Is(err, ErrMailboxes) {
				t.Errorf("ParseMailboxes(%q): error %v, want ErrMailboxes", c.in, err)
			}
		})
	}
}

// FuzzParseMailboxes: what is understood reads back to itself, and the standard
// library, where it understands the list, too, reads the same addresses.
func FuzzParseMailboxes(f *testing.F) {
	for _, s := range []string{
		"a@b.example", `"x" <a@b.example>, c@d.example (e)`, "T: a@b.example;", `"a b"@c.example`,
		"=?utf-8?q?x?= <a@b.example>", `"a@b"@allowed.example (<ceo@c.example>)`, "a@bücher.example", "a@[1.2.3.4]",
		"Ex, Inc. <a@b.example>", "c@d.example <a@b.example>",
	} {
		f.Add(s)
	}

	f.Fuzz(func(t *testing.T, list string) {
		got, err := ParseMailboxes(list)
		if errors.Is(err, ErrUnquotedName) {
			name, _, _ := strings.Cut(list, "<")
			second := strings.Contains(name, "@") && strings.ContainsAny(name, domainDots)
			if len(got) != 1 && len(got) != 2 || (len(got) == 2) != second {
				t.Fatalf("%q: unquoted name, read as %q", list, got)
			}
		}
		if err != nil {
			return
		}

		for _, a := range got {
			back, err := ParseMailboxes(a.String())
			if err != nil || len(back) != 1 || back[0] != a {
				t.Fatalf("%q: %q reads back as %q, %v", list, a, back, err)
			}
			if strings.ContainsAny(a.Local+a.Domain, "@<>\r\n\x00") {
				t.Fatalf("%q: address %q", list, a)
			}
		}

		theirs, err := mail.ParseAddressList(list)
		if err != nil {
			return
		}
		if len(theirs) != len(got) {
			t.Fatalf("%q: read as %q, net/mail reads %v", list, got, theirs)
		}
		for i, a := range got {
			if want := a.Local + "@" + a.Domain; theirs[i].Address != want {
				t.Fatalf("%q: read as %q, net/mail reads %q", list, want, theirs[i].Address)
			}
		}
	})
}

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
