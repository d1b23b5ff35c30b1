package rewrite

import (
	"strings"
	"testing"
)

func TestTemplateSyntax(t *testing.T) {
	const u = "http://x.example/"
	for in, want := range map[string]bool{
		u + "{{a}}":    true,
		u + "{{":       true,
		u + "}}":       true,
		u + "{%a%}":    true,
		u + "*|a|*":    true,
		u + "<%a%>":    true,
		u + "[[a]]":    true,
		u + "${a}":     true,
		u + "#{a}":     true,
		u + "%}{%":     false,
		u + "|**|":     false,
		u + "]][[":     false,
		u + "}${":      false,
		u + "{a}":      false,
		u + "[a]":      false,
		u + "%%a%%":    true,
		u + "%%a1%%":   true,
		u + "%%a_b%%":  true,
		u + "%%a-b%%":  true,
		u + "%%a.b%%":  true,
		u + "%%a b%%":  true,
		u + "%%a=b%%":  true,
		u + "%%a+b%%":  false,
		u + "%%1a%%":   false,
		u + "%%_a%%":   false,
		u + "%%%%":     false,
		u + "%%a%":     false,
		u + "%%a":      false,
		u + "%%":       false,
		u + "%a%":      false,
		u + "%%+%%a%%": true,
		u + "%%1%%a%%": true,
		u + "a%20b%21": false,
		u:              false,
	} {
		if got := hasTemplateSyntax(in); got != want {
			t.Errorf("%s has a variable: %v, want %v", in, got, want)
		}
	}
}

func TestTargets(t *testing.T) {
	const u = "http://x.example/"
	long := func(n int) string { return u + strings.Repeat("y", n-len(u)) }
	latin := textCharset{utf8Bytes: true}
	for _, c := range []struct {
		name, tracker, in string
		cs                textCharset
		want              string // empty: it is left alone
		why               Reason
	}{
		{"as long as may be", tracker, long(4096), utf8Charset, long(4096), ""},
		{"one more", tracker, long(4097), utf8Charset, "", ""},
		{"white space around it", tracker, " " + u + "\t", utf8Charset, u, ""},
		{"to the tracker", tracker, tracker + "/t/x", utf8Charset, "", ""},
		{"to the tracker in capitals", tracker, strings.ToUpper(tracker) + "/t/x", utf8Charset, "", ""},
		{"to the tracker, which has a slash", tracker + "/", tracker + "/t/x", utf8Charset, "", ""},
		{"to a page of the tracker's name", tracker, tracker + "/", utf8Charset, "", ""},
		{"to the tracker's host alone", tracker, tracker, utf8Charset, tracker, ""},
		{"to a name that begins as the tracker's", tracker, tracker + ".net/x", utf8Charset, tracker + ".net/x", ""},
		{"without a tracker", "", tracker + "/t/x", utf8Charset, tracker + "/t/x", ""},
		{"a variable", tracker, u + "{{a}}", utf8Charset, "", TemplateSyntax},
		{"a variable in what leads nowhere", tracker, "{{a}}", utf8Charset, "", ""},
		{"a query in UTF-8", tracker, u + "?ü", utf8Charset, u + "?ü", ""},
		{"a query in another charset", tracker, u + "?ü", latin, "", ""},
		{"a path in another charset", tracker, u + "ü?a#ü", latin, u + "ü?a#ü", ""},
		{"a fragment in another charset", tracker, u + "#?ü", latin, u + "#?ü", ""},
		{"relative", tracker, "/a", utf8Charset, "", ""},
	} {
		o := all()
		o.Tracker = c.tracker
		got, ok, why := newTargets(o, c.cs).check(c.in)
		if got != c.want || ok != (c.want != "") || why != c.why {
			t.Errorf("%s: got %.60q, %v, %q, want %.60q, %q", c.name, got, ok, why, c.want, c.why)
		}
	}

	bytewise := newTargets(all(), textCharset{})
	if got, ok, _ := bytewise.fromHref([]byte(u + "\xfc")); ok {
		t.Errorf("bytes of an unknown charset are wrapped: %q", got)
	}
	if got, ok, _ := bytewise.fromHref([]byte(u + "&uuml;")); !ok || got != u+"ü" {
		t.Errorf("a reference is read as %q, %v", got, ok)
	}
}

func TestLinkNamesAreCut(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for in, want := range map[string]string{
		"":                         "",
		x(63):                      x(63),
		x(64):                      x(63),
		x(61) + "ü":                x(61) + "ü",
		x(62) + "ü":                x(62),
		x(63) + "ü":                x(63),
		x(60) + "\u4e2dx":          x(60) + "\u4e2d",
		x(61) + "\u4e2d":           x(61),
		strings.Repeat("\x80", 64): "",
	} {
		if got := cutName(in); got != want {
			t.Errorf("%q of %d bytes is cut to %q, want %q", in, len(in), got, want)
		}
	}
}

func TestSublinks(t *testing.T) {
	x := strings.Repeat("x", 100)
	for in, want := range map[string]string{
		"":         "",
		"/":        "",
		"a":        "a",
		"/a/":      "a",
		"//a//":    "a",
		"a/b/c":    "a/b/c",
		"a//b":     "",
		"a/./b":    "",
		"a/../b":   "",
		".../a":    "",
		"a.b/.c":   "a.b/.c",
		"-_.~aZ09": "-_.~aZ09",
		"-":        "-",
		"a b":      "",
		"a%20":     "",
		"ü":        "",
		"a?b":      "",
		"a+b":      "",
		x:          x,
		x + "x":    "",
		"/" + x:    x,
	} {
		if got := cleanSublink(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestSimpleURLs(t *testing.T) {
	for in, want := range map[string]bool{
		"http://x":                true,
		"https://x.example/a?b#c": true,
		"HTTPS://X.EXAMPLE":       true,
		"http://x-y.z9?a":         true,
		"http://x#a":              true,
		"http://x.example/-._~/?#@!$&'()*+,;=:%Aa0": true,
		"http://x.1":      false, // perhaps an address
		"http://1":        false,
		"http://x.":       false,
		"http://.":        false,
		"http://":         false,
		"http:///x":       false,
		"ftp://x":         false,
		"http:/x":         false,
		"http://x:80":     false,
		"http://u@x":      false,
		"http://x_y":      false,
		"http://xn--a":    false,
		"http://XN--a.b":  false,
		"http://a.xn--b":  false,
		"http://a.b.xn--": false,
		"http://yn--a":    true,
		"http://xm--a":    true,
		"http://x-n-a":    true,
		"http://xn-a-b":   true,
		"http://a--b":     true,
		"http://x/xn--a":  true,
		"http://x/\"":     false,
		"http://x/ ":      false,
		"http://x/\\":     false,
		"http://x/[":      false,
		"http://x/ü":      false,
		"":                false,
	} {
		if got := isSimpleURL(in); got != want {
			t.Errorf("%s is simple: %v, want %v", in, got, want)
		}
		quick, ok := Redirect(in)
		slow, slowOK := Redirect(" " + in)
		if quick != slow || ok != slowOK {
			t.Errorf("%s leads to %q, %v, read slowly to %q, %v", in, quick, ok, slow, slowOK)
		}
	}
}

// TestHostsThatAreAddresses: what browsers read as an IPv4 address, and where
// its numbers end.
func TestHostsThatAreAddresses(t *testing.T) {
	for host, want := range map[string]bool{
		"1.2.3.4":                true,
		"255.255.255.255":        true,
		"255.255.255.256":        false,
		"256.1.1.1":              false,
		"1.256.1.1":              false,
		"1.2.65535":              true,
		"1.2.65536":              false,
		"1.16777215":             true,
		"1.16777216":             false,
		"4294967295":             true,
		"4294967296":             false,
		"0":                      true,
		"00":                     true,
		"0x":                     true,
		"0X1":                    true,
		"0xffffffff":             true,
		"0x100000000":            false,
		"0xg":                    true, // a name
		"017":                    true,
		"018":                    false,
		"037777777777":           true,
		"040000000000":           false,
		"1.2.3.4.":               true,
		"1.2.3.4.5":              false,
		"1.2.3.4..":              true, // the last label is empty: a name
		"1..2":                   false,
		"a.1":                    false,
		"a.0x1":                  false,
		"a.0x":                   false,
		"1.a":                    true, // a name
		"1.2.3.0xa":              true,
		"1.2.3.09":               false,
		"99999999999999999999":   false,
		"a.99999999999999999999": false,
	} {
		if _, got := Redirect("http://" + host + "/"); got != want {
			t.Errorf("http://%s/ leads somewhere: %v, want %v", host, got, want)
		}
	}
}

func TestHostsAndPorts(t *testing.T) {
	for in, want := range map[string]string{
		"http://x:0/":                       "http://x:0/",
		"http://x:65535/":                   "http://x:65535/",
		"http://x:65536/":                   "",
		"http://x:00065535/":                "http://x:00065535/",
		"http://x:655350/":                  "",
		"http://x:99999999999999999999999/": "",
		"http://x:8:0/":                     "",
		"http://x:+8/":                      "",
		"http://x:-8/":                      "",
		"http://x:8;/":                      "",
		"http://[::1]":                      "http://[::1]",
		"http://[::1]:80":                   "http://[::1]:80",
		"http://[::1]x":                     "",
		"http://[::1%25a]":                  "",
		"http://[1.2.3.4]":                  "",
		"http://[]":                         "",
		"http://[":                          "",
		"http://u@[::1]:80/":                "http://u@[::1]:80/",
		"http://u:ü@x/":                     "http://u:%C3%BC@x/",
		"http://u:\xff@x/":                  "",
		"http://\xff/":                      "",
		"http://x%2e1/":                     "",
		"http://x/%zz":                      "http://x/%zz",
		"http://xn--mller-kva":              "http://xn--mller-kva",
		"http://XN--mller-kva":              "http://XN--mller-kva",
		"http://xn--a":                      "",
		"http://a%2Eb/":                     "http://a.b/",
		"http://a_b/":                       "http://a_b/",
		"http://a~b/":                       "",
		"http://...":                        "",
		"http://a..b":                       "http://a..b",
		"http:\\/x/":                        "http://x/",
		"https:\\\\x\\a?\\":                 "https://x/a?\\",
		"http://x\\y":                       "http://x/y",
		"http://x?\\#\\":                    "http://x?\\#\\",
		"httpx://x/":                        "",
		"http//x":                           "",
		"http://x/\x7e\x7f\x20\x21":         "http://x/~%7F%20!",
		"\x00\x20http://x/\x1f":             "http://x/",
		"ht\ttp://x/\r\n":                   "http://x/",
		"http://x/a\tb\nc\rd":               "http://x/abcd",
	} {
		got, ok := Redirect(in)
		if got != want || ok != (want != "") {
			t.Errorf("%q leads to %q, %v, want %q", in, got, ok, want)
		}
	}
}
