package rewrite

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"postern/relay/message"
)

// layout collects what changes in the body of a message.
type layout struct {
	opts    Options
	body    []byte
	header  []byte // the new header of the message; nil: unchanged
	patches []patch
	skipped []Reason
	edits   int
	links   int
	pixels  int
}

// patch replaces body[start:end] with ops.
type patch struct {
	start, end int
	ops        []op
}

// layOut edits the leaves of a message, in order.
func layOut(leaves []leaf, body []byte, o Options) *layout {
	l := &layout{opts: o, body: body}
	parts := make([]decodedLeaf, len(leaves))
	for i := range leaves {
		parts[i] = l.decode(&leaves[i])
	}

	pixeled := pixelLeaf(leaves)
	for i := range leaves {
		wish := withoutPixels
		if i == pixeled || leaves[i].kind == ampLeaf { // AMP parts report opens separately
			wish = withPixels
		}
		l.leaf(&leaves[i], parts[i], wish)
		parts[i] = decodedLeaf{}
	}

	return l
}

// decodedLeaf is the decoded content of a leaf that is edited.
type decodedLeaf struct {
	content decoded
	charset textCharset
}

// pgpMark begins OpenPGP's ASCII armor (RFC 9580 section 6.2). An edit would
// break the signature.
var pgpMark = []byte("-----BEGIN PGP ")

// decode returns the content of a leaf that is to be edited. If it cannot be
// read reliably, the leaf is changed to a kind that is not edited.
func (l *layout) decode(lf *leaf) (d decodedLeaf) {
	if lf.kind != textLeaf && lf.kind != htmlLeaf && lf.kind != ampLeaf {
		return d
	}

	content, ok := decodePart(lf.content.encoding, lf.body.bytes)
	if !ok {
		l.skip(BadEncoding)
		lf.kind = unreadLeaf
		return d
	}

	charset, ok := readCharset(lf.content.charset, content.data)
	switch {
	case !ok:
		l.skip(Charset)
	case bytes.Contains(content.data, pgpMark):
		l.skip(PGP)
	case len(content.data) > 0:
		return decodedLeaf{content: content, charset: charset}
	}
	lf.kind = opaqueLeaf

	return d
}

// pixelLeaf returns the index of the HTML leaf that the open pixels are inserted
// into, or -1 if there is none: the first that is shown and has no file name,
// else the first that is shown, else the first.
func pixelLeaf(leaves []leaf) int {
	best, rank := -1, 0
	for i := range leaves {
		if leaves[i].kind != htmlLeaf {
			continue
		}

		r := 3
		switch {
		case leaves[i].aside:
			r = 1
		case leaves[i].content.named:
			r = 2
		}
		if r > rank {
			best, rank = i, r
		}
	}

	return best
}

// skip records why a leaf or a link is left alone.
func (l *layout) skip(r Reason) { l.skipped = append(l.skipped, r) }

// patch replaces a range of the body.
func (l *layout) patch(at span, ops ...op) {
	l.patches = append(l.patches, patch{at.at, at.end(), ops})
}

// setHeader replaces the header of a leaf.
func (l *layout) setHeader(lf *leaf, header []byte) {
	if lf.header.at == noOffset {
		l.header = header
		return
	}

	l.patch(lf.header, op{lit: header})
}

// leaf lays out one leaf: its header first, then its content.
func (l *layout) leaf(lf *leaf, d decodedLeaf, wish pixelWish) {
	var e edits
	switch lf.kind {
	case textLeaf:
		e = editText(d.content.data, l.opts, d.charset, lf.content.flow)
	case htmlLeaf:
		e = editHTML(d.content.data, l.opts, plainHTML, d.charset, wish)
	case ampLeaf:
		e = editHTML(d.content.data, l.opts, ampHTML, d.charset, wish)
	}
	if e.overflow || l.edits+len(e.list) > maxEdits || len(l.skipped)+len(e.skipped) > maxEdits {
		l.skip(TooManyLinks)
		e = edits{}
	}
	l.skipped = append(l.skipped, e.skipped...)

	var content []op
	var enc encoding
	if len(e.list) > 0 {
		content, enc = l.edited(lf, d.content, e.list)
	} else {
		content, enc = l.unedited(lf)
	}

	header := lf.header.bytes
	tooLong := lf.header.at != noOffset && tooLongLine(header)
	if tooLong {
		header = foldLines(header, foldHeader)
	}
	if enc != lf.content.encoding {
		header = withEncoding(header, enc)
	}
	if tooLong || enc != lf.content.encoding {
		l.setHeader(lf, header)
	}
	if content != nil {
		l.patch(lf.body, content...)
	}
}

// edited returns the content of a leaf with its edits, and its encoding.
func (l *layout) edited(lf *leaf, content decoded, list []edit) ([]op, encoding) {
	l.edits += len(list)
	for i := range list {
		switch list[i].kind {
		case slotLink:
			l.links++
		case slotOpen, slotInitialOpen:
			l.pixels++
		}
	}

	enc := lf.content.encoding
	switch {
	case enc == identity && l.mustBeEncoded(content.data, list):
		return whole(quotedPrintable, content.data, list), quotedPrintable
	case enc != identity && tooLongLine(lf.body.bytes):
		return whole(enc, content.data, list), enc
	}

	return content.ops(lf.body.bytes, list), enc
}

// mustBeEncoded is mustEncode for data with edits.
func (l *layout) mustBeEncoded(data []byte, list []edit) bool {
	return longLine(data, list, l.opts) || l.opts.SevenBit && !isASCII(data)
}

// whole returns the content of a part as one encoded region.
func whole(enc encoding, data []byte, list []edit) []op {
	return []op{{region: &region{enc: enc, pieces: slice(data, 0, len(data), list)}}}
}

// unedited returns the content of a leaf without edits that cannot be sent as it
// is, and its encoding: text is encoded in quoted-printable and anything else in
// base64, and lines outside of parts are folded. It returns nil for other leaves.
func (l *layout) unedited(lf *leaf) ([]op, encoding) {
	raw, enc := lf.body.bytes, lf.content.encoding
	if !mustEncode(raw, l.opts) {
		return nil, enc
	}

	switch lf.kind {
	case untouchedLeaf:
		if tooLongLine(raw) {
			l.skip(LongLine)
		}
		return nil, enc
	case unreadLeaf:
		return folded(raw, foldMethodOf(enc)), enc
	case betweenLeaf:
		return l.between(raw), enc
	}

	content, ok := decodePart(enc, raw)
	if !ok {
		l.skip(BadEncoding)
		return folded(raw, foldMethodOf(enc)), enc
	}
	if enc == identity {
		enc = base64Encoding
		if strings.HasPrefix(lf.content.mediaType, "text/") {
			enc = quotedPrintable
		}
	}

	return whole(enc, content.data, nil), enc
}

// folded returns raw with its long lines folded, or nil if there are none.
func folded(raw []byte, method foldMethod) []op {
	if !tooLongLine(raw) {
		return nil // it has 8-bit content, which cannot be encoded here
	}

	return []op{{lit: foldLines(raw, method)}}
}

// between returns a preamble or an epilogue in a form that can be sent. It is
// never shown, so 8-bit characters need not be preserved.
func (l *layout) between(raw []byte) []op {
	out := foldLines(raw, foldPlain)
	for i := 0; l.opts.SevenBit && i < len(out); i++ {
		if out[i] >= utf8.RuneSelf {
			out[i] = '?'
		}
	}

	return []op{{lit: out}}
}

// mustEncode reports whether raw cannot be sent as it is: a line is too long, or
// it has 8-bit content and SevenBit is set.
func mustEncode(raw []byte, o Options) bool {
	return tooLongLine(raw) || o.SevenBit && !isASCII(raw)
}

// tooLongLine reports whether a line is longer than maxLine.
func tooLongLine(raw []byte) bool {
	for len(raw) > maxLine {
		// The CRLF of a line of maxLine bytes ends at byte 1000.
		i := bytes.LastIndexByte(raw[:min(len(raw), maxLine+2)], '\n')
		if i < 0 {
			return true
		}
		raw = raw[i+1:]
	}

	return false
}

// longLine reports whether a line could exceed maxLine once the slots are filled
// in.
func longLine(data []byte, list []edit, o Options) bool {
	var c columns
	at := 0
	for i := range list {
		e := &list[i]
		c.literal(data[at:e.start])
		at = e.end

		switch e.kind {
		case slotLink:
			c.now += o.MaxURL(e.link)
		case slotOpen, slotInitialOpen:
			form := pixelHTML[e.pixel]
			c.now += len(form.before) + o.MaxURL(Link{})
			c.literal([]byte(form.after))
		}
	}
	c.literal(data[at:])

	return c.tooLong || c.now > maxLine
}

// columns measures the lines of a text.
type columns struct {
	now     int  // the length of the present line so far
	tooLong bool // a line was longer than maxLine
}

// literal counts literal bytes.
func (c *columns) literal(b []byte) {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			c.now += len(b)
			return
		}

		c.tooLong = c.tooLong || c.now+i > maxLine+1 // with the CR
		c.now = 0
		b = b[i+1:]
	}
}

// withEncoding returns a header block with its Content-Transfer-Encoding
// replaced, or added.
func withEncoding(header []byte, enc encoding) []byte {
	field := "Content-Transfer-Encoding: " + enc.String() + "\r\n"
	out := make([]byte, 0, len(header)+len(field))
	done := false
	for _, f := range message.Fields(header) {
		if !f.Is("Content-Transfer-Encoding") {
			out = append(out, f.Raw...)
			continue
		}
		out = append(out, field...)
		done = true
	}
	if !done {
		out = append(out, field...)
	}

	return out
}
