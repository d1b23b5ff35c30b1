package htmledit

import (
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

// shortScriptQuirk matches scripts in which x/net/html reads a comment otherwise than
// the HTML standard has it: behind a < that begins no tag.
var shortScriptQuirk = regexp.MustCompile(`(?is)<script>.*<!--.*<([^a-z/]|$)`)

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
				if c.name == "scripts" && shortScriptQuirk.Match(data) {
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
		z := NewScanner([]byte(doc), 0)
		got, ok := z.Next()
		cut, cutOff := z.CutOff()
		if !ok || got.Kind != Comment || got.Start != 0 || got.End != len(text) || cutOff == closed {
			t.Errorf("%s: ends at %d, cut at %d, want %d, closed %v", doc, got.End, cut, len(text), closed)
		}
	}
}

func TestASCIIFold(t *testing.T) {
	for c := range 256 {
		for _, lower := range []byte("az{`@[0-") {
			want := byte(c) == lower || c >= 'A' && c <= 'Z' && byte(c)+32 == lower
			if got := EqualFold([]byte{byte(c)}, string([]byte{lower})); got != want {
				t.Errorf("%q is %q: %v, want %v", byte(c), lower, got, want)
			}
		}
	}
	if EqualFold([]byte("ab"), "a") || EqualFold([]byte("a"), "ab") || !EqualFold(nil, "") {
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
		from, to, ok := ConditionalContent([]byte(in))
		got := "none"
		if ok {
			got = in[from:to]
		}
		if got != want {
			t.Errorf("%q has %q, want %q", in, got, want)
		}
	}
}

// TestAttributeValues holds the short ways against the tokenizer's reading.
func TestAttributeValues(t *testing.T) {
	words := []string{"&", "&amp;", "amp;", "&lt", "&copy=", "\"", "x", "&#38;", "\r\n", "\r"}
	sentences(words, 4, func(s string) {
		if strings.Contains(s, "\"") {
			if got := Unescape([]byte(s)); strings.Count(got, "\"") != strings.Count(s, "\"") {
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

// TestRawTextEnds: of every element with raw text, in either case.
func TestRawTextEnds(t *testing.T) {
	for _, name := range rawTextElements {
		for _, spelt := range []string{name, strings.ToUpper(name)} {
			compareTokens(t, []byte("<"+spelt+"><a href=http://x.example/></"+spelt+"x></"+spelt+"><b>"))
		}
	}
}

func TestIsSpace(t *testing.T) {
	for c := range 256 {
		if got, want := IsSpace(byte(c)), strings.IndexByte(" \t\n\r\f", byte(c)) >= 0; got != want {
			t.Errorf("%q is white space: %v, want %v", byte(c), got, want)
		}
	}
}
