package rewrite

import (
	"strings"
	"testing"
)

// checkPlaces holds a page against one with [1] and [2] where its pixels belong.
func checkPlaces(t *testing.T, want string) {
	t.Helper()
	page := strings.NewReplacer("[1]", "", "[2]", "").Replace(want)
	if got := marked(page); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestElementsOfTheHead open no body, all others do.
func TestElementsOfTheHead(t *testing.T) {
	for _, name := range []string{
		"html", "head", "title", "meta", "link", "base", "style", "script", "noscript", "template", "basefont", "bgsound", "noframes",
	} {
		end := "</" + name + ">"
		page := "<" + name + ">" + end
		if name == "html" {
			end = ""
			page = "<html>"
		}
		if got, want := marked(page+"<p>x"), page+"[1]<p>x[2]"; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	for _, name := range []string{"p", "img", "b", "main", "center", "heads", "tit"} {
		page := "<" + name + ">"
		if got, want := marked(page+"<p>x"), "[1]"+page+"<p>x[2]"; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// TestElementsOfTables: where in a table a pixel would stay.
func TestElementsOfTables(t *testing.T) {
	for _, name := range []string{"td", "th", "caption"} {
		page := "<body>[1]<table><" + name + ">x[2]</body>"
		checkPlaces(t, page)
		page = "<body>[1]<table><" + name + ">x[2]</" + name + ">y</body>"
		checkPlaces(t, page)
	}
	for _, name := range []string{"tr", "tbody", "thead", "tfoot", "col", "colgroup"} {
		for _, tag := range []string{"<" + name + ">", "</" + name + ">"} {
			page := "<body>[1]<table><td>x[2]" + tag + "y</body>"
			checkPlaces(t, page)
		}
	}
	for _, page := range []string{
		"<body>[1]<tr><td></td>x[2]</body>",                            // outside of tables
		"<body>[1]<table><tr><table><td>x[2]</body>",                   // the second ends the first
		"<body>[1]a[2]<table><tr><table></body>",                       // and a gap stays one
		"<body>[1]<table><td><table></table>x[2]</body>",               // in a cell it does not
		"<body>[1]a[2]<table><select></select></body>",                 // a select in a gap
		"<body>[1]<table><td>a[2]<select><option></td></table></body>", // and one in a cell
		"<body>[1]a[2]<select><select></body>",
		"<body>[1]a<select></select>b[2]</body>",
		"<body>[1]a[2]<svg><math></math></body>",
		"<body>[1]a<svg><math></math></svg>b[2]</body>",
		"<body>[1]a</svg></math></template></select>b[2]</body>",
		"<body>[1]a<svg></svg></svg><svg></svg>b[2]</body>",
		"<body>[1]a<template></template></template>b[2]</body>",
		"<body>[1]a[2]<template><template></template></body>",
		"<body>[1]a<!--[if mso]><svg><template><![endif]-->b[2]</body>",
		"<body>[1]a<!--[if mso]></body></html><![endif]-->b[2]</body>",
		"<body>[1]a[2]<svg><!--[if mso]></svg><![endif]-->x</body>",
		"<body>[1]a<!--[if mso]><table><tr><td><![endif]-->b<!--[if mso]></td></tr></table><![endif]-->[2]</body>",
		"<body>[1]a<!--[if mso]><table><tr><![endif]-->b[2]</body>",
		"<!--[if mso]><body><![endif]--><body>[1]a[2]</body>",
		"<!--[if mso]>x<p><![endif]--><head></head>[1]a[2]",
		"<body>[1]a<!--[if mso]><p title='<![endif]-->b[2]</body>",
		"<body>[1]a<!--[if mso]><p title='<![endif]-->b[2]",
		"<body>[1]a[2]<",
		"<body>[1]a[2]</",
		"<body>[1]a[2]<p",
		"<body>[1]a[2]</p",
		"<body>[1]a[2]<!",
		"<body>[1]a[2]<!-",
		"<body>[1]a[2]<!--",
		"<body>[1]a[2]<?",
		"<body>[1]a[2]<style>p",
		"<body>[1]a[2]<title></titl",
		"<body>[1]a[2]<script>x",
		"<body>[1]a[2]<plaintext>x",
		"<body>[1]a<script></script>[2]",
		"<body>[1]a<!---->[2]",
		"<body>[1]a< b[2]",
		"<body>[1]a<1[2]",
		"<html>[1]a[2]</html>",
		"<html><body>[1]a[2]</body></html>",
		"<html><body>[1]a</html>b[2]</body>",
		"<!-- x -->[1]a[2]",
	} {
		checkPlaces(t, page)
	}
}

// TestElementsThatHoldTexts: behind whose text a pixel is put where the style
// sheet counts siblings, and which are taken for blocks.
func TestElementsThatHoldTexts(t *testing.T) {
	const style = "<style>:nth-child(2){}</style>"
	blocks := []string{"p", "td", "th", "div", "li", "center", "h1", "h2", "h3", "h4", "h5", "h6"}
	inline := []string{"a", "b", "i", "em", "span", "font", "strong"}
	for _, name := range append(append([]string{}, blocks...), inline...) {
		want := style + "<body><" + name + ">x[1][2]</" + name + "></body>"
		checkPlaces(t, want)
	}
	for _, name := range blocks {
		want := style + "<body><b>x</b><" + name + ">x[1][2]</" + name + "></body>"
		checkPlaces(t, want)
	}
	for _, name := range []string{"u", "section", "h7", "pre"} {
		want := style + "<body>[1]<" + name + ">x</" + name + ">[2]</body>"
		checkPlaces(t, want)
	}

	for _, name := range []string{"p", "li", "td", "th"} { // whose end tag may be left out
		want := style + "<body><" + name + ">x[1]<" + name + ">y[2]</" + name + "></body>"
		checkPlaces(t, want)
	}
	for _, page := range []string{
		style + "<body><div>x<div>y[1][2]</div></div></body>", // no other end tag may
		style + "<body><p>x<li>y[1][2]</li></body>",           // nor by another element
		style + "<body><p>x[1][2]</body>",
		style + "<body><p>x[1][2]</p><svg><div>y</div></svg></body>", // where a pixel would not stay
		style + "<body><p>x[1][2]</p><select><div>y</div></select></body>",
		style + "<body><p>x[1][2]</p><table><div>y</div><td></td></table></body>",
		style + "<p>x[1][2]</html>",
		style + "<body>[1]<p>x</div>[2]</body>",
		style + "<body><p>x[1][2]</p\n></body>",
	} {
		checkPlaces(t, page)
	}
}

// TestStylesThatCountSiblings names what is looked for in a style sheet.
func TestStylesThatCountSiblings(t *testing.T) {
	for css, want := range map[string]bool{
		"p:first-child{}":        true,
		"p:last-child{}":         true,
		"p:only-child{}":         true,
		"p:only-of-type{}":       true,
		"p:nth-last-child(2){}":  true,
		"p:first-of-type{}":      true,
		"p:last-of-type{}":       true,
		"*+p{}":                  true,
		"* \t\r\n\f+p{}":         true,
		"a) + p{}":               true,
		"[x]~p{}":                true,
		"IMG + p{}":              true,
		"p + p{} * + p{}":        true,
		"p + p{} q~r{}":          false,
		"+p{}":                   false,
		"p:first-letter{}":       false,
		"a{color:red}":           false,
		"":                       false,
		"a{display:flex}":        true,
		"a{display:inline-grid}": true,
		"a{display:table}":       true,
		"a{display: table-cell}": true,
		"a{display:  table}":     false,
	} {
		if got := countsSiblings([]byte(css)); got != want {
			t.Errorf("%q minds: %v, want %v", css, got, want)
		}
	}
	for tag, want := range map[string]bool{
		`<p style="DISPLAY:none">`: true, `<p hidden>`: true, `<p style="mso-hide:all">`: true, `<p style="color:red">`: false, "<p>": false,
	} {
		if got := isHidden([]byte(tag)); got != want {
			t.Errorf("%s is hidden: %v, want %v", tag, got, want)
		}
	}
	for _, raw := range []string{"script", "title", "textarea"} { // their text is not a style sheet
		page := "<" + raw + ">p:first-child{}</" + raw + "><body><p>a</p></body>"
		if got, want := marked(page), strings.Replace(strings.Replace(page, "<body>", "<body>[1]", 1), "</body>", "[2]</body>", 1); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestDetourOfTheFirstPixel: as far as it may be put behind the start.
func TestDetourOfTheFirstPixel(t *testing.T) {
	const style = "<style>:nth-child(2){}</style><body>"
	for n, far := range map[int]bool{32<<10 - len("<p>a"): false, 32<<10 - len("<p>a") + 1: true} {
		filling := strings.Repeat("\n", n)
		want := style + filling + "<p>a[1][2]</p></body>"
		if far {
			want = style + "[1]" + filling + "<p>a[2]</p></body>"
		}
		if got := marked(style + filling + "<p>a</p></body>"); got != want {
			t.Errorf("%d bytes away: far %v, want %v", n+len("<p>a"), !far, far)
		}
	}
}

// TestPixelsOfAMP: they want a body and a tracker with https.
func TestPixelsOfAMP(t *testing.T) {
	for _, c := range []struct {
		tracker, page string
		want          int
	}{
		{"https://t.example", "<body>x</body>", 2},
		{"HTTPS://t.example", "<body>x</body>", 2},
		{"http://t.example", "<body>x</body>", 0},
		{"https://t.example", "<body>x", 0},
		{"https://t.example", "x</body>", 0},
	} {
		o := all()
		o.Tracker = c.tracker
		e := editHTML([]byte(c.page), o, ampHTML, utf8Charset, withPixels)
		if len(e.list) != c.want {
			t.Errorf("%s, %s: %d pixels, want %d", c.tracker, c.page, len(e.list), c.want)
		}
		for _, ed := range e.list {
			if ed.pixel != ampPixel {
				t.Errorf("%s: a pixel of form %d, want that of AMP", c.page, ed.pixel)
			}
		}
	}
}
