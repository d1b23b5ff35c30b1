package rewrite

import (
	"bytes"
	"postern/tracking/rewrite/htmledit"
)

// maxDetour is how far from the start of the body the first pixel may be, in
// bytes. Gmail clips messages at 102 KB.
const maxDetour = 32 << 10

// nowhere is the offset, or the index, of something that was not found.
const nowhere = -1

// places finds the places for the pixels from the tags of a document: one near
// the start and one near the end of the body, where the tree construction of a
// browser leaves an image in place (HTML standard, section 13.2.6).
//
// If a style sheet counts siblings (:first-child and the like), an image between
// the children of the body would change which elements a rule applies to; if it
// lays out children as flex items, in a grid or in a table, the image would be
// one of them. The pixels are then inserted after the text of an element that
// contains only text, where they have no siblings.
type places struct {
	limit         int  // nothing is inserted after it: the document ends inside a tag
	afterBody     int  // after the first <body ...>
	content       int  // where a browser opens the body implicitly
	beforeBodyEnd int  // before the last </body>
	beforeHTMLEnd int  // before the last </html>
	frames        bool // a frameset replaces the body

	raw      string // the element whose raw text comes next; empty: none
	template int    // where the last outermost template element begins
	tables   []bool // for each open table, whether a cell is open
	inSelect bool   // a select element is open
	foreign  bool   // an svg or math element is open
	lastGood int    // the last place before a gap in a table, a select or a foreign element
	crowded  bool   // an image between other elements would change the layout

	link      bool // an <a> is open
	leafName  []byte
	leafState leafState
	leaves    textEnds // of block elements that contain only text
	words     textEnds // of inline elements, and of any in links; used if there are no blocks
}

// textEnds are the ends of the first and of the last of several texts.
type textEnds struct{ first, last int }

// add records the end of a text.
func (e *textEnds) add(at int) {
	if e.first == nowhere {
		e.first = at
	}
	e.last = at
}

// leafState is the state of an element that may turn out to contain only text.
type leafState byte

const (
	noLeaf leafState = iota
	leafOpen
	leafWithText
)

// newPlaces returns the places of a document of that length, in bytes.
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

// hasBody reports whether the document has tags that open and close the body.
func (p *places) hasBody() bool { return p.afterBody != nowhere && p.beforeBodyEnd != nowhere }

// cut records that whatever is inserted at an offset or after it would be inside
// a tag, a comment or raw text.
func (p *places) cut(at int) { p.limit = min(p.limit, at) }

// pixels returns the offsets of the two pixels. ok is false if the document has
// no place for them.
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

// good returns the offset at if an image stays where it is inserted there, and
// the last such offset before it otherwise. Between the cells of a table a
// browser moves the image in front of the table, in a select element it drops
// it, and in svg and math the image ends the element (or is text, in a CDATA
// section).
func (p *places) good(at int) int {
	if p.isGood() {
		return at
	}

	return p.lastGood
}

// isGood reports whether an image would stay where it is inserted now.
func (p *places) isGood() bool {
	return !p.inSelect && !p.foreign && (len(p.tables) == 0 || p.tables[len(p.tables)-1])
}

// wantsText reports whether text is to be called for what follows the last tag.
func (p *places) wantsText() bool {
	return p.content == nowhere || p.raw != "" || p.leafState == leafOpen
}

// text reads the text between two tags.
func (p *places) text(data []byte, from, to int) {
	switch {
	case p.raw != "":
		if p.raw == "style" {
			p.crowded = p.crowded || countsSiblings(data[from:to])
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

// comment reads a comment.
func (p *places) comment() { p.leafState = noLeaf }

// enterTemplate records where an outermost template element begins.
func (p *places) enterTemplate(t htmledit.Token) {
	p.leafState = noLeaf
	p.template = t.Start
}

// enterForeign records where an outermost svg or math element begins.
func (p *places) enterForeign(t htmledit.Token) {
	if p.isGood() {
		p.lastGood = t.Start
	}
	p.foreign = true
}

// leaveForeign records that no svg or math element is open any more.
func (p *places) leaveForeign() { p.foreign = false }

// headTags are the elements whose start tags do not open the body implicitly.
var headTags = []string{
	"html", "head", "title", "meta", "link", "base", "style", "script", "noscript", "template", "basefont", "bgsound",
	"noframes",
}

// oneOf reports whether a name is in a list, which is in lower case.
func oneOf(name []byte, list []string) bool {
	for _, n := range list {
		if htmledit.EqualFold(name, n) {
			return true
		}
	}

	return false
}

// startTag reads a start tag. If raw text follows, raw is the name of the
// element.
func (p *places) startTag(data []byte, t htmledit.Token, name []byte, raw string) {
	p.raw = raw
	if p.leafState == leafWithText && closesImplicitly(p.leafName, name) {
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

// opening records where the body begins.
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

// startTableTag follows the insertion modes of tables (HTML standard, sections
// 13.2.6.4.9 to 13.2.6.4.15): content stays in place in cells and captions only.
func (p *places) startTableTag(t htmledit.Token, name []byte) {
	switch {
	case htmledit.EqualFold(name, "table"):
		if !p.isGood() { // between cells, it ends the outer table
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

// leaveCell records that a tag closes the open cell of the innermost table.
func (p *places) leaveCell(t htmledit.Token) {
	if p.isGood() {
		p.lastGood = t.Start
	}
	p.tables[len(p.tables)-1] = false
}

// endTag reads an end tag.
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

// endTableTag reads an end tag inside a table.
func (p *places) endTableTag(t htmledit.Token, name []byte) {
	switch {
	case htmledit.EqualFold(name, "table"):
		p.tables = p.tables[:len(p.tables)-1]
	case oneOf(name, cellTags), oneOf(name, gapTags):
		p.leaveCell(t)
	}
}

// addLeaf records the end of the text of an element.
func (p *places) addLeaf(at int) {
	switch {
	case !p.isGood():
	case p.link, !oneOf(p.leafName, blockLeaves):
		p.words.add(at)
	default:
		p.leaves.add(at)
	}
}

// closesImplicitly reports whether a start tag closes the open element, whose
// end tag may be omitted.
func closesImplicitly(open, name []byte) bool {
	return bytes.EqualFold(open, name) && oneOf(name, []string{"p", "li", "td", "th"})
}

// endsDocument reports whether an end tag of that name ends the document.
func endsDocument(name []byte) bool {
	return htmledit.EqualFold(name, "body") || htmledit.EqualFold(name, "html")
}

// The elements that may contain a pixel after their text.
var (
	blockLeaves  = []string{"p", "td", "th", "div", "li", "center", "h1", "h2", "h3", "h4", "h5", "h6"}
	inlineLeaves = []string{"a", "b", "i", "em", "span", "font", "strong"}
)

// isLeafTag reports whether a pixel may follow the text of elements of that name.
func isLeafTag(name []byte) bool { return oneOf(name, blockLeaves) || oneOf(name, inlineLeaves) }

// isHidden reports whether a start tag looks like that of an element that is not
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

// hasLayout reports whether style declarations, which are in lower case, lay out
// children as items.
func hasLayout(css []byte) bool {
	for _, s := range []string{"flex", "grid", "display:table", "display: table"} {
		if bytes.Contains(css, []byte(s)) {
			return true
		}
	}

	return false
}

// countsSiblings reports whether an image among the children of an element could
// change how a style sheet applies: it has rules that depend on the number of
// siblings or on the previous one, or that lay out children as items.
func countsSiblings(css []byte) bool {
	css = bytes.ToLower(css) // names in CSS are case-insensitive
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
