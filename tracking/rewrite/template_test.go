package rewrite

import (
	"slices"
	"strings"
	"testing"
)

func TestLeavesTemplatesAlone(t *testing.T) {
	const link = `<a href="https://x.example/a">x</a>`
	const amp = "text/x-amp-html"
	for _, c := range []struct {
		name, kind, in string
		links          int
	}{
		{"template first", "text/html", "<template>" + link + "</template>", 0},
		{"template in the body", "text/html", "<body><p>x</p><template>" + link + "</template></body>", 0},
		{"behind a template", "text/html", "<body>x<template></template>" + link + "</body>", 1},
		{"templates in a template", "text/html", "<template><template></template>" + link + "</template>" + link, 1},
		{"template that does not end", "text/html", "<body>x<template>" + link + "</body>", 0},
		{"end of a template alone", "text/html", "</template>" + link, 1},
		{"template in upper case", "text/html", "x<TEMPLATE>" + link + "</Template>", 0},
		{"conditional comment in a template", "text/html", "x<template><!--[if mso]>" + link + "<![endif]--></template>", 0},
		{"template in a conditional comment", "text/html", "x<!--[if mso]><template>" + link + "<![endif]-->" + link, 1},
		{"link in an amp-list", amp, `<body><amp-list><template type="amp-mustache">` + link + `</template></amp-list></body>`, 0},
		{"link beside an amp-list", amp, `<body><amp-list><template>{{x}}</template></amp-list>` + link + `</body>`, 1},
		{"template of AMP as a script", amp, `<body><script type="text/plain" template="amp-mustache">` + link + `</script></body>`, 0},
		{"mustache in the path", amp, `<a href="https://x.example/{{id}}">`, 0},
		{"three braces", amp, `<a href="https://x.example/{{{id}}}">`, 0},
		{"mustache in the host", amp, `<a href="https://{{host}}/">`, 0},
		{"mustache by references", amp, `<a href="https://x.example/&#123;&#123;id&#125;&#125;">`, 0},
		{"end of a mustache alone", amp, `<a href="https://x.example/id}}">`, 0},
		{"bound link", amp, `<a [href]="'https://x.example/' + id" href="https://x.example/">`, 0},
		{"bound link, the other spelling", amp, `<a href="https://x.example/" data-amp-bind-href="x">`, 0},
		{"substituted link", amp, `<a href="https://x.example/?c=CLIENT_ID(a)" data-amp-replace="CLIENT_ID">`, 0},
		{"extended link", amp, `<a href="https://x.example/" data-amp-addparams="a=b">`, 0},
		{"bound text", amp, `<a [text]="x" href="https://x.example/">`, 1},
		{"mustache in HTML", "text/html", `<a href="https://x.example/{{ id }}">`, 0},
		{"Liquid", "text/html", `<a href="https://x.example/{% if a %}b{% endif %}">`, 0},
		{"Mailchimp", "text/html", `<a href="https://x.example/?e=*|EMAIL|*">`, 0},
		{"Marketing Cloud", "text/html", `<a href="https://x.example/%%sub_id%%">`, 0},
		{"AMPscript", "text/html", `<a href="https://x.example/%%=v(@id)=%%">`, 1}, // a function, and nothing fills it in behind a gateway
		{"ERB", "text/html", `<a href="https://x.example/<%= id %>">`, 0},
		{"double brackets", "text/html", `<a href="https://x.example/[[id]]">`, 0},
		{"shell style", "text/html", `<a href="https://x.example/${id}">`, 0},
		{"identifier in braces", "text/html", `<a href="https://x.example/?id={6F9619FF-8B86-D011}">`, 1},
		{"nested parameters", "text/html", `<a href="https://x.example/?a[b][c]=1">`, 1},
		{"escapes", "text/html", `<a href="https://x.example/a%20b%%20c">`, 1},
		{"asterisks", "text/html", `<a href="https://x.example/*a*">`, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg := "Content-Type: " + c.kind + "; charset=utf-8\r\n\r\n" + c.in + "\r\n"
			got, p := render(t, msg, clicksOnly())
			if p.Links != c.links {
				t.Errorf("%d links in %q, want %d", p.Links, got, c.links)
			}
			if c.links == 0 && got != msg {
				t.Errorf("became %q", got)
			}
		})
	}
}

func TestTemplateSyntaxHasAReason(t *testing.T) {
	_, p := render(t, "Content-Type: text/html\r\n\r\n<a href=\"https://x.example/{{id}}\">x</a>\r\n", clicksOnly())
	if !slices.Equal(p.Skipped, []Reason{TemplateSyntax}) {
		t.Errorf("skipped for %v, want %s", p.Skipped, TemplateSyntax)
	}
}

func TestLinksOfForeignContent(t *testing.T) {
	for _, c := range []struct {
		name, in string
		links    int
	}{
		{"href in svg", `<svg><a href="http://x.example/">x</a></svg>`, 1},
		{"xlink alone", `<svg><a xlink:href="http://x.example/">x</a></svg>`, 0},
		{"CDATA in svg", `<svg><text><![CDATA[<p> <a href="http://x.example/"> ]]></text></svg>`, 0},
		{"behind CDATA", `<svg><![CDATA[ > ]]></svg><a href="http://x.example/">`, 1},
		{"CDATA in HTML is a comment to the next bracket", `<![CDATA[ > <a href="http://x.example/"> ]]>`, 1},
		{"noscript", `<noscript><a href="http://x.example/">x</a></noscript>`, 1},
		{"noscript in the head", `<head><noscript><a href="http://x.example/">x</a></noscript></head>`, 1},
		{"raw text", `<xmp><a href="http://x.example/"></xmp><iframe><a href="http://x.example/"></iframe><noembed><a href="http://x.example/"></noembed>` +
			`<noframes><a href="http://x.example/"></noframes><plaintext><a href="http://x.example/">`, 0},
		{"a comment in a script", `<script><!--<script></script><a href="http://x.example/">--></script>`, 0},
		{"a script that ends in odd spelling", `<script>"<a href='http://x.example/'>"</SCRIPT ><a href="http://x.example/">`, 1},
		{"image, link, form, frame", `<img src="http://x.example/"><link href="http://x.example/"><form action="http://x.example/"><iframe src="http://x.example/"></iframe>`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			links := linksOf(editHTML([]byte(c.in), clicksOnly(), plainHTML, utf8Charset, withoutPixels))
			if len(links) != c.links {
				t.Errorf("%d links %+v in %q, want %d", len(links), links, c.in, c.links)
			}
		})
	}
}

func TestAttributesAreReadAsBrowsersDo(t *testing.T) {
	for _, c := range []struct{ name, in, want, target string }{
		{"slash behind a removed attribute", `<a href=http://x.example/a data-msys-linkname="n"/>`, `<a href=` + tracker + `/t/nL />`, "http://x.example/a"},
		{"the same without tracking", `<a href=http://x.example/a data-msys-clicktrack="0"/>`, `<a href=http://x.example/a />`, ""},
		{"quoted href before it", `<a href="http://x.example/a" data-msys-linkname="n"/>`, `<a href="` + tracker + `/t/nL" />`, "http://x.example/a"},
		{"slash between attributes", `<a href="http://x.example/a"/data-msys-linkname="n">`, `<a href="` + tracker + `/t/nL">`, "http://x.example/a"},
		{"several at the end", `<a href=http://x.example/a data-msys-linkname="n" data-msys-x="y"/>`, `<a href=` + tracker + `/t/nL />`, "http://x.example/a"},
		{"several glued together", `<a href=http://x.example/a data-msys-linkname="n"data-msys-x="y"/>`, `<a href=` + tracker + `/t/nL />`, "http://x.example/a"},
		{"glued to the next one", `<a href=http://x.example/a data-msys-linkname="n"class=x>`, `<a href=` + tracker + `/t/nL class=x>`, "http://x.example/a"},
		{"an unquoted slash belongs to the value", `<a data-msys-linkname=n/ href=http://x.example/>`, `<a href=` + tracker + `/t/n/L>`, "http://x.example/"},
		{"unquoted with both quotes", `<a href=http://x.example/?'a"&copy=1>`, `<a href=` + L + `>`, `http://x.example/?'a"&copy=1`},
		{"unquoted, reference before a quote", `<a href=http://x.example/?'&amp"b>`, `<a href=` + L + `>`, `http://x.example/?'&"b`},
		{"reference without semicolon at the end", `<a href="http://x.example/?a&copy">`, `<a href="` + L + `">`, "http://x.example/?a©"},
		{"first of two, the first empty", `<a href="" href="http://x.example/">`, `<a href="" href="http://x.example/">`, ""},
		{"upper case first", `<A HREF="http://x.example/1" href="http://x.example/2">`, `<A HREF="` + L + `" href="http://x.example/2">`, "http://x.example/1"},
		{"tabs and line ends", "<a href=\"ht\r\ntp://x.exam\tple/\r\n a\">", `<a href="` + L + `">`, "http://x.example/ a"},
		{"javascript with a control character", "<a href=\"\x01javascript:alert(1)//http://x.example/\">", "<a href=\"\x01javascript:alert(1)//http://x.example/\">", ""},
		{"of any scheme", `<a href="//x.example/">`, `<a href="//x.example/">`, ""},
		{"backslashes", `<a href="http:\\x.example\a">`, `<a href="` + L + `">`, `http:\\x.example\a`},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := editHTML([]byte(c.in), clicksOnly(), plainHTML, utf8Charset, withoutPixels)
			if got := string(apply([]byte(c.in), e.list, stamps{})); got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
			target := ""
			for _, l := range linksOf(e) {
				target += l.Target
			}
			if target != c.target {
				t.Errorf("target %q, want %q", target, c.target)
			}
		})
	}
}

func TestTooManyLinksAreLeftAlone(t *testing.T) {
	link := `<a href="http://x.example/">x</a>` + "\r\n"
	for _, c := range []struct {
		name  string
		in    string
		links int
	}{
		{"as many as may be", strings.Repeat(link, maxEdits-2), maxEdits - 2},
		{"one more than may be", strings.Repeat(link, maxEdits+1), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg := "Content-Type: text/html\r\n\r\n" + c.in
			got, p := render(t, msg, all())
			if p.Links != c.links || (c.links == 0) != (got == msg) {
				t.Errorf("%d links, want %d; changed %v", p.Links, c.links, got != msg)
			}
			if (c.links == 0) != slices.Contains(p.Skipped, TooManyLinks) {
				t.Errorf("skipped for %v", p.Skipped)
			}
		})
	}
}
