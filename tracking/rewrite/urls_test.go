package rewrite

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// textTargets are the targets that are wrapped in a text.
func textTargets(in string, cs textCharset, f flow) (targets []string, e edits) {
	e = editText([]byte(in), textOptions(), cs, f)
	for _, l := range linksOf(e) {
		targets = append(targets, l.Target)
	}

	return targets, e
}

// TestCharactersInFrontOfURLs: behind which a URL is part of something else.
func TestCharactersInFrontOfURLs(t *testing.T) {
	const u = "http://x.example/"
	for c := range 128 {
		if c == '<' {
			continue // held by TestTextLinksEndWhereTheyEnd
		}
		want := !isAlnum(byte(c)) && strings.IndexByte("/=&?%@#+", byte(c)) < 0
		if got, _ := textTargets(string([]byte{byte(c)})+u+" ", utf8Charset, fixedLines); (len(got) == 1) != want {
			t.Errorf("behind %q: wrapped %q, want %v", byte(c), got, want)
		}
	}
	for before, want := range map[string]bool{
		"ü": false, "я": false, "٣": false, "²": false, "\u2e7f": true, "\u2e80": true, "中": true, "。": true, "—": true, "\xff": false, "\u00a0": true,
	} {
		if got, _ := textTargets(before+u, utf8Charset, fixedLines); (len(got) == 1) != want {
			t.Errorf("behind %q: wrapped %q, want %v", before, got, want)
		}
	}
	latin, _ := readCharset("iso-8859-1", []byte("\xfc"))
	for before, want := range map[string]bool{"\xfc": false, "\xab": true, "\xa0": true} {
		if got, _ := textTargets(before+u, latin, fixedLines); (len(got) == 1) != want {
			t.Errorf("behind %q in Latin-1: wrapped %q, want %v", before, got, want)
		}
	}
	if got, _ := textTargets("\xb3\xf4"+u, textCharset{}, fixedLines); len(got) != 0 {
		t.Errorf("behind a character that is not read: wrapped %q", got)
	}
}

// TestCharactersBehindURLs: which end a URL, belong to it, or make it unclear,
// when another word follows and when none does.
func TestCharactersBehindURLs(t *testing.T) {
	const u = "http://x.example/a"
	for c := byte(' ') + 1; c < 0x80; c++ {
		s := string([]byte{c})
		want := u + s + "b"
		switch {
		case strings.Contains("<>\"`\x7f)]}", s):
			want = u
		case strings.Contains("{\\^|", s):
			want = "" // unclear
		}
		got, e := textTargets(u+s+"b ", utf8Charset, fixedLines)
		if len(got) > 1 || strings.Join(got, "") != want {
			t.Errorf("with %q in it: wrapped %q, want %q", c, got, want)
		}
		if unclear := slices.Contains(e.skipped, UnclearURL); unclear != (want == "") {
			t.Errorf("with %q in it: skipped for %v", c, e.skipped)
		}

		want = u + s
		switch {
		case strings.Contains("<>\"`\x7f)]}.,;:!?'|", s):
			want = u
		case strings.Contains("{\\^", s):
			want = ""
		}
		if got, _ := textTargets(u+s+" ", utf8Charset, fixedLines); strings.Join(got, "") != want {
			t.Errorf("with %q behind it: wrapped %q, want %q", c, got, want)
		}
	}
	for c := range byte(' ') + 1 {
		if got, _ := textTargets(u+string([]byte{c})+"b", utf8Charset, fixedLines); strings.Join(got, "") != u {
			t.Errorf("with %q behind it: wrapped %q, want %q", c, got, u)
		}
	}
}

// TestBarEndsURLs where a word ends, and leaves it unclear elsewhere.
func TestBarEndsURLs(t *testing.T) {
	const u = "http://x.example/a"
	for behind, want := range map[string]string{
		"|": u, "| ": u, "|\t": u, "|.": u, "|,": u, "|;": u, "|:": u, "|!": u, "|?": u, "|)": u, "|]": u, "|}": u, "|'": u, "|<": u, "|>": u,
		"|\"": u, "|`": u, "|—": u, "|\u00a0": u, "|b": "", "|/": "", "|ü": "", "|-": "",
		"–": u, "– ": u, "–.": u, "–—": u, "–b": "", "–ü": "", "––": "",
	} {
		if got, _ := textTargets(u+behind, utf8Charset, fixedLines); strings.Join(got, "") != want {
			t.Errorf("with %q behind it: wrapped %q, want %q", behind, got, want)
		}
	}
}

func TestBracketsInURLs(t *testing.T) {
	const u = "http://x.example/"
	for in, want := range map[string]string{
		"(a)b)c":    "(a)b",
		"[a]b]c":    "[a]b",
		"((a)b)c)d": "((a)b)c",
		"[(a])b":    "[(a])b",
		"a)":        "a",
		"a]":        "a",
		"a}":        "a",
		"(a]b":      "(a",
	} {
		if got, _ := textTargets(u+in+" ", utf8Charset, fixedLines); strings.Join(got, "") != u+want {
			t.Errorf("%s%s: wrapped %q, want %s%s", u, in, got, u, want)
		}
	}
	if got, e := textTargets(u+"{a} ", utf8Charset, fixedLines); len(got) != 0 || !slices.Equal(e.skipped, []Reason{UnclearURL}) {
		t.Errorf("braces: wrapped %q, skipped for %v", got, e.skipped)
	}
}

// TestTwoURLsInARow: which characters part them.
func TestTwoURLsInARow(t *testing.T) {
	for _, c := range "([,;|" {
		in := "http://x.example/a" + string(c) + "HTTPS://y.example/b"
		if got, _ := textTargets(in, utf8Charset, fixedLines); !slices.Equal(got, []string{"http://x.example/a", "HTTPS://y.example/b"}) {
			t.Errorf("%s: wrapped %q, want both", in, got)
		}
		in = "http://x.example/?a" + string(c) + "http://y.example/b"
		if got, e := textTargets(in, utf8Charset, fixedLines); len(got) != 0 || len(e.skipped) != 1 {
			t.Errorf("%s: wrapped %q, skipped for %v, want neither", in, got, e.skipped)
		}
	}
	for in, want := range map[string]int{"http://x.example/a:http://y.example/b": 1, "http://x.example/a,ftp://y.example": 1, "http://x.example/a,http:/y": 1} {
		if got, _ := textTargets(in, utf8Charset, fixedLines); len(got) != want {
			t.Errorf("%s: wrapped %q, want %d", in, got, want)
		}
	}
}

func TestWhereURLsBegin(t *testing.T) {
	for in, want := range map[string]int{
		"http://":       0,
		"https://":      0,
		"HTTPS://x":     0,
		"a http://":     2,
		"shttp://":      1,
		"xhttps://":     1,
		"ttp://":        -1,
		"ftp://http://": 6,
		"://http://":    3,
		"://":           -1,
		"http:/":        -1,
		"":              -1,
	} {
		if got := indexURL([]byte(in)); got != want {
			t.Errorf("%q: a URL at %d, want %d", in, got, want)
		}
	}
}

// TestCharacterClasses holds each group of characters above 0x7f.
func TestCharacterClasses(t *testing.T) {
	for class, chars := range map[urlClass]string{
		mayEndURL:    "\u2010\u2011\u2012\u2013\u2019\u00b7\u0387\u05be\u30fb\uff65",
		endsURL:      "\u00a0\u2003\u3000\u2028\u0085\u200b\ufeff\u2014\u3002\uff0c\u201c\u00ab\u2192\u20ac\u00a9\U0001f44d",
		unclearInURL: "ü中я٣\u0301\ufffd\u200d",
	} {
		for _, r := range chars {
			if got := classOf(r); got != class {
				t.Errorf("%U is of class %d, want %d", r, got, class)
			}
		}
	}
	if utf8.RuneCountInString(dashes) != 10 {
		t.Errorf("%d dashes, want 10", utf8.RuneCountInString(dashes))
	}
}

// TestOtherCharsetsInURLs: characters of Latin-1 are read, of EUC-JP they are
// not.
func TestOtherCharsetsInURLs(t *testing.T) {
	const u = "http://x.example/a"
	latin, _ := readCharset("iso-8859-1", []byte("\xfc"))
	for _, c := range []struct {
		cs     textCharset
		behind string
		want   string
	}{
		{latin, "\xa0b", u},
		{latin, "\xbb", u},
		{latin, "\x96", u},
		{latin, "\x96.", u},
		{latin, "\x96b", ""},
		{latin, "|\xbb", u},
		{latin, "|\xfc", ""},
		{latin, "\xfc", ""},
		{textCharset{}, "\xa1\xa3", ""},
		{textCharset{}, "|\xa1\xa3", ""},
	} {
		if got, _ := textTargets(u+c.behind, c.cs, fixedLines); strings.Join(got, "") != c.want {
			t.Errorf("with %q behind it: wrapped %q, want %q", c.behind, got, c.want)
		}
	}
}

// TestSoftLineBreaks: where the space at one goes, the text goes on behind it.
func TestSoftLineBreaks(t *testing.T) {
	for _, c := range []struct {
		in   string
		flow flow
		want int
	}{
		{"http://x.example/a \r\nb", joinedLines, 0},
		{"http://x.example/a \r\nb", fixedLines, 1},
		{"http://x.example/a\r\nb", joinedLines, 1},
		{"http://x.example/a  \r\nb", joinedLines, 1},
		{"http://x.example/a \r\n", joinedLines, 0},
	} {
		if got, _ := textTargets(c.in, utf8Charset, c.flow); len(got) != c.want {
			t.Errorf("%q, lines of kind %d: wrapped %q, want %d", c.in, c.flow, got, c.want)
		}
	}
}

// TestEmphasis: a mark is looked for so far in front of a URL, and in its line.
func TestEmphasis(t *testing.T) {
	for _, c := range []struct {
		name, before, mark string
		want               bool
	}{
		{"asterisk", "*a ", "*", true},
		{"underscore", "_a ", "_", true},
		{"tilde", "~a ", "~", true},
		{"slash", "/a ", "/", false},
		{"another mark", "_a ", "*", false},
		{"within a word", "b*a ", "*", false},
		{"behind a digit", "1*a ", "*", false},
		{"behind a character above 0x7f", "ü*a ", "*", false},
		{"behind a bracket", "(*a ", "*", true},
		{"in front of a space", "* a ", "*", false},
		{"in front of a tab", "*\ta ", "*", false},
		{"in front of the URL", "*", "*", true},
		{"in another line", "*a\n", "*", false},
		{"256 bytes away", " *" + strings.Repeat("a", 254) + " ", "*", true},
		{"257 bytes away", " *" + strings.Repeat("a", 255) + " ", "*", false},
		{"at the beginning, 256 bytes away", "*" + strings.Repeat("a", 254) + " ", "*", true},
	} {
		in := c.before + "http://x.example/a" + c.mark + " b"
		got, e := textTargets(in, utf8Charset, fixedLines)
		if emphasized := slices.Contains(e.skipped, UnclearURL); emphasized != c.want || len(got) == 1 == c.want {
			t.Errorf("%s: emphasized %v, want %v: wrapped %q", c.name, emphasized, c.want, got)
		}
	}
}

// TestMarksInTexts: attributes behind a URL, in double brackets.
func TestMarksInTexts(t *testing.T) {
	const u = "http://x.example/a"
	link := Link{Target: u}
	unsubscribe := Link{Target: u, Unsubscribe: true}
	for _, c := range []struct {
		in    string
		out   string // without its link's URL, which becomes L
		links []Link
	}{
		{u + `[[data-msys-clicktrack="0"]]b`, u + "b", nil},
		{u + `[[data-msys-clicktrack="1"]]b`, "Lb", []Link{link}},
		{u + `[[data-msys-unsubscribe="1"]]b`, "Lb", []Link{unsubscribe}},
		{u + `[[data-msys-unsubscribe=" 1 "]]b`, "Lb", []Link{unsubscribe}},
		{u + `[[data-msys-sublink="/s/" data-msys-unsubscribe="1"]]b`, "Lb", []Link{{Target: u, Unsubscribe: true, Sublink: "s"}}},
		{u + `[[data-msys-linkname="n"]]b`, "Lb", []Link{link}},
		{u + `[[data-msys-unsubscribe="1" x="y" class]]b`, "Lb", []Link{unsubscribe}},
		{u + `[[data-msys-x="1"]]b`, "Lb", []Link{link}},
		{u + `[[data-msys-unsubscribe="1"]][[data-msys-sublink="s"]]b`, "Lb", []Link{{Target: u, Unsubscribe: true, Sublink: "s"}}},
		{u + `[[data-msys-unsubscribe="1"]`, `L[[data-msys-unsubscribe="1"]`, []Link{link}},
		{u + `.[[data-msys-unsubscribe="1"]]b`, "Lb", []Link{{Target: u + ".", Unsubscribe: true}}},
		{u + `[[data-msys-`, "L[[data-msys-", []Link{link}},
		{u + "[[data-msys-unsubscribe=\n\"1\"]]b", "L[[data-msys-unsubscribe=\n\"1\"]]b", []Link{link}},
	} {
		e := editText([]byte(c.in), textOptions(), utf8Charset, fixedLines)
		if out, want := string(apply([]byte(c.in), e.list, stamps{})), strings.Replace(c.out, "L", L, 1); out != want {
			t.Errorf("%s: becomes %q, want %q", c.in, out, want)
		}
		if links := linksOf(e); !slices.Equal(links, c.links) {
			t.Errorf("%s: links %+v, want %+v", c.in, links, c.links)
		}
	}
}

// TestLinksThatAreTooLongHaveAReason, in a text as in HTML; one that is as long
// as may be is wrapped.
func TestLinksThatAreTooLongHaveAReason(t *testing.T) {
	for limit, want := range map[int]int{0: 1, 100: 1, 99: 0} {
		o := textOptions()
		o.MaxLinkLength = limit
		o.MaxURL = func(Link) int { return 100 }
		for name, e := range map[string]edits{
			"a text": editText([]byte("http://x.example/"), o, utf8Charset, fixedLines),
			"HTML":   editHTML([]byte("<a href=http://x.example/>"), o, plainHTML, utf8Charset, withoutPixels),
		} {
			if got := len(linksOf(e)); got != want || slices.Contains(e.skipped, LinkTooLong) != (want == 0) {
				t.Errorf("%s, at most %d: %d links, skipped for %v, want %d", name, limit, got, e.skipped, want)
			}
		}
	}
}
