package rewrite

import (
	"reflect"
	"strings"
	"testing"
)

func TestSplitParams(t *testing.T) {
	for _, c := range []struct {
		name, in, value string
		params          map[string]string
		ok              bool
	}{
		{"a value alone", " text/html ", "text/html", nil, true},
		{"empty", "", "", nil, true},
		{"words", "a/b;x=1;Y = 2 ; z=3", "a/b", map[string]string{"x": "1", "y": "2", "z": "3"}, true},
		{"quoted", `a/b; x="1;2=\"3\\" ; y=4`, "a/b", map[string]string{"x": `1;2="3\`, "y": "4"}, true},
		{"quoted with white space in front", "a/b; x= \t\"1\"", "a/b", map[string]string{"x": "1"}, true},
		{"quoted and not closed", `a/b; x="1`, "a/b", map[string]string{"x": "1"}, true},
		{"quoted, ending in a backslash", `a/b; x="1\`, "a/b", map[string]string{"x": `1\`}, true},
		{"what follows a quoted value", `a/b; x="1"y; z=2`, "a/b", map[string]string{"x": "1", "z": "2"}, true},
		{"a word that is not a parameter", "a/b; x; y=2", "a/b", map[string]string{"y": "2"}, true},
		{"a word at the end", "a/b; y=2; x", "a/b", map[string]string{"y": "2"}, true},
		{"semicolons alone", "a/b;; \t;", "a/b", nil, true},
		{"no name", "a/b; =1; x=2", "a/b", map[string]string{"x": "2"}, true},
		{"an empty value", "a/b; x=; y=1", "a/b", map[string]string{"x": "", "y": "1"}, true},
		{"twice", "a/b; x=1; X=2", "a/b", map[string]string{"x": "1"}, false},
		{"comments", "a/b (c; d=1) ; x=1 (y)", "a/b", map[string]string{"x": "1"}, true},

		{"pieces", "a/b; boundary*0=x; boundary*1=y", "a/b", map[string]string{"boundary": "xy"}, true},
		{"pieces in another order", "a/b; boundary*1=y; boundary*0=x", "a/b", map[string]string{"boundary": "xy"}, true},
		{"ten pieces", "a/b; name*0=0; name*1=1; name*2=2; name*3=3; name*4=4; name*5=5; name*6=6; name*7=7; name*8=8; name*9=9; name*10=a",
			"a/b", map[string]string{"name": "0123456789a"}, true},
		{"encoded", "a/b; charset*=us-ascii'en'utf%2D8", "a/b", map[string]string{"charset": "utf-8"}, true},
		{"encoded pieces", "a/b; boundary*0*=us-ascii''x%20; boundary*1*=%41'; boundary*2=%41", "a/b", map[string]string{"boundary": "x A'%41"}, true},
		{"the first piece alone is encoded", "a/b; boundary*0*=''%41; boundary*1=%41", "a/b", map[string]string{"boundary": "A%41"}, true},
		{"a piece that is missing", "a/b; boundary*0=x; boundary*2=y", "a/b", map[string]string{}, false},
		{"the first piece is missing", "a/b; boundary*1=x", "a/b", map[string]string{}, false},
		{"a piece in both forms", "a/b; boundary*0=x; boundary*0*=''y", "a/b", map[string]string{}, false},
		{"whole and in pieces", "a/b; boundary*=''x; boundary*0=y", "a/b", map[string]string{}, false},
		{"plain and encoded", "a/b; boundary=x; boundary*=''y", "a/b", map[string]string{"boundary": "x"}, false},
		{"a charset without its quotes", "a/b; boundary*=x", "a/b", map[string]string{}, false},
		{"one quote alone", "a/b; boundary*=x'y", "a/b", map[string]string{}, false},
		{"a first piece without its quotes", "a/b; boundary*0*=x", "a/b", map[string]string{}, false},
		{"a bad escape", "a/b; boundary*=''%zz", "a/b", map[string]string{}, false},
		{"a bad escape in a piece", "a/b; boundary*0=x; boundary*1*=%zz", "a/b", map[string]string{}, false},
		{"a file name in both forms", "a/b; filename=x; filename*=''y", "a/b", map[string]string{"filename": "y"}, true},
		{"a file name whose pieces make no whole", "a/b; filename*1=x", "a/b", map[string]string{"filename": ""}, true},
		{"a name that cannot be decoded", "a/b; name*=x", "a/b", map[string]string{"name": ""}, true},
		{"pieces of another parameter", "a/b; x*0=y; charset=utf-8", "a/b", map[string]string{"charset": "utf-8"}, true},
		{"a star in front", "a/b; *=x", "a/b", map[string]string{"*": "x"}, true},
		{"a piece that appears twice", "a/b; boundary*0=x; boundary*0=y", "a/b", map[string]string{}, false},
		{"every name", "a/b; boundary*0=1; charset*0=2; name*0=3; filename*0=4; start*0=5; format*0=6; delsp*0=7", "a/b", map[string]string{
			"boundary": "1", "charset": "2", "name": "3", "filename": "4", "start": "5", "format": "6", "delsp": "7"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			value, params, ok := splitParams(c.in)
			if c.params == nil {
				c.params = map[string]string{}
			}
			if value != c.value || ok != c.ok || ok && !reflect.DeepEqual(params, c.params) {
				t.Errorf("got %q, %v, %v, want %q, %v, %v", value, params, ok, c.value, c.params, c.ok)
			}
		})
	}
}

func TestStripComments(t *testing.T) {
	for in, want := range map[string]string{
		"a":            "a",
		"a (b) c":      "a  c",
		"(a(b)c)d":     "d",
		"a(b":          "a",
		"a)b(c)":       "a)b",
		`"(a)" (b)c`:   `"(a)" c`,
		`"a\"(b)" (c)`: `"a\"(b)" `,
		`\(a\)(b)`:     `\(a\)`,
		`(a\)b)c`:      "c",
		`(a\(b)c`:      "c",
		`(a"b)c"(d)"`:  `c"(d)"`,
		`(a)b\`:        `b\`,
		`(a\`:          "",
	} {
		if got := stripComments(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestReadContentHeader(t *testing.T) {
	for _, c := range []struct {
		name, header string
		want         contentHeader
		ok           bool
	}{
		{"none", "X: y\r\n", contentHeader{mediaType: "a/b"}, true},
		{"a type without a slash", "Content-Type: TEXT; charset=x\r\n", contentHeader{mediaType: "a/b", charset: "x"}, true},
		{"all", "content-type: Multipart/Related; boundary=B; start=\" <S> \"; charset=UTF-8; name=n\r\n" +
			"Content-Transfer-Encoding: Base64 (x)\r\nContent-ID: <I>\r\nContent-Disposition: attachment\r\n",
			contentHeader{mediaType: "multipart/related", boundary: "B", start: "S", charset: "UTF-8", named: true,
				encoding: base64Encoding, id: "I", attachment: true}, true},
		{"inline with a name", "Content-Disposition: INLINE; filename=x\r\n", contentHeader{mediaType: "a/b", named: true}, true},
		{"named by its type, with a disposition", "Content-Type: a/c; name=x\r\nContent-Disposition: inline\r\n", contentHeader{mediaType: "a/c", named: true}, true},
		{"named by its disposition, with a type", "Content-Disposition: inline; filename=x\r\nContent-Type: a/c\r\n", contentHeader{mediaType: "a/c", named: true}, true},
		{"flowed lines", "Content-Type: text/plain; format=Flowed; delsp=YES\r\n", contentHeader{mediaType: "text/plain", flow: joinedLines}, true},
		{"flowed lines that keep their spaces", "Content-Type: text/plain; format=flowed\r\n", contentHeader{mediaType: "text/plain"}, true},
		{"spaces that go, of fixed lines", "Content-Type: text/plain; delsp=yes\r\n", contentHeader{mediaType: "text/plain"}, true},
		{"two identifiers", "Content-ID: <a>\r\nContent-ID: <b>\r\n", contentHeader{mediaType: "a/b"}, true},
		{"two types", "Content-Type: a/c\r\nContent-Type: a/c\r\n", contentHeader{}, false},
		{"two encodings", "Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: 7bit\r\n", contentHeader{}, false},
		{"two dispositions", "Content-Disposition: inline\r\nContent-Disposition: inline\r\n", contentHeader{}, false},
		{"a parameter that appears twice", "Content-Type: a/c; x=1; x=2\r\n", contentHeader{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := readContentHeader([]byte(c.header), "a/b")
			if ok != c.ok || ok && got != c.want {
				t.Errorf("got %+v, %v, want %+v, %v", got, ok, c.want, c.ok)
			}
		})
	}
}

func TestMediaTypes(t *testing.T) {
	for in, want := range map[string]bool{
		"text/html": true, "a/b": true, "text": false, "/html": false, "text/": false, "/": false, "": false, "a/b/c": false, "text/html; x": false,
	} {
		if got := isMediaType(in); got != want {
			t.Errorf("%q is a media type: %v, want %v", in, got, want)
		}
	}

	const special = `()<>@,;:\"/[]?=` // RFC 2045 section 5.1
	for c := range 256 {
		want := c > ' ' && c < 0x7f && strings.IndexByte(special, byte(c)) < 0
		if got := isToken("a" + string([]byte{byte(c)}) + "b"); got != want {
			t.Errorf("%q is part of a token: %v, want %v", byte(c), got, want)
		}
	}
}

func TestTrimAngles(t *testing.T) {
	for in, want := range map[string]string{"<a>": "a", " \t<a> ": "a", "a": "a", "<a": "a", "a>": "a", "<<a>>": "<a>", "": "", "<>": "", "< a >": " a "} {
		if got := trimAngles(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
