package token

import (
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
)

// Values of Token.Host that are not hosts.
const (
	// Mail is for tokens in mailto addresses of List-Unsubscribe.
	Mail = "mail:"

	// Probing is for probes, which ask a tracker under which host they arrive,
	// and open under any.
	Probing = "probe:"
)

// asciiHost implements "domain to ASCII" of the URL standard with beStrict set to
// false: underscores are valid, and hyphens in any place.
var asciiHost = idna.New(
	idna.MapForLookup(),
	idna.Transitional(false),
	idna.StrictDomainName(false),
	idna.CheckHyphens(false),
	idna.VerifyDNSLength(false),
)

// HostOf returns the host of a tracking URL in the form of Host, or an empty string
// if the URL has none.
func HostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}

	return Host(u.Host)
}

// Host returns the form of a host that tokens are sealed for: in lower case, with
// A-labels (RFC 5890 section 2.3.2.1), without port and final dot; or an IP address
// in its shortest form, without brackets. hostport has the form of a Host field (RFC
// 9110 section 7.2). Host returns an empty string if it is not a host.
func Host(hostport string) string {
	host := withoutPort(hostport)
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.WithZone("").String()
	}

	host = strings.TrimSuffix(host, ".")
	if !isASCII(host) {
		ascii, err := asciiHost.ToASCII(host)
		if err != nil {
			return ""
		}
		host = strings.TrimSuffix(ascii, ".")
	}

	if strings.ContainsAny(host, ":/?#@[]\\ \t\r\n,;\"'<>%") {
		return ""
	}
	if strings.Contains("."+host+".", "..") { // an empty label
		return ""
	}

	return strings.ToLower(host)
}

// withoutPort returns s without a port and without the brackets of an IP literal. An
// IPv6 address without brackets has no port.
func withoutPort(s string) string {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		literal, after, ok := strings.Cut(rest, "]")
		if !ok || after != "" && !isPort(after) {
			return s
		}

		return literal
	}

	if i := strings.IndexByte(s, ':'); i >= 0 && isPort(s[i:]) {
		return s[:i]
	}

	return s
}

// isPort reports whether s is a colon and a port, which may be empty (RFC 3986
// section 3.2.3).
func isPort(s string) bool {
	return s != "" && s[0] == ':' && strings.Trim(s[1:], "0123456789") == ""
}

// isASCII reports whether all bytes of s are below 0x80.
func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}

	return true
}
