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

// domainToASCII is the URL standard's "domain to ASCII" without its beStrict
// flag: names with underscores and with hyphens in any place are valid.
var domainToASCII = idna.New(
	idna.MapForLookup(),
	idna.Transitional(false),
	idna.BidiRule(),
	idna.VerifyDNSLength(false),
	idna.StrictDomainName(false),
	idna.CheckHyphens(false),
)

// Redirect returns what the Location field says for a link to target, so that
// a browser ends at the URL that target itself would have led to. The rules
// are those of the URL standard (https://url.spec.whatwg.org/#url-parsing) for
// absolute http and https URLs; ok is false for all other targets, and for
// hosts that no browser accepts.
//
// A location is printable ASCII without spaces: a host is in its ASCII form,
// all else that is not ASCII is percent-encoded UTF-8. What is ASCII already
// stays as it is. Redirect(location) returns location itself.
//
// The rewriter wraps a link only where Redirect accepts its target, and the
// tracker redirects to nothing else.
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

// cleanURL drops what the URL standard drops before it parses: control
// characters and spaces at both ends, tabs and line ends anywhere.
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

// splitURL takes an absolute http or https URL apart. A URL with no slash, one
// slash or three slashes behind its scheme means different things in different
// places and is refused.
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

// validPort reports whether a port with its colon is one; it may be missing.
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

// asciiHost is the URL standard's host parser. Hosts that hold more than
// letters, digits, hyphens, dots and underscores are refused: no name that can
// be looked up has anything else.
func asciiHost(host string) (string, bool) {
	if strings.HasPrefix(host, "[") {
		inner, ok := strings.CutSuffix(host[1:], "]")
		addr, err := netip.ParseAddr(inner)
		return host, ok && err == nil && addr.Is6() && addr.Zone() == ""
	}

	plain, _ := url.PathUnescape(host) // empty, which is refused below, where it cannot be decoded
	if !utf8.ValidString(plain) {
		return "", false
	}

	ascii := plain
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

func isHostByte(c byte) bool { return isAlnum(c) || c == '-' || c == '.' || c == '_' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isAlnum(c byte) bool { return isLetter(c) || c >= '0' && c <= '9' }

func isASCIIString(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}

	return true
}

// endsInNumber reports whether browsers read a host as an IPv4 address, valid
// or not.
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last != "" && strings.Trim(last, "0123456789") == "" {
		return true
	}

	_, ok := ipv4Number(last)
	return ok
}

// isIPv4 is the URL standard's IPv4 parser: one to four numbers, decimal, octal
// or hexadecimal, the last of them for all bytes that are left.
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

func ipv4Number(s string) (uint64, bool) {
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

// appendEncoded writes s with everything percent-encoded that is not printable
// ASCII.
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

// isSimpleURL reports, without taking a URL apart, whether it is one that
// Redirect returns as it is. Nearly every link in a mail is.
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
		return false // no host, or perhaps an address
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

var simpleURLByte = func() (table [256]bool) {
	for c := range table {
		table[c] = isAlnum(byte(c)) || strings.IndexByte("-._~/?#@!$&'()*+,;=:%", byte(c)) >= 0
	}

	return table
}()

// cutWebScheme cuts http:// or https:// off, in any case.
func cutWebScheme(t string) (rest string, ok bool) {
	for _, p := range []string{"http://", "https://"} {
		if len(t) > len(p) && strings.EqualFold(t[:len(p)], p) {
			return t[len(p):], true
		}
	}

	return "", false
}
