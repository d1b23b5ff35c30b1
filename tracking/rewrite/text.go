package rewrite

import (
	"bytes"
	"strings"
)

// text wraps the URLs of one text/plain part.
func (w *walker) text(h contentHeader, header []byte, start, end int) []byte {
	dec, ok := decodePart(h.encoding, w.body[start:end])
	if !ok {
		return w.skip(BadEncoding)
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
	edits, tooLong := editText(dec.data, w.opts, utf8OK)
	for range tooLong {
		w.skip(LinkTooLong)
	}
	return w.edited(h, header, start, end, dec, edits)
}

// editText finds URLs as mail programs do: from http:// or https:// to white
// space, an angle bracket or a quote, less the punctuation that ends a
// sentence and a closing bracket that the URL does not open itself. Behind a
// URL, [[data-msys-clicktrack="0"]] and its kin are honoured and go (reference,
// section 5). A line of format=flowed text is only made longer, which RFC 3676
// allows; where that passes SMTP's limit the part turns into quoted-printable.
func editText(data []byte, o Options, utf8OK bool) (edits []edit, tooLong int) {
	s := htmlScan{data: data, opts: o, own: strings.TrimSuffix(o.Tracker, "/"), utf8OK: utf8OK}
	for at := 0; ; {
		i := indexURL(data[at:])
		if i < 0 {
			return edits, tooLong
		}
		from := at + i
		to := from
		for to < len(data) && !endsURL(data[to]) && !bytes.HasPrefix(data[to:], []byte("[[data-msys-")) {
			to++
		}
		l, track, after := textAttributes(data, to)
		attributesAt := to
		if after == to {
			to = trimURL(data, from, to)
		}
		at = max(after, to)
		if track && (from == 0 || !isWord(data[from-1])) {
			target, ok := s.rawTarget(data[from:to])
			if l.Target = target; ok && o.MaxLinkLength > 0 && o.MaxURL(l) > o.MaxLinkLength {
				tooLong++
				ok = false
			}
			if ok {
				edits = append(edits, edit{start: from, end: to, kind: slotLink, link: l})
			}
		}
		if after > attributesAt {
			edits = append(edits, edit{start: attributesAt, end: after})
		}
	}
}

func indexURL(b []byte) int {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("://"))
		if i < 0 {
			return -1
		}
		i += at
		for _, scheme := range []string{"https", "http"} {
			if i >= len(scheme) && strings.EqualFold(string(b[i-len(scheme):i]), scheme) {
				return i - len(scheme)
			}
		}
		at = i + 3
	}
}

func isWord(c byte) bool { return isLetter(c) || c >= '0' && c <= '9' || c >= 0x80 }

func endsURL(c byte) bool {
	return c <= ' ' || c == '<' || c == '>' || c == '"' || c == 0x7f || c == '`'
}

// trimURL takes off what ends a sentence, and a bracket without its opening.
func trimURL(d []byte, from, to int) int {
	var counts [256]int
	counted := false
	for to > from {
		switch c := d[to-1]; c {
		case '.', ',', ';', ':', '!', '?', '\'', '*', '_', '|':
		case ')', ']', '}':
			if !counted {
				counted = true
				for _, b := range d[from:to] {
					counts[b]++
				}
			}
			if counts[map[byte]byte{')': '(', ']': '[', '}': '{'}[c]] >= counts[c] {
				return to
			}
			counts[c]--
		default:
			return to
		}
		to--
	}
	return to
}

// textAttributes reads [[data-msys-NAME="VALUE" ...]] at an offset; after is
// that offset where there is none.
func textAttributes(d []byte, at int) (l Link, track bool, after int) {
	track = true
	if !bytes.HasPrefix(d[at:], []byte("[[data-msys-")) {
		return l, track, at
	}
	n := bytes.Index(d[at:], []byte("]]"))
	if n < 0 || bytes.IndexByte(d[at:at+n], '\n') >= 0 {
		return l, track, at
	}
	inner := append(append([]byte("<a "), d[at+2:at+n]...), '>')
	var attrs []attr
	walkAttributes(inner, 2, &attrs)
	for _, a := range attrs {
		key := inner[a.nameStart:a.nameEnd]
		if len(key) < len(msysPrefix) {
			continue
		}
		for k, name := range []string{"clicktrack", "", "unsubscribe", "sublink"} {
			if name != "" && asciiFold(key[len(msysPrefix):], name) {
				l, track = applyMsys(l, track, k, strings.TrimSpace(string(inner[a.valStart:a.valEnd])))
			}
		}
	}
	return l, track, at + n + 2
}
