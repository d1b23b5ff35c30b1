package web

import (
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// TestClientAddress: whose address a request's events carry. 10.0.0.0/8 are
// trusted proxies.
func TestClientAddress(t *testing.T) {
	h, _, _ := setup(t)
	const proxy = "10.0.0.1:5"
	xff := func(lines ...string) http.Header { return http.Header{"X-Forwarded-For": lines} }
	fwd := func(lines ...string) http.Header { return http.Header{"Forwarded": lines} }
	for _, c := range []struct {
		name, remote string
		header       http.Header
		want         string // empty: not known
		unreadable   float64
	}{
		{"direct", "192.0.2.1:5", nil, "192.0.2.1", 0},
		{"a stranger's header", "192.0.2.1:5", xff("198.51.100.1"), "192.0.2.1", 0},
		{"a stranger's unreadable header", "192.0.2.1:5", xff("x"), "192.0.2.1", 0},
		{"a proxy that says nothing", proxy, nil, "10.0.0.1", 0},
		{"through a proxy", proxy, xff("198.51.100.1"), "198.51.100.1", 0},
		{"spoofed in front of a proxy", proxy, xff("203.0.113.9, 198.51.100.1"), "198.51.100.1", 0},
		{"spoofed in a line of its own", proxy, xff("203.0.113.9", "198.51.100.1"), "198.51.100.1", 0},
		{"through two proxies", proxy, xff("203.0.113.9, 198.51.100.1, 10.0.0.2"), "198.51.100.1", 0},
		{"all are proxies", proxy, xff("10.0.0.3, 10.0.0.2"), "10.0.0.3", 0},
		{"with a port", proxy, xff("203.0.113.9:5555"), "203.0.113.9", 0},
		{"IPv6 with a port", proxy, xff("[2001:db8::1]:443"), "2001:db8::1", 0},
		{"IPv6 in brackets", proxy, xff("[2001:db8::1]"), "2001:db8::1", 0},
		{"IPv6", proxy, xff("2001:db8::1"), "2001:db8::1", 0},
		{"IPv6 in quotes", proxy, xff(`"[2001:db8::1]:443"`), "2001:db8::1", 0},
		{"IPv4 in IPv6", proxy, xff("::ffff:192.0.2.7"), "192.0.2.7", 0},
		{"a proxy with a port behind the client", proxy, xff("203.0.113.9:5555, 10.0.0.2:443"), "203.0.113.9", 0},
		{"with a zone", proxy, xff("fe80::1%eth0"), "fe80::1", 0},
		{"empty members", proxy, xff("203.0.113.9,, "), "203.0.113.9", 0},
		{"rubbish", proxy, xff("x"), "10.0.0.1", 1},
		{"rubbish behind a proxy", proxy, xff("x, 10.0.0.2"), "10.0.0.2", 1},
		{"rubbish that nobody looks at", proxy, xff("x, 198.51.100.1"), "198.51.100.1", 0},
		{"a port that is none", proxy, xff("203.0.113.9:x"), "10.0.0.1", 1},
		{"brackets that do not close", proxy, xff("[2001:db8::1"), "10.0.0.1", 1},
		{"unknown", proxy, xff("unknown"), "", 0},

		{"Forwarded", proxy, fwd("for=192.0.2.60;proto=http;by=203.0.113.43"), "192.0.2.60", 0},
		{"Forwarded in quotes with a port", proxy, fwd(`For="[2001:db8:cafe::17]:4711"`), "2001:db8:cafe::17", 0},
		{"Forwarded with an IPv4 port", proxy, fwd(`for="192.0.2.43:47011"`), "192.0.2.43", 0},
		{"Forwarded with a port without quotes", proxy, fwd(`for=192.0.2.43:47011`), "192.0.2.43", 0},
		{"Forwarded with an obfuscated port", proxy, fwd(`for="192.0.2.43:_x.1"`), "192.0.2.43", 0},
		{"Forwarded list", proxy, fwd("for=203.0.113.9, for=198.51.100.17;by=203.0.113.60, for=10.0.0.2"), "198.51.100.17", 0},
		{"Forwarded lines", proxy, fwd("for=203.0.113.9", "for=198.51.100.17"), "198.51.100.17", 0},
		{"Forwarded, obfuscated", proxy, fwd("for=203.0.113.9, for=_SEVKISEK"), "", 0},
		{"Forwarded, obfuscated with a port", proxy, fwd(`for="_gazonk:80"`), "", 0},
		{"Forwarded, unknown", proxy, fwd("for=Unknown"), "", 0},
		{"Forwarded without for", proxy, fwd("for=203.0.113.9, proto=https"), "10.0.0.1", 1},
		{"Forwarded, a quoted pair", proxy, fwd(`for="192\.0.2.1"`), "192.0.2.1", 0},
		{"Forwarded that opens a quote", proxy, fwd(`for=203.0.113.9;x=", for=198.51.100.1`), "10.0.0.1", 1},
		{"Forwarded that opens a quote in a line of its own", proxy, fwd(`x="`, `for=198.51.100.1;y="`), "10.0.0.1", 1},
		{"X-Forwarded-For before Forwarded", proxy, http.Header{"X-Forwarded-For": {"198.51.100.1"}, "Forwarded": {"for=203.0.113.9"}}, "198.51.100.1", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := value(t, h.unreadable)
			got := h.client(&http.Request{RemoteAddr: c.remote, Header: c.header})
			if got.IsValid() != (c.want != "") || got.IsValid() && got.String() != c.want {
				t.Errorf("got %v, want %q", got, c.want)
			}
			if got := value(t, h.unreadable) - before; got != c.unreadable {
				t.Errorf("%v counted as unreadable, want %v", got, c.unreadable)
			}
		})
	}
}

func TestParseForwarded(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []forwarded
		ok   bool
	}{
		{"", nil, true},
		{" , ;, ", nil, true},
		{"for=a;host=b, for=c", []forwarded{{"a", "b"}, {"c", ""}}, true},
		{"FOR=a ; Host = b", nil, false},
		{`host="a;b,c\"d"`, []forwarded{{"", `a;b,c"d`}}, true},
		{"proto=https", []forwarded{{}}, true},
		{"for=a;for=b", nil, false},
		{"for", nil, false},
		{"=a", nil, false},
		{`for="a"b`, nil, false},
		{`for=a"b"`, nil, false},
		{`for="a\`, nil, false},
		{"for=a b", nil, false},
		{"for=a\t;host=b \t", []forwarded{{"a", "b"}}, true},
		{"for=a;\t host=b \t", []forwarded{{"a", "b"}}, true},
		{" \tfor=a", []forwarded{{"a", ""}}, true},
		{"for=a \t, for=b", []forwarded{{"a", ""}, {"b", ""}}, true},
		{"for=a,,for=b,", []forwarded{{"a", ""}, {"b", ""}}, true},
		{"for=a,host=b", []forwarded{{"a", ""}, {"", "b"}}, true},
		{"for=a,for=b", []forwarded{{"a", ""}, {"b", ""}}, true},
		{"for=a;;host=b", []forwarded{{"a", "b"}}, true},
		{"for=;host=b", []forwarded{{"", "b"}}, true},
		{`for=""`, []forwarded{{}}, true},
		{`for="\\"`, []forwarded{{`\`, ""}}, true},
		{`for="a`, nil, false},
		{`for="`, nil, false},
		{`for="\"`, nil, false},
		{"f or=a", nil, false},
		{"f\tor=a", nil, false},
		{"a,for=b", nil, false},
		{"a;for=b", nil, false},
		{`"for=b`, nil, false},
		{`for=a"`, nil, false},
		{"for=a=b", []forwarded{{"a=b", ""}}, true},
		{"For=a;fOR=b", nil, false},
	} {
		got, err := parseForwarded(c.in)
		if (err == nil) != c.ok || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: got %v, %v; want %v, %v", c.in, got, err, c.want, c.ok)
		}
	}
}

func TestReadNode(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string // "none": it names no address; empty: it cannot be read
	}{
		{"192.0.2.1", "192.0.2.1"},
		{"192.0.2.1:0", "192.0.2.1"},
		{"192.0.2.1:12345", "192.0.2.1"},
		{"192.0.2.1:123456", ""},
		{"192.0.2.1:", ""},
		{"192.0.2.1:_p", "192.0.2.1"},
		{"192.0.2.1:_", ""},
		{"192.0.2.1:12a", ""},
		{":80", ""},
		{"192.0.2", ""},
		{"", ""},
		{`"192.0.2.1"`, "192.0.2.1"},
		{"\" 192.0.2.1\t\"", "192.0.2.1"},
		{`"192.0.2.1`, ""},
		{`192.0.2.1"`, ""},
		{`"`, ""},
		{`""`, ""},
		{"[2001:db8::1]", "2001:db8::1"},
		{"[2001:db8::1]:443", "2001:db8::1"},
		{"[2001:db8::1]:_p", "2001:db8::1"},
		{"[2001:db8::1]:", ""},
		{"[2001:db8::1]:x", ""},
		{"[2001:db8::1]443", ""},
		{"[2001:db8::1", ""},
		{"[192.0.2.1]", ""},
		{"[x]", ""},
		{"[fe80::1%eth0]:1", "fe80::1"},
		{"[::ffff:192.0.2.1]", "192.0.2.1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"fe80::1%eth0", "fe80::1"},
		{"2001:db8::1", "2001:db8::1"},
		{"UNKNOWN", "none"},
		{"unknown:443", "none"},
		{"unknown:x", ""},
		{"_x", "none"},
		{"_x:1", "none"},
		{"_azAZ09._-", "none"},
		{"_", ""},
		{"x_", ""},
		{"_@", ""},
		{"_[", ""},
		{"_`", ""},
		{"_{", ""},
		{"_/", ""},
		{"_x y", ""},
		{"_\u00e9", ""},
	} {
		got, err := readNode(c.in)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%q is read as %v, want an error", c.in, got)
		case c.want == "none" && (err != nil || got.IsValid()):
			t.Errorf("%q: got %v, %v, want no address", c.in, got, err)
		case c.want != "" && c.want != "none" && (err != nil || got.String() != c.want):
			t.Errorf("%q: got %v, %v, want %s", c.in, got, err, c.want)
		}
	}
}

func TestForwardedHost(t *testing.T) {
	for _, c := range []struct {
		header http.Header
		want   string
		ok     bool
	}{
		{nil, "", true},
		{http.Header{"X-Forwarded-Host": {`"T.example:443"`}}, "t.example", true},
		{http.Header{"X-Forwarded-Host": {`""`}}, "", true},
		{http.Header{"X-Forwarded-Host": {"a.example,\tb.example\t"}}, "b.example", true},
		{http.Header{"X-Forwarded-Host": {"a b"}}, "", false},
		{http.Header{"Forwarded": {"host=a.example, for=x"}}, "a.example", true},
		{http.Header{"Forwarded": {"host=a.example", "host=b.example"}}, "b.example", true},
		{http.Header{"Forwarded": {"host=a.example", `host="`}}, "", false},
		{http.Header{"Forwarded": {`host="a b"`}}, "", false},
	} {
		got, err := forwardedHost(c.header)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%v: got %q, %v, want %q, %v", c.header, got, err, c.want, c.ok)
		}
	}
}

func TestTruncated(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.255":                "192.0.2.0",
		"2001:db8:ffff:ffff:ffff::1": "2001:db8:ffff::",
		"2001:db8:1::":               "2001:db8:1::",
	} {
		if got := truncated(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
	if got := truncated(netip.Addr{}); got.IsValid() {
		t.Errorf("no address becomes %v", got)
	}
}

// FuzzForwarded: whatever a client sends, the entry that a proxy appends is the
// one that counts, or none is.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"", "for=1.2.3.4", `for="`, `host="a, for=2.3.4.5`, `for="[::1]:1";host=x`, "for=a;", `x="\`, ", ,"} {
		f.Add(s)
	}
	want := netip.MustParseAddr("2001:db8::7")
	f.Fuzz(func(t *testing.T, sent string) {
		h := &Handler{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, metrics: metrics{unreadable: newUnreadable()}}
		proxy := netip.MustParseAddr("10.0.0.1")
		for _, header := range []http.Header{
			{"Forwarded": {sent + `, for="[2001:db8::7]:443"`}},
			{"Forwarded": {sent, `for="[2001:db8::7]:443"`}},
			{"X-Forwarded-For": {sent + `, 2001:db8::7`}},
			{"X-Forwarded-For": {sent, `[2001:db8::7]:443`}},
		} {
			got := h.client(&http.Request{RemoteAddr: "10.0.0.1:5", Header: header})
			if got != want && (got != proxy || header.Get("X-Forwarded-For") != "") {
				t.Fatalf("%q: got %v", header, got)
			}
		}
		if addr, err := readNode(sent); err == nil && addr.IsValid() && (addr.Zone() != "" || addr.Is4In6()) {
			t.Fatalf("%q is read as %v", sent, addr)
		}
		host, err := forwardedHost(http.Header{"Forwarded": {sent}, "X-Forwarded-Host": {sent}})
		if err == nil && (strings.ContainsAny(host, " ,;\"") || host != strings.ToLower(host)) {
			t.Fatalf("%q is read as the host %q", sent, host)
		}
	})
}
