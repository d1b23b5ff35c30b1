package bounce

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/publicsuffix"
)

// urlLength returns the length of the URL at the beginning of a text, or 0.
func urlLength(text string) int {
	scheme := 0
	for scheme < len(text) && scheme < 16 && isAlphanumeric(text[scheme]) {
		scheme++
	}

	named := scheme > 1 && strings.HasPrefix(text[scheme:], "://")
	if !named && (len(text) < 5 || !strings.EqualFold(text[:4], "www.") || !isAlphanumeric(text[4])) {
		return 0
	}

	for i := scheme; i < len(text); i++ {
		if c := text[i]; c <= ' ' || c >= utf8.RuneSelf || c == '<' || c == '>' || c == '"' {
			return i
		}
	}

	return len(text)
}

// hostOfURL returns the host of a URL without its port.
func hostOfURL(url string) string {
	if _, rest, ok := strings.Cut(url, "://"); ok {
		url = rest
	}
	if i := strings.IndexAny(url, "/?#:)]"); i >= 0 {
		url = url[:i]
	}

	return url
}

// isIP reports whether a word is an IP address, with or without a port.
func isIP(word string) bool {
	if len(word) < 3 || !strings.ContainsAny(word, ".:") {
		return false
	}

	word = strings.TrimPrefix(strings.ToLower(word), "ipv6:") // RFC 5321, section 4.1.3
	if _, err := netip.ParseAddr(word); err == nil {
		return true
	}
	_, err := netip.ParseAddrPort(word)

	return err == nil
}

// exchangeCodes are how the names of Exchange's errors begin, which look like host
// names (RESOLVER.ADR.RecipNotFound).
var exchangeCodes = []string{
	"AGENT.", "APPROVAL.", "MAPI.", "PICKUP.", "QUEUE.", "RESOLVER.", "ROUTING.", "SMTP.", "SMTPSEND.", "STOREDRV.",
	"TRANSPORT.",
}

// isExchangeCode reports whether a field is the name of an error of Exchange.
func isExchangeCode(field string) bool {
	for _, prefix := range exchangeCodes {
		if strings.HasPrefix(strings.TrimLeft(field, "#'"), prefix) {
			return true
		}
	}

	return false
}

// testSuffixes are top-level domains of private networks and documents, which are
// not registered (RFC 2606, RFC 6762).
var testSuffixes = map[string]bool{
	"arpa":        true,
	"corp":        true,
	"example":     true,
	"home":        true,
	"internal":    true,
	"intranet":    true,
	"invalid":     true,
	"lan":         true,
	"local":       true,
	"localdomain": true,
	"localhost":   true,
	"test":        true,
}

// isHost reports whether a word is a host or domain name, and not the end of a
// sentence and the beginning of the next without a space between them.
func isHost(word string) bool {
	if i := strings.LastIndexByte(word, ':'); i > 0 && strings.Trim(word[i+1:], "0123456789") == "" {
		word = word[:i] // a port
	}
	if !strings.Contains(word, ".") || isExchangeCode(word) || len(word) > 255 {
		return false
	}

	labels := strings.Split(word, ".")
	for _, l := range labels {
		if l == "" || strings.ContainsFunc(l, notInLabel) {
			return false
		}
	}

	top := labels[len(labels)-1]
	switch {
	case strings.Trim(top, "0123456789") == "": // a status code, a version
		return false
	case len(labels) > 2:
		return true
	case isTitle(top) && !isTitle(labels[0]): // unknown.Please
		return false
	}

	top = strings.ToLower(top)
	if strings.ContainsAny(word, "0123456789-") || testSuffixes[top] {
		return true
	}

	_, listed := publicsuffix.PublicSuffix("x." + top)

	return listed
}

// notInLabel reports whether a rune cannot be part of a label of a domain name.
func notInLabel(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' }

// isTitle reports whether a word begins with an upper-case letter and is in lower
// case otherwise.
func isTitle(word string) bool {
	first, size := utf8.DecodeRuneInString(word)

	return unicode.IsUpper(first) && word[size:] == strings.ToLower(word[size:])
}
