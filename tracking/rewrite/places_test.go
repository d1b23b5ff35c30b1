package rewrite

import (
	"strings"
	"testing"
)

// marked returns a page with [1] and [2] where the pixels are put.
func marked(page string) string {
	e := editHTML([]byte(page), Options{Open: true, InitialOpen: true}, plainHTML, utf8Charset, withPixels)
	var b strings.Builder
	at := 0
	for _, ed := range e.list {
		b.WriteString(page[at:ed.start])
		at = ed.end
		switch ed.kind {
		case slotInitialOpen:
			b.WriteString("[1]")
		case slotOpen:
			b.WriteString("[2]")
		}
	}

	return b.String() + page[at:]
}

func TestPlacesOfPixels(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"byte order mark", "\xef\xbb\xbf<!doctype html><html><head><title>t</title></head>[1]<p>hi[2]</html>"},
		{"byte order mark before text", "\xef\xbb\xbf[1]hi[2]"},
		{"byte order mark alone", "\xef\xbb\xbf[1][2]"},
		{"table that is not closed", "<body>[1]<table><tr><td>x[2]</td></tr></body>"},
		{"row that is not closed", "<body>[1]<table><tr><td>x[2]</td></body>"},
		{"cell that is not closed", "<body>[1]<table><tr><td>x[2]</body>"},
		{"row without a cell", "<body>[1][2]<table><tr></body>"},
		{"table without a cell behind text", "<body>[1]text[2]<table></body>"},
		{"table in a cell that is not closed", "<body>[1]<table><tr><td>a<table><tr><td>b[2]</td></tr></body>"},
		{"caption", "<body>[1]<table><caption>x[2]</body>"},
		{"column", "<body>[1]text[2]<table><colgroup><col></body>"},
		{"table that is closed", "<body>[1]<table><tr><td>x</td></tr></table>[2]</body>"},
		{"cells without end tags", "<body>[1]<table><tr><td>a<td>b<tr><td>c</table>[2]</body>"},
		{"text between rows, which a browser moves up", "<body>[1]<table><tr><td>a[2]</td></tr>text</body>"},
		{"table without a body tag", "[1]<table><tr><td>a[2]</td></tr>"},
		{"end of a table alone", "<body>[1]x</table></td>[2]</body>"},
		{"select that is not closed", "<body>[1]x[2]<select><option>a</body>"},
		{"template that is not closed", "<body>[1]x[2]<template><p>a</body>"},
		{"template in the head", "<head><template>a</template></head>[1]<p>a[2]"},
		{"end of a body in a template", "<body>[1]x<template></body></template>y[2]</body>"},
		{"frameset", "<html><frameset><frame src=x></frameset></html>"},
		{"noframes in the head", "<noframes>a</noframes>[1]<p>a[2]"},
		{"frameset behind text", "[1]text<frameset>[2]"},
		{"noscript in the head", "<head><noscript><meta x></noscript></head>[1]<p>a[2]"},
		{"two bodies", "<body>[1]a</body><body>b[2]</body>"},
		{"text before the body", "text<body>[1]a[2]</body>"},
		{"end of a body in an attribute", `<body>[1]a<p title="</body>">b[2]`},
		{"end of a body in a script", `<body>[1]a<script>"</body>"</script>b[2]</body>`},
		{"end of a body in CDATA", `<body>[1]a<svg><![CDATA[ > </body> ]]></svg>b[2]`},
		{"table in CDATA", `<body>[1]a<svg><![CDATA[ > <table> ]]></svg>b[2]</body>`},
		{"tag that is cut off", "<body>[1]a[2]<p title='"},
		{"comment that is cut off", "<body>[1]a[2]<!-- x"},
		{"comment that is not closed in front of tags", "<body>[1]a[2]<!-- x</p></body></html>"},
		{"conditional comment that is not closed", "<body>[1]a[2]<!--[if mso]><p>x</p></body></html>"},
		{"comment with what does not close it", "<body>[1]a[2]<!-- x->--!</body>"},
		{"svg that is not closed", "<body>[1]a[2]<svg><path d=x></body></html>"},
		{"math that is not closed", "<body>[1]a[2]<math><mi>x</body></html>"},
		{"svg that is closed", "<body>[1]a<svg><svg></svg><path></svg>[2]</body>"},
		{"svg that closes itself", "<body>[1]a<svg/>b[2]</body>"},
		{"svg that closes itself, with attributes", "<body>[1]a<svg width=1 height='2'/>b[2]</body>"},
		{"svg whose slash belongs to a value", "<body>[1]a[2]<svg width=1/>b</body>"},
		{"CDATA that is not closed", "<body>[1]a[2]<svg><![CDATA[ > <p></body></html>"},
		{"CDATA behind svg that closes itself", "<body>[1]a<svg/><![CDATA[ > </body> ]]>b[2]</body>"},
		{"svg that is not closed, with the body in it", "[1][2]<svg><body><path></body>"},
		{"svg in a template, both not closed", "<body>[1]a[2]<template><p>b<svg></body></html>"},
		{"svg in a cell that is not closed", "<body>[1]<table><tr><td>a[2]<svg></table></body>"},
		{"bogus comment that is cut off", "<body>[1]a[2]<!x"},
		{"end tag without a name that is cut off", "<body>[1]a[2]</ x"},

		{"style that counts siblings", "<style>p:first-child{}</style><body><p>a[1]</p><p>b[2]</p></body>"},
		{"style that counts siblings, one text", "<style>p:last-child{}</style><body><p>a[1][2]</p></body>"},
		{"style that counts siblings, in capitals", "<STYLE>P:FIRST-CHILD{}</STYLE><BODY><P>a[1]</P><P>b[2]</P></BODY>"},
		{"style with flex items, in capitals", "<style>BODY{DISPLAY:FLEX}</style><body><p>a[1]</p><p>b[2]</p></body>"},
		{"flex body, in capitals", `<BODY STYLE="DISPLAY:FLEX"><p>a[1]</p><p>b[2]</p></BODY>`},
		{"hidden text, in capitals", `<style>:nth-child(2){}</style><body><div STYLE="DISPLAY:NONE">a</div><p>c[1][2]</p></body>`},
		{"style with an adjacent sibling", "<style>* + p{}</style><body><p>a[1][2]</p><p>b<b>c</b></p></body>"},
		{"style with flex items", "<style>body{display:flex}</style><body><p>a[1]</p><p>b[2]</p></body>"},
		{"flex body", `<body style="display: flex"><p>a[1]</p><p>b[2]</p></body>`},
		{"texts with elements", "<style>:nth-child(2){}</style><body>[1]<p>a<b></b></p><p><i></i>b</p>[2]</body>"},
		{"text in a link", "<style>:nth-child(2){}</style><body><p>a <a>b[1]</a></p><a><b>c[2]</b></a></body>"},
		{"text in a line and a block", "<style>:nth-child(2){}</style><body><b>a</b><div>b[1][2]</div><i>c</i></body>"},
		{"text in a line alone", "<style>:nth-child(2){}</style><body><b>a[1]</b><i>c[2]</i></body>"},
		{"text in a link and elsewhere", "<style>:nth-child(2){}</style><body><a>b</a><p>c[1][2]</p></body>"},
		{"hidden text", `<style>:nth-child(2){}</style><body><div style="display:none">a</div><p>c[1][2]</p></body>`},
		{"comment in a text", "<style>:nth-child(2){}</style><body><p>a<!-- x --></p><p>c[1][2]</p></body>"},
		{"white space alone", "<style>:nth-child(2){}</style><body><p> </p><p>c[1][2]</p></body>"},
		{"left-out end tags", "<style>:nth-child(2){}</style><p>a[1]<p>b[2]</body>"},
		{"first letters and lines", "<style>p:first-letter,p:first-line{}u+.x{}</style><body>[1]<p>a</p>[2]</body>"},
		{"text in a template", "<style>:nth-child(2){}</style><body>[1]<template><p>a</p></template>[2]</body>"},
		{"the first text far away", "<style>:nth-child(2){}</style><body>[1]" + strings.Repeat("<hr>", maxDetour/4+1) + "<p>a[2]</p></body>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := strings.NewReplacer("[1]", "", "[2]", "").Replace(c.want)
			if got := marked(page); got != c.want {
				t.Errorf("got  %.300q\nwant %.300q", got, c.want)
			}
		})
	}
}

func TestPixelHTML(t *testing.T) {
	for form, h := range pixelHTML {
		whole := h.before + "https://t.example/t/x" + h.after
		if n := len(h.before) + len(h.after); n > maxPixelHTML {
			t.Errorf("form %d has %d bytes, over %d", form, n, maxPixelHTML)
		}
		for line := range strings.SplitSeq(whole, "\r\n") {
			if len(line) > 600 {
				t.Errorf("form %d has a line of %d bytes", form, len(line))
			}
		}
		for _, want := range []string{"pointer-events:none", "width:1px", "height:1px", "opacity:0", "position:absolute"} {
			if pixelForm(form) == htmlPixel && !strings.Contains(whole, want+"!important") {
				t.Errorf("form %d without %s!important", form, want)
			}
		}
		if strings.Count(whole, "!important") > 0 == (pixelForm(form) == ampPixel) {
			t.Errorf("form %d: %q", form, whole)
		}
	}
}
