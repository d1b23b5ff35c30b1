package token

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestHost(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"track.example.com", "track.example.com"},
		{"Track.EXAMPLE.com", "track.example.com"},
		{"track.example.com:8080", "track.example.com"},
		{"track.example.com:", "track.example.com"},
		{"track.example.com.", "track.example.com"},
		{"track.example.com.:443", "track.example.com"},
		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.example:80", "xn--bcher-kva.example"},
		{"bücher。example", "xn--bcher-kva.example"},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"my_shop.example", "my_shop.example"},
		{"r3---sn.example", "r3---sn.example"},
		{"bü_cher.example", "xn--b_cher-3ya.example"},
		{"bü--cher.example", "xn--b--cher-n2a.example"},
		{"-bü.example", "xn---b-yka.example"},
		{"faß.example", "xn--fa-hia.example"},
		{"ﬁsch。example", "fisch.example"},
		{"ü" + strings.Repeat("x", 80) + ".example", "xn--" + strings.Repeat("x", 80) + "-8gi.example"},
		{"ü。", "xn--tda"},
		{"ü..example", ""},
		{"ü\u00ad", "xn--tda"},
		{"xn--\u00fc", ""},
		{"192.0.2.1", "192.0.2.1"},
		{"192.0.2.1:80", "192.0.2.1"},
		{"[2001:DB8:0:0::1]", "2001:db8::1"},
		{"[2001:db8::1]:8080", "2001:db8::1"},
		{"2001:db8::1", "2001:db8::1"},
		{"[fe80::1%25eth0]:80", "fe80::1"},
		{"[2001:db8::1]:", "2001:db8::1"},
		{"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
		{"2001:db8::1:80", "2001:db8::1:80"},
		{"192.0.2.1.", "192.0.2.1"},
		{"a:80.", ""},
		{"a:8x", ""},
		{"a/b", ""},
		{"a?b", ""},
		{"a#b", ""},
		{"a\\b", ""},
		{"a\tb", ""},
		{"a\rb", ""},
		{"a\nb", ""},
		{"a,b", ""},
		{"a;b", ""},
		{"a\"b", ""},
		{"a'b", ""},
		{"a<b", ""},
		{"a>b", ""},
		{"a%b", ""},
		{"a[b", ""},
		{"a]b", ""},
		{"[a]", "a"},
		{"[a]:1", "a"},
		{"[a]1", ""},
		{"\u007f", "\u007f"},
		{"\u0080", ""},
		{"localhost", "localhost"},
		{"", ""},
		{":80", ""},
		{"a b", ""},
		{"a..b", ""},
		{"a..", ""},
		{".a", ""},
		{"a:80:90", ""},
		{"a@b", ""},
		{"[::1", ""},
		{"[::1]x", ""},
		{"mail:", "mail"},
		{"probe:", "probe"},
	} {
		t.Run(c.in, func(t *testing.T) {
			got := Host(c.in)
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if again := Host(got); again != got {
				t.Errorf("%q becomes %q", got, again)
			}
		})
	}
}

func TestHostOf(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"https://Track.example.com:8443/x", "track.example.com"},
		{"https://bücher.example", "xn--bcher-kva.example"},
		{"http://[2001:db8::1]:80/", "2001:db8::1"},
		{"", ""},
		{"://", ""},
	} {
		if got := HostOf(c.in); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func FuzzHost(f *testing.F) {
	for _, s := range []string{"Track.example.com:80", "[::1]:1", "bücher.example.", "::ffff:1.2.3.4", "xn--a.b", "mail:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Host(s)
		if again := Host(got); again != got {
			t.Fatalf("%q becomes %q, and that %q", s, got, again)
		}
		if got == Mail || got == Probing || !isASCII(got) || got != strings.ToLower(got) {
			t.Fatalf("%q becomes %q", s, got)
		}
	})
}

// TestTokenOpensOnItsHostAlone: a token is sealed for one host, and opens where
// that is among the hosts it is opened for.
func TestTokenOpensOnItsHostAlone(t *testing.T) {
	k, _ := newKeys(t)
	sealed := func(host string) string {
		tok := sample(k)
		tok.Host = host
		return k.Seal(tok)
	}
	for _, c := range []struct {
		name, host string
		hosts      []string
		ok         bool
	}{
		{"its own", "a.example", []string{"a.example"}, true},
		{"one of several", "a.example", []string{"b.example", "a.example"}, true},
		{"another", "a.example", []string{"b.example"}, false},
		{"no host named", "a.example", nil, false},
		{"the empty host", "a.example", []string{""}, false},
		{"a host that its own begins with", "a.example", []string{"a.exampl"}, false},
		{"a mail's", Mail, []string{Mail}, true},
		{"a mail's on a host", Mail, []string{"a.example"}, false},
		{"a host's by mail", "a.example", []string{Mail}, false},
		{"sealed for no host", "", nil, true},
		{"sealed for no host, on one", "", []string{"a.example"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tok, err := k.Open(sealed(c.host), c.hosts...)
			if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrToken) {
				t.Fatalf("got %v, want opened %v", err, c.ok)
			}
			if c.ok && tok.Host != c.host {
				t.Errorf("opened for %q, want %q", tok.Host, c.host)
			}
		})
	}
}

// TestTokenEndsInLetterOrDigit, so that no program that makes text clickable
// takes its end for punctuation.
func TestTokenEndsInLetterOrDigit(t *testing.T) {
	k, _ := newKeys(t)
	ends := map[byte]bool{}
	for i := range 20000 {
		tok := Token{
			Kind:      Click,
			Host:      "t.example",
			MessageID: k.NewID(time.Now()),
			Recipient: "r@example.org",
			Target:    "https://x.example/" + strings.Repeat("q", i%6) + fmt.Sprint(i),
		}
		text := k.Seal(tok)
		end := text[len(text)-1]
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", rune(end)) {
			t.Fatalf("%s ends in %q", text, end)
		}
		ends[end] = true
		if got, err := k.Open(text, "t.example"); err != nil || got != tok {
			t.Fatalf("got %+v, %v; want %+v", got, err, tok)
		}
		if len(text)%4 == 1 { // the letter that was added is a part of it
			for _, other := range []string{text[:len(text)-1], text[:len(text)-1] + "1", text + "0"} {
				if _, err := k.Open(other, "t.example"); !errors.Is(err, ErrToken) {
					t.Fatalf("%s opens as %s, too: %v", text, other, err)
				}
			}
		}
	}
	if len(ends) < 10 {
		t.Errorf("%d different ends, want those of all lengths", len(ends))
	}
}

func TestFromPath(t *testing.T) {
	for _, c := range []struct {
		in, want string
		ok       bool
	}{
		{"/t/AbC9", "AbC9", true},
		{"/t/app/x/AbC9", "AbC9", true},
		{"/t//AbC9", "AbC9", true},
		{"//t/AbC9", "AbC9", true},
		{"/t/AbC9/", "AbC9", true},
		{"/t/AbC9.", "AbC9", true},
		{"/t/AbC9).", "AbC9", true},
		{"/t/AbC9_", "AbC9", true},
		{"/t/AbC9*", "AbC9", true},
		{"/t/AbC9”", "AbC9", true},
		{"/t/AbC9&utm_source=x", "AbC9", true},
		{"/t/AbC9_&utm_source=x", "AbC9", true},
		{"/t/AbC9&u=https://x.example/y", "AbC9", true},
		{"/t/app/AbC9?a=b/c", "AbC9", true},
		{"/t/AbC9) see/also", "AbC9", true},
		{"/t/AbC9。次/へ", "AbC9", true},
		{"/t/AbC9~", "AbC9", true},
		{"/t/AbC9.html", "AbC9", true},
		{"/t/a~b/c.d/AbC9", "AbC9", true},
		{"/t/&u=/AbC9", "", true},
		{"/t/A-b_C9", "A-b_C9", true},
		{"/t/", "", true},
		{"/t/...", "", true},
		{"/", "", false},
		{"/tt/AbC9", "", false},
		{"", "", false},
	} {
		got, ok := FromPath(c.in)
		if got != c.want || ok != c.ok {
			t.Errorf("%q: got %q, %v; want %q, %v", c.in, got, ok, c.want, c.ok)
		}
	}
}

// TestFromPathUndoesURL for any sublink.
func TestFromPathUndoesURL(t *testing.T) {
	k, _ := newKeys(t)
	text := k.Seal(sample(k))
	for _, sublink := range []string{"", "app", "shop/app.x"} {
		url := SubURL("https://t.example/", sublink, text)
		if got, ok := FromPath(strings.TrimPrefix(url, "https://t.example")); !ok || got != text {
			t.Errorf("%s: got %q, %v; want %q", url, got, ok, text)
		}
	}
}
