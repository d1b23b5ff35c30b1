package rewrite

import (
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// domainToASCII implements "domain to ASCII" of the URL standard with beStrict
// set to false: underscores are valid, and hyphens in any place.
var domainToASCII = idna.New(
	idna.MapForLookup(),
	idna.Transitional(false),
	idna.BidiRule(),
	idna.VerifyDNSLength(false),
	idna.StrictDomainName(false),
	idna.CheckHyphens(false),
)

// Redirect returns the value of the Location field for a link to target: a
// browser arrives at the URL that target itself leads to. It follows the URL
// standard (https://url.spec.whatwg.org/#url-parsing) for absolute http and https
// URLs. ok is false for other targets, and for hosts that browsers do not accept.
//
// The location is printable ASCII without spaces: the host is in its ASCII form,
// and anything else that is not ASCII is percent-encoded UTF-8. ASCII characters
// are kept. Redirect(location) returns location.
//
// Parse wraps a link only if Redirect accepts its target, and the tracker
// redirects to nothing else.
func Redirect(target string) (location string, ok bool) {
	if isSimpleURL(target) {
		return target, true
	}

	u, ok := splitURL(cleanURL(target))
	if !ok || !utf8.ValidString(u.rest) || !utf8.ValidString(u.userInfo) {
		return "", false
	}

	host, ok := asciiHost(u.host)
	if !ok || !validPort(u.port) {
		return "", false
	}

	var b strings.Builder
	b.Grow(len(target) + 16)
	b.WriteString(u.scheme)
	b.WriteString("://")
	appendEncoded(&b, u.userInfo)
	b.WriteString(host)
	b.WriteString(u.port)

	path, behind := u.rest, ""
	if i := strings.IndexAny(u.rest, "?#"); i >= 0 {
		path, behind = u.rest[:i], u.rest[i:]
	}
	appendEncoded(&b, strings.ReplaceAll(path, `\`, "/"))
	appendEncoded(&b, behind)

	return b.String(), true
}

// cleanURL removes what the URL standard removes before parsing: control
// characters and spaces at both ends, and tabs and line ends anywhere.
func cleanURL(s string) string {
	s = strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
	if !strings.ContainsAny(s, "\t\n\r") {
		return s
	}

	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, s)
}

// urlParts are the parts of an absolute http or https URL, as written.
type urlParts struct {
	scheme   string
	userInfo string // with its @; may be empty
	host     string
	port     string // with its colon; may be empty
	rest     string // path, query and fragment
}

// splitURL splits an absolute http or https URL. ok is false for other URLs, and
// for those without exactly two slashes after the scheme, whose meaning depends
// on where they are.
func splitURL(s string) (u urlParts, ok bool) {
	u.scheme, s, ok = strings.Cut(s, ":")
	if !ok || !strings.EqualFold(u.scheme, "http") && !strings.EqualFold(u.scheme, "https") {
		return u, false
	}

	slashes := 0
	for slashes < len(s) && (s[slashes] == '/' || s[slashes] == '\\') {
		slashes++
	}
	if slashes != 2 {
		return u, false
	}

	authority := s[slashes:]
	if i := strings.IndexAny(authority, `/\?#`); i >= 0 {
		authority, u.rest = authority[:i], authority[i:]
	}

	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		u.userInfo, authority = authority[:i+1], authority[i+1:]
	}

	u.host = authority
	end := 0
	if strings.HasPrefix(authority, "[") {
		end = max(strings.IndexByte(authority, ']'), 0)
	}
	if i := strings.IndexByte(authority[end:], ':'); i >= 0 {
		u.host, u.port = authority[:end+i], authority[end+i:]
	}

	return u, u.host != ""
}

// validPort reports whether port, with its colon, is a valid port or empty.
func validPort(port string) bool {
	digits := strings.TrimPrefix(port, ":")
	if digits == "" {
		return true
	}

	n := 0
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return false
		}
		n = min(n*10+int(c-'0'), math.MaxUint16+1)
	}

	return n <= math.MaxUint16
}

// asciiHost implements the host parser of the URL standard. ok is also false for
// hosts with anything but letters, digits, hyphens, dots and underscores, since
// such names cannot be looked up.
func asciiHost(host string) (ascii string, ok bool) {
	if strings.HasPrefix(host, "[") {
		inner, ok := strings.CutSuffix(host[1:], "]")
		addr, err := netip.ParseAddr(inner)
		return host, ok && err == nil && addr.Is6() && addr.Zone() == ""
	}

	plain, _ := url.PathUnescape(host) // empty on errors, and refused below
	if !utf8.ValidString(plain) {
		return "", false
	}

	ascii = plain
	if !isASCIIString(plain) || strings.Contains(strings.ToLower(plain), "xn--") {
		mapped, err := domainToASCII.ToASCII(plain)
		if err != nil {
			return "", false
		}
		if !isASCIIString(plain) {
			ascii = mapped
		}
	}

	named := false
	for _, c := range []byte(ascii) {
		if !isHostByte(c) {
			return "", false
		}
		named = named || c != '.'
	}

	return ascii, named && (!endsInNumber(ascii) || isIPv4(ascii))
}

// isHostByte reports whether c may be in a host.
func isHostByte(c byte) bool { return isAlnum(c) || c == '-' || c == '.' || c == '_' }

// isLetter reports whether c is an ASCII letter.
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// isAlnum reports whether c is an ASCII letter or digit.
func isAlnum(c byte) bool { return isLetter(c) || c >= '0' && c <= '9' }

// isASCIIString reports whether all bytes of s are below 0x80.
func isASCIIString(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}

	return true
}

// endsInNumber implements the "ends in a number checker" of the URL standard: it
// reports whether browsers read host as an IPv4 address, valid or not.
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last != "" && strings.Trim(last, "0123456789") == "" {
		return true
	}

	_, ok := ipv4Number(last)
	return ok
}

// isIPv4 implements the IPv4 parser of the URL standard: one to four numbers,
// decimal, octal or hexadecimal, of which the last stands for all remaining
// bytes.
func isIPv4(host string) bool {
	parts := strings.Split(strings.TrimSuffix(host, "."), ".")
	if len(parts) > 4 {
		return false
	}

	for i, p := range parts {
		n, ok := ipv4Number(p)
		if !ok {
			return false
		}

		bytesLeft := 1
		if i == len(parts)-1 {
			bytesLeft = 5 - len(parts)
		}
		if n >= 1<<(8*bytesLeft) {
			return false
		}
	}

	return true
}

// ipv4Number implements the IPv4 number parser of the URL standard.
func ipv4Number(s string) (n uint64, ok bool) {
	base := 10
	switch {
	case s == "":
		return 0, false
	case len(s) >= 2 && s[0] == '0' && s[1]|0x20 == 'x':
		base, s = 16, s[2:]
	case len(s) >= 2 && s[0] == '0':
		base, s = 8, s[1:]
	}
	if s == "" {
		return 0, true
	}

	n, err := strconv.ParseUint(s, base, 64)
	return n, err == nil
}

// appendEncoded appends s to b, with everything but printable ASCII
// percent-encoded.
func appendEncoded(b *strings.Builder, s string) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c > ' ' && c < 0x7f {
			b.WriteByte(c)
			continue
		}

		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
}

// isSimpleURL reports, without parsing it, whether a URL is one that Redirect
// returns unchanged. It may be false for some; nearly all links in mail are
// simple.
func isSimpleURL(t string) bool {
	rest, ok := cutWebScheme(t)
	if !ok {
		return false
	}

	host, label := 0, 0
	for host < len(rest) && (isAlnum(rest[host]) || rest[host] == '.' || rest[host] == '-') {
		if rest[host] == '.' {
			label = host + 1
		}
		host++
	}
	if host == label || !isLetter(rest[label]) {
		return false // no host, or perhaps an IP address
	}
	if host < len(rest) && rest[host] != '/' && rest[host] != '?' && rest[host] != '#' {
		return false
	}
	for i := 0; i+4 <= host; i++ {
		if rest[i+2] == '-' && rest[i+3] == '-' && rest[i]|0x20 == 'x' && rest[i+1]|0x20 == 'n' {
			return false
		}
	}

	for i := host; i < len(rest); i++ {
		if !simpleURLByte[rest[i]] {
			return false
		}
	}

	return true
}

// simpleURLByte has the bytes that may follow the host of a simple URL.
var simpleURLByte = func() (table [256]bool) {
	for c := range table {
		table[c] = isAlnum(byte(c)) || strings.IndexByte("-._~/?#@!$&'()*+,;=:%", byte(c)) >= 0
	}

	return table
}()

// cutWebScheme removes http:// or https://, in any case, from the start of t.
func cutWebScheme(t string) (rest string, ok bool) {
	for _, p := range []string{"http://", "https://"} {
		if len(t) > len(p) && strings.EqualFold(t[:len(p)], p) {
			return t[len(p):], true
		}
	}

	return "", false
}
