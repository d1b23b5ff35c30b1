package rewrite

import (
	"bytes"
	"encoding/base64"
)

// encoding is a Content-Transfer-Encoding (RFC 2045 section 6).
type encoding byte

const (
	identity encoding = iota // 7bit, 8bit, binary
	quotedPrintable
	base64Encoding
	unknownEncoding
)

// encodingByName returns the encoding with that name, which is in lower case.
func encodingByName(name string) encoding {
	switch name {
	case "", "7bit", "8bit", "binary":
		return identity
	case "quoted-printable":
		return quotedPrintable
	case "base64":
		return base64Encoding
	}

	return unknownEncoding
}

// String returns the name of an encoding that is written: base64 or
// quoted-printable.
func (e encoding) String() string {
	if e == base64Encoding {
		return "base64"
	}

	return "quoted-printable"
}

// encodedLine is the length of the longest line in an encoded part, in bytes
// without its CRLF (RFC 2045 sections 6.7 and 6.8).
const encodedLine = 76

// decoded is the decoded content of a part. The offsets of its encoded lines are
// not stored, since there may be millions; ops computes them again.
type decoded struct {
	enc  encoding
	data []byte
}

// decodePart decodes the body of a part. ok is false if it is malformed.
func decodePart(enc encoding, raw []byte) (d decoded, ok bool) {
	switch enc {
	case identity:
		return decoded{enc: enc, data: raw}, true
	case quotedPrintable:
		return decodeQP(raw)
	case base64Encoding:
		return decodeBase64(raw)
	}

	return decoded{}, false
}

// qpLine is a line of quoted-printable text.
type qpLine struct {
	start, end int    // offsets in the encoded part, with the line end
	text       []byte // without trailing white space and the = of a soft line break
	soft       bool   // ends with a soft line break
	hard       bool   // ends with a line break of the content
}

// readQPLine reads the line at an offset.
func readQPLine(raw []byte, at int) qpLine {
	l := qpLine{start: at, end: lineEnd(raw, at, len(raw))}
	n := l.end
	for n > at && isBlank(raw[n-1]) {
		n--
	}
	if n > at && raw[n-1] == '=' {
		l.soft = true
		n--
	}
	l.text = raw[at:n]
	l.hard = !l.soft && bytes.HasSuffix(raw[at:l.end], crlf)

	return l
}

// isBlank reports whether c is white space in quoted-printable, or in a header
// field.
func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// decodedLen returns the number of bytes that the line decodes to. Its escapes
// must be valid.
func (l qpLine) decodedLen() int {
	n := len(l.text) - 2*bytes.Count(l.text, []byte("="))
	if l.hard {
		n += len(crlf)
	}

	return n
}

// decodeQP decodes quoted-printable. ok is false for a = that does not begin an
// escape, which mail programs read differently.
func decodeQP(raw []byte) (d decoded, ok bool) {
	d = decoded{enc: quotedPrintable, data: make([]byte, 0, len(raw))}
	for at := 0; at < len(raw); {
		l := readQPLine(raw, at)
		at = l.end

		text := l.text
		for {
			i := bytes.IndexByte(text, '=')
			if i < 0 {
				break
			}
			if i+2 >= len(text) || unhex(text[i+1]) < 0 || unhex(text[i+2]) < 0 {
				return d, false
			}
			d.data = append(d.data, text[:i]...)
			d.data = append(d.data, byte(unhex(text[i+1])<<4|unhex(text[i+2])))
			text = text[i+3:]
		}

		d.data = append(d.data, text...)
		if l.hard {
			d.data = append(d.data, crlf...)
		}
	}

	return d, true
}

// unhex returns the value of a hexadecimal digit, or -1.
func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}

	return -1
}

// decodeBase64 decodes base64. ok is false if there is anything but the alphabet,
// white space, and padding at the end.
func decodeBase64(raw []byte) (d decoded, ok bool) {
	d = decoded{enc: base64Encoding, data: make([]byte, base64.StdEncoding.DecodedLen(len(raw)))}
	n, err := base64.StdEncoding.Decode(d.data, raw) // skips line ends
	if err != nil && bytes.ContainsAny(raw, " \t") {
		dense := make([]byte, 0, len(raw))
		for _, c := range raw {
			if c != ' ' && c != '\t' {
				dense = append(dense, c)
			}
		}
		n, err = base64.StdEncoding.Decode(d.data, dense)
	}
	d.data = d.data[:n]

	return d, err == nil
}

// slice cuts data[from:to] into pieces at the edits in it.
func slice(data []byte, from, to int, edits []edit) []piece {
	return appendPieces(make([]piece, 0, 2*len(edits)+1), data, from, to, edits)
}

// appendPieces is slice with the pieces appended to others.
func appendPieces(pieces []piece, data []byte, from, to int, edits []edit) []piece {
	at := from
	for _, e := range edits {
		if e.start > at {
			pieces = append(pieces, piece{lit: data[at:e.start]})
		}
		if e.kind != slotNone {
			pieces = append(pieces, piece{kind: e.kind, pixel: e.pixel, link: e.link})
		}
		at = e.end
	}
	if at < to {
		pieces = append(pieces, piece{lit: data[at:to]})
	}

	return pieces
}

// ops applies edits to a part, whose encoded form is raw. Encoded lines without
// edits are kept; runs of lines with edits become regions.
func (d *decoded) ops(raw []byte, edits []edit) []op {
	switch d.enc {
	case identity:
		return []op{{region: &region{pieces: slice(d.data, 0, len(d.data), edits)}}}
	case base64Encoding:
		return d.base64Ops(raw, edits)
	}

	return d.qpOps(raw, edits)
}

// qpCursor iterates over the lines of a quoted-printable part.
type qpCursor struct {
	raw  []byte
	line qpLine
	data int // the decoded offset of the line
	next int // the decoded offset of the next line
}

// newQPCursor returns a cursor at the first line.
func newQPCursor(raw []byte) qpCursor {
	c := qpCursor{raw: raw, line: readQPLine(raw, 0)}
	c.next = c.line.decodedLen()

	return c
}

// seek advances to the last line that begins at or before decoded offset at.
func (c *qpCursor) seek(at int) {
	for c.next <= at && c.line.end < len(c.raw) {
		c.line = readQPLine(c.raw, c.line.end)
		c.data = c.next
		c.next += c.line.decodedLen()
	}
}

// has reports whether seek(at) would not advance.
func (c *qpCursor) has(at int) bool { return at < c.next || c.line.end == len(c.raw) }

// qpOps is ops for quoted-printable.
func (d *decoded) qpOps(raw []byte, edits []edit) []op {
	// An edit makes at most one region, and three pieces: itself and its
	// neighbours. All are allocated at once, to save two allocations a link.
	// regions must not grow, because ops points to its elements.
	ops := make([]op, 0, 2*len(edits)+1)
	regions := make([]region, 0, len(edits))
	pieces := make([]piece, 0, 3*len(edits))

	c := newQPCursor(raw)
	kept := 0 // raw[:kept] is in ops
	for len(edits) > 0 {
		c.seek(edits[0].start)
		first, firstData := c.line.start, c.data
		c.seek(edits[0].end)
		n := 1
		for n < len(edits) && c.has(edits[n].start) {
			c.seek(edits[n].end)
			n++
		}

		if first > kept {
			ops = append(ops, op{lit: raw[kept:first]})
		}
		from := len(pieces)
		pieces = appendPieces(pieces, d.data, firstData, c.next, edits[:n])
		r := region{enc: quotedPrintable, pieces: pieces[from:len(pieces):len(pieces)]}
		if c.line.soft {
			r.tail = softBreak
		}
		regions = append(regions, r)
		ops = append(ops, op{region: &regions[len(regions)-1]})

		edits = edits[n:]
		kept = c.line.end
	}

	if kept < len(raw) {
		ops = append(ops, op{lit: raw[kept:]})
	}

	return ops
}

var softBreak = []byte("=\r\n")

// base64Ops is ops for base64. It encodes everything from the first edited line
// on, because an edit rarely shifts the rest by a multiple of three bytes.
func (d *decoded) base64Ops(raw []byte, edits []edit) []op {
	first, firstData := alignedLine(raw, edits[0].start)
	end := len(bytes.TrimRight(raw, " \t\r\n"))
	r := &region{enc: base64Encoding, pieces: slice(d.data, firstData, len(d.data), edits)}

	return []op{{lit: raw[:first]}, {region: r}, {lit: raw[end:]}}
}

// alignedLine returns the offset, and the decoded offset, of the last base64 line
// that begins at or before decoded offset at and with a group of four characters.
func alignedLine(raw []byte, at int) (line, data int) {
	letters := 0
	for start := 0; start < len(raw) && letters/4*3 <= at; {
		if letters%4 == 0 {
			line, data = start, letters/4*3
		}

		end := lineEnd(raw, start, len(raw))
		text := bytes.TrimSuffix(raw[start:end], crlf)
		letters += len(text) - bytes.Count(text, []byte(" ")) - bytes.Count(text, []byte("\t"))
		start = end
	}

	return line, data
}

// encode appends encoded data to dst. If it is continued, a soft line break
// follows, and white space at the end is not escaped.
func (e encoding) encode(dst, data []byte, continued bool) []byte {
	if e == base64Encoding {
		return encodeBase64(dst, data)
	}

	return encodeQP(dst, data, continued)
}

const hexDigits = "0123456789ABCDEF"

// qpLiteral has the bytes that represent themselves in quoted-printable; space
// and tab do so except at the end of a line.
var qpLiteral = func() (table [256]bool) {
	for c := range table {
		table[c] = c >= ' ' && c <= '~' && c != '=' || c == '\t'
	}

	return table
}()

// encodeQP appends data in quoted-printable, in lines of at most encodedLine
// characters. White space at the end of a line is escaped, and at the end of data
// unless it is continued.
func encodeQP(dst, data []byte, continued bool) []byte {
	const room = encodedLine - 1 // for the = of a soft break
	column := 0
	for i := 0; i < len(data); {
		n := literalRun(data[i:min(len(data), i+room-column)])
		if end := i + n; n > 0 && (data[end-1] == ' ' || data[end-1] == '\t') {
			if end == len(data) && !continued || bytes.HasPrefix(data[end:], crlf) {
				n--
			}
		}
		if n > 0 {
			dst = append(dst, data[i:i+n]...)
			column += n
			i += n
			continue
		}

		c := data[i]
		switch {
		case c == '\r' && bytes.HasPrefix(data[i:], crlf):
			dst = append(dst, crlf...)
			column = 0
			i += len(crlf)
		case column+len("=XX") > room: // also for a literal without room
			dst = append(dst, softBreak...)
			column = 0
		default:
			dst = append(dst, '=', hexDigits[c>>4], hexDigits[c&15])
			column += len("=XX")
			i++
		}
	}

	return dst
}

// literalRun returns the length of the prefix of b that needs no escapes.
func literalRun(b []byte) int {
	for i, c := range b {
		if !qpLiteral[c] {
			return i
		}
	}

	return len(b)
}

// encodeBase64 appends data in base64, in lines of encodedLine characters.
func encodeBase64(dst, data []byte) []byte {
	const chunk = encodedLine / 4 * 3
	for len(data) > chunk {
		dst = base64.StdEncoding.AppendEncode(dst, data[:chunk])
		dst = append(dst, crlf...)
		data = data[chunk:]
	}

	return base64.StdEncoding.AppendEncode(dst, data)
}
