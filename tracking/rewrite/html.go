package rewrite

import (
	"bytes"
	"sort"
	"strings"

	"postern/tracking/rewrite/htmledit"
)

// htmlKind is the kind of HTML in a part.
type htmlKind byte

const (
	plainHTML htmlKind = iota
	ampHTML
)

// pixelWish says whether a part gets the open pixels.
type pixelWish byte

const (
	withoutPixels pixelWish = iota
	withPixels
)

// editHTML returns the edits of an HTML document.
func editHTML(data []byte, o Options, kind htmlKind, cs textCharset, pixels pixelWish) edits {
	s := htmlScan{
		data:    data,
		opts:    o,
		amp:     kind == ampHTML,
		charset: cs,
		targets: newTargets(o, cs),
		msys:    hasMsys(data),
		places:  newPlaces(len(data)),
	}

	start := 0
	if bytes.HasPrefix(data, utf8BOM) {
		start = len(utf8BOM) // it is not text in front of the doctype
	}
	s.run(start, len(data), shownContent)

	if pixels == withPixels {
		s.addPixels()
	}

	return s.out
}

var utf8BOM = []byte("\xef\xbb\xbf")

// htmlScan is the state of editHTML while it reads the tags of a document.
type htmlScan struct {
	data    []byte
	opts    Options
	amp     bool
	charset textCharset
	targets targets
	msys    bool // data-msys- occurs somewhere
	attrs   []htmledit.Attribute
	out     edits

	templates int // depth of template elements
	foreign   int // depth of svg and math elements
	cdataEnd  int // end of the last CDATA section in one of those
	places    places
}

// contentKind says which programs read a range of a document.
type contentKind byte

const (
	shownContent contentKind = iota
	wordContent              // Outlook only, in a conditional comment: not a place for pixels
)

// run reads the tags of data[from:to].
func (s *htmlScan) run(from, to int, content contentKind) {
	z := htmledit.NewScanner(s.data[:to], from)

	shown := content == shownContent
	at := from
	for {
		t, ok := z.Next()
		textEnd := to
		if ok {
			textEnd = t.Start
		}
		if shown && s.templates == 0 && s.places.wantsText() {
			s.places.text(s.data, at, textEnd)
		}

		if !ok || s.out.overflow {
			if cut, ok := z.CutOff(); ok && shown {
				s.places.cut(cut)
			}
			if shown && s.templates > 0 {
				s.places.cut(s.places.template)
			}
			return
		}
		at = t.End

		switch t.Kind {
		case htmledit.StartTag:
			s.startTag(t, z.RawText(), content)
		case htmledit.EndTag:
			s.endTag(t, content)
		case htmledit.Comment:
			s.comment(t, content)
		}
	}
}

// hasText reports whether b contains anything but white space.
func hasText(b []byte) bool {
	for _, c := range b {
		if !htmledit.IsSpace(c) {
			return true
		}
	}

	return false
}

// comment reads a comment: the CDATA sections of svg and math look like one, and
// conditional comments have links.
func (s *htmlScan) comment(t htmledit.Token, content contentKind) {
	text := s.data[t.Start:t.End]
	if s.foreign > 0 && bytes.HasPrefix(text, []byte("<![CDATA[")) && t.Start >= s.cdataEnd {
		s.cdataEnd = len(s.data)
		if i := bytes.Index(s.data[t.Start:], []byte("]]>")); i >= 0 {
			s.cdataEnd = t.Start + i
		}
	}

	if content == wordContent {
		return
	}
	s.places.comment()

	from, to, ok := htmledit.ConditionalContent(text)
	if !ok {
		return
	}

	templates, foreign := s.templates, s.foreign
	s.run(t.Start+from, t.Start+to, wordContent)
	s.templates, s.foreign = templates, foreign
}

// endTag reads an end tag.
func (s *htmlScan) endTag(t htmledit.Token, content contentKind) {
	name := t.Name(s.data)
	s.leave(nestingOf(name), content)

	if content == shownContent && s.templates == 0 && t.Start >= s.cdataEnd {
		s.places.endTag(t, name)
	}
}

// nesting is a kind of element whose depth is counted.
type nesting byte

const (
	noNesting nesting = iota
	templateNesting
	foreignNesting // svg and math
)

// enter counts the start tag of an element.
func (s *htmlScan) enter(n nesting, t htmledit.Token, content contentKind) {
	switch n {
	case templateNesting:
		if s.templates == 0 && content == shownContent {
			s.places.enterTemplate(t)
		}
		s.templates++

	case foreignNesting:
		if s.closesItself(t) {
			return
		}

		if s.foreign == 0 && s.templates == 0 && content == shownContent {
			s.places.enterForeign(t)
		}
		s.foreign++
	}
}

// leave counts the end tag of an element.
func (s *htmlScan) leave(n nesting, content contentKind) {
	switch n {
	case templateNesting:
		s.templates = max(0, s.templates-1)
	case foreignNesting:
		s.foreign = max(0, s.foreign-1)
		if s.foreign == 0 && content == shownContent {
			s.places.leaveForeign()
		}
	}
}

// closesItself reports whether the start tag of a foreign element is
// self-closing: it ends with a slash that is not part of an attribute's value.
func (s *htmlScan) closesItself(t htmledit.Token) bool {
	slash := t.End - len("/>")
	if s.data[slash] != '/' {
		return false
	}

	s.attrs = htmledit.AppendAttributes(s.attrs[:0], s.data[:t.End], t.NameEnd)

	return len(s.attrs) == 0 || s.attrs[len(s.attrs)-1].End <= slash
}

// nestingOf returns the kind of nesting of the element with that name.
func nestingOf(name []byte) nesting {
	switch {
	case htmledit.EqualFold(name, "svg"), htmledit.EqualFold(name, "math"):
		return foreignNesting
	case htmledit.EqualFold(name, "template"):
		return templateNesting
	}

	return noNesting
}

// isLink reports whether elements of that name are links: a, area, and the VML
// shapes of Outlook, v:*.
func isLink(name []byte) bool {
	if htmledit.EqualFold(name, "a") || htmledit.EqualFold(name, "area") {
		return true
	}

	return len(name) > 2 && htmledit.EqualFold(name[:2], "v:")
}

// startTag reads a start tag. If raw text follows, raw is the name of the
// element in lower case.
func (s *htmlScan) startTag(t htmledit.Token, raw string, content contentKind) {
	name := t.Name(s.data)
	s.enter(nestingOf(name), t, content)
	if content == shownContent && s.templates == 0 && t.Start >= s.cdataEnd {
		s.places.startTag(s.data, t, name, raw)
	}

	link := isLink(name) && s.templates == 0 && t.Start >= s.cdataEnd && s.opts.Click
	if !link && !(s.msys && hasMsys(s.data[t.Start:t.End])) {
		return
	}

	s.attrs = htmledit.AppendAttributes(s.attrs[:0], s.data[:t.End], t.NameEnd)
	if len(s.attrs) > htmledit.MaxAttributes {
		return
	}

	r := s.readLink(t)
	if link && r.track && !r.bound && r.href != nowhere {
		s.link(s.attrs[r.href], r.link)
	}
}

// link adds the edit that wraps a link. Edits that remove attributes of the same
// tag are in the list already, and may be behind href.
func (s *htmlScan) link(href htmledit.Attribute, l Link) {
	target, ok, why := s.targets.fromHref(href.Value(s.data))
	if !ok {
		s.out.skip(why)
		return
	}

	l.Target = target
	l.AMP = s.amp
	if s.opts.tooLong(l) {
		s.out.skip(LinkTooLong)
		return
	}

	i := len(s.out.list)
	for i > 0 && s.out.list[i-1].start >= href.ValueEnd {
		i--
	}
	s.out.insert(i, edit{
		start: href.ValueStart,
		end:   href.ValueEnd,
		kind:  slotLink,
		link:  l,
	})
}

// linkTag is what the attributes of a tag say about its link.
type linkTag struct {
	href  int // index of the attribute, or nowhere
	link  Link
	track bool
	bound bool // AMP for Email computes the href, or adds to it, when it is shown
}

// readLink reads the attributes of a tag, of which the first of each name
// counts, and adds edits that remove its data-msys-* attributes.
func (s *htmlScan) readLink(t htmledit.Token) linkTag {
	r := linkTag{href: nowhere, track: true}
	var seen [len(linkAttributes)]bool
	tag := s.data[:t.End]
	prevEnd := t.NameEnd
	for i := range s.attrs {
		a := &s.attrs[i]
		key := a.Name(tag)
		if r.href == nowhere && htmledit.EqualFold(key, "href") {
			r.href = i
		}
		r.bound = r.bound || s.amp && bindsHref(key)

		if len(key) >= len(msysPrefix) && bytes.EqualFold(key[:len(msysPrefix)], msysPrefix) {
			from, to := a.Removal(tag, prevEnd)
			s.out.insert(len(s.out.list), edit{start: from, end: to})

			which := linkAttributeNamed(key[len(msysPrefix):])
			if which >= 0 && !seen[which] {
				seen[which] = true
				value := s.charset.text(htmledit.Unescape(a.Value(tag)))
				r.link, r.track = applyMsys(r.link, r.track, linkAttribute(which), strings.TrimSpace(value))
			}
		}
		prevEnd = a.End
	}

	return r
}

// bindsHref reports whether an attribute makes AMP for Email change the href when
// it is shown: amp-bind, or the substitution of variables.
func bindsHref(key []byte) bool {
	for _, name := range []string{"[href]", "data-amp-bind-href", "data-amp-replace", "data-amp-addparams"} {
		if htmledit.EqualFold(key, name) {
			return true
		}
	}

	return false
}

// addPixels adds the edits that insert the open pixels.
func (s *htmlScan) addPixels() {
	if s.amp && !(s.places.hasBody() && strings.HasPrefix(strings.ToLower(s.opts.Tracker), "https://")) {
		return // AMP for Email requires a body, and https for pictures
	}

	first, last, ok := s.places.pixels()
	if !ok || s.out.overflow {
		return
	}
	form := htmlPixel
	if s.amp {
		form = ampPixel
	}

	if s.opts.InitialOpen {
		i := sort.Search(len(s.out.list), func(i int) bool { return s.out.list[i].start >= first })
		s.out.insertPixel(i, edit{start: first, end: first, kind: slotInitialOpen, pixel: form})
	}
	if s.opts.Open {
		i := sort.Search(len(s.out.list), func(i int) bool { return s.out.list[i].start > last })
		s.out.insertPixel(i, edit{start: last, end: last, kind: slotOpen, pixel: form})
	}
}
