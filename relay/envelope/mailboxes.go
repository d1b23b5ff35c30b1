package envelope

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// ErrMailboxes is wrapped by every error of ParseMailboxes.
var ErrMailboxes = errors.New("address list not understood")

// ErrUnquotedName is an ErrMailboxes that ParseMailboxes returns together with
// mailboxes: the list is one address in angle brackets behind a display name that
// would have to be quoted. Mail programs read such a list differently.
var ErrUnquotedName = fmt.Errorf("%w: display name has to be quoted", ErrMailboxes)

const (
	// maxMailboxList bounds the value of a field that ParseMailboxes reads, in
	// bytes.
	maxMailboxList = 16 << 10
	// maxFieldLocal bounds a local part in a header field, in bytes. It may be
	// longer than in SMTP, for nothing need be delivered to it.
	maxFieldLocal = 255
)

// ParseMailboxes reads the value of a From or Sender field (RFC 5322 sections
// 3.4 and 3.6.2, groups as in RFC 6854) and returns its mailboxes in order.
//
// It reads only lists that all mail programs read alike, and fails on obsolete
// routes, white space or comments inside an address, comments and quoted local
// parts with an at sign or an angle bracket in them, text outside of the grammar,
// bad domains, and lists without a mailbox. Beyond the grammar it accepts bytes
// above 0x7f and square brackets in a display name, and an address as a display
// name if it is the address that follows.
//
// With ErrUnquotedName it returns the address in the angle brackets, and after it
// the one that is used as display name, if any: no mail program finds another
// one there.
func ParseMailboxes(list string) ([]Address, error) {
	if len(list) > maxMailboxList {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMailboxes, maxMailboxList)
	}

	out, err := parseList(list)
	if err == nil {
		return out, nil
	}
	if unquoted := parseUnquoted(list); unquoted != nil {
		return unquoted, fmt.Errorf("%w: %w", ErrUnquotedName, err)
	}
	return nil, err
}

// domainDots are the characters that separate the labels of a domain (RFC 3490
// section 3.1).
const domainDots = ".\u3002\uff0e\uff61"

// parseUnquoted reads a list that is one address in angle brackets, behind text
// that cannot be a second address or is one as a whole. It returns nil for any
// other list.
func parseUnquoted(list string) []Address {
	list = strings.Trim(list, " \t")
	name, _, _ := strings.Cut(list, "<")
	if strings.Count(list, "<") != 1 || strings.IndexByte(list, '>') != len(list)-1 {
		return nil
	}

	address, err := parseList(list[len(name):])
	name = strings.Trim(name, " \t")
	if err != nil || strings.ContainsFunc(name, unicode.IsControl) {
		return nil
	}
	if !strings.Contains(name, "@") || !strings.ContainsAny(name, domainDots) {
		return address
	}

	name = strings.Trim(name, "'") // as Outlook writes it
	named, err := parseList(name)
	if err != nil || named[0].String() != name {
		return nil
	}
	return append(address, named...)
}

// parseList reads a list in the strict grammar.
func parseList(list string) ([]Address, error) {
	p := mailboxParser{s: list}
	out, err := p.list(p.groupOrMailbox)
	if err != nil {
		return nil, err
	}

	if p.at < len(p.s) {
		return nil, p.fail("unexpected text")
	}
	if len(out) == 0 {
		return nil, p.fail("no mailbox")
	}
	return out, nil
}

// mailboxParser reads an address list.
type mailboxParser struct {
	s  string
	at int // the next byte
}

// word is a word of a display name, or a local part.
type word struct {
	text   string
	quoted bool
	end    int // where it ends in the list
}

// fail returns an error about the place that the parser is at.
func (p *mailboxParser) fail(what string) error {
	return fmt.Errorf("%w: %s at byte %d", ErrMailboxes, what, p.at)
}

// peek returns the next byte, 0 at the end.
func (p *mailboxParser) peek() byte {
	if p.at == len(p.s) {
		return 0
	}
	return p.s[p.at]
}

// list reads items with commas between them.
func (p *mailboxParser) list(item func() ([]Address, error)) ([]Address, error) {
	var out []Address

	for {
		mailboxes, err := item()
		if err != nil {
			return nil, err
		}
		out = append(out, mailboxes...)

		if err := p.skipComments(); err != nil {
			return nil, err
		}
		if p.peek() != ',' {
			return out, nil
		}
		p.at++
	}
}

// groupOrMailbox reads `Name: mailboxes;` or one mailbox.
func (p *mailboxParser) groupOrMailbox() ([]Address, error) {
	words, err := p.words()
	if err != nil {
		return nil, err
	}
	if p.peek() != ':' || len(words) == 0 {
		return p.mailbox(words)
	}
	p.at++

	if err := p.skipComments(); err != nil {
		return nil, err
	}
	var members []Address
	if p.peek() != ';' {
		members, err = p.list(p.member)
		if err != nil {
			return nil, err
		}
	}

	if p.peek() != ';' {
		return nil, p.fail("group without its end")
	}
	p.at++
	return members, nil
}

// member reads a mailbox of a group.
func (p *mailboxParser) member() ([]Address, error) {
	words, err := p.words()
	if err != nil {
		return nil, err
	}
	return p.mailbox(words)
}

// mailbox reads the rest of a mailbox that begins with words, which are a display
// name or the local part of an address without brackets.
func (p *mailboxParser) mailbox(words []word) ([]Address, error) {
	switch p.peek() {
	case '<':
		a, err := p.angle()
		return []Address{a}, err
	case '@':
	default:
		return nil, p.fail("no address")
	}

	if len(words) != 1 || words[0].end != p.at {
		return nil, p.fail("at sign in a display name")
	}
	a, err := p.afterLocal(words[0])
	if err != nil {
		return nil, err
	}

	if err := p.skipComments(); err != nil {
		return nil, err
	}
	if p.peek() != '<' {
		return []Address{a}, nil
	}

	again, err := p.angle()
	if err == nil && (again.Local != a.Local || ASCIIDomain(again.Domain) != ASCIIDomain(a.Domain)) {
		err = p.fail("two addresses without a comma")
	}
	return []Address{again}, err
}

// angle reads an address in angle brackets.
func (p *mailboxParser) angle() (Address, error) {
	p.at++ // the bracket
	p.skipBlanks()

	local, err := p.word()
	if err != nil {
		return Address{}, err
	}
	a, err := p.afterLocal(local)
	if err != nil {
		return Address{}, err
	}

	p.skipBlanks()
	if p.peek() != '>' {
		return Address{}, p.fail("no closing bracket")
	}
	p.at++
	return a, nil
}

// afterLocal reads the at sign and the domain behind a local part.
func (p *mailboxParser) afterLocal(local word) (Address, error) {
	if fault := local.localFault(); fault != "" {
		return Address{}, p.fail(fault)
	}
	if p.peek() != '@' {
		return Address{}, p.fail("no at sign")
	}
	p.at++

	begin := p.at
	literal := p.peek() == '['
	for p.at < len(p.s) && isDomainByte(p.s[p.at], literal) {
		p.at++
	}
	domain := p.s[begin:p.at]

	if !isDomain(domain) || len(domain) > maxDomain || !hasASCIIForm(domain) {
		return Address{}, p.fail("bad domain")
	}
	return Address{Local: local.text, Domain: domain}, nil
}

// localFault returns why a word cannot be a local part, or "" if it can.
func (w word) localFault() string {
	switch {
	case w.text == "" || len(w.text) > maxFieldLocal:
		return "local part empty or too long"
	case !w.quoted && !isDotString(w.text):
		return "bad local part"
	case strings.ContainsAny(w.text, "@<>"):
		return "at sign or bracket in the local part"
	}

	if fault := textFault(w.text); fault != "" {
		return "local part: " + fault
	}
	return ""
}

// isDomainByte reports whether c may be in a domain, or in an address literal.
func isDomainByte(c byte, literal bool) bool {
	if literal {
		return c == '[' || c == ']' || c == ':' || c == '.' || c == '-' || isAlnum(c)
	}
	return c == '.' || c == '-' || c == '_' || c >= utf8.RuneSelf || isAlnum(c)
}

// hasASCIIForm reports whether a domain is ASCII or has an A-label form.
func hasASCIIForm(domain string) bool {
	if isASCII(domain) {
		return true
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	return err == nil && utf8.ValidString(domain) && isDomain(ascii)
}

// words reads the words before a bracket, a colon or an at sign.
func (p *mailboxParser) words() ([]word, error) {
	var words []word

	for {
		if err := p.skipComments(); err != nil {
			return nil, err
		}
		if c := p.peek(); c != '"' && !isWordByte(c) {
			return words, nil
		}

		w, err := p.word()
		if err != nil {
			return nil, err
		}
		words = append(words, w)
	}
}

// word reads an atom, which may have dots in it, or a quoted string.
func (p *mailboxParser) word() (word, error) {
	if p.peek() == '"' {
		return p.quoted()
	}

	begin := p.at
	for isWordByte(p.peek()) {
		p.at++
	}
	return word{text: p.s[begin:p.at], end: p.at}, nil
}

func isWordByte(c byte) bool {
	return isAlnum(c) || c >= utf8.RuneSelf || strings.IndexByte("!#$%&'*+-/=?^_`{|}~.[]", c) >= 0
}

// quoted reads a quoted string and returns its content.
func (p *mailboxParser) quoted() (word, error) {
	p.at++ // the quote
	var text strings.Builder

	for p.at < len(p.s) {
		c := p.s[p.at]
		p.at++

		if c == '"' {
			return word{text: text.String(), quoted: true, end: p.at}, nil
		}
		if c == '\\' && p.at < len(p.s) {
			c = p.s[p.at]
			p.at++
		}
		if isControl(c) {
			return word{}, p.fail("control character in a quoted string")
		}
		text.WriteByte(c)
	}
	return word{}, p.fail("quoted string without its end")
}

func isControl(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }

func (p *mailboxParser) skipBlanks() {
	for p.peek() == ' ' || p.peek() == '\t' {
		p.at++
	}
}

// skipComments skips white space and comments (RFC 5322 section 3.2.2).
func (p *mailboxParser) skipComments() error {
	depth := 0

	for p.at < len(p.s) {
		c := p.s[p.at]
		switch {
		case c == '(':
			depth++
		case c == ' ' || c == '\t':
		case depth == 0:
			return nil
		case c == ')':
			depth--
		case c == '@' || c == '<' || c == '>':
			return p.fail("at sign or bracket in a comment")
		case isControl(c):
			return p.fail("control character in a comment")
		case c == '\\':
			p.at++
			if p.at < len(p.s) && (isControl(p.s[p.at]) || strings.IndexByte("@<>", p.s[p.at]) >= 0) {
				return p.fail("at sign, bracket or control character in a comment")
			}
		}
		p.at++
	}

	p.at = min(p.at, len(p.s))
	if depth > 0 {
		return p.fail("comment without its end")
	}
	return nil
}
