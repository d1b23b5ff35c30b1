package rewrite

import (
	"bytes"
	"encoding/base64"
	"sort"
)

// encoding is a Content-Transfer-Encoding (RFC 2045 section 6).
type encoding byte

const (
	identity encoding = iota // 7bit, 8bit, binary
	quotedPrintable
	base64Encoding
	unknownEncoding
)

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

// encodedLine is the longest line written in an encoded part (RFC 2045
// sections 6.7 and 6.8).
const encodedLine = 76

// decoded is a part's content with the way back to its encoded lines.
type decoded struct {
	enc   encoding
	data  []byte
	lines []codedLine // of an encoded part: in order, covering all of it
}

// codedLine says where an encoded line begins, raw and decoded.
type codedLine struct {
	raw, data int
	soft      bool // quoted-printable: ends with a soft line break
	aligned   bool // base64: begins with a whole group of four
}

func decodePart(enc encoding, raw []byte) (decoded, bool) {
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

// decodeQP reads quoted-printable line by line. A = that begins no escape is
// refused: what a mail program makes of it cannot be told.
func decodeQP(raw []byte) (decoded, bool) {
	d := decoded{enc: quotedPrintable, data: make([]byte, 0, len(raw)), lines: make([]codedLine, 0, bytes.Count(raw, crlf)+1)}
	for at := 0; at < len(raw); {
		end := lineEnd(raw, at, len(raw))
		line := raw[at:end]
		text := bytes.TrimRight(line, " \t\r\n")
		cl := codedLine{raw: at, data: len(d.data)}
		if bytes.HasSuffix(text, []byte("=")) {
			cl.soft, text = true, text[:len(text)-1]
		}
		for i := 0; i < len(text); i++ {
			if text[i] != '=' {
				d.data = append(d.data, text[i])
				continue
			}
			if i+2 >= len(text) || unhex(text[i+1]) < 0 || unhex(text[i+2]) < 0 {
				return d, false
			}
			d.data = append(d.data, byte(unhex(text[i+1])<<4|unhex(text[i+2])))
			i += 2
		}
		if !cl.soft && bytes.HasSuffix(line, crlf) {
			d.data = append(d.data, crlf...)
		}
		d.lines = append(d.lines, cl)
		at = end
	}
	return d, true
}

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

// decodeBase64 reads base64 lines. Anything but the alphabet, white space and
// padding at the end is refused.
func decodeBase64(raw []byte) (decoded, bool) {
	d := decoded{enc: base64Encoding, lines: make([]codedLine, 0, bytes.Count(raw, crlf)+1)}
	text := make([]byte, 0, len(raw))
	padded := false
	for at := 0; at < len(raw); {
		end := lineEnd(raw, at, len(raw))
		d.lines = append(d.lines, codedLine{raw: at, data: len(text) / 4 * 3, aligned: len(text)%4 == 0})
		if line := bytes.TrimSuffix(raw[at:end], crlf); !padded && bytes.IndexByte(line, '=') < 0 && bytes.IndexByte(line, ' ') < 0 && bytes.IndexByte(line, '\t') < 0 {
			text = append(text, line...) // what is no base64 fails to decode
			at = end
			continue
		}
		for _, c := range raw[at:end] {
			switch {
			case c == ' ' || c == '\t' || c == '\r' || c == '\n':
				continue
			case c == '=':
				padded = true
			case padded:
				return d, false
			}
			text = append(text, c)
		}
		at = end
	}
	d.data = make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(d.data, text)
	d.data = d.data[:n]
	return d, err == nil
}

// slice cuts data[from:to] into pieces at the edits that lie in it.
func slice(data []byte, from, to int, edits []edit) []piece {
	return appendPieces(make([]piece, 0, 2*len(edits)+1), data, from, to, edits)
}

func appendPieces(pieces []piece, data []byte, from, to int, edits []edit) []piece {
	at := from
	for _, e := range edits {
		if e.start > at {
			pieces = append(pieces, piece{lit: data[at:e.start]})
		}
		if e.kind != slotNone {
			pieces = append(pieces, piece{kind: e.kind, link: e.link})
		}
		at = e.end
	}
	if at < to {
		pieces = append(pieces, piece{lit: data[at:to]})
	}
	return pieces
}

// ops lays the edits over the encoded content: lines without an edit are kept
// as they are, runs of lines with one become regions.
func (d *decoded) ops(raw []byte, edits []edit) []op {
	switch d.enc {
	case identity:
		return []op{{region: &region{pieces: slice(d.data, 0, len(d.data), edits)}}}
	case base64Encoding:
		return d.base64Ops(raw, edits)
	}
	// An edit makes one region at most, and of pieces itself and one before and
	// after it: room for all of them at once, since a link would else cost two
	// allocations. regions must not grow, its elements are pointed to.
	ops := make([]op, 0, 2*len(edits)+1)
	regions := make([]region, 0, len(edits))
	pieces := make([]piece, 0, 3*len(edits))
	kept := 0 // lines before this one are laid out
	for len(edits) > 0 {
		first, last := d.lineOf(edits[0].start), d.lineOf(edits[0].end)
		n := 1
		for n < len(edits) && d.lineOf(edits[n].start) <= last {
			last = max(last, d.lineOf(edits[n].end))
			n++
		}
		if first > kept {
			ops = append(ops, op{lit: raw[d.lines[kept].raw:d.lines[first].raw]})
		}
		from := len(pieces)
		pieces = appendPieces(pieces, d.data, d.lines[first].data, d.dataEnd(last), edits[:n])
		regions = append(regions, region{enc: quotedPrintable, pieces: pieces[from:len(pieces):len(pieces)]})
		r := &regions[len(regions)-1]
		if d.lines[last].soft {
			r.tail = []byte("=\r\n")
		}
		ops = append(ops, op{region: r})
		edits, kept = edits[n:], last+1
	}
	if kept < len(d.lines) {
		ops = append(ops, op{lit: raw[d.lines[kept].raw:]})
	}
	return ops
}

// base64Ops re-encodes from the first edited line on: what follows an edit
// shifts by a length that is rarely a multiple of three.
func (d *decoded) base64Ops(raw []byte, edits []edit) []op {
	first := d.lineOf(edits[0].start)
	for !d.lines[first].aligned {
		first--
	}
	end := len(bytes.TrimRight(raw, " \t\r\n"))
	r := &region{enc: base64Encoding, pieces: slice(d.data, d.lines[first].data, len(d.data), edits)}
	return []op{{lit: raw[:d.lines[first].raw]}, {region: r}, {lit: raw[end:]}}
}

// lineOf finds the encoded line that holds decoded offset at: the last one
// that begins there or before.
func (d *decoded) lineOf(at int) int {
	return max(0, sort.Search(len(d.lines), func(i int) bool { return d.lines[i].data > at })-1)
}

func (d *decoded) dataEnd(line int) int {
	if line+1 < len(d.lines) {
		return d.lines[line+1].data
	}
	return len(d.data)
}

// encode appends data in the encoding. continued says that a soft line break
// follows, so that white space at the end needs no escape.
func (e encoding) encode(dst, data []byte, continued bool) []byte {
	if e == base64Encoding {
		return encodeBase64(dst, data)
	}
	return encodeQP(dst, data, continued)
}

const hexDigits = "0123456789ABCDEF"

func encodeQP(dst, data []byte, continued bool) []byte {
	column := 0
	for i := 0; i < len(data); i++ {
		c := data[i]
		if c == '\r' && i+1 < len(data) && data[i+1] == '\n' {
			dst = append(dst, crlf...)
			column = 0
			i++
			continue
		}
		atEnd := i+1 == len(data) && !continued || i+2 < len(data) && data[i+1] == '\r' && data[i+2] == '\n'
		literal := c > ' ' && c <= '~' && c != '=' || (c == ' ' || c == '\t') && !atEnd
		width := 3
		if literal {
			width = 1
		}
		if column+width > encodedLine-1 { // room for the = of a soft break
			dst = append(dst, "=\r\n"...)
			column = 0
		}
		column += width
		if literal {
			dst = append(dst, c)
		} else {
			dst = append(dst, '=', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

func encodeBase64(dst, data []byte) []byte {
	const chunk = encodedLine / 4 * 3
	for len(data) > chunk {
		dst = base64.StdEncoding.AppendEncode(dst, data[:chunk])
		dst = append(dst, crlf...)
		data = data[chunk:]
	}
	return base64.StdEncoding.AppendEncode(dst, data)
}
