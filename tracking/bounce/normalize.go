package bounce

import (
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/publicsuffix"
	"golang.org/x/text/unicode/norm"
)

// maxText bounds how much of a reply is searched, in bytes.
const maxText = 8 << 10

// blocklisted stands for the name of a blocklist in a normalized text.
const blocklisted = "dnsbl"

// normalize returns the words of a text: lower case, without accents, one space
// between them, hyphens and underscores as spaces, camel case apart. Addresses,
// URLs, host names, IP addresses, ids, quoted subjects and the local part of
// the recipient are left out.
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

	last  string // the field before, in lower case
	count int    // fields that were read
	paren bool   // an open parenthesis waits for something inside it
}

// next reads one field or delimiter.
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

	end := strings.IndexFunc(n.rest, func(r rune) bool {
		return r < utf8.RuneSelf && (isDelimiter(byte(r)) || r == '(' || r == ')')
	})
	if end < 0 {
		end = len(n.rest)
	}
	if at := strings.Index(n.rest[:end], "..."); at > 0 { // denied...7d39d5299584
		end = at
	}
	if at := end - 1; at > 0 && strings.HasPrefix(n.rest[at:], "://") { // see:https://
		for at > 0 && isAlphanumeric(n.rest[at-1]) {
			at--
		}
		end = max(at, 1)
	}
	field := n.rest[:end]
	n.rest = n.rest[end:]
	n.field(field)
}

func isDelimiter(c byte) bool {
	switch c {
	case ' ', '\t', '\r', '\n', '<', '>', '[', ']', '{', '}', '"', ',', ';', '|', '=', '`', '/', '\\', '_':
		return true
	}

	return c < ' '
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// space ends a word.
func (n *normalizer) space() {
	if s := n.out.String(); s != "" && s[len(s)-1] != ' ' {
		n.out.WriteByte(' ')
	}
}

// field writes the words of a field, unless it is a name.
func (n *normalizer) field(field string) {
	n.count++
	last := n.last
	n.last = strings.ToLower(strings.Trim(field, ".:'"))

	if code, rest, ok := strings.Cut(field, "-"); ok && isReplyCode(code) { // a further line of a reply
		field = rest
		switch {
		case n.count == 1:
			n.out.WriteString(code + " ")
		case strings.Trim(rest, "0123456789.") == "": // with its status code
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

// words writes a field as words.
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

// join ends a part of a compound word; e-mail is one word.
func (n *normalizer) join() {
	if s := n.out.String(); s == "e" || strings.HasSuffix(s, " e") {
		return
	}
	n.space()
}

// host writes the mark of a blocklist, where a host name is that of one and
// stands where replies name theirs.
func (n *normalizer) host(word, last string) {
	switch last {
	case "using", "in", "on", "by", "at", "via", "see", "visit":
		if isBlocklist(word) {
			n.mark()
		}
	}
}

// mark writes that a blocklist is named.
func (n *normalizer) mark() {
	n.space()
	n.out.WriteString(blocklisted)
	n.space()
}

// blocklists are the domains of those who list senders; reputationPages are
// pages that explain a listing.
var (
	blocklists = map[string]bool{
		"abuseat.org":          true,
		"abusix.zone":          true,
		"backscatterer.org":    true,
		"barracudacentral.org": true,
		"dnsbl.info":           true,
		"gbudb.net":            true,
		"hostkarma.com":        true,
		"invaluement.com":      true,
		"mailspike.net":        true,
		"mailspike.org":        true,
		"manitu.net":           true,
		"nixspam.net":          true,
		"njabl.org":            true,
		"senderscore.org":      true,
		"sorbs.net":            true,
		"spamcop.net":          true,
		"spameatingmonkey.net": true,
		"spamhaus.org":         true,
		"spamhaus.net":         true,
		"spamrats.com":         true,
		"surbl.org":            true,
		"surriel.com":          true,
		"uceprotect.net":       true,
		"uribl.com":            true,
	}
	reputationPages = map[string]bool{
		"csi.cloudmark.com":      true,
		"ipcheck.proofpoint.com": true,
		"www.senderbase.org":     true,
		"talosintelligence.com":  true,
	}
)

// isBlocklist reports whether a host name is that of a list of senders.
func isBlocklist(host string) bool {
	label, _, _ := strings.Cut(strings.ToLower(host), ".")

	return label == "dnsbl" || label == "rbl" || ofBlocklist(host)
}

// isBlocklistPage reports whether a web server belongs to a list of senders.
func isBlocklistPage(host string) bool {
	return reputationPages[strings.ToLower(host)] || ofBlocklist(host)
}

func ofBlocklist(host string) bool {
	registrable, err := publicsuffix.EffectiveTLDPlusOne(strings.TrimSuffix(strings.ToLower(host), "."))

	return err == nil && blocklists[registrable]
}

// addressFollows reports whether an IP address in brackets comes next, as
// behind the name of a host.
func (n *normalizer) addressFollows() bool {
	rest := strings.TrimLeft(n.rest, " ")
	if len(rest) < 2 || rest[0] != '[' && rest[0] != '(' {
		return false
	}
	inside, _, ok := strings.Cut(rest[1:min(len(rest), 64)], string(map[byte]byte{'[': ']', '(': ')'}[rest[0]]))

	return ok && isIP(inside)
}

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

// minID is the length in bytes from which a word of letters and digits is taken
// for an id of a message, session or queue.
const minID = 10

// isID reports whether a word is an id rather than something to read.
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

// isReplyCode reports whether a word is the code of a reply (RFC 5321, section
// 4.2.1) that refuses.
func isReplyCode(word string) bool {
	return len(word) == 3 && (word[0] == '4' || word[0] == '5') && strings.Trim(word, "0123456789") == ""
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

// maxLocal and maxDomain bound an address (RFC 5321, section 4.5.3.1), leaving
// room for what VERP and rewriting make of a local part.
const (
	maxLocal  = 256
	maxDomain = 255
)

// cutAddresses takes addresses out of a text, with the angle brackets around
// them.
func cutAddresses(text string) string {
	if !strings.Contains(text, "@") {
		return text
	}

	var out strings.Builder
	done := 0
	for at := 0; at < len(text); at++ {
		if text[at] != '@' {
			continue
		}
		start, end := addressStart(text, done, at), addressEnd(text, at+1)
		out.WriteString(text[done:start])
		out.WriteByte(' ')
		done = end
		at = end - 1
	}
	out.WriteString(text[done:])

	return out.String()
}

// addressStart returns where the address begins whose @ is at a position.
func addressStart(text string, from, at int) int {
	from = max(from, at-maxLocal)
	if at > from && text[at-1] == '"' { // a quoted local part
		if i := strings.LastIndexByte(text[from:at-1], '"'); i >= 0 {
			return from + i
		}
	}

	i := at
	for i > from {
		r, size := utf8.DecodeLastRuneInString(text[from:i])
		if unicode.IsSpace(r) || strings.ContainsRune(`<>()[]{},;:"|\`, r) || ideographic(r) {
			break
		}
		i -= size
	}

	return i
}

func addressEnd(text string, from int) int {
	i := from
	if i < len(text) && text[i] == '[' { // an address literal
		if end := strings.IndexByte(text[i:min(len(text), i+64)], ']'); end > 0 {
			return i + end + 1
		}
	}

	for i < len(text) && i < from+maxDomain {
		r, size := utf8.DecodeRuneInString(text[i:])
		if r != '.' && r != '-' && r != '_' && (!unicode.IsLetter(r) && !unicode.IsDigit(r) || ideographic(r)) {
			break
		}
		i += size
	}
	for i > from && text[i-1] == '.' { // the end of a sentence
		i--
	}

	return i
}

// subjectNames are how a field that holds a subject is called.
var subjectNames = []string{
	"subject", "betreff", "objet", "asunto", "oggetto", "onderwerp", "assunto", "temat", "тема", "件名", "主题", "主旨",
}

// cutSubjects takes out what stands in quotes or up to the end of the line
// behind the word "subject" and its translations.
func cutSubjects(text string) string {
	low := strings.ToLower(text)
	if len(low) != len(text) { // some letters change their length
		text = low
	}

	for _, name := range subjectNames {
		if !strings.Contains(low, name) {
			continue
		}
		text = cutSubject(text, low, name)
		low = strings.ToLower(text)
	}

	return text
}

func cutSubject(text, low, name string) string {
	var out strings.Builder
	done := 0
	for {
		i := strings.Index(low[done:], name)
		if i < 0 {
			break
		}
		start := done + i + len(name)
		end := start
		if boundary(low, done+i) {
			end = subjectEnd(text, start)
		}
		out.WriteString(text[done:start])
		done = end
	}
	out.WriteString(text[done:])

	return out.String()
}

// subjectEnd returns where a quoted subject ends that may begin at a position.
func subjectEnd(text string, from int) int {
	i := skipBlanks(text, from)
	colon := i < len(text) && text[i] == ':'
	switch {
	case colon:
		i = skipBlanks(text, i+1)
	case strings.HasPrefix(text[i:], "of "):
		i = skipBlanks(text, i+3)
	}

	if i < len(text) {
		if closing, ok := quotation[text[i]]; ok {
			if end := strings.IndexByte(text[i+1:], closing); end >= 0 {
				return i + 1 + end + 1
			}
		}
	}
	if !colon {
		return from
	}
	if end := strings.IndexByte(text[i:], '\n'); end >= 0 {
		return i + end
	}

	return len(text)
}

// quotation are the marks around a subject.
var quotation = map[byte]byte{'"': '"', '\'': '\'', '(': ')', '[': ']', '<': '>'}

func skipBlanks(text string, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t') {
		i++
	}

	return i
}

// letters are those that do not come apart into a letter and an accent.
var letters = strings.NewReplacer(
	"ß", "ss", "ł", "l", "Ł", "L", "ø", "o", "Ø", "O", "đ", "d", "æ", "ae", "œ", "oe", "ı", "i",
	"’", "'", "‘", "'", "“", `"`, "”", `"`, "„", `"`, "«", `"`, "»", `"`, "–", "-", "—", "-", "‑", "-",
)

// Fold takes accents off letters and makes one form of quotes and dashes, as the
// word lists have them. Case stays.
func Fold(text string) string {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return foldUnicode(strings.ToValidUTF8(text, " "))
		}
	}

	return text
}

func foldUnicode(text string) string {
	text = norm.NFKD.String(letters.Replace(text))

	return strings.Map(func(r rune) rune {
		if 0x300 <= r && r <= 0x36F { // combining accents
			return -1
		}

		return r
	}, text)
}

// ideographic reports whether a letter belongs to a script without spaces
// between words.
func ideographic(r rune) bool {
	if r < 0x0E00 {
		return false
	}

	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Thai) ||
		0x3000 <= r && r <= 0x303F // punctuation
}

// inWord reports whether a rune belongs to a word that has to match as a whole.
func inWord(r rune) bool {
	return (unicode.IsLetter(r) || unicode.IsDigit(r)) && !ideographic(r)
}
