package envelope

import (
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"testing"
)

// domainOf returns a domain name of n bytes, of labels as long as they may be.
func domainOf(n int) string {
	s := strings.Repeat(strings.Repeat("d", 63)+".", n/64+1)[:n]
	if strings.HasSuffix(s, ".") {
		s = s[:n-2] + ".d"
	}
	return s
}

// TestAddressSaysWhatIsWrong: both ways of reading refuse the same things, in
// words that lead to the fault.
func TestAddressSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ name, in, unquoted, parsed string }{
		{"no at sign", "a", "no @ or no local part", "no @"},
		{"only an at sign", "@", "no @ or no local part", "local part needs quotes"},
		{"no local part", "@b.example", "no @ or no local part", "local part needs quotes"},
		{"no domain", "a@", "empty local part or domain", "empty local part or domain"},
		{"two at signs", "a@b@c.example", "@ or bracket in the local part", "bad domain"},
		{"bracket", "a<b@c.example", "@ or bracket in the local part", "local part needs quotes"},
		{"other bracket", "a>b@c.example", "@ or bracket in the local part", "local part needs quotes"},
		{"local part that is not UTF-8", "a\xfc@b.example", "neither ASCII nor UTF-8", "neither ASCII nor UTF-8"},
		{"domain that is not UTF-8", "a@b\xfc.example", "neither ASCII nor UTF-8", "neither ASCII nor UTF-8"},
		{"invisible character", "a\u200eb@c.example", "control character", "control character"},
		{"invisible character in the domain", "a@b\u200e.example", "control character", "control character"},
		{"control in the domain", "a@b\x1f.example", "control character", "control character"},
		{"DEL in the domain", "a@b\x7f.example", "control character", "control character"},
		{"label that ends in a hyphen", "a@b-.example", "bad domain", "bad domain"},
		{"quote without an end", `"a@b.example`, "", "unterminated quoted local part"},
		{"backslash at the end", `"a\`, "no @ or no local part", "unterminated quoted local part"},
		{"nothing behind the quotes", `"a"`, "no @ or no local part", "no @ after the local part"},
		{"text behind the quotes", `"a"b@c.example`, "", "no @ after the local part"},
		{"empty quotes", `""@b.example`, "", "empty local part or domain"},
		{"control in quotes", "\"a\x1fb\"@c.example", "control character", "control character"},
		{"control behind a backslash", "\"a\\\x00b\"@c.example", "control character", "control character"},
		{"null path", "", "", "no @"},
		{"local part of 65 bytes", strings.Repeat("x", 65) + "@b.example", "local part longer than 64", "local part longer than 64"},
		{"label of 64 bytes", "a@" + strings.Repeat("x", 64) + ".example", "bad domain", "bad domain"},
		{"path of 257 bytes", "a@" + domainOf(253), "longer than RFC 5321 allows", "longer than RFC 5321 allows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := FromUnquoted(c.in)
			if got := faultText(err); got != c.unquoted {
				t.Errorf("FromUnquoted(%q): got %q, want %q", c.in, got, c.unquoted)
			}
			a, err := Parse(c.in)
			if got := faultText(err); got != c.parsed || a != (Address{}) {
				t.Errorf("Parse(%q): got %+v, %q, want %q", c.in, a, got, c.parsed)
			}
		})
	}
}

// faultText returns what an ErrAddress says beside that; empty: no error.
func faultText(err error) string {
	if err == nil {
		return ""
	}
	if !errors.Is(err, ErrAddress) {
		return "not an ErrAddress: " + err.Error()
	}
	return strings.TrimPrefix(err.Error(), "bad address: ")
}

// TestAddressLimits holds the lengths of RFC 5321 section 4.5.3.1, of the path
// as it is written.
func TestAddressLimits(t *testing.T) {
	for _, c := range []struct {
		name          string
		local, domain int
		quoted        bool
		bad           bool
	}{
		{name: "shortest", local: 1, domain: 1},
		{name: "longest local part", local: 64, domain: 9},
		{name: "local part too long", local: 65, domain: 9, bad: true},
		{name: "longest quoted local part", local: 62, domain: 9, quoted: true},
		{name: "quoted local part too long", local: 63, domain: 9, quoted: true, bad: true},
		{name: "longest path", local: 64, domain: 189},
		{name: "path too long", local: 64, domain: 190, bad: true},
		{name: "longest domain", local: 1, domain: 252},
		{name: "domain too long", local: 1, domain: 253, bad: true},
		{name: "longest label", local: 1, domain: 63},
	} {
		t.Run(c.name, func(t *testing.T) {
			local := strings.Repeat("x", c.local)
			if c.quoted {
				local = " " + local[1:]
			}
			want := Address{Local: local, Domain: domainOf(c.domain)}

			got, err := FromUnquoted(want.Local + "@" + want.Domain)
			if (err != nil) != c.bad || err == nil && got != want {
				t.Errorf("FromUnquoted: got %v, %v, want bad %v", got, err, c.bad)
			}
			got, err = Parse(want.String())
			if (err != nil) != c.bad || err == nil && got != want {
				t.Errorf("Parse: got %v, %v, want bad %v", got, err, c.bad)
			}
		})
	}
}

// TestAddressBytes: which bytes need quotes in a local part (RFC 5322 section
// 3.2.3), and which a domain or an address literal may have.
func TestAddressBytes(t *testing.T) {
	const (
		letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
		atext   = letters + "!#$%&'*+-/=?^_`{|}~"
	)

	for c := byte(0); c < 0x80; c++ {
		s := "x" + string(rune(c)) + "y"
		if got, want := isDotString(s), strings.IndexByte(atext+".", c) >= 0; got != want {
			t.Errorf("isDotString(%q) = %v, want %v", s, got, want)
		}
		if got, want := isDomain(s), strings.IndexByte(letters+".-_", c) >= 0; got != want {
			t.Errorf("isDomain(%q) = %v, want %v", s, got, want)
		}
		literal := "[" + s + "]"
		if got, want := isDomain(literal), strings.IndexByte(letters+".-:", c) >= 0; got != want {
			t.Errorf("isDomain(%q) = %v, want %v", literal, got, want)
		}
		if got, want := isWordByte(c), strings.IndexByte(atext+".[]", c) >= 0; got != want {
			t.Errorf("isWordByte(%q) = %v, want %v", c, got, want)
		}
	}
	for _, c := range []byte{0x80, 0xff} {
		s := "x" + string([]byte{c}) + "y"
		if !isDotString(s) || !isDomain(s) || !isWordByte(c) || isASCII(s) {
			t.Errorf("%q: dot-string %v, domain %v, word %v, ASCII %v, want an international letter",
				s, isDotString(s), isDomain(s), isWordByte(c), isASCII(s))
		}
	}
	if !isASCII("a\x7f") {
		t.Error("0x7f is ASCII")
	}
}

// TestAddressShapes: where dots and hyphens may be.
func TestAddressShapes(t *testing.T) {
	for s, want := range map[string]bool{
		"": false, ".": false, "a": true, "a.b": true, ".a": false, "a.": false, "a..b": false, "a.b.c": true,
	} {
		if got := isDotString(s); got != want {
			t.Errorf("isDotString(%q) = %v, want %v", s, got, want)
		}
	}

	for s, want := range map[string]bool{
		"": false, ".": false, "-": false, "a": true, "a.b": true, ".a": false, "a.": false, "a..b": false,
		"-a": false, "a-": false, "a-b": true, "a--b": true, "a-.b": false, "a.-b": false, "a.b-": false,
		"[": false, "[]": false, "[1]": true, "[1": false, "[1]2": false, "1]": false, "[-]": true, "[:": false,
		"[1.2.3.4]": true, "[IPv6:::1]": true, "[a b]": false, "[a_b]": false,
		domainOf(63): true, domainOf(127): true, strings.Repeat("x", 64): false,
		strings.Repeat("x", 62) + "-y": false, strings.Repeat("x", 61) + "-y": true,
		strings.Repeat("x", 64) + ".example": false, strings.Repeat("x", 63) + ".example": true,
	} {
		if got := isDomain(s); got != want {
			t.Errorf("isDomain(%q) = %v, want %v", s, got, want)
		}
	}
}

// TestAddressText writes what Parse reads, and asks for what it needs of SMTP.
func TestAddressText(t *testing.T) {
	for _, c := range []struct {
		in   Address
		text string
		path string
		typ  string
		utf8 bool // needs SMTPUTF8
	}{
		{Address{"a", "b.example"}, "a@b.example", "<a@b.example>", "rfc822;a@b.example", false},
		{Address{`a"b\c`, "d.example"}, `"a\"b\\c"@d.example`, `<"a\"b\\c"@d.example>`, `rfc822;"a\"b\\c"@d.example`, false},
		{Address{"a@b", "c.example"}, `"a@b"@c.example`, `<"a@b"@c.example>`, `rfc822;"a@b"@c.example`, false},
		{Address{"ü", "b.example"}, "ü@b.example", "<ü@b.example>", `utf-8;\x{FC}@b.example`, true},
		{Address{"a", "ü.example"}, "a@ü.example", "<a@ü.example>", `utf-8;a@\x{FC}.example`, true},
		{Address{"ü b", "c.example"}, `"ü b"@c.example`, `<"ü b"@c.example>`, `utf-8;"\x{FC}\x{20}b"@c.example`, true},
	} {
		t.Run(c.text, func(t *testing.T) {
			if c.in.String() != c.text || c.in.Path() != c.path || c.in.Typed() != c.typ || c.in.IsASCII() == c.utf8 || c.in.IsNull() {
				t.Errorf("got %q, %q, %q, ASCII %v, null %v", c.in, c.in.Path(), c.in.Typed(), c.in.IsASCII(), c.in.IsNull())
			}
			back, err := Parse(c.text)
			if err != nil || back != c.in {
				t.Errorf("Parse(%q) = %+v, %v, want %+v", c.text, back, err, c.in)
			}
		})
	}

	null := Address{}
	if null.String() != "" || null.Path() != "<>" || !null.IsNull() || !null.IsASCII() {
		t.Errorf("null path: %q, %q, null %v", null, null.Path(), null.IsNull())
	}
	for _, half := range []Address{{Local: "a"}, {Domain: "b.example"}} {
		if half.IsNull() {
			t.Errorf("%+v is taken for the null path", half)
		}
	}
}

func TestMatchDomainPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, domain string
		want            bool
	}{
		{"*.example.com", ".example.com", false},
		{"*.example.com", "a.example.com", true},
		{"*.Example.COM", "A.example.com", true},
		{"*.example.com", "example.org", false},
		{".example.com", "a.example.com", false},
		{"*example.com", "notexample.com", false},
		{"*example.com", "example.com", false},
		{"*", "[192.0.2.1]", true},
		{"*.1]", "[192.0.2.1]", true},
		{"", "", false},
		{"", "example.com", false},
		{"example.com", "", false},
		{"*.*", "a.example", false},
	} {
		if got := MatchDomain(c.pattern, c.domain); got != c.want {
			t.Errorf("MatchDomain(%q, %q) = %v, want %v", c.pattern, c.domain, got, c.want)
		}
	}
}

func TestParseDomain(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"host name", "Mail.Example.COM", "mail.example.com"},
		{"one label", "localhost", "localhost"},
		{"underscore", "_dmarc.example.com", "_dmarc.example.com"},
		{"U-label", "bücher.example", "xn--bcher-kva.example"},
		{"253 bytes", domainOf(253), domainOf(253)},
		{"254 bytes", domainOf(254), ""},
		{"address literal", "[192.0.2.1]", ""},
		{"trailing dot", "example.com.", ""},
		{"empty", "", ""},
		{"space", "exa mple.com", ""},
		{"no ASCII form", "a\u200e.example", ""},
		{"not UTF-8", "a\xfc.example", ""},
		{"A-label of 64 bytes and more", "一泯诞岭箜骋歚詉嬘稇飶槅袴妃硲靡栰蜟埮盝.example", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseDomain(c.in)
			if got != c.want || (err != nil) != (c.want == "") || err != nil && !errors.Is(err, ErrAddress) {
				t.Errorf("ParseDomain(%q) = %q, %v, want %q", c.in, got, err, c.want)
			}
		})
	}
}

func TestASCIIDomain(t *testing.T) {
	for in, want := range map[string]string{
		"Example.COM":      "example.com",
		"BÜCHER.example":   "xn--bcher-kva.example",
		"faß.example":      "xn--fa-hia.example",
		"A\u200e.EXAMPLE":  "a\u200e.example",
		"[IPv6:2001:DB8::": "[ipv6:2001:db8::",
		"":                 "",
	} {
		if got := ASCIIDomain(in); got != want {
			t.Errorf("ASCIIDomain(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestXtext encodes each byte but printable ASCII without + and = (RFC 3461
// section 4), and each character for utf-8-addr-xtext (RFC 6533 section 3).
func TestXtext(t *testing.T) {
	for c := range 0x100 {
		s := string([]byte{'a', byte(c), 'b'})
		want := s
		if c <= ' ' || c > '~' || c == '+' || c == '=' {
			want = fmt.Sprintf("a+%02Xb", c)
		}
		if got := Xtext(s); got != want {
			t.Errorf("Xtext(%q) = %q, want %q", s, got, want)
		}

		s = "a" + string(rune(c)) + "b"
		want = s
		if c <= ' ' || c > '~' || c == '+' || c == '=' || c == '\\' {
			want = fmt.Sprintf(`a\x{%X}b`, c)
		}
		if got := UTF8Xtext(s); got != want {
			t.Errorf("UTF8Xtext(%q) = %q, want %q", s, got, want)
		}
	}
	if got, want := UTF8Xtext("😀"), `\x{1F600}`; got != want {
		t.Errorf("UTF8Xtext: got %q, want %q", got, want)
	}
}

// FuzzParse: a mailbox reads back from what String writes, its path is within
// the limits, and net/mail reads the same address where it reads one.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"a@b", `"a b"@c.example`, `"a\"b\\"@c.example`, "a@[IPv6:::1]", `""@a`, `"a@b"@c`, "ü@ü.example", `"a`, `"a\`, "a.@b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err != nil {
			if !errors.Is(err, ErrAddress) || a != (Address{}) {
				t.Fatalf("Parse(%q) = %+v, %v", s, a, err)
			}
			return
		}

		back, err := Parse(a.String())
		if err != nil || back != a {
			t.Fatalf("%q wrote %q, which reads back as %+v, %v", s, a, back, err)
		}
		if path := a.Path(); len(path) > 256 || strings.ContainsAny(path, "\r\n\x00") {
			t.Fatalf("%q: path %q", s, path)
		}
		if theirs, err := mail.ParseAddress(s); err == nil && theirs.Address != a.Local+"@"+a.Domain {
			t.Fatalf("%q: read as %+v, net/mail reads %q", s, a, theirs.Address)
		}
	})
}

func TestFromUnquoted(t *testing.T) {
	for _, c := range []struct {
		name, in, path string
		bad            bool
	}{
		{"plain", "a.b@example.org", "<a.b@example.org>", false},
		{"null path", "", "<>", false},
		{"needs quotes", "a b@example.org", `<"a b"@example.org>`, false},
		{"smuggled parameter", "v@evil.example> ORCPT=rfc822;x@example.org", "", true},
		{"two ats", "a@b@example.org", "", true},
		{"control", "a\r\nRCPT@example.org", "", true},
		{"international", "ü@bücher.example", "<ü@bücher.example>", false},
		{"8-bit that is no UTF-8", "\xfc@example.org", "", true},
		{"a C1 control", "a\u0085b@example.org", "", true},
		{"a direction mark", "a\u202eb@example.org", "", true},
		{"literal", "a@[192.0.2.1]", "<a@[192.0.2.1]>", false},
		{"long local part", strings.Repeat("x", 65) + "@example.org", "", true},
		{"domain with space", "a@exa mple.org", "", true},
		{"no domain", "a@", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := FromUnquoted(c.in)
			if (err != nil) != c.bad {
				t.Fatalf("error %v, want bad %v", err, c.bad)
			}
			if err == nil && a.Path() != c.path {
				t.Errorf("got %s, want %s", a.Path(), c.path)
			}
		})
	}
}

// TestTyped writes addresses for delivery status notifications and ORCPT.
func TestTyped(t *testing.T) {
	for in, want := range map[string]string{"a@b.example": "rfc822;a@b.example", "jösé+x@b.example": `utf-8;j\x{F6}s\x{E9}\x{2B}x@b.example`} {
		a, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Typed(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"a@b", `"a b"@c.d`, `a\"b@c`, "x@[1.2.3.4]", "a..b@c", "", "ü@ü.example", "a\u0085@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := FromUnquoted(s)
		if err != nil || a.IsNull() {
			return
		}
		back, err := Parse(a.String())
		if err != nil || back != a {
			t.Fatalf("%q wrote %q, which reads back as %+v, %v", s, a.String(), back, err)
		}
	})
}

func TestMatchDomain(t *testing.T) {
	for _, c := range []struct {
		pattern, domain string
		want            bool
	}{
		{"example.com", "Example.COM", true},
		{"example.com", "a.example.com", false},
		{"*.example.com", "a.b.example.com", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", "notexample.com", false},
		{"*", "anything.example", true},
		{"*", "", false},
		{"b\u00fccher.example", "xn--bcher-kva.example", true},
		{"*.xn--bcher-kva.example", "news.B\u00dcCHER.example", true},
		{"bucher.example", "b\u00fccher.example", false},
		{"[192.0.2.1]", "[192.0.2.1]", true},
	} {
		if got := MatchDomain(c.pattern, c.domain); got != c.want {
			t.Errorf("%s %s: %v", c.pattern, c.domain, got)
		}
	}
}
