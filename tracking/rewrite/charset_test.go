package rewrite

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

func utf16Bytes(s string, order binary.AppendByteOrder) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}

	return string(b)
}

// TestLeavesHiddenCharsetsAlone takes parts whose bytes are not the characters
// that they look like, under their own and under other names.
func TestLeavesHiddenCharsetsAlone(t *testing.T) {
	page := `<html><body><p>Hello</p><a href="http://x.example/">x</a></body></html>`
	little := utf16Bytes(page, binary.LittleEndian)
	big := utf16Bytes(page, binary.BigEndian)
	for _, c := range []struct{ name, charset, data string }{
		{"UTF-16", "utf-16", little},
		{"UTF-16 as unicode", "unicode", little},
		{"UTF-16 as ucs-2", "ucs-2", little},
		{"UTF-16 as iso-10646-ucs-2", "iso-10646-ucs-2", little},
		{"UTF-16 with a mark and no name", "", "\xff\xfe" + little},
		{"UTF-16 with a mark as UTF-8", "utf-8", "\xff\xfe" + little},
		{"big-endian UTF-16 with a mark", "iso-8859-1", "\xfe\xff" + big},
		{"UTF-16 without a mark or a name", "", little},
		{"big-endian UTF-16 as us-ascii", "us-ascii", big},
		{"UTF-16 of one odd byte", "", "\xff\xfe" + little + "x"},
		{"UTF-32", "utf-32", page},
		{"UTF-7", "utf-7", page},
		{"UTF-7 as unicode-1-1-utf-7", "unicode-1-1-utf-7", page},
		{"UTF-7 as csUTF7", "csUTF7", page},
		{"UTF-7 as csUnicode11UTF7", "csUnicode11UTF7", page},
		{"HZ", "hz-gb-2312", page},
		{"ISO-2022-JP", "iso-2022-jp", "<p>x</p>\x1b$B3t<02q<R\x1b(B" + page},
		{"ISO-2022-JP without escapes", "iso-2022-jp", page},
		{"ISO-2022-JP under no name", "", "<p>x</p>\x1b$B3t<02q<R\x1b(B" + page},
		{"ISO-2022-JP as us-ascii", "us-ascii", "<p>x</p>\x1b$B3t<02q<R\x1b(B" + page},
		{"ISO-2022-JP as utf-8", "utf-8", "<p>x</p>\x1b$B3t<02q<R\x1b(B" + page},
		{"ISO-2022-KR", "utf-8", "\x0e1111\x0f" + page},
		{"EBCDIC", "ibm037", page},
		{"unknown", "x-strange", page},
		{"unknown that begins like a known one", "utf-8-strange", page},
		{"GBK that is not ASCII", "gbk", "\x81\x61" + page},
		{"Shift_JIS that is not ASCII", "shift_jis", "\x83\x5c" + page},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, kind := range []string{"text/html", "text/plain"} {
				msg := "Content-Type: " + kind + "; charset=\"" + c.charset + "\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
					string(transferEncode("base64", []byte(c.data))) + "\r\n"
				got, p := render(t, msg, corpusOptions())
				if got != msg || p.Tracked() {
					t.Errorf("%s became %q", kind, got)
				}
				if !slices.Contains(p.Skipped, Charset) {
					t.Errorf("%s skipped for %v, want %s", kind, p.Skipped, Charset)
				}
			}
		})
	}
}

func TestEditsKnownCharsets(t *testing.T) {
	for _, c := range []struct{ name, charset, data string }{
		{"none", "", "gr\xc3\xbcn"},
		{"ASCII", "US-ASCII", "x"},
		{"ASCII by its long name", "ANSI_X3.4-1968", "x"},
		{"UTF-8", "UTF8", "gr\xc3\xbcn"},
		{"UTF-8 in quotes with a comment", `"utf-8" (Unicode)`, "gr\xc3\xbcn"},
		{"Latin-1", "ISO-8859-1", "gr\xfcn"},
		{"Latin-1 with its year", "iso_8859-1:1987", "gr\xfcn"},
		{"Windows", "cp1252", "gr\xfcn"},
		{"Windows by another name", "x-cp1251", "\xef\xf0"},
		{"Cyrillic", "koi8-r", "\xc1\xc2"},
		{"DOS", "cp850", "\x81"},
		{"EUC-JP", "euc-jp", "\xb3\xf4"},
		{"EUC-KR", "ks_c_5601-1987", "\xb0\xa1"},
		{"simplified Chinese", "gb2312", "\xc4\xe3"},
		{"Shift_JIS that is ASCII", "Shift_JIS", "x"},
		{"Big5 that is ASCII", "big5", "x"},
		{"Windows-31J that is ASCII", "windows-31j", "x"},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg := "Content-Type: text/html; charset=" + c.charset + "\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
				"<body>" + c.data + "<a href=\"http://x.example/\">x</a></body>\r\n"
			got, p := render(t, msg, all())
			if p.Links != 1 || p.Pixels != 2 || !strings.Contains(got, c.data) {
				t.Errorf("%d links, %d pixels, skipped %v: %q", p.Links, p.Pixels, p.Skipped, got)
			}
		})
	}
}

// TestLeavesQueriesInOtherCharsetsAlone: a browser encodes a query in the
// charset of the document, which only UTF-8 documents share with the tracker.
func TestLeavesQueriesInOtherCharsetsAlone(t *testing.T) {
	for _, c := range []struct {
		name, charset, href string
		wrapped             bool
	}{
		{"Latin-1, query by reference", "iso-8859-1", "http://x.example/?q=&uuml;", false},
		{"Latin-1, path by reference", "iso-8859-1", "http://x.example/&uuml;?q=1", true},
		{"Latin-1, fragment by reference", "iso-8859-1", "http://x.example/?q=1#&uuml;?", true},
		{"Latin-1, host by reference", "iso-8859-1", "http://&uuml;.example/", true},
		{"Latin-1, raw path", "iso-8859-1", "http://x.example/\xfc", false},
		{"no name, query by reference", "", "http://x.example/?q=&uuml;", false},
		{"us-ascii, query by reference", "us-ascii", "http://x.example/?q=&uuml;", false},
		{"UTF-8, query by reference", "utf-8", "http://x.example/?q=&uuml;", true},
		{"UTF-8, raw query", "utf-8", "http://x.example/?q=ü", true},
		{"UTF-8 that is none", "utf-8", "http://x.example/?q=\xfc", false},
		{"Shift_JIS, query by reference", "shift_jis", "http://x.example/?q=&uuml;", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg := "Content-Type: text/html; charset=" + c.charset + "\r\n\r\n<a href=\"" + c.href + "\">x</a>\r\n"
			if got, p := render(t, msg, clicksOnly()); p.Links == 1 != c.wrapped {
				t.Errorf("%d links in %q, want wrapped %v", p.Links, got, c.wrapped)
			}
		})
	}
}

func TestLinkNameIsDecoded(t *testing.T) {
	for _, c := range []struct{ name, charset, raw, want string }{
		{"UTF-8", "utf-8", "für", "für"},
		{"Latin-1", "iso-8859-1", "f\xfcr", "für"},
		{"Cyrillic", "windows-1251", "\xe4\xeb\xff", "для"},
		{"reference in Latin-1", "iso-8859-1", "f&uuml;r", "für"},
		{"Latin-1 under no name", "", "f\xfcr", ""},
		{"UTF-8 that is none", "utf-8", "f\xfcr", ""},
		{"a charset that is not decoded", "euc-jp", "\xb3\xf4", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := []byte(`<a data-msys-linkname="` + c.raw + `" href="http://x.example/">`)
			cs, ok := readCharset(c.charset, data)
			if !ok {
				t.Fatal("not edited")
			}
			links := linksOf(editHTML(data, clicksOnly(), plainHTML, cs, withoutPixels))
			if len(links) != 1 || links[0].Name != c.want {
				t.Errorf("links %+v, want the name %q", links, c.want)
			}
		})
	}
}
