package rewrite

import (
	"bytes"
	"strings"

	"postern/relay/envelope"
)

// Limits on structure: beyond them a part is left as it is.
const (
	maxDepth    = 32
	maxParts    = 2000
	maxHTMLPart = 16 << 20
)

// walker goes through the parts of a body and collects patches, in order.
type walker struct {
	opts    Options
	body    []byte
	parts   int
	patches []patch
	skipped []Reason
	links   int
	pixels  int
	pixeled bool // the first HTML body part has been found
}

// patch replaces body[start:end].
type patch struct {
	start, end int
	ops        []op
}

func (w *walker) skip(r Reason) []byte {
	w.skipped = append(w.skipped, r)
	return nil
}

// entity looks at one entity whose content is body[start:end]. It returns a
// new header block where the entity's own header has to change, else nil.
func (w *walker) entity(header []byte, start, end, depth int, defaultType string) []byte {
	h, ok := readContentHeader(header, defaultType)
	switch {
	case !ok:
		return w.skip(BadHeader)
	case h.mediaType == "multipart/signed":
		return w.skip(Signed)
	case h.mediaType == "multipart/encrypted", strings.HasSuffix(h.mediaType, "pkcs7-mime"):
		return w.skip(Encrypted)
	case strings.HasPrefix(h.mediaType, "multipart/"):
		return w.multipart(h, start, end, depth)
	case h.mediaType == "text/plain" && w.opts.TextLinks && w.opts.Click && !h.attachment && end-start <= maxHTMLPart:
		return w.text(h, header, start, end)
	case h.mediaType != "text/html" && h.mediaType != "text/x-amp-html" || !w.opts.any():
		return w.leaf(h, header, start, end)
	case h.attachment:
		w.skip(Attachment)
		return w.leaf(h, header, start, end)
	case end-start > maxHTMLPart:
		w.skip(TooLarge)
		return w.leaf(h, header, start, end)
	}
	return w.html(h, header, start, end)
}

// mustEncode tells whether bytes cannot go out as they are: a line is too long
// (RFC 5321 section 4.5.3.1.6), or they are 8-bit and must not be.
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

// leaf encodes a part that is not edited but cannot go out as it is: text in
// quoted-printable, anything else in base64.
func (w *walker) leaf(h contentHeader, header []byte, start, end int) []byte {
	raw := w.body[start:end]
	if !mustEncode(raw, w.opts) {
		return nil
	}
	if strings.HasPrefix(h.mediaType, "message/") { // must not be encoded (RFC 2046 section 5.2.1)
		return w.skip(LongLine)
	}
	dec, ok := decodePart(h.encoding, raw)
	if !ok {
		return w.skip(BadEncoding)
	}
	name := ""
	if h.encoding == identity {
		if h.encoding, name = base64Encoding, "base64"; strings.HasPrefix(h.mediaType, "text/") {
			h.encoding, name = quotedPrintable, "quoted-printable"
		}
	}
	w.encodeWhole(h.encoding, dec.data, nil, start, end)
	if name == "" {
		return nil
	}
	return withEncoding(header, name)
}

func (w *walker) encodeWhole(enc encoding, data []byte, edits []edit, start, end int) {
	whole := region{enc: enc, pieces: slice(data, 0, len(data), edits)}
	w.patches = append(w.patches, patch{start, end, []op{{region: &whole}}})
}

func (w *walker) multipart(h contentHeader, start, end, depth int) []byte {
	if h.boundary == "" {
		return w.skip(BadBoundary)
	}
	if depth >= maxDepth {
		return w.skip(TooDeep)
	}
	childType := "text/plain"
	if h.mediaType == "multipart/digest" {
		childType = "message/rfc822"
	}
	delim := []byte("--" + h.boundary)
	partStart := -1
	for at := start; at < end; {
		line := lineEnd(w.body, at, end)
		kind := delimiter(w.body[at:line], delim)
		if kind != notDelimiter && partStart >= 0 {
			partEnd := at
			if partEnd > partStart && bytes.HasSuffix(w.body[partStart:partEnd], crlf) {
				partEnd -= len(crlf) // it belongs to the delimiter (RFC 2046 section 5.1.1)
			}
			w.part(partStart, partEnd, depth+1, childType)
			partStart = -1
		}
		switch kind {
		case closing:
			return nil
		case opening:
			if w.parts++; w.parts > maxParts {
				return w.skip(TooManyParts)
			}
			partStart = line
		}
		at = line
	}
	if partStart >= 0 { // unterminated: mail programs show the rest
		w.part(partStart, end, depth+1, childType)
	}
	return nil
}

// part splits a body part into header and content and looks at it.
func (w *walker) part(start, end, depth int, defaultType string) {
	header, content, separated := envelope.Split(w.body[start:end])
	if !separated {
		return
	}
	mark := len(w.patches)
	newHeader := w.entity(header, end-len(content), end, depth, defaultType)
	if newHeader != nil {
		head := patch{start, start + len(header), []op{{lit: newHeader}}}
		w.patches = append(w.patches[:mark], append([]patch{head}, w.patches[mark:]...)...)
	}
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

// html edits one text/html part.
func (w *walker) html(h contentHeader, header []byte, start, end int) []byte {
	raw := w.body[start:end]
	dec, ok := decodePart(h.encoding, raw)
	if !ok {
		return w.skip(BadEncoding)
	}
	if len(dec.data) == 0 {
		return nil
	}
	utf8OK, ok := charsetAllows(h.charset, dec.data)
	if !ok {
		w.skip(Charset)
		return w.leaf(h, header, start, end)
	}
	if bytes.Contains(dec.data, pgpMark) {
		w.skip(PGP)
		return w.leaf(h, header, start, end)
	}
	kind, pixels := plainHTML, !w.pixeled
	if h.mediaType == "text/x-amp-html" { // it has opens of its own
		kind, pixels = ampHTML, true
	} else {
		w.pixeled = true
	}
	edits, tooLong := editHTML(dec.data, w.opts, kind, utf8OK, pixels)
	for range tooLong {
		w.skip(LinkTooLong)
	}
	return w.edited(h, header, start, end, dec, edits)
}

// pgpMark begins the lines of OpenPGP's ASCII armour (RFC 9580 section 6.2):
// an edit would break the signature inside.
var pgpMark = []byte("-----BEGIN PGP ")

// edited lays edits over a part.
func (w *walker) edited(h contentHeader, header []byte, start, end int, dec decoded, edits []edit) []byte {
	raw := w.body[start:end]
	if len(edits) == 0 {
		return w.leaf(h, header, start, end)
	}
	for _, e := range edits {
		switch e.kind {
		case slotLink:
			w.links++
		case slotOpen, slotInitialOpen:
			w.pixels++
		}
	}
	switch {
	case h.encoding == identity && (longLine(dec.data, edits, w.opts) || w.opts.SevenBit && !isASCII(dec.data)):
		w.encodeWhole(quotedPrintable, dec.data, edits, start, end)
		return withEncoding(header, "quoted-printable")
	case h.encoding != identity && tooLongLine(raw):
		w.encodeWhole(h.encoding, dec.data, edits, start, end)
		return nil
	}
	w.patches = append(w.patches, patch{start, end, dec.ops(raw, edits)})
	return nil
}

// maxLine is RFC 5321's limit without the CRLF (section 4.5.3.1.6).
const maxLine = 998

// longLine tells whether a line could pass the limit once the slots are filled.
func longLine(data []byte, edits []edit, o Options) bool {
	column := 0
	for _, pc := range slice(data, 0, len(data), edits) {
		if pc.kind != slotNone {
			column += pc.maxLen(o)
		}
		for rest := pc.lit; len(rest) > 0; {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				column += len(rest)
				break
			}
			if column+i > maxLine+1 {
				return true
			}
			column, rest = 0, rest[i+1:]
		}
		if column > maxLine {
			return true
		}
	}
	return false
}

// withEncoding gives a header block another Content-Transfer-Encoding.
func withEncoding(header []byte, encoding string) []byte {
	field := "Content-Transfer-Encoding: " + encoding + "\r\n"
	out := make([]byte, 0, len(header)+len(field))
	done := false
	for _, f := range envelope.Fields(header) {
		if !f.Is("Content-Transfer-Encoding") {
			out = append(out, f.Raw...)
			continue
		}
		out, done = append(out, field...), true
	}
	if !done {
		out = append(out, field...)
	}
	return out
}
