package rewrite

import (
	"fmt"
	"strings"
	"testing"
)

// TestCharsetTables names every charset that is edited. The first map holds
// those of single bytes, with how the charmap package calls what they are read
// as; the second one those of several, and whether their data may be other than
// ASCII.
func TestCharsetTables(t *testing.T) {
	single := map[string]string{
		"iso88591":     "Windows 1252",
		"latin1":       "Windows 1252",
		"isolatin1":    "Windows 1252",
		"l1":           "Windows 1252",
		"iso88592":     "ISO 8859-2",
		"latin2":       "ISO 8859-2",
		"iso88593":     "ISO 8859-3",
		"iso88594":     "ISO 8859-4",
		"iso88595":     "ISO 8859-5",
		"iso88596":     "ISO 8859-6",
		"iso88597":     "ISO 8859-7",
		"iso88598":     "ISO 8859-8",
		"iso88598e":    "ISO 8859-8",
		"iso88598i":    "ISO 8859-8",
		"iso88599":     "Windows 1254",
		"latin5":       "Windows 1254",
		"iso885910":    "ISO 8859-10",
		"iso885911":    "Windows 874",
		"iso885913":    "ISO 8859-13",
		"iso885914":    "ISO 8859-14",
		"iso885915":    "ISO 8859-15",
		"latin9":       "ISO 8859-15",
		"iso885916":    "ISO 8859-16",
		"windows874":   "Windows 874",
		"tis620":       "Windows 874",
		"windows1250":  "Windows 1250",
		"windows1251":  "Windows 1251",
		"windows1252":  "Windows 1252",
		"windows1253":  "Windows 1253",
		"windows1254":  "Windows 1254",
		"windows1255":  "Windows 1255",
		"windows1256":  "Windows 1256",
		"windows1257":  "Windows 1257",
		"windows1258":  "Windows 1258",
		"koi8r":        "KOI8-R",
		"koi8u":        "KOI8-U",
		"koi8ru":       "KOI8-U",
		"macintosh":    "Macintosh",
		"macroman":     "Macintosh",
		"xmacroman":    "Macintosh",
		"xmaccyrillic": "Macintosh Cyrillic",
		"ibm437":       "IBM Code Page 437",
		"ibm850":       "IBM Code Page 850",
		"ibm852":       "IBM Code Page 852",
		"ibm866":       "IBM Code Page 866",
	}
	got := map[string]string{}
	for name, c := range singleByte {
		got[name] = c.String()
	}
	if fmt.Sprint(got) != fmt.Sprint(single) {
		t.Errorf("of single bytes:\n%v\nwant\n%v", got, single)
	}

	several := map[string]bool{
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
	if fmt.Sprint(multiByte) != fmt.Sprint(several) {
		t.Errorf("of several bytes:\n%v\nwant\n%v", multiByte, several)
	}
}

func TestCharsetNames(t *testing.T) {
	for name, want := range map[string]string{
		"UTF-8":           "utf8",
		" utf_8 ":         "utf8",
		"ISO_8859-1:1987": "iso88591",
		"csISOLatin1":     "isolatin1",
		"csUTF8":          "utf8",
		"x-cp1250":        "windows1250",
		"cp1251":          "windows1251",
		"win-1252":        "windows1252",
		"CP437":           "ibm437",
		"cp936":           "cp936",
		"cp932":           "cp932",
		"cp950":           "cp950",
		"KOI8-R":          "koi8r",
		"[A`Z{z@":         "azz",
		"":                "",
		"0/9:":            "09",
	} {
		if got := charsetKey(name); got != want {
			t.Errorf("%q is looked up as %q, want %q", name, got, want)
		}
	}
}

// TestReadCharset: what is known of a part's bytes, by its charset and its data.
func TestReadCharset(t *testing.T) {
	const ascii, utf, other = "x", "ü", "\xfc"
	for _, c := range []struct {
		name, data       string
		utf8, named, one bool
		ok               bool
	}{
		{"", ascii, true, false, false, true},
		{"", utf, true, false, false, true},
		{"", other, false, false, false, true},
		{"us-ascii", ascii, true, false, false, true},
		{"us-ascii", utf, false, false, false, true},
		{"utf-8", ascii, true, true, false, true},
		{"utf-8", utf, true, true, false, true},
		{"utf-8", other, false, true, false, true},
		{"iso-8859-1", ascii, true, false, true, true},
		{"iso-8859-1", utf, false, false, true, true},
		{"iso-8859-1", other, false, false, true, true},
		{"euc-jp", ascii, true, false, false, true},
		{"euc-jp", other, false, false, false, true},
		{"shift_jis", ascii, true, false, false, true},
		{"shift_jis", other, false, false, false, false},
		{"utf-16", ascii, false, false, false, false},
		{"unknown", ascii, false, false, false, false},
	} {
		got, ok := readCharset(c.name, []byte(c.data))
		if ok != c.ok || ok && (got.utf8Bytes != c.utf8 || got.namedUTF8 != c.named || (got.single != nil) != c.one) {
			t.Errorf("%q with %q: got %+v, %v, want %+v", c.name, c.data, got, ok, c)
		}
	}
	for _, mark := range []string{"\x00", "\x0e", "\x0f", "\x1b"} {
		for _, data := range []string{mark, "x" + mark, mark + "x"} {
			if _, ok := readCharset("utf-8", []byte(data)); ok {
				t.Errorf("%q is edited", data)
			}
		}
	}
	for data, want := range map[string]bool{"\xff\xfex": true, "\xfe\xffx": true, "x\xff\xfe": false, "\xff": false, "\x01\x0d\x10\x1a\x1c": false} {
		if got := hasShifts([]byte(data)); got != want {
			t.Errorf("%q has marks of another charset: %v, want %v", data, got, want)
		}
	}
}

func TestTextOfCharsets(t *testing.T) {
	read := func(name, data string) textCharset {
		cs, _ := readCharset(name, []byte(data))
		return cs
	}
	for _, c := range []struct {
		cs       textCharset
		in, want string
	}{
		{read("utf-8", "ü"), "ü", "ü"},
		{read("utf-8", "ü"), "\xfc", ""},
		{read("utf-8", "\xfc"), "x", "x"},
		{read("utf-8", "\xfc"), "ü", ""},
		{read("iso-8859-1", "\xfc"), "\xfc", "ü"},
		{read("iso-8859-1", "\xfc"), "ü", "Ã¼"},
		{read("iso-8859-7", "\xff"), "\xff", ""}, // a byte without a meaning
		{read("euc-jp", "\xb3\xf4"), "\xb3\xf4", ""},
		{read("euc-jp", "\xb3\xf4"), "x", "x"},
	} {
		if got := c.cs.text(c.in); got != c.want {
			t.Errorf("%q in %+v reads %q, want %q", c.in, c.cs, got, c.want)
		}
	}
}

// TestIsASCII: wherever the byte above 0x7f stands.
func TestIsASCII(t *testing.T) {
	for n := range 20 {
		data := []byte(strings.Repeat("\x7f", n))
		if !isASCII(data) || !isASCIIString(string(data)) {
			t.Errorf("%d bytes of ASCII are none", n)
		}
		for i := range data {
			data[i] = 0x80
			if isASCII(data) || isASCIIString(string(data)) {
				t.Errorf("0x80 at %d of %d is taken for ASCII", i, n)
			}
			data[i] = 0x7f
		}
	}
}
