package dkim

import (
	"bytes"
	"hash"
)

// bodyHasher hashes a body in relaxed canonicalization (RFC 6376 section
// 3.4.4): white space inside a line becomes one space, white space at the end
// of a line and empty lines at the end of the body go.
type bodyHasher struct {
	h   hash.Hash
	buf []byte
}

const flushAt = 16 << 10

var crlf = []byte("\r\n")

// relaxed hashes body, which has no line end but CRLF. It jumps from one
// stretch of white space that has to change to the next, so that what is
// between costs no more than a copy and the hash.
func (b *bodyHasher) relaxed(body []byte) {
	body = body[:contentEnd(body)]
	if len(body) == 0 {
		return
	}
	run := finder{data: body}
	for at := 0; ; {
		from := run.next(at)
		if from < 0 {
			b.write(body[at:])
			break
		}
		for from > at && isWSP(body[from-1]) { // a space before a tab
			from--
		}
		b.write(body[at:from])
		to := from
		for to < len(body) && isWSP(body[to]) {
			to++
		}
		if to < len(body) && body[to] != '\r' {
			b.buf = append(b.buf, ' ')
		}
		at = to
	}
	b.write(crlf)
	b.flush()
}

func (b *bodyHasher) write(p []byte) {
	if len(p) > flushAt { // not worth a copy
		b.flush()
		b.h.Write(p)
		return
	}
	if b.buf = append(b.buf, p...); len(b.buf) > flushAt {
		b.flush()
	}
}

func (b *bodyHasher) flush() {
	b.h.Write(b.buf)
	b.buf = b.buf[:0]
}

// contentEnd is where the last line that is not empty ends, without its white
// space and line end.
func contentEnd(body []byte) int {
	n := len(body)
	for n > 0 && (isWSP(body[n-1]) || body[n-1] == '\n' || body[n-1] == '\r') {
		n--
	}
	return n
}

func isWSP(c byte) bool { return c == ' ' || c == '\t' }

// finder finds where white space has to change: a tab, two spaces, a space
// before a line end. It remembers the next of each kind.
type finder struct {
	data              []byte
	tab, double, tail int // offsets of the next; below the place asked for: unknown
	noTab             bool
	noDouble, noTail  bool
}

var (
	twoSpaces = []byte("  ")
	spaceCR   = []byte(" \r")
)

// next gives the first such place at or after at, or -1.
func (f *finder) next(at int) int {
	best := -1
	look := func(known *int, none *bool, find func([]byte) int) {
		if *none {
			return
		}
		if *known < at || *known == 0 {
			i := find(f.data[at:])
			if i < 0 {
				*none = true
				return
			}
			*known = at + i
		}
		if best < 0 || *known < best {
			best = *known
		}
	}
	look(&f.tab, &f.noTab, func(b []byte) int { return bytes.IndexByte(b, '\t') })
	look(&f.double, &f.noDouble, func(b []byte) int { return bytes.Index(b, twoSpaces) })
	look(&f.tail, &f.noTail, func(b []byte) int { return bytes.Index(b, spaceCR) })
	return best
}

// appendRelaxedField appends a header field in relaxed canonicalization (RFC
// 6376 section 3.4.2), without a line end. raw may be folded and end with CRLF.
func appendRelaxedField(dst, raw []byte) []byte {
	colon := bytes.IndexByte(raw, ':')
	if colon < 0 {
		return append(dst, raw...)
	}
	for _, c := range bytes.TrimRight(raw[:colon], " \t") {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	dst = append(dst, ':')
	start := len(dst)
	space := false
	for _, c := range raw[colon+1:] {
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
