package envelope

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of RFC 5321 section 4.5.3.1.
const (
	maxLocal  = 64
	maxDomain = 255
	maxPath   = 256 // with the angle brackets
	maxName   = 253 // a domain name in the DNS, RFC 1035 section 2.3.4
)

// ErrAddress is wrapped by every error about the syntax of an address.
var ErrAddress = errors.New("bad address")

// Address is a mailbox. The zero value is the null path.
type Address struct {
	Local  string // without quotes and quoting backslashes
	Domain string
}

// FromUnquoted splits a mailbox whose local part has lost its quotes already, as
// emersion/go-smtp returns it. Strings that are ambiguous then are refused:
// `<a@b@c>` and `<"a@b"@c>` both are a@b@c, for example. The empty string is the
// null path.
func FromUnquoted(s string) (Address, error) {
	if s == "" {
		return Address{}, nil
	}

	at := strings.LastIndexByte(s, '@')
	if at <= 0 {
		return Address{}, fmt.Errorf("%w: no @ or no local part", ErrAddress)
	}

	a := Address{Local: s[:at], Domain: s[at+1:]}
	if strings.ContainsAny(a.Local, "@<>") {
		return Address{}, fmt.Errorf("%w: @ or bracket in the local part", ErrAddress)
	}
	if err := a.check(); err != nil {
		return Address{}, err
	}
	return a, nil
}

// Parse reads a mailbox in the syntax of RFC 5321 section 4.1.2, without angle
// brackets. Its local part is a dot-string or a quoted string. Errors wrap
// ErrAddress.
func Parse(s string) (Address, error) {
	local, rest, err := cutLocal(s)
	if err != nil {
		return Address{}, err
	}

	domain, ok := strings.CutPrefix(rest, "@")
	if !ok {
		return Address{}, fmt.Errorf("%w: no @ after the local part", ErrAddress)
	}

	a := Address{Local: local, Domain: domain}
	if err := a.check(); err != nil {
		return Address{}, err
	}
	return a, nil
}

// cutLocal returns the local part at the beginning of s, unquoted, and what
// follows it.
func cutLocal(s string) (local, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return cutQuoted(s)
	}

	local, _, found := strings.Cut(s, "@")
	if !found {
		return "", "", fmt.Errorf("%w: no @", ErrAddress)
	}
	if !isDotString(local) {
		return "", "", fmt.Errorf("%w: local part needs quotes", ErrAddress)
	}
	return local, s[len(local):], nil
}

// cutQuoted does what cutLocal does for a quoted local part.
func cutQuoted(s string) (local, rest string, err error) {
	var b strings.Builder

	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], nil
		case '\\':
			i++
			if i == len(s) {
				return "", "", fmt.Errorf("%w: unterminated quoted local part", ErrAddress)
			}
			fallthrough
		default:
			b.WriteByte(s[i])
		}
	}

	return "", "", fmt.Errorf("%w: unterminated quoted local part", ErrAddress)
}

// check returns an error if the address breaks a rule, however it was read.
func (a Address) check() error {
	if a.Local == "" || a.Domain == "" {
		return fmt.Errorf("%w: empty local part or domain", ErrAddress)
	}

	for _, part := range []string{a.Local, a.Domain} {
		if fault := textFault(part); fault != "" {
			return fmt.Errorf("%w: %s", ErrAddress, fault)
		}
	}

	if len(quoteLocal(a.Local)) > maxLocal {
		return fmt.Errorf("%w: local part longer than %d", ErrAddress, maxLocal)
	}
	if len(a.Path()) > maxPath {
		return fmt.Errorf("%w: longer than RFC 5321 allows", ErrAddress)
	}
	if !isDomain(a.Domain) {
		return fmt.Errorf("%w: bad domain", ErrAddress)
	}
	return nil
}

// textFault returns why s cannot be part of an address: it has bytes that are
// not UTF-8, or characters that are not visible. It returns "" if it can.
func textFault(s string) string {
	switch {
	case !utf8.ValidString(s):
		return "neither ASCII nor UTF-8"
	case strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsGraphic(c) }):
		return "control character"
	}
	return ""
}

// IsNull reports whether a is the null reverse path.
func (a Address) IsNull() bool { return a.Local == "" && a.Domain == "" }

// IsASCII reports whether the address needs no SMTPUTF8 (RFC 6531).
func (a Address) IsASCII() bool { return isASCII(a.Local) && isASCII(a.Domain) }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Typed returns the address with its type, as delivery status notifications have
// it (RFC 3464 section 2.3). An international address is encoded in ASCII (RFC
// 6533 section 3).
func (a Address) Typed() string {
	if a.IsASCII() {
		return "rfc822;" + a.String()
	}
	return "utf-8;" + UTF8Xtext(a.String())
}

// String returns the mailbox in the syntax of RFC 5321 section 4.1.2, with quotes
// around the local part if it needs them. Parse reads it back to the same value.
// The null path is the empty string.
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	return quoteLocal(a.Local) + "@" + a.Domain
}

// Path returns the address for MAIL and RCPT, in angle brackets.
func (a Address) Path() string { return "<" + a.String() + ">" }

// quoteLocal returns a local part, quoted if it is not a dot-string.
func quoteLocal(local string) string {
	if isDotString(local) {
		return local
	}

	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(local); i++ {
		if c := local[i]; c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(local[i])
	}

	b.WriteByte('"')
	return b.String()
}

// isDotString reports whether s is a Dot-string (RFC 5321 section 4.1.2) of atext
// (RFC 5322 section 3.2.3, RFC 6531 section 3.3).
func isDotString(s string) bool {
	atom := 0

	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '.':
			if atom == 0 {
				return false
			}
			atom = 0
		case isAlnum(c) || c >= utf8.RuneSelf || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0:
			atom++
		default:
			return false
		}
	}

	return atom > 0
}

// isDomain reports whether s is a host name or an address literal. Underscores
// are allowed, for real mail has them; a trailing dot is not.
func isDomain(s string) bool {
	if strings.HasPrefix(s, "[") {
		return isLiteral(s)
	}

	label := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '.':
			if label == 0 || s[i-1] == '-' {
				return false
			}
			label = 0
		case c == '-':
			if label == 0 {
				return false
			}
			label++
		case isAlnum(c) || c == '_' || c >= utf8.RuneSelf: // a U-label
			label++
		default:
			return false
		}
		if label > 63 {
			return false
		}
	}

	return label > 0 && s[len(s)-1] != '-'
}

// isLiteral reports whether s has the form of an address literal (RFC 5321 section
// 4.1.3).
func isLiteral(s string) bool {
	if len(s) < 3 || s[len(s)-1] != ']' {
		return false
	}

	for i := 1; i < len(s)-1; i++ {
		if c := s[i]; !isAlnum(c) && c != '.' && c != ':' && c != '-' {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// MatchDomain reports whether a domain matches a pattern, whatever their case:
// "example.com" matches that name alone, "*.example.com" any name below it, "*"
// any name. An address literal is matched by "*" and by itself only. An
// international name is the same in both of its forms (RFC 5890).
func MatchDomain(pattern, domain string) bool {
	star := strings.HasPrefix(pattern, "*.")
	domain = ASCIIDomain(domain)
	pattern = ASCIIDomain(strings.TrimPrefix(pattern, "*."))
	if star {
		pattern = "*." + pattern
	}

	if pattern == "*" || pattern == domain {
		return domain != ""
	}

	suffix, ok := strings.CutPrefix(pattern, "*")
	return ok && strings.HasPrefix(suffix, ".") && len(domain) > len(suffix) && strings.HasSuffix(domain, suffix)
}

// ParseDomain returns the ASCII form of a domain name, in lower case. It fails
// with ErrAddress if s is not a domain name: address literals are not, nor are
// names with a trailing dot.
func ParseDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") || !isDomain(s) || !hasASCIIForm(s) {
		return "", fmt.Errorf("%w: %q is not a domain name", ErrAddress, s)
	}

	ascii := ASCIIDomain(s)
	if len(ascii) > maxName {
		return "", fmt.Errorf("%w: %.64q... is longer than a domain name may be", ErrAddress, s)
	}
	return ascii, nil
}

// ASCIIDomain returns a name in lower case and, if it is international, in its
// ASCII form. A name without an ASCII form is only turned into lower case.
func ASCIIDomain(domain string) string {
	if !isASCII(domain) {
		if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
			return ascii
		}
	}
	return strings.ToLower(domain)
}
