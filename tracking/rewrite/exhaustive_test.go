package rewrite

import (
	"strings"
	"testing"
)

// TestElementsWithRawText names all.
func TestElementsWithRawText(t *testing.T) {
	for _, name := range []string{"style", "title", "script", "textarea", "xmp", "iframe", "noembed", "noframes", "plaintext"} {
		for _, spelt := range []string{name, strings.ToUpper(name)} {
			doc := "<" + spelt + "><a href=http://x.example/></" + spelt + "x>"
			if links := linksOf(editHTML([]byte(doc), clicksOnly(), plainHTML, utf8Charset, withoutPixels)); len(links) != 0 {
				t.Errorf("%s has a link: %+v", spelt, links)
			}
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

func TestClassesOfBytes(t *testing.T) {
	for c := range 256 {
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
