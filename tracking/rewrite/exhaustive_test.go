package rewrite

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// sentences calls f with all sequences of at most n of these words.
func sentences(words []string, n int, f func(string)) {
	var grow func(s string, n int)
	grow = func(s string, n int) {
		f(s)
		if n == 0 {
			return
		}
		for _, w := range words {
			grow(s+w, n-1)
		}
	}
	grow("", n)
}

// nestedScript matches scripts in which x/net/html reads a comment otherwise than
// the HTML standard has it: behind a < that begins no tag.
var nestedScript = regexp.MustCompile(`(?is)<script>.*<!--.*<([^a-z/]|$)`)

// TestAllShortDocuments holds the scanner against x/net/html over all short
// documents of some words.
func TestAllShortDocuments(t *testing.T) {
	for _, c := range []struct {
		name   string
		before string
		words  []string
		n      int
		after  string
	}{
		{"tags", "", []string{"<", "a", "/", ">", "!", "-", "?", " "}, 5, "<b>"},
		{"comments", "<!--", []string{"-", "!", ">", "x", "<"}, 6, "<b>-->"},
		{"attributes", "<a", []string{" ", "=", "\"", "'", "/", ">", "b", "&amp;"}, 5, "><i x='\">"},
		{"attributes behind a space", "<a b", []string{"\t", "=", "\"", "c", "/", "\r\n"}, 5, "'>\"><i>"},
		{"titles", "<title>", []string{"</title", "</titl", "<", ">", " ", "/", "x", "</TITLE>"}, 4, "<b></title><i>"},
		{"styles", "<STYLE x>", []string{"</style", "</script>", ">", "\n", "<!--", "-->"}, 4, "<b></style><i>"},
		{"scripts", "<script>", []string{"<!--", "-->", "<script", "</script", ">", "-", " ", "x"}, 5, "<b></script><i>"},
		{"text that never ends", "<plaintext>", []string{"</plaintext>", "<b>"}, 3, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			sentences(c.words, c.n, func(s string) {
				data := []byte(c.before + s + c.after)
				if c.name == "scripts" && nestedScript.Match(data) {
					return
				}
				compareTokens(t, data)
			})
		})
	}
}

// TestCommentEnds: where the comment ends that a document begins with.
func TestCommentEnds(t *testing.T) {
	for text, closed := range map[string]bool{
		"<!-->": true, "<!--->": true, "<!---->": true, "<!--x-->": true, "<!--x--!>": true, "<!--x--->": true, "<!--x--!-->": true,
		"<!--x": false, "<!--x--": false, "<!x>": true, "<?x>": true, "</ x>": true, "<!DOCTYPE html>": true, "<![CDATA[x>": true, "<!x": false,
	} {
		doc := text
		if closed {
			doc += "y<b>"
		}
		z := newScanner([]byte(doc), 0)
		got, ok := z.next()
		if !ok || got.kind != comment || got.start != 0 || got.end != len(text) || (z.cut == nowhere) != closed {
			t.Errorf("%s: ends at %d, cut at %d, want %d, closed %v", doc, got.end, z.cut, len(text), closed)
		}
	}
}

// TestElementsWithRawText names all.
func TestElementsWithRawText(t *testing.T) {
	for _, name := range []string{"style", "title", "script", "textarea", "xmp", "iframe", "noembed", "noframes", "plaintext"} {
		for _, spelt := range []string{name, strings.ToUpper(name)} {
			doc := "<" + spelt + "><a href=http://x.example/></" + spelt + "x>"
			if links := linksOf(editHTML([]byte(doc), clicksOnly(), plainHTML, utf8Charset, withoutPixels)); len(links) != 0 {
				t.Errorf("%s has a link: %+v", spelt, links)
			}
			compareTokens(t, []byte(doc+"</"+spelt+"><b>"))
		}
	}
	for _, name := range []string{"noscript", "p", "s", "xm", "st", "script1", "titles", "option", "template"} {
		doc := "<" + name + "><b><a href=http://x.example/>"
		want := 1
		if name == "template" {
			want = 0
		}
		if links := linksOf(editHTML([]byte(doc), clicksOnly(), plainHTML, utf8Charset, withoutPixels)); len(links) != want {
			t.Errorf("%s has %d links, want %d", name, len(links), want)
		}
	}
}

// TestElementsThatAreLinks: of all names of up to four letters.
func TestElementsThatAreLinks(t *testing.T) {
	want := map[string]bool{"a": true, "A": true, "area": true, "ArEa": true, "v:a": true, "V:x": true, "v:rect": true}
	for _, name := range []string{
		"a", "A", "b", "i", "z", "area", "ArEa", "areb", "aree", "v:", "v:a", "V:x", "v:rect", "v", "va:", "w:rect", "vx:rect", "ab", "abbr", "are", "areas", "link",
	} {
		if got := isLink([]byte(name)); got != want[name] {
			t.Errorf("<%s> is a link: %v, want %v", name, got, want[name])
		}
	}
}

// TestMarksAreFound: data-msys- at every place of a document.
func TestMarksAreFound(t *testing.T) {
	for _, c := range []struct {
		in   string
		want bool
	}{
		{"data-msys-", true},
		{"DATA-MSYS-", true},
		{"xdata-msys-x", true},
		{"-data-msys-", true},
		{"data-data-msys-", true},
		{"data-msys", false},
		{"ata-msys-", false},
		{"data-msyx-", false},
		{"data_msys-", false},
		{"", false},
		{"-", false},
		{"--------------", false},
	} {
		if got := hasMsys([]byte(c.in)); got != c.want {
			t.Errorf("%q: found %v, want %v", c.in, got, c.want)
		}
	}
}

func TestASCIIFold(t *testing.T) {
	for c := range 256 {
		for _, lower := range []byte("az{`@[0-") {
			want := byte(c) == lower || c >= 'A' && c <= 'Z' && byte(c)+32 == lower
			if got := asciiFold([]byte{byte(c)}, string([]byte{lower})); got != want {
				t.Errorf("%q is %q: %v, want %v", byte(c), lower, got, want)
			}
		}
	}
	if asciiFold([]byte("ab"), "a") || asciiFold([]byte("a"), "ab") || !asciiFold(nil, "") {
		t.Error("a word is taken for another length of it")
	}
}

func TestConditionalContent(t *testing.T) {
	for in, want := range map[string]string{
		"<!--[if mso]>x<![endif]-->":        "x",
		"<!--[IF mso]>x<![endif]-->":        "x",
		"<!--[if mso]><![endif]-->":         "",
		"<!--[if mso]>a]>b<![endif]-->":     "a]>b",
		"<!--[if mso]>a<![x]>b<![endif]-->": "a<![x]>b",
		"<!--[if mso]>x-->":                 "none",
		"<!--[if mso<![endif]-->":           "none",
		"<!--[if <![endif]>x-->":            "none",
		"<!--[if":                           "none",
		"<!--[i":                            "none",
		"<!-- [if mso]>x<![endif]-->":       "none",
		"<!--x[if mso]>x<![endif]-->":       "none",
	} {
		from, to, ok := conditionalContent([]byte(in))
		got := "none"
		if ok {
			got = in[from:to]
		}
		if got != want {
			t.Errorf("%q has %q, want %q", in, got, want)
		}
	}
}

// TestAttributesOfAMPThatChangeLinks names all.
func TestAttributesOfAMPThatChangeLinks(t *testing.T) {
	for _, key := range []string{"[href]", "[HREF]", "data-amp-bind-href", "data-amp-replace", "data-amp-addparams"} {
		if !bindsHref([]byte(key)) {
			t.Errorf("%s changes no link", key)
		}
	}
	for _, key := range []string{"href", "[text]", "data-amp-bind-text", "data-amp", ""} {
		if bindsHref([]byte(key)) {
			t.Errorf("%s changes a link", key)
		}
	}
}

func TestMarksOfLinks(t *testing.T) {
	for _, c := range []struct {
		mark, value string
		link        Link
		track       bool
	}{
		{"clicktrack", "0", Link{}, false},
		{"clicktrack", "1", Link{}, true},
		{"clicktrack", "", Link{}, true},
		{"CLICKTRACK", "0", Link{}, false},
		{"linkname", "top", Link{Name: "top"}, true},
		{"linkname", " a b ", Link{Name: "a b"}, true},
		{"unsubscribe", "1", Link{Unsubscribe: true}, true},
		{"unsubscribe", "0", Link{}, true},
		{"unsubscribe", "11", Link{}, true},
		{"sublink", "/a/b/", Link{Sublink: "a/b"}, true},
		{"sublink", "a b", Link{}, true},
		{"other", "0", Link{}, true},
		{"linknames", "0", Link{}, true},
		{"", "0", Link{}, true},
	} {
		doc := `<a data-msys-` + c.mark + `="` + c.value + `" href="http://x.example/">`
		e := editHTML([]byte(doc), clicksOnly(), plainHTML, utf8Charset, withoutPixels)
		links := linksOf(e)
		c.link.Target = "http://x.example/"
		if (len(links) == 1) != c.track || len(links) == 1 && links[0] != c.link {
			t.Errorf("%s=%q: links %+v, want %+v, %v", c.mark, c.value, links, c.link, c.track)
		}
		if out := string(apply([]byte(doc), e.list, stamps{})); strings.Contains(strings.ToLower(out), "data-msys") {
			t.Errorf("%s=%q: the mark stays in %s", c.mark, c.value, out)
		}
	}
}

// TestEditsAreBounded: as many as may be are listed, of links and of reasons.
func TestEditsAreBounded(t *testing.T) {
	var e edits
	for range 10_000 {
		e.insert(len(e.list), edit{})
		e.skip(UnclearURL)
	}
	if e.overflow || len(e.list) != 10_000 || len(e.skipped) != 10_000 {
		t.Errorf("%d edits and %d reasons, overflow %v, want 10000 of each", len(e.list), len(e.skipped), e.overflow)
	}
	more := edits{skipped: e.skipped}
	if e.insert(0, edit{}); !e.overflow || len(e.list) != 10_000 {
		t.Errorf("one edit more: %d, overflow %v", len(e.list), e.overflow)
	}
	if more.skip(UnclearURL); !more.overflow || len(more.skipped) != 10_000 {
		t.Errorf("one reason more: %d, overflow %v", len(more.skipped), more.overflow)
	}
}

// TestAttributesAreBounded: of a tag with 500 all are read, one with more is left
// alone.
func TestAttributesAreBounded(t *testing.T) {
	for n, want := range map[int]int{500: 1, 501: 0, 600: 0} {
		doc := "<a href=http://x.example/" + strings.Repeat(" b", n-1) + ">"
		if got := len(linksOf(editHTML([]byte(doc), clicksOnly(), plainHTML, utf8Charset, withoutPixels))); got != want {
			t.Errorf("%d attributes: %d links, want %d", n, got, want)
		}
	}
}

// TestAttributeValues holds the short ways against the tokenizer's reading.
func TestAttributeValues(t *testing.T) {
	words := []string{"&", "&amp;", "amp;", "&lt", "&copy=", "\"", "x", "&#38;", "\r\n", "\r"}
	sentences(words, 4, func(s string) {
		if strings.Contains(s, "\"") {
			if got := attrValue([]byte(s)); strings.Count(got, "\"") != strings.Count(s, "\"") {
				t.Fatalf("%q is read as %q", s, got)
			}
			return
		}
		want := theirs([]byte(`<a b="` + s + `">`))
		got := ours([]byte(`<a b="` + s + `">`))
		if len(want) != 1 || len(got) != 1 || want[0] != got[0] {
			t.Fatalf("%q: got %q, want %q", s, got, want)
		}
	})
}

func TestIsSpace(t *testing.T) {
	for c := range 256 {
		if got, want := isSpace(byte(c)), bytes.IndexByte([]byte(" \t\n\r\f"), byte(c)) >= 0; got != want {
			t.Errorf("%q is white space: %v, want %v", byte(c), got, want)
		}
		if got, want := isLetter(byte(c)), c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'; got != want {
			t.Errorf("%q is a letter: %v, want %v", byte(c), got, want)
		}
		if got, want := isAlnum(byte(c)), isLetter(byte(c)) || c >= '0' && c <= '9'; got != want {
			t.Errorf("%q is a letter or digit: %v, want %v", byte(c), got, want)
		}
		if got, want := isHostByte(byte(c)), isAlnum(byte(c)) || c == '-' || c == '.' || c == '_'; got != want {
			t.Errorf("%q is part of a host: %v, want %v", byte(c), got, want)
		}
	}
}
