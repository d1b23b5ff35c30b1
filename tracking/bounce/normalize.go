package bounce

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds how much of a reply is searched, in bytes.
const maxText = 8 << 10

// blocklisted replaces the name of a blocklist in normalized text.
const blocklisted = "dnsbl"

// normalize returns the words of a text in lower case and without accents, with
// one space between them. Words with hyphens or underscores and in camel case are
// split. Addresses, URLs, host names, IP addresses, ids, quoted subjects and the
// local part of the recipient are removed.
func normalize(text, local string) string {
	text = text[:min(len(text), maxText)]
	text = cutSubjects(cutAddresses(Fold(text)))

	n := normalizer{local: local, rest: text}
	for n.rest != "" {
		n.next()
	}

	return n.out.String()
}

// normalizer reads a text field by field.
type normalizer struct {
	local string
	rest  string
	out   strings.Builder

	last  string // previous field in lower case
	count int    // fields read
	paren bool   // a parenthesis is open and has no words yet
}

// next reads one field, URL or delimiter.
func (n *normalizer) next() {
	c := n.rest[0]
	switch {
	case c == '(':
		n.paren = true
		n.rest = n.rest[1:]

		return

	case c == ')':
		if !n.paren {
			n.out.WriteByte(')')
		}
		n.paren = false
		n.rest = n.rest[1:]

		return

	case isDelimiter(c):
		n.space()
		n.rest = n.rest[1:]

		return
	}

	if length := urlLength(n.rest); length > 0 {
		if isBlocklistPage(hostOfURL(n.rest[:length])) {
			n.mark()
		}
		n.space()
		n.rest = n.rest[length:]

		return
	}

	end := fieldEnd(n.rest)
	field := n.rest[:end]
	n.rest = n.rest[end:]
	n.field(field)
}

// fieldEnd returns the length of the field at the beginning of a text.
func fieldEnd(text string) int {
	end := strings.IndexFunc(text, func(r rune) bool {
		return r < utf8.RuneSelf && (isDelimiter(byte(r)) || r == '(' || r == ')')
	})
	if end < 0 {
		end = len(text)
	}

	if at := strings.Index(text[:end], "..."); at > 0 { // denied...7d39d5299584
		end = at
	}

	at := end - 1
	if at > 0 && strings.HasPrefix(text[at:], "://") { // see:https://
		for at > 0 && isAlphanumeric(text[at-1]) {
			at--
		}
		end = max(at, 1)
	}

	return end
}

// isDelimiter reports whether a byte separates fields.
func isDelimiter(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', '<', '>', '[', ']', '{', '}', '"', ',', ';', '|', '=', '`', '/', '\\', '_':
		return true
	}

	return c < ' '
}

// isAlphanumeric reports whether a byte is an ASCII letter or digit.
func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// space ends a word.
func (n *normalizer) space() {
	if s := n.out.String(); s != "" && s[len(s)-1] != ' ' {
		n.out.WriteByte(' ')
	}
}

// field writes the words of a field unless it is a name.
func (n *normalizer) field(field string) {
	n.count++
	last := n.last
	n.last = strings.ToLower(strings.Trim(field, ".:'"))

	// The code of each line of a reply but the last ends with a hyphen. After the
	// first line it repeats, with or without a status code.
	if code, rest, ok := strings.Cut(field, "-"); ok && isReplyCode(code) {
		field = rest
		switch {
		case n.count == 1:
			n.out.WriteString(code + " ")
		case strings.Trim(rest, "0123456789.") == "":
			return
		}
	}

	word := strings.Trim(field, ".:'!?*-")
	switch {
	case strings.EqualFold(word, n.local) && n.local != "":
		n.space()
		return
	case isIP(word), isID(word):
		n.space()
		return
	case isHost(word), last == "host" && n.addressFollows():
		n.host(word, last)
		n.space()
		return
	}

	n.words(field)
}

// words writes the words of a field.
func (n *normalizer) words(field string) {
	if n.paren {
		n.paren = false
		n.space()
		n.out.WriteByte('(')
	}

	exchange := isExchangeCode(field)
	var before rune
	for i, r := range field {
		switch {
		case r == '-':
			n.join()
		case r == '.' && i+1 < len(field) && (exchange || !unicode.IsDigit(before)):
			n.out.WriteString(". ")
		case unicode.IsUpper(r):
			if unicode.IsLower(before) {
				n.join()
			}
			n.out.WriteRune(unicode.ToLower(r))
		default:
			n.out.WriteRune(r)
		}
		before = r
	}
}

// join ends a part of a compound word. "e-mail" is one word.
func (n *normalizer) join() {
	if s := n.out.String(); s == "e" || strings.HasSuffix(s, " e") {
		return
	}

	n.space()
}

// host writes the mark of a blocklist if a host name is that of a blocklist and
// last is a word behind which replies name the one they use.
func (n *normalizer) host(word, last string) {
	switch last {
	case "using", "in", "on", "by", "at", "via", "see", "visit":
		if isBlocklist(word) {
			n.mark()
		}
	}
}

// mark writes the word that replaces the name of a blocklist.
func (n *normalizer) mark() {
	n.space()
	n.out.WriteString(blocklisted)
	n.space()
}

// addressFollows reports whether an IP address in brackets or parentheses is next,
// as it is behind the name of a host.
func (n *normalizer) addressFollows() bool {
	rest := strings.TrimLeft(n.rest, " ")
	if len(rest) < 2 || rest[0] != '[' && rest[0] != '(' {
		return false
	}

	closing := string(quotation[rest[0]])
	inside, _, ok := strings.Cut(rest[1:min(len(rest), 64)], closing)

	return ok && isIP(inside)
}

// minID is the least length in bytes of a word that may be the id of a message,
// session or queue.
const minID = 10

// isID reports whether a word is an id: long, and with several digits.
func isID(word string) bool {
	if len(word) < minID {
		return false
	}

	digits := 0
	for i := range len(word) {
		if c := word[i]; '0' <= c && c <= '9' {
			digits++
		}
	}

	return digits >= 3
}

// isReplyCode reports whether a word is the code of a negative reply (RFC 5321,
// section 4.2.1).
func isReplyCode(word string) bool {
	return len(word) == 3 && (word[0] == '4' || word[0] == '5') && strings.Trim(word, "0123456789") == ""
}
