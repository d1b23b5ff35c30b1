package rewrite

import (
	"slices"
	"strings"
	"testing"
)

func textOptions() Options {
	o := clicksOnly()
	o.TextLinks = true

	return o
}

// TestLongTextAttributesAreText: they are looked for in so many bytes alone, or
// a text of many that begin and none that ends would be read again for each.
func TestLongTextAttributesAreText(t *testing.T) {
	const open, end = `[[data-msys-linkname="`, `" data-msys-clicktrack="0"]]`
	for _, c := range []struct {
		name   string
		length int
		read   bool
	}{
		{"as long as may be", maxTextAttributes, true},
		{"one more", maxTextAttributes + 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			attributes := open + strings.Repeat("x", c.length-len(open)-len(end)) + end
			text := "https://x.example/a" + attributes + " b"
			want := "https://x.example/a b"
			if !c.read {
				want = L + attributes + " b"
			}
			e := editText([]byte(text), textOptions(), utf8Charset, fixedLines)
			if got := string(apply([]byte(text), e.list, stamps{})); got != want {
				t.Errorf("got  %.80q\nwant %.80q", got, want)
			}
		})
	}
}

// TestTextLinksEndWhereTheyEnd holds each text against what is left of it. The
// targets of its links are given in order.
func TestTextLinksEndWhereTheyEnd(t *testing.T) {
	const nbsp = "\u00a0"
	for _, c := range []struct {
		name, in, want string
		targets        []string
	}{
		{"no-break space", "voir https://x.example/a" + nbsp + ": suite", "voir L" + nbsp + ": suite", []string{"https://x.example/a"}},
		{"ideographic space", "https://x.example/a\u3000次", "L\u3000次", []string{"https://x.example/a"}},
		{"zero-width space", "https://x.example/a\u200bb", "L\u200bb", []string{"https://x.example/a"}},
		{"line separator", "https://x.example/a\u2028b", "L\u2028b", []string{"https://x.example/a"}},
		{"em dash", "see https://x.example/a—and more", "see L—and more", []string{"https://x.example/a"}},
		{"ellipsis", "https://x.example/a…", "L…", []string{"https://x.example/a"}},
		{"typographic quotes", "“https://x.example/a” „https://x.example/b“ «https://x.example/c»", "“L” „L“ «L»",
			[]string{"https://x.example/a", "https://x.example/b", "https://x.example/c"}},
		{"Chinese full stop", "https://x.example/a。next", "L。next", []string{"https://x.example/a"}},
		{"Chinese brackets", "（https://x.example/a）【https://x.example/b】", "（L）【L】", []string{"https://x.example/a", "https://x.example/b"}},
		{"Chinese comma", "https://x.example/a，https://x.example/b、c", "L，L、c", []string{"https://x.example/a", "https://x.example/b"}},
		{"Arabic comma", "https://x.example/a، b", "L، b", []string{"https://x.example/a"}},
		{"symbol", "https://x.example/a→b", "L→b", []string{"https://x.example/a"}},
		{"emoji", "https://x.example/a\U0001f44d", "L\U0001f44d", []string{"https://x.example/a"}},
		{"Chinese before it", "详情：https://x.example/a", "详情：L", []string{"https://x.example/a"}},
		{"Japanese glued before it", "こちらhttps://x.example/a へ", "こちらL へ", []string{"https://x.example/a"}},
		{"Japanese glued behind it", "https://x.example/aをご覧ください", "https://x.example/aをご覧ください", nil},
		{"letters in the path", "https://de.example/wiki/München.", "https://de.example/wiki/München.", nil},
		{"letters in the host", "https://bücher.example/a", "https://bücher.example/a", nil},
		{"en dash in a word", "https://en.example/wiki/Michelson–Morley", "https://en.example/wiki/Michelson–Morley", nil},
		{"en dash behind it", "https://x.example/a– and", "L– and", []string{"https://x.example/a"}},
		{"apostrophe in a word", "https://x.example/it’s", "https://x.example/it’s", nil},
		{"apostrophe behind it", "‘https://x.example/a’, b", "‘L’, b", []string{"https://x.example/a"}},
		{"two with a comma", "https://x.example/a,https://y.example/b", "L,L", []string{"https://x.example/a", "https://y.example/b"}},
		{"two with a semicolon", "https://x.example/a;http://y.example/b", "L;L", []string{"https://x.example/a", "http://y.example/b"}},
		{"two with a bar", "https://x.example/a|https://y.example/b|", "L|L|", []string{"https://x.example/a", "https://y.example/b"}},
		{"comma in a query", "https://x.example/?u=a,https://y.example/b", "https://x.example/?u=a,https://y.example/b", nil},
		{"one in another", "https://x.example/web/https://y.example/b c", "L c", []string{"https://x.example/web/https://y.example/b"}},
		{"one in a query", "https://x.example/?u=https://y.example/b c", "L c", []string{"https://x.example/?u=https://y.example/b"}},
		{"one in a bare host", "www.x.example/?u=https://y.example/b c", "www.x.example/?u=https://y.example/b c", nil},
		{"markdown", "[https://x.example/a](https://x.example/b)", "[L](L)", []string{"https://x.example/a", "https://x.example/b"}},
		{"markdown with a text", "[a](https://x.example/b).", "[a](L).", []string{"https://x.example/b"}},
		{"brackets", "(https://x.example/a_(b)). (https://x.example/c)d", "(L). (L)d", []string{"https://x.example/a_(b)", "https://x.example/c"}},
		{"brackets that stay open", "https://x.example/a(b c", "L c", []string{"https://x.example/a(b"}},
		{"braces", "{https://x.example/a}", "{L}", []string{"https://x.example/a"}},
		{"identifier in braces", "https://x.example/{a}", "https://x.example/{a}", nil},
		{"template", "https://x.example/{{a}} https://x.example/*|B|*", "https://x.example/{{a}} https://x.example/*|B|*", nil},
		{"underscore at the end", "https://x.example/foo_ b", "L b", []string{"https://x.example/foo_"}},
		{"asterisk at the end", "https://x.example/foo* b", "L b", []string{"https://x.example/foo*"}},
		{"hyphen at the end", "https://x.example/foo- b", "L b", []string{"https://x.example/foo-"}},
		{"bold", "*https://x.example/foo* b", "*https://x.example/foo* b", nil},
		{"underlined", "_https://x.example/foo_ b", "_https://x.example/foo_ b", nil},
		{"end of bold text", "*see https://x.example/foo* b", "*see https://x.example/foo* b", nil},
		{"end of underlined text", "a (_see https://x.example/foo_).", "a (_see https://x.example/foo_).", nil},
		{"asterisk behind a product", "2*3 * 4 https://x.example/foo* b", "2*3 * 4 L b", []string{"https://x.example/foo*"}},
		{"asterisk behind a list's mark", "* https://x.example/foo* b", "* L b", []string{"https://x.example/foo*"}},
		{"asterisk behind a line with one", "*b\r\nhttps://x.example/foo* b", "*b\r\nL b", []string{"https://x.example/foo*"}},
		{"bold, with a space", "*https://x.example/foo *", "*L *", []string{"https://x.example/foo"}},
		{"angle brackets", "<https://x.example/a.> b", "<L.> b", []string{"https://x.example/a"}},
		{"angle brackets over two lines", "<https://x.example/a\r\nb> c", "<https://x.example/a\r\nb> c", nil},
		{"angle brackets with a space", "<https://x.example/a b>", "<https://x.example/a b>", nil},
		{"attributes in angle brackets", `<https://x.example/a[[data-msys-unsubscribe="1"]]>`, "<L>", []string{"https://x.example/a"}},
		{"attributes in upper case", `https://x.example/a[[DATA-MSYS-Unsubscribe="1"]] b`, "L b", []string{"https://x.example/a"}},
		{"attributes in two brackets", `https://x.example/a[[data-msys-linkname="b"]][[data-msys-clicktrack="0"]] c`, "https://x.example/a c", nil},
		{"attributes behind an unclear one", `https://x.example/ü[[data-msys-unsubscribe="1"]]`, "https://x.example/ü", nil},
		{"sentence marks", "visit: https://x.example/a?b=c!? yes", "visit: L!? yes", []string{"https://x.example/a?b=c"}},
		{"HTML in a text", `<a href="https://x.example/a">`, `<a href="L">`, []string{"https://x.example/a"}},
		{"host alone", "https://x.example", "L", []string{"https://x.example"}},
		{"nothing behind the scheme", "https:// x https://, y", "https:// x https://, y", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := editText([]byte(c.in), textOptions(), utf8Charset, fixedLines)
			want := strings.ReplaceAll(c.want, "L", L)
			if got := string(apply([]byte(c.in), e.list, stamps{})); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			var targets []string
			for _, l := range linksOf(e) {
				targets = append(targets, l.Target)
			}
			if !slices.Equal(targets, c.targets) {
				t.Errorf("targets %q, want %q", targets, c.targets)
			}
		})
	}
}

// TestTextLinksInOtherCharsets: the bytes above 0x7f are read as the part's
// charset has them, or not at all.
func TestTextLinksInOtherCharsets(t *testing.T) {
	for _, c := range []struct{ name, charset, in, want string }{
		{"no-break space in Latin-1", "iso-8859-1", "https://x.example/a\xa0: b", "L\xa0: b"},
		{"quotes in Windows-1252", "windows-1252", "\x93https://x.example/a\x94", "\x93L\x94"},
		{"ellipsis in Windows-1252 under the name of Latin-1", "iso-8859-1", "https://x.example/a\x85", "L\x85"},
		{"letter in Latin-1", "iso-8859-1", "https://x.example/\xfc b", "https://x.example/\xfc b"},
		{"EUC-JP", "euc-jp", "https://x.example/a\xa1\xa3 b", "https://x.example/a\xa1\xa3 b"},
		{"UTF-8 that is none", "utf-8", "https://x.example/a\xa0 b", "https://x.example/a\xa0 b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			head := "Content-Type: text/plain; charset=" + c.charset + "\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
			want := head + strings.ReplaceAll(c.want, "L", L) + "\r\n"
			if got, _ := render(t, head+c.in+"\r\n", textOptions()); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// TestFlowedTextLinks: with DelSp=yes the space in front of a soft line break
// goes, and what is on both lines is one word (RFC 3676 section 4.3).
func TestFlowedTextLinks(t *testing.T) {
	const in = "See https://x.example/aaaaaaaaaaaaaaaa \r\nbbbbbbb\r\n"
	wrapped := strings.Replace(in, "https://x.example/aaaaaaaaaaaaaaaa", L, 1)
	for _, c := range []struct{ name, params, in, want string }{
		{"delsp", "format=flowed; delsp=yes", in, in},
		{"delsp in odd case, with a comment", `FORMAT="Flowed" (c); DelSp=YES`, in, in},
		{"delsp in pieces", "format*0=flo; format*1=wed; delsp=yes", in, in},
		{"flowed alone", "format=flowed", in, wrapped},
		{"delsp=no", "format=flowed; delsp=no", in, wrapped},
		{"fixed", "format=fixed; delsp=yes", in, wrapped},
		{"no parameter", "charset=utf-8", in, wrapped},
		{"delsp, two spaces", "format=flowed; delsp=yes", "https://x.example/a  \r\nb\r\n", L + "  \r\nb\r\n"},
		{"delsp, hard line break", "format=flowed; delsp=yes", "https://x.example/a\r\nb\r\n", L + "\r\nb\r\n"},
		{"delsp, a comma before the break", "format=flowed; delsp=yes", "https://x.example/a, \r\nb\r\n", "https://x.example/a, \r\nb\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			head := "Content-Type: text/plain; " + c.params + "\r\n\r\n"
			if got, _ := render(t, head+c.in, textOptions()); got != head+c.want {
				t.Errorf("got  %q\nwant %q", got, head+c.want)
			}
		})
	}
}

func TestUnclearURLHasAReason(t *testing.T) {
	_, p := render(t, "Content-Type: text/plain; charset=utf-8\r\n\r\nhttps://x.example/ü\r\n", textOptions())
	if !slices.Equal(p.Skipped, []Reason{UnclearURL}) {
		t.Errorf("skipped for %v, want %s", p.Skipped, UnclearURL)
	}
}

// FuzzEditText checks that nothing but URLs and their attributes changes, that
// each link leads to what it replaces, and that no second pass finds more.
func FuzzEditText(f *testing.F) {
	for _, s := range []string{
		"see (http://x.example/a_(b)), or http://y.example/[[data-msys-clicktrack=\"0\"]].", "<https://x.example/a>",
		"https://x.example/a,https://y.example/b|https://z.example/", "https://x.example/a。次 https://x.example/ü’s",
		"*https://x.example/a*", "[a](https://x.example/{b})", "http://a.b[[data-msys-x http://a.b[[data-msys-x",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		data := crlfOf(b)
		cs, ok := readCharset("utf-8", data)
		if !ok {
			return
		}

		list := editText(data, textOptions(), cs, fixedLines).list
		checkEdits(t, data, list)
		for _, e := range list {
			if e.kind == slotLink && string(data[e.start:e.end]) != e.link.Target {
				t.Fatalf("%q leads to %q", data[e.start:e.end], e.link.Target)
			}
		}
		if hasMsys(data) {
			return
		}
		out := apply(data, list, &numbered{targets: map[string]string{}})
		for _, l := range linksOf(editText(out, textOptions(), cs, fixedLines)) {
			t.Fatalf("a second pass wraps %q in %q", l.Target, out)
		}
	})
}
