package rewrite

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern/tracking/rewrite/htmledit"
)

// editText returns the edits of a text/plain part. It finds URLs as mail programs
// do: from http:// or https:// to white space, a quote, an angle bracket, a
// bracket that was not opened in the URL or typographic punctuation, without the
// punctuation that ends a sentence. Mail programs disagree on the end of some
// URLs; those are left alone, so that no text is lost and no link is cut short.
//
// Attributes behind a URL, such as [[data-msys-clicktrack="0"]], are applied and
// removed. Lines of format=flowed text may become longer, which RFC 3676 allows;
// if they exceed the limit of SMTP, the part is encoded in quoted-printable.
func editText(data []byte, o Options, cs textCharset, f flow) edits {
	s := textScan{data: data, opts: o, charset: cs, targets: newTargets(o, cs), flow: f}
	for at := 0; ; {
		i := indexURL(data[at:])
		if i < 0 || s.out.overflow {
			return s.out
		}
		at = s.url(at + i)
	}
}

// textScan is the state of editText.
type textScan struct {
	data    []byte
	opts    Options
	charset textCharset
	targets targets
	flow    flow
	out     edits
}

// url edits the URL at an offset and returns the offset at which to continue.
func (s *textScan) url(from int) int {
	u := s.extent(from)
	l, track, after := allTextAttributes(s.data, u.end)
	removed := edit{start: u.end, end: after}
	if after == u.end && u.clear {
		u.end = trimURL(s.data, from, u.end)
	}

	if track && !s.insideWord(from) {
		s.wrap(from, u, after, l)
	}
	if removed.end > removed.start {
		s.out.insert(len(s.out.list), removed)
	}

	return after
}

// wrap adds the edit that wraps a URL, unless it is to be left alone. after is
// the end of the attributes behind it.
func (s *textScan) wrap(from int, u extent, after int, l Link) {
	target, ok, why := s.targets.check(string(s.data[from:u.end]))
	if !ok {
		s.out.skip(why)
		return
	}

	l.Target = target
	switch {
	case !u.clear || s.inBrokenBrackets(from, after) || isEmphasized(s.data, from, u.end):
		s.out.skip(UnclearURL)
	case s.opts.tooLong(l):
		s.out.skip(LinkTooLong)
	default:
		s.out.insert(len(s.out.list), edit{
			start: from,
			end:   u.end,
			kind:  slotLink,
			link:  l,
		})
	}
}

// indexURL returns the index of the first http:// or https:// in b, or -1.
func indexURL(b []byte) int {
	for at := 0; ; {
		i := bytes.Index(b[at:], []byte("://"))
		if i < 0 {
			return -1
		}
		i += at

		for _, scheme := range []string{"https", "http"} {
			if i >= len(scheme) && htmledit.EqualFold(b[i-len(scheme):i], scheme) {
				return i - len(scheme)
			}
		}
		at = i + 3
	}
}

// insideWord reports whether the character before a URL makes it part of
// something else.
func (s *textScan) insideWord(from int) bool {
	if from == 0 {
		return false
	}

	c := s.data[from-1]
	if c < utf8.RuneSelf {
		return isAlnum(c) || strings.IndexByte("/=&?%@#+", c) >= 0
	}

	r, _ := s.rune(from - 1)
	if s.charset.utf8Bytes {
		r, _ = utf8.DecodeLastRune(s.data[:from])
	}

	// Chinese and Japanese have no spaces in front of a URL.
	return r == utf8.RuneError || r < 0x2e80 && (unicode.IsLetter(r) || unicode.IsNumber(r))
}

// inBrokenBrackets reports whether a URL follows an angle bracket and the closing
// one does not follow it: some programs look for that on the next line.
func (s *textScan) inBrokenBrackets(from, after int) bool {
	opened := from > 0 && s.data[from-1] == '<'
	return opened && (after >= len(s.data) || s.data[after] != '>')
}

// maxEmphasized bounds, in bytes, how far in front of a URL isEmphasized looks.
const maxEmphasized = 256

// isEmphasized reports whether a URL ends in a character that marks bold or
// underlined text and the same one begins a word before it on its line. It is
// then unclear whether the last character is part of the URL.
func isEmphasized(d []byte, from, to int) bool {
	mark := d[to-1]
	if strings.IndexByte("*_~", mark) < 0 {
		return false
	}

	for i := from - 1; i >= max(0, from-maxEmphasized) && d[i] != '\n'; i-- {
		beginsWord := i == 0 || !isAlnum(d[i-1]) && d[i-1] < utf8.RuneSelf
		if d[i] == mark && d[i+1] > ' ' && beginsWord {
			return true
		}
	}

	return false
}

// extent is the extent of a URL.
type extent struct {
	end   int
	clear bool // mail programs agree on the end

	query                bool // a ? was seen
	round, square, curly int  // brackets that the URL opened
}

// extent finds the end of the URL that begins at an offset.
func (s *textScan) extent(from int) extent {
	u := extent{clear: true}
	i := from + bytes.Index(s.data[from:], []byte("://")) + len("://")
	for i < len(s.data) {
		size := s.step(i, &u)
		if size == 0 {
			break
		}
		i += size
	}

	if s.flow == joinedLines && bytes.HasPrefix(s.data[i:], []byte(" \r\n")) {
		u.clear = false // the text continues after the line break
	}
	u.end = i

	return u
}

// step reads the character at an offset and returns its length in bytes, or 0 if
// the URL ends there.
func (s *textScan) step(at int, u *extent) int {
	c := s.data[at]
	switch {
	case c >= utf8.RuneSelf:
		return s.stepRune(at, u)
	case c <= ' ', strings.IndexByte("<>\"`\x7f", c) >= 0, beginsTextAttributes(s.data[at:]):
		return 0
	case strings.IndexByte("([,;|", c) >= 0 && s.beginsURL(at+1):
		if !u.query {
			return 0
		}
		u.clear = false // it may be part of the query
	case c == '|' && !s.endsAt(at+1), c == '{', c == '\\', c == '^':
		u.clear = false
	case c == '?':
		u.query = true
	}
	if u.closesOther(c) {
		return 0
	}

	return 1
}

// stepRune is step for characters above 0x7f.
func (s *textScan) stepRune(at int, u *extent) int {
	r, size := s.rune(at)
	switch classOf(r) {
	case endsURL:
		return 0
	case mayEndURL:
		u.clear = u.clear && s.endsAt(at+size)
		if u.clear {
			return 0
		}
	default:
		u.clear = false
	}

	return size
}

// beginsURL reports whether a URL begins at an offset.
func (s *textScan) beginsURL(at int) bool {
	return indexURL(s.data[at:min(len(s.data), at+len("https://"))]) == 0
}

// closesOther counts brackets and reports whether c closes one that was not
// opened in the URL.
func (u *extent) closesOther(c byte) bool {
	switch c {
	case '(':
		u.round++
	case '[':
		u.square++
	case '{':
		u.curly++
	case ')':
		u.round--
	case ']':
		u.square--
	case '}':
		u.curly--
	}

	return min(u.round, u.square, u.curly) < 0
}

// rune returns the character at an offset and its length in bytes. In charsets
// that cannot be decoded it is utf8.RuneError, of one byte.
func (s *textScan) rune(at int) (rune, int) {
	switch {
	case s.charset.utf8Bytes:
		return utf8.DecodeRune(s.data[at:])
	case s.charset.single != nil:
		return s.charset.single.DecodeByte(s.data[at]), 1
	}

	return utf8.RuneError, 1
}

// endsAt reports whether a URL in front of an offset would end there.
func (s *textScan) endsAt(at int) bool {
	if at >= len(s.data) {
		return true
	}
	if c := s.data[at]; c < utf8.RuneSelf {
		return c <= ' ' || strings.IndexByte("<>\"`.,;:!?)]}'", c) >= 0
	}
	r, _ := s.rune(at)

	return classOf(r) == endsURL
}

// urlClass says how mail programs treat a character above 0x7f in a URL.
type urlClass byte

const (
	unclearInURL urlClass = iota // letters: part of a Wikipedia address, but not in Japanese text
	mayEndURL                    // ends a URL at the end of a word, but may be part of one inside
	endsURL                      // spaces, punctuation and symbols
)

// dashes are punctuation that occurs inside words: hyphens, the en dash, the
// apostrophe, middle dots.
const dashes = "\u2010\u2011\u2012\u2013\u2019\u00b7\u0387\u05be\u30fb\uff65"

// classOf returns the class of a character above 0x7f.
func classOf(r rune) urlClass {
	switch {
	case r == utf8.RuneError:
		return unclearInURL
	case strings.ContainsRune(dashes, r):
		return mayEndURL
	case unicode.IsSpace(r), unicode.IsPunct(r), unicode.IsSymbol(r), unicode.IsControl(r):
		return endsURL
	case r == '\u200b', r == '\ufeff': // zero-width spaces
		return endsURL
	}

	return unclearInURL
}

// trimURL returns the end of a URL without the punctuation that ends a sentence.
func trimURL(d []byte, from, to int) int {
	for to > from && strings.IndexByte(".,;:!?'|", d[to-1]) >= 0 {
		to--
	}

	return to
}
