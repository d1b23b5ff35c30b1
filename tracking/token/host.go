package token

import (
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/idna"
)

// What tokens are sealed for that no tracking host may open.
const (
	// Mail is what the token of a mailto is sealed for (List-Unsubscribe).
	Mail = "mail:"
	// Probing is what the token of a probe is sealed for, which has to open
	// wherever it comes in: it asks which host that is.
	Probing = "probe:"
)

// asciiHost maps names as the URL standard's "domain to ASCII" does for names
// that need not be strict ("_" and hyphens anywhere).
var asciiHost = idna.New(
	idna.MapForLookup(),
	idna.Transitional(false),
	idna.StrictDomainName(false),
	idna.CheckHyphens(false),
	idna.VerifyDNSLength(false),
)

// HostOf returns the host of a tracking URL in the form of Host; empty where
// the URL has none.
func HostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}

	return Host(u.Host)
}

// Host returns the form of a host in which tokens are sealed for it: lower
// case, A-labels (RFC 5890 section 2.3.2.1), without port and final dot; an IP
// address in its shortest text form, without brackets. It reads what a Host
// field holds (RFC 9110 section 7.2), and returns nothing for what is not a
// host at all.
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

// withoutPort cuts a port and an IP literal's brackets off. An IPv6 address
// without brackets has no port.
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

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}

	return true
}
