package rewrite

import (
	"bytes"
	"strings"

	"postern/relay/message"
)

// Limits of the structure of a message. Parts beyond them are left alone.
const (
	maxDepth    = 32       // nested multiparts
	maxParts    = 2000     // body parts of a message
	maxHTMLPart = 16 << 20 // bytes of an encoded part that is edited
)

// maxLine is the longest line that SMTP allows, in bytes without its CRLF (RFC
// 5321 section 4.5.3.1.6).
const maxLine = 998

// span is a range of the message. at is its offset in the body, or noOffset for
// the header of the message itself.
type span struct {
	at    int
	bytes []byte
}

const noOffset = -1

func (s span) end() int { return s.at + len(s.bytes) }

// leafKind says how a range of a message may be changed.
type leafKind byte

const (
	opaqueLeaf    leafKind = iota // a part that is not edited, but may be encoded
	textLeaf                      // text/plain, with links to wrap
	htmlLeaf                      // text/html
	ampLeaf                       // text/x-amp-html
	unreadLeaf                    // malformed: long lines are folded
	betweenLeaf                   // a preamble or an epilogue, which is never shown
	untouchedLeaf                 // signed, encrypted, or a message: must not change
)

// leaf is a range of the message that is edited, or encoded, separately.
type leaf struct {
	kind    leafKind
	content contentHeader
	header  span // empty if there is none
	body    span

	// aside is set in a multipart/related outside of its root, which is the only
	// part that is shown (RFC 2387 section 3.1).
	aside bool
}

// walker walks through the parts of a body and collects the leaves, in order.
type walker struct {
	opts    Options
	body    []byte
	parts   int
	within  int // the number of attached multiparts around the present part
	leaves  []leaf
	skipped []Reason
}

func newWalker(body []byte, o Options) *walker { return &walker{body: body, opts: o} }

// skip records why a part is left alone.
func (w *walker) skip(r Reason) { w.skipped = append(w.skipped, r) }

// leaf adds a leaf.
func (w *walker) leaf(kind leafKind, h contentHeader, header, body span) {
	w.leaves = append(w.leaves, leaf{kind: kind, content: h, header: header, body: body})
}

// between adds a range of the body that is not part of a body part.
func (w *walker) between(kind leafKind, start, end int) {
	if start < end {
		w.leaf(kind, contentHeader{}, span{at: start}, span{at: start, bytes: w.body[start:end]})
	}
}

// entity adds the leaves of an entity and returns what its header says.
func (w *walker) entity(header, body span, depth int, defaultType string) contentHeader {
	h, ok := readContentHeader(header.bytes, defaultType)
	h.attachment = h.attachment || w.within > 0
	if !ok {
		w.skip(BadHeader)
		w.leaf(unreadLeaf, contentHeader{}, header, body)

		return h
	}

	if isOpenMultipart(h) {
		w.multipart(h, header, body, depth)
		return h
	}

	kind, why := w.opts.leafKindOf(h, len(body.bytes))
	if why != "" {
		w.skip(why)
	}
	w.leaf(kind, h, header, body)

	return h
}

// isOpenMultipart reports whether the parts of an entity may be edited: it is a
// multipart, and neither signed nor encrypted (RFC 1847).
func isOpenMultipart(h contentHeader) bool {
	sub, ok := strings.CutPrefix(h.mediaType, "multipart/")
	return ok && sub != "signed" && sub != "encrypted" && !strings.HasSuffix(sub, "pkcs7-mime")
}

// leafKindOf returns the kind of a leaf of size bytes, and the reason if it is left
// alone although it could have links.
func (o Options) leafKindOf(h contentHeader, size int) (leafKind, Reason) {
	tooLarge := size > maxHTMLPart
	switch {
	case h.mediaType == "multipart/signed":
		return untouchedLeaf, Signed
	case h.mediaType == "multipart/encrypted", strings.HasSuffix(h.mediaType, "pkcs7-mime"):
		return untouchedLeaf, Encrypted
	case strings.HasPrefix(h.mediaType, "message/"): // must not be encoded (RFC 2046 section 5.2.1)
		return untouchedLeaf, ""
	case h.mediaType == "text/plain" && o.TextLinks && o.Click && !h.attachment && !tooLarge:
		return textLeaf, ""
	case !isMediaType(h.mediaType) && strings.Contains(h.mediaType, "html"):
		return opaqueLeaf, BadHeader // some mail programs read it as text/html
	case h.mediaType != "text/html" && h.mediaType != "text/x-amp-html" || !o.any():
		return opaqueLeaf, ""
	case h.attachment:
		return opaqueLeaf, Attachment
	case tooLarge:
		return opaqueLeaf, TooLarge
	case h.mediaType == "text/x-amp-html":
		return ampLeaf, ""
	}

	return htmlLeaf, ""
}

// child is a body part of a multipart.
type child struct {
	id       string // Content-ID
	from, to int    // the range of the walker's leaves
}

// multipart adds the leaves of a multipart entity.
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

	w.leaf(untouchedLeaf, h, header, span{at: body.at}) // its header may have long lines
	childType := "text/plain"
	if h.mediaType == "multipart/digest" {
		childType = "message/rfc822"
	}

	attached := h.attachment && depth > 0 // the message itself is not an attachment
	if attached {
		w.within++ // all of it is attached (RFC 2183 section 2)
	}
	children := w.children(h, body, depth, childType)
	if attached {
		w.within--
	}
	if h.mediaType == "multipart/related" {
		w.setAside(children, h.start)
	}
}

// children adds the leaves of the body parts between the delimiters of a
// multipart (RFC 2046 section 5.1.1).
func (w *walker) children(h contentHeader, body span, depth int, childType string) (children []child) {
	delim := []byte("--" + h.boundary)
	end := body.end()
	between := body.at // where a range outside of body parts begins
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

// setAside marks the leaves of a multipart/related outside of its root. The root
// is the part whose Content-ID is start, or else the first.
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

// part adds the leaves of a body part.
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

// lineEnd returns the end of the line at an offset, with its line end, or end.
func lineEnd(b []byte, at, end int) int {
	if i := bytes.IndexByte(b[at:end], '\n'); i >= 0 {
		return at + i + 1
	}

	return end
}

// delimiterKind says which delimiter of a multipart a line is.
type delimiterKind int

const (
	notDelimiter delimiterKind = iota
	opening
	closing
)

// delimiter returns the kind of a line. A delimiter has two more dashes at the
// end of the multipart, and may be followed by white space (RFC 2046 section
// 5.1.1).
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
