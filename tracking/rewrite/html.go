package rewrite

import (
	"bytes"
	"net/url"
	"sort"
	"strings"
	"unicode/utf8"
)

// edit replaces data[start:end] of a part's decoded content by a slot, or by
// nothing where kind is slotNone.
type edit struct {
	start, end int
	kind       slotKind
	link       Link
}

// maxTarget is the longest target that is wrapped (reference, section 5).
const maxTarget = 4096

// htmlKind is the dialect of a part.
type htmlKind byte

const (
	plainHTML htmlKind = iota
	ampHTML
)

// editHTML finds what changes in an HTML document, in order. utf8OK says that
// its bytes above 0x7f are UTF-8; pixels, that the open pixels belong in it.
// tooLong counts the links that were left alone for their length.
func editHTML(data []byte, o Options, kind htmlKind, utf8OK, pixels bool) (edits []edit, tooLong int) {
	s := htmlScan{data: data, opts: o, amp: kind == ampHTML, utf8OK: utf8OK, own: strings.TrimSuffix(o.Tracker, "/"), msys: hasMsys(data),
		limit: len(data), afterBody: -1, beforeBodyEnd: -1, beforeHTMLEnd: -1, content: -1}
	s.run(0, len(data), false)
	if pixels {
		s.addPixels()
	}
	return s.edits, s.tooLong
}

// htmlScan walks over the tags of a document.
type htmlScan struct {
	data   []byte
	opts   Options
	amp    bool
	utf8OK bool
	own    string // the tracker's URL without the slash at its end
	msys   bool   // data-msys- occurs somewhere
	attrs  []attr
	edits  []edit

	limit         int    // nothing is put behind it: the document ends inside a tag
	tooLong       int    // links left alone for their length
	afterBody     int    // offset after the first <body ...>
	content       int    // offset where a browser would open the body by itself
	within        string // the head element whose content this is
	beforeBodyEnd int    // offset of the last </body>
	beforeHTMLEnd int    // offset of the last </html>
}

var msysPrefix = []byte("data-msys-")

// hasMsys looks for data-msys- in any case, in one pass over the dashes.
func hasMsys(data []byte) bool {
	for at := 0; ; {
		i := bytes.IndexByte(data[at:], '-')
		if i < 0 {
			return false
		}
		at += i + 1
		if at >= 5 && len(data) >= at+5 && bytes.EqualFold(data[at-5:at+5], msysPrefix) {
			return true
		}
	}
}

// run looks at data[from:to]. conditional says that it is what Outlook reads
// of a conditional comment: links count there, places for pixels do not.
func (s *htmlScan) run(from, to int, conditional bool) {
	z := newScanner(s.data[:to], from)
	at := from
	for {
		t, ok := z.next()
		textEnd := to
		if ok {
			textEnd = t.start
		}
		if !conditional && s.content < 0 && s.within == "" && hasText(s.data[at:textEnd]) {
			s.content = at
		}
		if !ok {
			if z.cut >= 0 && !conditional {
				s.limit = z.cut
			}
			return
		}
		at = t.end
		switch t.kind {
		case startTag:
			s.startTag(t, conditional)
		case endTag:
			if !conditional {
				s.endTag(t)
			}
		case comment:
			if a, b, ok := conditionalContent(s.data[t.start:t.end]); ok && !conditional {
				s.run(t.start+a, t.start+b, true)
			}
		}
	}
}

func hasText(b []byte) bool {
	for _, c := range b {
		if !isSpace(c) {
			return true
		}
	}
	return false
}

// conditionalContent finds what Outlook reads of a downlevel-hidden comment,
// <!--[if EXPR]> ... <![endif]-->.
func conditionalContent(c []byte) (from, to int, ok bool) {
	const open = "<!--[if"
	if len(c) < len(open) || !bytes.EqualFold(c[:len(open)], []byte(open)) {
		return 0, 0, false
	}
	i := bytes.Index(c, []byte("]>"))
	j := bytes.LastIndex(c, []byte("<![")) // of <![endif]
	if i < 0 || j < i+2 {
		return 0, 0, false
	}
	return i + 2, j, true
}

func (s *htmlScan) endTag(t htmlToken) {
	name := s.data[t.nameFrom:t.nameTo]
	switch {
	case s.within != "" && asciiFold(name, s.within):
		s.within = ""
	case asciiFold(name, "body"):
		s.beforeBodyEnd = t.start
	case asciiFold(name, "html"):
		s.beforeHTMLEnd = t.start
	}
}

func asciiFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// headTags do not open the body by themselves; contentTags are those of them
// whose content is not the body's.
var (
	headTags    = []string{"html", "head", "title", "meta", "link", "base", "style", "script", "noscript", "template", "basefont", "bgsound"}
	contentTags = []string{"title", "style", "script", "noscript", "template"}
)

func oneOf(name []byte, list []string) string {
	for _, n := range list {
		if asciiFold(name, n) {
			return n
		}
	}
	return ""
}

// isLink: <a>, <area>, and Outlook's VML shapes, v:*.
func isLink(name []byte) bool {
	switch len(name) {
	case 0:
		return false
	case 1:
		return name[0]|0x20 == 'a'
	case 4:
		if asciiFold(name, "area") {
			return true
		}
	}
	return len(name) > 2 && name[0]|0x20 == 'v' && name[1] == ':'
}

func (s *htmlScan) startTag(t htmlToken, conditional bool) {
	name := s.data[t.nameFrom:t.nameTo]
	if !conditional && (s.afterBody < 0 || s.content < 0) {
		s.opening(t, name)
	}
	link := isLink(name) && s.within != "template"
	if !link && !(s.msys && hasMsys(s.data[t.start:t.end])) {
		return
	}
	s.attrs = s.attrs[:0]
	walkAttributes(s.data[:t.end], t.nameTo, &s.attrs)
	mark := len(s.edits)
	href, l, track := s.readLink(t)
	if link && track && href >= 0 && s.opts.Click {
		a := s.attrs[href]
		target, ok := s.target(s.data[a.valStart:a.valEnd])
		if ok {
			l.Target, l.AMP = target, s.amp
			if s.opts.MaxLinkLength > 0 && s.opts.MaxURL(l) > s.opts.MaxLinkLength {
				s.tooLong++
				ok = false
			}
		}
		if ok {
			s.edits = append(s.edits, edit{start: a.valStart, end: a.valEnd, kind: slotLink, link: l})
		}
	}
	if added := s.edits[mark:]; len(added) > 1 {
		sort.SliceStable(added, func(i, j int) bool { return added[i].start < added[j].start })
	}
}

// opening notes where the body begins.
func (s *htmlScan) opening(t htmlToken, name []byte) {
	switch {
	case asciiFold(name, "body"):
		if s.afterBody < 0 {
			s.afterBody = t.end
		}
	case s.within != "":
	case s.content < 0 && oneOf(name, headTags) == "":
		s.content = t.start
	default:
		s.within = oneOf(name, contentTags)
	}
}

// readLink reads the attributes of a link, the first of each name counting,
// and takes the data-msys-* ones out.
func (s *htmlScan) readLink(t htmlToken) (href int, l Link, track bool) {
	href, track = -1, true
	var seen [4]bool
	tag := s.data[:t.end]
	for i := range s.attrs {
		a := &s.attrs[i]
		key := tag[a.nameStart:a.nameEnd]
		if href < 0 && asciiFold(key, "href") {
			href = i
		}
		if len(key) < len(msysPrefix) || !bytes.EqualFold(key[:len(msysPrefix)], msysPrefix) {
			continue
		}
		from, to := a.removal(tag)
		s.edits = append(s.edits, edit{start: from, end: to})
		n := -1
		for k, name := range []string{"clicktrack", "linkname", "unsubscribe", "sublink"} {
			if asciiFold(key[len(msysPrefix):], name) && !seen[k] {
				n, seen[k] = k, true
			}
		}
		if n < 0 {
			continue
		}
		value := strings.TrimSpace(attrValue(tag[a.valStart:a.valEnd]))
		l, track = applyMsys(l, track, n, value)
	}
	return href, l, track
}

// applyMsys takes one of the link attributes of the reference, section 5:
// clicktrack, linkname, unsubscribe, sublink.
func applyMsys(l Link, track bool, which int, value string) (Link, bool) {
	switch which {
	case 0:
		track = value != "0"
	case 1:
		l.Name = cutName(value)
	case 2:
		l.Unsubscribe = value == "1"
	case 3:
		l.Sublink = cleanSublink(value)
	}
	return l, track
}

const maxSublink = 100

// cleanSublink takes a path segment, or several, that a URL can hold as they
// are; anything else is no sublink.
func cleanSublink(s string) string {
	s = strings.Trim(s, "/")
	if len(s) > maxSublink {
		return ""
	}
	for _, segment := range strings.Split(s, "/") {
		if segment == "" || strings.Trim(segment, ".") == "" {
			return ""
		}
		for i := 0; i < len(segment); i++ {
			if c := segment[i]; !isLetter(c) && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' && c != '~' {
				return ""
			}
		}
	}
	return s
}

// target reads an href as a browser does and tells whether it is wrapped: an
// absolute http or https URL that does not lead to the tracker already.
func (s *htmlScan) target(raw []byte) (string, bool) {
	if !s.utf8OK && !isASCII(raw) {
		return "", false // a browser would read these bytes in the document's charset
	}
	return s.check(attrValue(raw))
}

// rawTarget is target for a URL that stands in plain text.
func (s *htmlScan) rawTarget(raw []byte) (string, bool) {
	if !s.utf8OK && !isASCII(raw) {
		return "", false
	}
	return s.check(string(raw))
}

func (s *htmlScan) check(t string) (string, bool) {
	t = strings.Trim(t, "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\v\f\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f ")
	if strings.ContainsAny(t, "\t\n\r") { // as the URL standard does
		t = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(t)
	}
	if len(t) > maxTarget || !hasWebScheme(t) || !utf8.ValidString(t) {
		return "", false
	}
	for i := 0; i < len(t); i++ {
		if t[i] < ' ' || t[i] == 0x7f {
			return "", false
		}
	}
	if !simpleURL(t) {
		u, err := url.Parse(t)
		if err != nil || u.Hostname() == "" {
			return "", false
		}
	}
	if n := len(s.own); n > 0 && len(t) > n && t[n] == '/' && strings.EqualFold(t[:n], s.own) {
		return "", false
	}
	return t, true
}

// simpleURL tells without taking it apart that net/url reads a URL and finds a
// host in it: the tracker will redirect to it.
func simpleURL(t string) bool {
	rest := t[strings.IndexByte(t, ':')+3:]
	host := 0
	for host < len(rest) && (isLetter(rest[host]) || rest[host] >= '0' && rest[host] <= '9' || rest[host] == '.' || rest[host] == '-') {
		host++
	}
	if host == 0 || host < len(rest) && rest[host] != '/' && rest[host] != '?' && rest[host] != '#' {
		return false
	}
	for i := host; i < len(rest); i++ {
		if c := rest[i]; !isLetter(c) && (c < '0' || c > '9') && strings.IndexByte("-._~/?#@!$&'()*+,;=:", c) < 0 {
			return false
		}
	}
	return true
}

func hasWebScheme(t string) bool {
	for _, p := range []string{"http://", "https://"} {
		if len(t) > len(p) && strings.EqualFold(t[:len(p)], p) {
			return true
		}
	}
	return false
}

// maxLinkName is where data-msys-linkname is cut, on a character boundary.
const maxLinkName = 63

func cutName(s string) string {
	if len(s) <= maxLinkName {
		return s
	}
	n := maxLinkName
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func (s *htmlScan) addPixels() {
	n := s.limit
	if s.amp && (s.afterBody < 0 || s.beforeBodyEnd < 0 || !strings.HasPrefix(strings.ToLower(s.opts.Tracker), "https://")) {
		return // AMP for Email wants a body, and https for pictures
	}
	if s.opts.InitialOpen {
		at := s.afterBody
		for _, p := range []int{s.content, s.beforeBodyEnd, s.beforeHTMLEnd, n} {
			if at < 0 {
				at = p
			}
		}
		s.insert(at, slotInitialOpen)
	}
	if s.opts.Open {
		at := s.beforeBodyEnd
		for _, p := range []int{s.beforeHTMLEnd, n} {
			if at < 0 {
				at = p
			}
		}
		s.insert(at, slotOpen)
	}
}

// insert puts a pixel at an offset, behind what is already edited there.
func (s *htmlScan) insert(at int, kind slotKind) {
	i := sort.Search(len(s.edits), func(i int) bool { return s.edits[i].start > at })
	e := edit{start: at, end: at, kind: kind, link: Link{AMP: s.amp}}
	if kind == slotInitialOpen { // before the first link, should one begin here
		i = sort.Search(len(s.edits), func(i int) bool { return s.edits[i].start >= at })
	}
	s.edits = append(s.edits, edit{})
	copy(s.edits[i+1:], s.edits[i:])
	s.edits[i] = e
}
