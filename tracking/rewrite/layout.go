package rewrite

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"postern/relay/message"
)

// layout is what becomes of the leaves of a message.
type layout struct {
	opts    Options
	body    []byte
	header  []byte // the new header of the message; nil: it stays
	patches []patch
	skipped []Reason
	edits   int
	links   int
	pixels  int
}

// patch replaces body[start:end].
type patch struct {
	start, end int
	ops        []op
}

// layOut returns the patches of all leaves, in order.
func layOut(leaves []leaf, body []byte, o Options) *layout {
	l := &layout{opts: o, body: body}
	parts := make([]decodedLeaf, len(leaves))
	for i := range leaves {
		parts[i] = l.decode(&leaves[i])
	}

	pixeled := pixelLeaf(leaves)
	for i := range leaves {
		wish := withoutPixels
		if i == pixeled || leaves[i].kind == ampLeaf { // AMP has opens of its own
			wish = withPixels
		}
		l.leaf(&leaves[i], parts[i], wish)
		parts[i] = decodedLeaf{}
	}

	return l
}

// decodedLeaf is the content of a leaf that is edited.
type decodedLeaf struct {
	content decoded
	charset textCharset
}

// pgpMark begins the lines of OpenPGP's ASCII armour (RFC 9580 section 6.2):
// an edit would break the signature inside.
var pgpMark = []byte("-----BEGIN PGP ")

// decode reads the content of a leaf that is to be edited. What cannot be read
// for certain is changed into a leaf that is not.
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

// pixelLeaf returns the index of the HTML body part that gets the open pixels,
// or -1: the first that is shown and has no file name, else the first that is
// shown, else the first.
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

func (l *layout) skip(r Reason) { l.skipped = append(l.skipped, r) }

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

// edited lays edits over a part.
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

// whole is a part's content encoded as one region.
func whole(enc encoding, data []byte, list []edit) []op {
	return []op{{region: &region{enc: enc, pieces: slice(data, 0, len(data), list)}}}
}

// unedited returns the content of a leaf that is not edited and cannot go out
// as it is, nil for all others: text is encoded in quoted-printable, anything
// else in base64, and what is not a part gets shorter lines.
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

func folded(raw []byte, method foldMethod) []op {
	if !tooLongLine(raw) {
		return nil // it has 8-bit content that nobody can encode
	}

	return []op{{lit: foldLines(raw, method)}}
}

// between returns a preamble or an epilogue that can go out. Nobody is shown
// one, so that 8-bit characters need not stay.
func (l *layout) between(raw []byte) []op {
	out := foldLines(raw, foldPlain)
	for i := 0; l.opts.SevenBit && i < len(out); i++ {
		if out[i] >= utf8.RuneSelf {
			out[i] = '?'
		}
	}

	return []op{{lit: out}}
}

// mustEncode reports whether bytes cannot go out as they are: a line is too
// long, or they are 8-bit and must not be.
func mustEncode(raw []byte, o Options) bool {
	return tooLongLine(raw) || o.SevenBit && !isASCII(raw)
}

func tooLongLine(raw []byte) bool {
	for len(raw) > maxLine {
		// The CRLF of a line that is just short enough ends at byte 1000.
		i := bytes.LastIndexByte(raw[:min(len(raw), maxLine+2)], '\n')
		if i < 0 {
			return true
		}
		raw = raw[i+1:]
	}

	return false
}

// longLine reports whether a line could pass the limit once the slots are
// filled.
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

// columns follows how long the lines of a text are.
type columns struct {
	now     int
	tooLong bool
}

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

// withEncoding returns a header block with another Content-Transfer-Encoding.
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
