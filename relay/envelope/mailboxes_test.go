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
