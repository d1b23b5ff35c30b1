package bounce

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/publicsuffix"
)

// urlLength returns the length of a URL at the beginning of a text, 0 where
// there is none.
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

func hostOfURL(url string) string {
	if _, rest, ok := strings.Cut(url, "://"); ok {
		url = rest
	}
	if i := strings.IndexAny(url, "/?#:)]"); i >= 0 {
		url = url[:i]
	}

	return url
}

// isIP reports whether a word is an IP address, a prefix or an address with a
// port.
func isIP(word string) bool {
	if len(word) < 3 || !strings.ContainsAny(word, ".:") {
		return false
	}
	word = strings.TrimPrefix(strings.ToLower(word), "ipv6:")
	if _, err := netip.ParseAddr(word); err == nil {
		return true
	}
	_, err := netip.ParseAddrPort(word)

	return err == nil
}

// exchangeCodes are the first words of Exchange's error names, which look like
// host names (RESOLVER.ADR.RecipNotFound).
var exchangeCodes = []string{
	"AGENT.", "APPROVAL.", "MAPI.", "PICKUP.", "QUEUE.", "RESOLVER.", "ROUTING.", "SMTP.", "SMTPSEND.", "STOREDRV.",
	"TRANSPORT.",
}

func isExchangeCode(field string) bool {
	for _, prefix := range exchangeCodes {
		if strings.HasPrefix(strings.TrimLeft(field, "#'"), prefix) {
			return true
		}
	}

	return false
}

// testSuffixes are top-level domains of private networks and documents (RFC
// 2606, RFC 6762), which no registry has.
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

// isHost reports whether a word is a host or domain name and not two sentences
// without a space between them.
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

func notInLabel(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' }

func isTitle(word string) bool {
	first, size := utf8.DecodeRuneInString(word)

	return unicode.IsUpper(first) && word[size:] == strings.ToLower(word[size:])
}
