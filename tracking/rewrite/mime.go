package rewrite

import (
	"bytes"
	"strings"

	"postern/relay/message"
)

// Limits on structure: beyond them a part is left as it is.
const (
	maxDepth    = 32
	maxParts    = 2000
	maxHTMLPart = 16 << 20
)

// maxLine is RFC 5321's limit without the CRLF (section 4.5.3.1.6).
const maxLine = 998

// span is a stretch of the message. at is its offset in the body, or noOffset
// for the header of the message itself.
type span struct {
	at    int
	bytes []byte
}

const noOffset = -1

func (s span) end() int { return s.at + len(s.bytes) }

// leafKind says what may be done with a stretch of a message.
type leafKind byte

const (
	opaqueLeaf    leafKind = iota // a part that may be encoded as a whole, and is not edited
	textLeaf                      // text/plain whose links are wrapped
	htmlLeaf                      // text/html
	ampLeaf                       // text/x-amp-html
	unreadLeaf                    // what cannot be told to be a part: long lines are folded
	betweenLeaf                   // preamble and epilogue, which nobody is shown
	untouchedLeaf                 // signed, encrypted, or a message: nothing may change
)

// leaf is a stretch of the message that is laid out by itself, in order.
type leaf struct {
	kind    leafKind
	content contentHeader
	header  span // empty for stretches that have none
	body    span

	// aside: of a multipart/related, and not in its root, which alone is shown
	// (RFC 2387 section 3.1).
	aside bool
}

// walker goes through the parts of a body and collects its leaves, in order.
type walker struct {
	opts    Options
	body    []byte
	parts   int
	within  int // attached multiparts around the present part
	leaves  []leaf
	skipped []Reason
}

func newWalker(body []byte, o Options) *walker { return &walker{body: body, opts: o} }

func (w *walker) skip(r Reason) { w.skipped = append(w.skipped, r) }

func (w *walker) leaf(kind leafKind, h contentHeader, header, body span) {
	w.leaves = append(w.leaves, leaf{kind: kind, content: h, header: header, body: body})
}

// between adds a stretch of the body that belongs to no part.
func (w *walker) between(kind leafKind, start, end int) {
	if start < end {
		w.leaf(kind, contentHeader{}, span{at: start}, span{at: start, bytes: w.body[start:end]})
	}
}

// entity looks at one entity and returns what its header says.
func (w *walker) entity(header, body span, depth int, defaultType string) contentHeader {
	h, ok := readContentHeader(header.bytes, defaultType)
	h.attachment = h.attachment || w.within > 0
	tooLarge := len(body.bytes) > maxHTMLPart
	switch {
	case !ok:
		w.skip(BadHeader)
		w.leaf(unreadLeaf, contentHeader{}, header, body)
	case h.mediaType == "multipart/signed":
		w.skip(Signed)
		w.leaf(untouchedLeaf, h, header, body)
	case h.mediaType == "multipart/encrypted", strings.HasSuffix(h.mediaType, "pkcs7-mime"):
		w.skip(Encrypted)
		w.leaf(untouchedLeaf, h, header, body)
	case strings.HasPrefix(h.mediaType, "multipart/"):
		w.multipart(h, header, body, depth)
	case strings.HasPrefix(h.mediaType, "message/"): // must not be encoded (RFC 2046 section 5.2.1)
		w.leaf(untouchedLeaf, h, header, body)
	case h.mediaType == "text/plain" && w.opts.TextLinks && w.opts.Click && !h.attachment && !tooLarge:
		w.leaf(textLeaf, h, header, body)
	case !isMediaType(h.mediaType) && strings.Contains(h.mediaType, "html"):
		w.skip(BadHeader) // some mail programs read it as text/html
		w.leaf(opaqueLeaf, h, header, body)
	case h.mediaType != "text/html" && h.mediaType != "text/x-amp-html" || !w.opts.any():
		w.leaf(opaqueLeaf, h, header, body)
	case h.attachment:
		w.skip(Attachment)
		w.leaf(opaqueLeaf, h, header, body)
	case tooLarge:
		w.skip(TooLarge)
		w.leaf(opaqueLeaf, h, header, body)
	case h.mediaType == "text/x-amp-html":
		w.leaf(ampLeaf, h, header, body)
	default:
		w.leaf(htmlLeaf, h, header, body)
	}

	return h
}

// child is a part of a multipart: its leaves, and its Content-ID.
type child struct {
	id       string
	from, to int // indices of the walker's leaves
}

func (w *walker) multipart(h contentHeader, header, body span, depth int) {
	switch {
	case h.boundary == "":
		w.skip(BadBoundary)
		w.leaf(unreadLeaf, h, header, body)
		return
	case depth >= maxDepth:
		w.skip(TooDeep)
		w.leaf(unreadLeaf, h, header, body)
		return
	}

	w.leaf(untouchedLeaf, h, header, span{at: body.at}) // for long lines in the header
	childType := "text/plain"
	if h.mediaType == "multipart/digest" {
		childType = "message/rfc822"
	}

	attached := h.attachment && depth > 0 // the message itself is nobody's attachment
	if attached {
		w.within++ // it is one as a whole (RFC 2183 section 2)
	}
	children := w.children(h, body, depth, childType)
	if attached {
		w.within--
	}
	if h.mediaType == "multipart/related" {
		w.setAside(children, h.start)
	}
}

// children walks over the parts between the delimiters (RFC 2046 section
// 5.1.1).
func (w *walker) children(h contentHeader, body span, depth int, childType string) (children []child) {
	delim := []byte("--" + h.boundary)
	end := body.end()
	between := body.at // where a stretch begins that is not a part
	partStart := nowhere
	for at := body.at; at < end; {
		line := lineEnd(w.body, at, end)
		kind := delimiter(w.body[at:line], delim)
		if kind != notDelimiter && partStart != nowhere {
			text := bytes.TrimSuffix(w.body[partStart:at], crlf) // the line end belongs to the delimiter
			partEnd := partStart + len(text)
			children = append(children, w.part(partStart, partEnd, depth+1, childType))
			between = at
			partStart = nowhere
		}

		switch kind {
		case closing:
			w.between(betweenLeaf, between, at)
			w.between(betweenLeaf, line, end)
			return children
		case opening:
			w.between(betweenLeaf, between, at)
			if w.parts++; w.parts > maxParts {
				w.skip(TooManyParts)
				w.between(unreadLeaf, line, end)
				return children
			}
			partStart = line
		}
		at = line
	}

	if partStart != nowhere { // unterminated: mail programs show the rest
		return append(children, w.part(partStart, end, depth+1, childType))
	}
	w.between(betweenLeaf, between, end)

	return children
}

// setAside marks what a mail program does not show of a multipart/related: all
// but its root, which is the part that start names, else the first.
func (w *walker) setAside(children []child, start string) {
	root := 0
	for i, c := range children {
		if start != "" && c.id == start {
			root = i
			break
		}
	}

	for i, c := range children {
		for j := c.from; j < c.to && i != root; j++ {
			w.leaves[j].aside = true
		}
	}
}

// part splits a body part into header and content and looks at it.
func (w *walker) part(start, end, depth int, defaultType string) child {
	c := child{from: len(w.leaves)}
	header, content, separated := message.Split(w.body[start:end])
	if separated {
		h := w.entity(span{start, header}, span{end - len(content), content}, depth, defaultType)
		c.id = h.id
	} else {
		w.between(unreadLeaf, start, end)
	}
	c.to = len(w.leaves)

	return c
}

func lineEnd(b []byte, at, end int) int {
	if i := bytes.IndexByte(b[at:end], '\n'); i >= 0 {
		return at + i + 1
	}

	return end
}

type delimiterKind int

const (
	notDelimiter delimiterKind = iota
	opening
	closing
)

// delimiter reads a line as RFC 2046 section 5.1.1 does: the delimiter, two
// more dashes at the close, and nothing but white space behind it.
func delimiter(line, delim []byte) delimiterKind {
	rest, ok := bytes.CutPrefix(line, delim)
	if !ok {
		return notDelimiter
	}

	kind := opening
	if after, ok := bytes.CutPrefix(rest, []byte("--")); ok {
		kind, rest = closing, after
	}
	if len(bytes.Trim(rest, " \t\r\n")) > 0 {
		return notDelimiter
	}

	return kind
}
