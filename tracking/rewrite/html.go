package rewrite

import (
	"bytes"
	"net/url"
	"sort"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/html"
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

// editHTML finds what changes in an HTML document, in order. utf8OK says that
// its bytes above 0x7f are UTF-8; pixels, that the open pixels belong in it.
// tooLong counts the links that were left alone for their length.
func editHTML(data []byte, o Options, utf8OK, pixels bool) (edits []edit, tooLong int) {
	s := htmlScan{data: data, opts: o, utf8OK: utf8OK, msys: hasMsys(data),
		afterBody: -1, beforeBodyEnd: -1, beforeHTMLEnd: -1, content: -1}
	s.run()
	if pixels {
		s.addPixels()
	}
	return s.edits, s.tooLong
}

// htmlScan walks over the tokens. x/net's tokenizer decides what is a tag and
// what is text, comment or script; the bytes inside a tag are found by
// attributes.
type htmlScan struct {
	data   []byte
	opts   Options
	utf8OK bool
	msys   bool // data-msys- occurs somewhere
	edits  []edit

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

func (s *htmlScan) run() {
	z := html.NewTokenizer(bytes.NewReader(s.data))
	at := 0
	for {
		kind := z.Next()
		raw := z.Raw()
		start, end := at, at+len(raw)
		at = end
		switch kind {
		case html.ErrorToken:
			return
		case html.TextToken:
			if s.content < 0 && s.within == "" && len(bytes.TrimSpace(raw)) > 0 {
				s.content = start
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, _ := z.TagName()
			s.startTag(string(name), z, start, end)
		case html.EndTagToken:
			switch name, _ := z.TagName(); string(name) {
			case s.within:
				s.within = ""
			case "body":
				s.beforeBodyEnd = start
			case "html":
				s.beforeHTMLEnd = start
			}
		}
	}
}

// headTags do not open the body by themselves.
var headTags = map[string]bool{
	"html": true, "head": true, "title": true, "meta": true, "link": true, "base": true,
	"style": true, "script": true, "noscript": true, "template": true, "basefont": true, "bgsound": true,
}

// contentTags are those of headTags whose content is not the body's.
var contentTags = map[string]bool{"title": true, "style": true, "script": true, "noscript": true, "template": true}

func (s *htmlScan) startTag(name string, z *html.Tokenizer, start, end int) {
	switch {
	case name == "body":
		if s.afterBody < 0 {
			s.afterBody = end
		}
	case s.content < 0 && s.within == "" && !headTags[name]:
		s.content = start
	case s.within == "" && contentTags[name]:
		s.within = name
	}
	link := name == "a" || name == "area"
	tag := s.data[start:end]
	if !link && !(s.msys && hasMsys(tag)) {
		return
	}
	attrs := attributes(tag)
	decoded := func(i int) string { return attrValue(tag[attrs[i].valStart:attrs[i].valEnd]) }
	href, track := -1, true
	var l Link
	var seen = map[string]bool{}
	var removed []edit
	for i := range attrs {
		key := strings.ToLower(string(tag[attrs[i].nameStart:attrs[i].nameEnd]))
		first := !seen[key]
		seen[key] = true
		if key == "href" && first {
			href = i
		}
		if !strings.HasPrefix(key, string(msysPrefix)) {
			continue
		}
		from, to := attrs[i].removal(tag)
		removed = append(removed, edit{start: start + from, end: start + to})
		if !first {
			continue
		}
		switch value := strings.TrimSpace(decoded(i)); key {
		case "data-msys-clicktrack":
			track = value != "0"
		case "data-msys-linkname":
			l.Name = cutName(value)
		case "data-msys-unsubscribe":
			l.Unsubscribe = value == "1"
		}
	}
	mark := len(s.edits)
	s.edits = append(s.edits, removed...)
	if link && track && href >= 0 && s.opts.Click {
		a := attrs[href]
		rawValue := tag[a.valStart:a.valEnd]
		target, ok := s.target(rawValue)
		if ok {
			l.Target = target
			if s.opts.MaxLinkLength > 0 && s.opts.MaxURL(l) > s.opts.MaxLinkLength {
				s.tooLong++
				ok = false
			}
		}
		if l.Target != "" && ok {
			s.edits = append(s.edits, edit{start: start + a.valStart, end: start + a.valEnd, kind: slotLink, link: l})
		}
	}
	added := s.edits[mark:]
	sort.SliceStable(added, func(i, j int) bool { return added[i].start < added[j].start })
}

// target reads an href as a browser does and tells whether it is wrapped: an
// absolute http or https URL that does not lead to the tracker already.
func (s *htmlScan) target(raw []byte) (string, bool) {
	if !s.utf8OK && !isASCII(raw) {
		return "", false // a browser would read these bytes in the document's charset
	}
	t := strings.Trim(attrValue(raw), "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\v\f\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f ")
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
	u, err := url.Parse(t)
	if err != nil || u.Hostname() == "" {
		return "", false
	}
	if own := strings.TrimSuffix(s.opts.Tracker, "/") + "/"; own != "/" && len(t) >= len(own) && strings.EqualFold(t[:len(own)], own) {
		return "", false
	}
	return t, true
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
	n := len(s.data)
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
	e := edit{start: at, end: at, kind: kind}
	if kind == slotInitialOpen { // before the first link, should one begin here
		i = sort.Search(len(s.edits), func(i int) bool { return s.edits[i].start >= at })
	}
	s.edits = append(s.edits, edit{})
	copy(s.edits[i+1:], s.edits[i:])
	s.edits[i] = e
}
