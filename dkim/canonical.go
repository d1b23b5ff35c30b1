package dkim

import (
	"bytes"
	"hash"
)

// bodyHasher hashes a body in relaxed canonicalization (RFC 6376 section
// 3.4.4): white space inside a line becomes one space, white space at the end
// of a line and empty lines at the end of the body are removed.
type bodyHasher struct {
	h   hash.Hash
	buf []byte
}

// reset discards what the last use left behind.
func (b *bodyHasher) reset() {
	b.h.Reset()
	b.buf = b.buf[:0]
}

// flushAt is how many bytes are collected before they are hashed.
const flushAt = 16 << 10

var crlf = []byte("\r\n")

// relaxed hashes body, whose line ends are all CRLF. It jumps from one run of
// white space that has to change to the next, so that the bytes between cost no
// more than a copy and the hash.
func (b *bodyHasher) relaxed(body []byte) {
	body = body[:contentEnd(body)]
	if len(body) == 0 {
		return
	}

	find := newFinder()
	for at := 0; at < len(body); {
		from := find.next(body, at)
		for from > at && isWSP(body[from-1]) { // a space before a tab
			from--
		}
		b.write(body[at:from])

		at = from
		for at < len(body) && isWSP(body[at]) {
			at++
		}
		if at > from && body[at] != '\r' {
			b.buf = append(b.buf, ' ')
		}
	}

	b.write(crlf)
	b.flush()
}

// write hashes p, later.
func (b *bodyHasher) write(p []byte) {
	if len(p) > flushAt { // not worth a copy
		b.flush()
		b.h.Write(p)
		return
	}

	b.buf = append(b.buf, p...)
	if len(b.buf) > flushAt {
		b.flush()
	}
}

func (b *bodyHasher) flush() {
	b.h.Write(b.buf)
	b.buf = b.buf[:0]
}

// contentEnd returns the end of the last line that is not empty, without its
// white space and line end.
func contentEnd(body []byte) int {
	n := len(body)
	for n > 0 && (isWSP(body[n-1]) || body[n-1] == '\n' || body[n-1] == '\r') {
		n--
	}

	return n
}

func isWSP(c byte) bool { return c == ' ' || c == '\t' }

// finder finds the places where white space has to change: a tab, two spaces, a
// space before a line end.
type finder [3]occurrence

func newFinder() finder {
	return finder{
		{pattern: "\t", at: -1},
		{pattern: "  ", at: -1},
		{pattern: " \r", at: -1},
	}
}

// next returns the first such place in data at or after from, or len(data).
func (f *finder) next(data []byte, from int) int {
	first := len(data)
	for i := range f {
		first = min(first, f[i].next(data, from))
	}

	return first
}

// occurrence remembers where a pattern occurs next, so that a rare pattern is not
// searched for again from every place.
type occurrence struct {
	pattern string
	at      int
}

func (o *occurrence) next(data []byte, from int) int {
	if o.at >= from {
		return o.at
	}

	o.at = len(data)
	if i := bytes.Index(data[from:], []byte(o.pattern)); i >= 0 {
		o.at = from + i
	}

	return o.at
}

// appendRelaxedField appends a header field in relaxed canonicalization (RFC
// 6376 section 3.4.2), without a line end. raw may be folded and end with CRLF.
func appendRelaxedField(dst, raw []byte) []byte {
	name, value, _ := bytes.Cut(raw, []byte(":"))
	for _, c := range bytes.TrimRight(name, " \t") {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	dst = append(dst, ':')

	// White space is one space, and none at either end.
	start := len(dst)
	var space bool
	for _, c := range value {
		switch c {
		case '\r', '\n':
		case ' ', '\t':
			space = true
		default:
			if space && len(dst) > start {
				dst = append(dst, ' ')
			}
			space = false
			dst = append(dst, c)
		}
	}

	return dst
}
