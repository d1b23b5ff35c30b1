package rewrite

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// textCharset describes the characters of a part that can be edited in place.
type textCharset struct {
	utf8Bytes bool             // bytes above 0x7f are UTF-8
	namedUTF8 bool             // the charset parameter says UTF-8
	single    *charmap.Charmap // the charset, if it is one of single bytes
}

// multiByte has the charsets other than those of singleByte that can be edited
// in place, by charsetKey. The value is false for those in which a byte below
// 0x80 may be the second byte of a character: they are edited only if the data is
// plain ASCII.
var multiByte = map[string]bool{
	"":               true,
	"usascii":        true,
	"ascii":          true,
	"us":             true,
	"iso646us":       true,
	"ansix341968":    true,
	"utf8":           true,
	"unicode11utf8":  true,
	"xunicode20utf8": true,
	"eucjp":          true,
	"xeucjp":         true,
	"euckr":          true,
	"euccn":          true,
	"euctw":          true,
	"gb2312":         true,
	"ksc5601":        true,
	"ksc56011987":    true,
	"ksc56011989":    true,
	"windows949":     false,
	"gbk":            false,
	"xgbk":           false,
	"cp936":          false,
	"gb18030":        false,
	"big5":           false,
	"xxbig5":         false,
	"big5hkscs":      false,
	"cp950":          false,
	"shiftjis":       false,
	"xsjis":          false,
	"sjis":           false,
	"cp932":          false,
	"ms932":          false,
	"mskanji":        false,
	"windows31j":     false,
}

// singleByte has the charsets of single bytes that extend ASCII, by charsetKey.
var singleByte = map[string]*charmap.Charmap{
	"iso88591":     charmap.Windows1252, // see the Encoding Standard
	"latin1":       charmap.Windows1252,
	"isolatin1":    charmap.Windows1252,
	"l1":           charmap.Windows1252,
	"iso88592":     charmap.ISO8859_2,
	"latin2":       charmap.ISO8859_2,
	"iso88593":     charmap.ISO8859_3,
	"iso88594":     charmap.ISO8859_4,
	"iso88595":     charmap.ISO8859_5,
	"iso88596":     charmap.ISO8859_6,
	"iso88597":     charmap.ISO8859_7,
	"iso88598":     charmap.ISO8859_8,
	"iso88598e":    charmap.ISO8859_8,
	"iso88598i":    charmap.ISO8859_8,
	"iso88599":     charmap.Windows1254,
	"latin5":       charmap.Windows1254,
	"iso885910":    charmap.ISO8859_10,
	"iso885911":    charmap.Windows874,
	"iso885913":    charmap.ISO8859_13,
	"iso885914":    charmap.ISO8859_14,
	"iso885915":    charmap.ISO8859_15,
	"latin9":       charmap.ISO8859_15,
	"iso885916":    charmap.ISO8859_16,
	"windows874":   charmap.Windows874,
	"tis620":       charmap.Windows874,
	"windows1250":  charmap.Windows1250,
	"windows1251":  charmap.Windows1251,
	"windows1252":  charmap.Windows1252,
	"windows1253":  charmap.Windows1253,
	"windows1254":  charmap.Windows1254,
	"windows1255":  charmap.Windows1255,
	"windows1256":  charmap.Windows1256,
	"windows1257":  charmap.Windows1257,
	"windows1258":  charmap.Windows1258,
	"koi8r":        charmap.KOI8R,
	"koi8u":        charmap.KOI8U,
	"koi8ru":       charmap.KOI8U,
	"macintosh":    charmap.Macintosh,
	"macroman":     charmap.Macintosh,
	"xmacroman":    charmap.Macintosh,
	"xmaccyrillic": charmap.MacintoshCyrillic,
	"ibm437":       charmap.CodePage437,
	"ibm850":       charmap.CodePage850,
	"ibm852":       charmap.CodePage852,
	"ibm866":       charmap.CodePage866,
}

// charsetKey returns the spelling of a charset's name in the tables: in lower
// case, without punctuation, and without the year that some names have.
func charsetKey(name string) string {
	name, _, _ = strings.Cut(name, ":")
	key := make([]byte, 0, len(name))
	for _, c := range []byte(name) {
		if isLetter(c) {
			c |= 0x20
		}
		if isAlnum(c) {
			key = append(key, c)
		}
	}

	k := strings.TrimPrefix(string(key), "cs")
	if _, known := multiByte[k]; known {
		return k
	}
	for _, alias := range charsetAliases {
		if rest, ok := strings.CutPrefix(k, alias[0]); ok {
			return alias[1] + rest
		}
	}

	return k
}

// charsetAliases maps prefixes of names to those in singleByte.
var charsetAliases = [][2]string{
	{"xcp125", "windows125"},
	{"cp125", "windows125"},
	{"win125", "windows125"},
	{"cp", "ibm"},
}

// readCharset returns the charset of a part. name is its charset parameter. ok is
// false if the data cannot be edited in place: in charsets in which ASCII bytes
// may be parts of characters or change their meaning by escapes (ISO-2022-*, HZ,
// UTF-7, UTF-16, UTF-32), in unknown charsets, and if the data has marks of such
// a charset, whatever the parameter says.
func readCharset(name string, data []byte) (cs textCharset, ok bool) {
	if hasShifts(data) {
		return cs, false
	}

	key := charsetKey(name)
	if single, ok := singleByte[key]; ok {
		cs.single = single
		cs.utf8Bytes = isASCII(data)
		return cs, true
	}

	anyData, known := multiByte[key]
	ascii := isASCII(data)
	if !known || !anyData && !ascii {
		return cs, false
	}

	cs.namedUTF8 = strings.HasSuffix(key, "utf8")
	cs.utf8Bytes = ascii || (key == "" || cs.namedUTF8) && utf8.Valid(data)

	return cs, true
}

// hasShifts reports whether data has the marks of a charset that does not extend
// ASCII: NUL bytes and byte order marks of UTF-16 and UTF-32, and the escape and
// shift characters of ISO 2022.
func hasShifts(data []byte) bool {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return true
	}

	for _, c := range []byte{0x00, 0x0e, 0x0f, 0x1b} {
		if bytes.IndexByte(data, c) >= 0 {
			return true
		}
	}

	return false
}

// text decodes a text of the part. It returns an empty string if the text cannot
// be decoded.
func (cs textCharset) text(s string) string {
	switch {
	case utf8.ValidString(s) && (cs.utf8Bytes || isASCIIString(s)):
		return s
	case cs.single != nil:
		if out, err := cs.single.NewDecoder().String(s); err == nil && !strings.ContainsRune(out, utf8.RuneError) {
			return out
		}
	}

	return ""
}

// isASCII reports whether all bytes of b are below 0x80.
func isASCII(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b)&0x8080808080808080 != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}

	return true
}
