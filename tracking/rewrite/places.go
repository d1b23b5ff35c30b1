package rewrite

import "bytes"
import (
	"postern/tracking/rewrite/htmledit"
)

// maxDetour is how far behind the start of the body the first pixel may be put,
// in bytes: Gmail cuts messages at 102 KB.
const maxDetour = 32 << 10

// nowhere is the offset of what was not found.
const nowhere = -1

// places looks for places for the pixels while the tags of a document pass by:
// at the start and at the end of the body, where a browser's parser leaves a
// picture where it was put (HTML standard, section 13.2.6).
//
// Where the style sheet counts siblings (:first-child and its kin), a picture
// between the children of the body would change which elements a rule applies
// to, and where it lays children out as flex items, in a grid or in a table, a
// picture would be one of them. The pixels are then put behind the text of an
// element that holds nothing but text, where they are nobody's sibling.
type places struct {
	limit         int  // nothing is put behind it: the document ends inside a tag
	afterBody     int  // behind the first <body ...>
	content       int  // where a browser would open the body by itself
	beforeBodyEnd int  // the last </body>
	beforeHTMLEnd int  // the last </html>
	frames        bool // a frameset takes the place of the body

	raw      string // the element whose raw text comes next; empty: none
	template int    // where the outermost template element began last
	tables   []bool // the open tables: whether a cell is open
	inSelect bool   // a select element is open
	foreign  bool   // an svg or math element is open
	lastGood int    // the last place before a gap in a table, a select or a foreign element
	crowded  bool   // the style sheet minds a picture between the others

	link      bool // an <a> is open
	leafName  []byte
	leafState leafState
	leaves    textEnds // of blocks that hold nothing but text
	words     textEnds // of such elements in lines or in links, for want of blocks
}

// textEnds are the places where the first and the last of some texts end.
type textEnds struct{ first, last int }

func (e *textEnds) add(at int) {
	if e.first == nowhere {
		e.first = at
	}
	e.last = at
}

// leafState follows an element that may hold nothing but text.
type leafState byte

const (
	noLeaf leafState = iota
	leafOpen
	leafWithText
)

func newPlaces(length int) places {
	return places{
		limit:         length,
		afterBody:     nowhere,
		content:       nowhere,
		beforeBodyEnd: nowhere,
		beforeHTMLEnd: nowhere,
		leaves:        textEnds{nowhere, nowhere},
		words:         textEnds{nowhere, nowhere},
	}
}

func (p *places) hasBody() bool { return p.afterBody != nowhere && p.beforeBodyEnd != nowhere }

// cut notes that what is put at or behind an offset would be inside a tag, a
// comment or a text.
func (p *places) cut(at int) { p.limit = min(p.limit, at) }

// pixels returns the offsets of both pixels. ok is false for documents that
// have no place for them.
func (p *places) pixels() (first, last int, ok bool) {
	if p.frames {
		return 0, 0, false
	}

	last = p.beforeBodyEnd
	if last == nowhere {
		last = p.beforeHTMLEnd
	}
	if last == nowhere {
		last = p.good(p.limit)
	}

	first = p.afterBody
	if first == nowhere {
		first = p.content
	}
	if first == nowhere {
		first = last
	}

	ends := p.leaves
	if ends.first == nowhere {
		ends = p.words
	}
	if p.crowded && ends.first != nowhere {
		last = ends.last
		if ends.first-first <= maxDetour {
			first = ends.first
		}
	}

	return first, last, true
}

// good returns an offset, or the last one before it where a picture would stay
// where it is put: between the cells of a table a browser moves it in front of
// the table, in a select element it is dropped, and of svg and math it ends the
// element (or, in a CDATA section, is text).
func (p *places) good(at int) int {
	if p.isGood() {
		return at
	}

	return p.lastGood
}

func (p *places) isGood() bool {
	return !p.inSelect && !p.foreign && (len(p.tables) == 0 || p.tables[len(p.tables)-1])
}

// wantsText reports whether the text behind the last tag matters.
func (p *places) wantsText() bool {
	return p.content == nowhere || p.raw != "" || p.leafState == leafOpen
}

// text looks at the text between two tags.
func (p *places) text(data []byte, from, to int) {
	switch {
	case p.raw != "":
		if p.raw == "style" {
			p.crowded = p.crowded || mindsPictures(data[from:to])
		}

	case p.content == nowhere || p.leafState == leafOpen:
		if !hasText(data[from:to]) {
			return
		}

		if p.content == nowhere {
			p.content = from
		}
		if p.leafState == leafOpen {
			p.leafState = leafWithText
		}
	}
}

func (p *places) comment() { p.leafState = noLeaf }

// enterTemplate notes where a template element begins.
func (p *places) enterTemplate(t htmledit.Token) {
	p.leafState = noLeaf
	p.template = t.Start
}

// enterForeign notes where an outermost svg or math element begins.
func (p *places) enterForeign(t htmledit.Token) {
	if p.isGood() {
		p.lastGood = t.Start
	}
	p.foreign = true
}

func (p *places) leaveForeign() { p.foreign = false }

// headTags do not open the body by themselves.
var headTags = []string{
	"html", "head", "title", "meta", "link", "base", "style", "script", "noscript", "template", "basefont", "bgsound",
	"noframes",
}

func oneOf(name []byte, list []string) bool {
	for _, n := range list {
		if htmledit.EqualFold(name, n) {
			return true
		}
	}

	return false
}

func (p *places) startTag(data []byte, t htmledit.Token, name []byte, raw string) {
	p.raw = raw
	if p.leafState == leafWithText && closesItself(p.leafName, name) {
		p.addLeaf(t.Start)
	}
	p.leafState = noLeaf
	if p.content == nowhere || p.afterBody == nowhere {
		p.opening(t, name)
	}

	switch {
	case htmledit.EqualFold(name, "a"):
		p.link = true
	case htmledit.EqualFold(name, "body"):
		p.crowded = p.crowded || hasLayout(bytes.ToLower(data[t.Start:t.End]))
	case htmledit.EqualFold(name, "select"):
		if p.isGood() {
			p.lastGood = t.Start
		}
		p.inSelect = true
	default:
		p.startTableTag(t, name)
	}

	if p.crowded && isLeafTag(name) && !isHidden(data[t.Start:t.End]) {
		p.leafName = name
		p.leafState = leafOpen
	}
}

// opening notes where the body begins.
func (p *places) opening(t htmledit.Token, name []byte) {
	switch {
	case htmledit.EqualFold(name, "body"):
		if p.afterBody == nowhere {
			p.afterBody = p.good(t.End)
		}
	case p.content != nowhere || oneOf(name, headTags):
	case htmledit.EqualFold(name, "frameset") && p.afterBody == nowhere:
		p.frames = true
	default:
		p.content = t.Start
	}
}

// startTableTag follows the insertion modes "in table" and its kin: only in a
// cell or a caption does content stay where it is.
func (p *places) startTableTag(t htmledit.Token, name []byte) {
	switch {
	case htmledit.EqualFold(name, "table"):
		if !p.isGood() { // it ends the table whose gap it stands in
			return
		}

		p.lastGood = t.Start
		p.tables = append(p.tables, false)
	case len(p.tables) == 0:
	case oneOf(name, cellTags):
		p.tables[len(p.tables)-1] = true
	case oneOf(name, gapTags):
		p.leaveCell(t)
	}
}

var (
	cellTags = []string{"td", "th", "caption"}
	gapTags  = []string{"tr", "tbody", "thead", "tfoot", "col", "colgroup"}
)

// leaveCell notes that a tag closes the open cell of the innermost table.
func (p *places) leaveCell(t htmledit.Token) {
	if p.isGood() {
		p.lastGood = t.Start
	}
	p.tables[len(p.tables)-1] = false
}

func (p *places) endTag(t htmledit.Token, name []byte) {
	p.raw = ""
	if p.leafState == leafWithText && (bytes.EqualFold(name, p.leafName) || endsDocument(name)) {
		p.addLeaf(t.Start)
	}
	p.leafState = noLeaf

	switch {
	case htmledit.EqualFold(name, "a"):
		p.link = false
	case htmledit.EqualFold(name, "body"):
		p.beforeBodyEnd = p.good(t.Start)
	case htmledit.EqualFold(name, "html"):
		p.beforeHTMLEnd = p.good(t.Start)
	case htmledit.EqualFold(name, "select"):
		p.inSelect = false
	case len(p.tables) > 0:
		p.endTableTag(t, name)
	}
}

func (p *places) endTableTag(t htmledit.Token, name []byte) {
	switch {
	case htmledit.EqualFold(name, "table"):
		p.tables = p.tables[:len(p.tables)-1]
	case oneOf(name, cellTags), oneOf(name, gapTags):
		p.leaveCell(t)
	}
}

// addLeaf notes where the text of an element ends.
func (p *places) addLeaf(at int) {
	switch {
	case !p.isGood():
	case p.link, !oneOf(p.leafName, blockLeaves):
		p.words.add(at)
	default:
		p.leaves.add(at)
	}
}

// closesItself reports whether a start tag closes the open element, whose end
// tag may be left out.
func closesItself(open, name []byte) bool {
	return bytes.EqualFold(open, name) && oneOf(name, []string{"p", "li", "td", "th"})
}

func endsDocument(name []byte) bool {
	return htmledit.EqualFold(name, "body") || htmledit.EqualFold(name, "html")
}

// The elements that may hold a pixel behind their text.
var (
	blockLeaves  = []string{"p", "td", "th", "div", "li", "center", "h1", "h2", "h3", "h4", "h5", "h6"}
	inlineLeaves = []string{"a", "b", "i", "em", "span", "font", "strong"}
)

func isLeafTag(name []byte) bool { return oneOf(name, blockLeaves) || oneOf(name, inlineLeaves) }

// isHidden reports whether a start tag looks like one of an element that is not
// shown, such as the preview text of a newsletter.
func isHidden(tag []byte) bool {
	tag = bytes.ToLower(tag)
	for _, sign := range []string{"none", "hidden", "mso-hide"} {
		if bytes.Contains(tag, []byte(sign)) {
			return true
		}
	}

	return false
}

// hasLayout reports whether declarations, in lower case, lay children out as
// items.
func hasLayout(css []byte) bool {
	for _, s := range []string{"flex", "grid", "display:table", "display: table"} {
		if bytes.Contains(css, []byte(s)) {
			return true
		}
	}

	return false
}

// mindsPictures reports whether a style sheet minds a picture between the
// children of an element: rules that depend on how many siblings there are, or
// on whether a picture stands before one, or that lay children out as items.
func mindsPictures(css []byte) bool {
	css = bytes.ToLower(css) // names in style sheets have no case
	if hasLayout(css) {
		return true
	}

	for _, s := range []string{":first-child", ":last-child", ":only-", ":nth-", ":first-of", ":last-of"} {
		if bytes.Contains(css, []byte(s)) {
			return true
		}
	}

	for at := 0; ; {
		i := bytes.IndexAny(css[at:], "+~")
		if i < 0 {
			return false
		}
		at += i

		before := bytes.TrimRight(css[:at], " \t\r\n\f")
		if bytes.HasSuffix(before, []byte("*")) || bytes.HasSuffix(before, []byte(")")) ||
			bytes.HasSuffix(before, []byte("]")) || bytes.HasSuffix(before, []byte("img")) {
			return true
		}
		at++
	}
}
