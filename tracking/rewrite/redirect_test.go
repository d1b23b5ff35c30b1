package rewrite

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// redirects are targets with the location that a browser ends at; an empty one
// says that browsers cannot follow the target. TestChromiumRedirects of package
// integration holds such targets against a browser.
var redirects = []struct{ name, target, location string }{
	{"as it is", "https://x.example/?a=1&b=%20#f", "https://x.example/?a=1&b=%20#f"},
	{"case is kept", "HTTP://X.Example/A", "HTTP://X.Example/A"},
	{"no path", "https://x.example", "https://x.example"},
	{"query without a path", "https://x.example?a", "https://x.example?a"},
	{"user and port", "https://u:p@x.example:8443/x", "https://u:p@x.example:8443/x"},
	{"at signs in the user", "https://a@b@x.example/", "https://a@b@x.example/"},
	{"empty port", "https://x.example:/", "https://x.example:/"},
	{"per cent sign that begins no escape", "https://x.example/100%", "https://x.example/100%"},
	{"international host and path", "https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"},
	{"international query and fragment", "https://x.example/?ü#ü", "https://x.example/?%C3%BC#%C3%BC"},
	{"underscore", "https://my_shop.example/a", "https://my_shop.example/a"},
	{"underscore beside an umlaut", "https://my_shop.müller.de/a", "https://my_shop.xn--mller-kva.de/a"},
	{"hyphens in the third and fourth place", "https://ab--cd.müller.de/", "https://ab--cd.xn--mller-kva.de/"},
	{"three hyphens", "https://r3---sn.müller.de/", "https://r3---sn.xn--mller-kva.de/"},
	{"hyphen at the end of a label", "https://müller-.de/", "https://xn--mller--3ya.de/"},
	{"sharp s", "https://straße.example/", "https://xn--strae-oqa.example/"},
	{"upper case umlaut", "https://MÜLLER.de/", "https://xn--mller-kva.de/"},
	{"ideographic full stop", "https://x。example/", "https://x.example/"},
	{"percent-encoded host", "https://m%C3%BCller.de/", "https://xn--mller-kva.de/"},
	{"percent-encoded letter in the host", "https://ex%61mple.com/", "https://example.com/"},
	{"A-label", "https://xn--mller-kva.de/", "https://xn--mller-kva.de/"},
	{"emoji host", "https://i❤.ws/", "https://xn--i-7iq.ws/"},
	{"backslashes in the path", `https://x.example\a\b?c\d`, `https://x.example/a/b?c\d`},
	{"backslashes for slashes", `https:\\x.example\a`, "https://x.example/a"},
	{"white space around it", " \t\nhttps://x.example/\x01 ", "https://x.example/"},
	{"tabs and line ends in it", "ht\ntps://x.ex\tample/a\r\nb", "https://x.example/ab"},
	{"spaces", "https://x.example/a b?c d#e f", "https://x.example/a%20b?c%20d#e%20f"},
	{"control characters", "https://x.example/a\x01b\x7f/", "https://x.example/a%01b%7F/"},
	{"IPv4", "https://127.0.0.1/", "https://127.0.0.1/"},
	{"IPv4 as one number", "https://2130706433/", "https://2130706433/"},
	{"IPv4 in hexadecimal", "https://0x7f.1/", "https://0x7f.1/"},
	{"IPv6", "https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443/"},
	{"name that ends in digits", "https://x.e4/", "https://x.e4/"},

	{"another scheme", "javascript:alert(1)", ""},
	{"another scheme with slashes", "ftp://x.example/", ""},
	{"scheme in front of another", "https:javascript://x.example/", ""},
	{"control character in the scheme", "java\x01script://x.example/", ""},
	{"relative", "/a", ""},
	{"of any scheme", "//x.example/", ""},
	{"no slashes", "https:x.example", ""},
	{"one slash", "https:/x.example", ""},
	{"three slashes", "https:///x.example/", ""},
	{"no host", "https://", ""},
	{"no host before a port", "https://:80/", ""},
	{"no host behind a user", "https://u@/", ""},
	{"dots alone", "https://../", ""},
	{"space in the host", "https://x example/", ""},
	{"caret in the host", "https://x^.example/", ""},
	{"bracket in the host", "https://x[.example/", ""},
	{"slash in the host, encoded", "https://x%2F.example/", ""},
	{"character that becomes a slash", "https://℀.example/", ""},
	{"bad escape in the host", "https://x%zz.example/", ""},
	{"bad punycode", "https://xn--a.example/", ""},
	{"port too large", "https://x.example:65536/", ""},
	{"port that is none", "https://x.example:8a/", ""},
	{"IPv4 too large", "https://256.1.1.1/", ""},
	{"IPv4 of five", "https://1.2.3.4.5/", ""},
	{"name and a number", "https://x.1/", ""},
	{"IPv4 that is no octal", "https://08.1.1.1/", ""},
	{"IPv6 that does not end", "https://[::1/", ""},
	{"IPv6 with a zone", "https://[fe80::1%25eth0]/", ""},
	{"IPv6 that is none", "https://[x]/", ""},
	{"bytes that are not UTF-8", "https://x.example/\xff", ""},
	{"host that is not UTF-8", "https://x%FF.example/", ""},
	{"template", "{{url}}", ""},
	{"empty", "", ""},
}

func TestRedirect(t *testing.T) {
	for _, c := range redirects {
		t.Run(c.name, func(t *testing.T) {
			got, ok := Redirect(c.target)
			if got != c.location || ok != (c.location != "") {
				t.Errorf("%q leads to %q, %v, want %q", c.target, got, ok, c.location)
			}
		})
	}
}

func ExampleRedirect() {
	location, ok := Redirect(" https://my_shop.müller.de/größe?farbe=grün ")
	fmt.Println(location, ok)

	_, ok = Redirect("javascript:alert(1)")
	fmt.Println(ok)
	// Output:
	// https://my_shop.xn--mller-kva.de/gr%C3%B6%C3%9Fe?farbe=gr%C3%BCn true
	// false
}

// TestWrapsOnlyWhatTheTrackerAccepts gives every target to the rewriter.
func TestWrapsOnlyWhatTheTrackerAccepts(t *testing.T) {
	for _, c := range redirects {
		if !utf8.ValidString(c.target) {
			continue // the part would not be UTF-8
		}
		t.Run(c.name, func(t *testing.T) {
			data := []byte(`<a href="` + strings.ReplaceAll(c.target, "&", "&amp;") + `">`)
			links := linksOf(editHTML(data, clicksOnly(), plainHTML, utf8Charset, withoutPixels))
			if got := len(links) == 1; got != (c.location != "") {
				t.Fatalf("wrapped %v: %+v", got, links)
			}
			if len(links) == 0 {
				return
			}
			if got, _ := Redirect(links[0].Target); got != c.location {
				t.Errorf("the token leads to %q, want %q", got, c.location)
			}
		})
	}
}

func linksOf(e edits) (links []Link) {
	for _, ed := range e.list {
		if ed.kind == slotLink {
			links = append(links, ed.link)
		}
	}

	return links
}

func FuzzRedirect(f *testing.F) {
	for _, c := range redirects {
		f.Add(c.target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		location, ok := Redirect(target)
		if slow, slowOK := Redirect(" " + target); slow != location || slowOK != ok { // no simple URL
			t.Fatalf("%q leads to %q, %v, read slowly to %q, %v", target, location, ok, slow, slowOK)
		}
		if !ok {
			if location != "" {
				t.Fatalf("%q is refused and leads to %q", target, location)
			}
			return
		}

		for i := 0; i < len(location); i++ {
			if location[i] <= ' ' || location[i] >= 0x7f {
				t.Fatalf("%q leads to %q, which no header field can hold", target, location)
			}
		}
		if rest, ok := cutWebScheme(location); !ok || strings.HasPrefix(rest, "/") {
			t.Fatalf("%q leads to %q", target, location)
		}
		if again, ok := Redirect(location); !ok || again != location {
			t.Fatalf("%q leads to %q, which leads to %q, %v", target, location, again, ok)
		}
	})
}
