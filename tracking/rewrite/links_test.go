package rewrite

import (
	"bytes"
	"regexp"
	"slices"
	"testing"

	"golang.org/x/net/html"

	"postern/tracking/rewrite/htmledit"
)

// otherReading finds the links of a document with the tokenizer of
// golang.org/x/net/html.
func otherReading(data []byte, ts targets) (found []string) {
	z := html.NewTokenizer(bytes.NewReader(data))
	templates := 0
	for {
		kind := z.Next()
		switch kind {
		case html.ErrorToken:
			return found
		case html.EndTagToken:
			if name, _ := z.TagName(); string(name) == "template" {
				templates = max(0, templates-1)
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			n := string(name)
			switch n {
			case "template":
				templates++
			case "noscript":
				z.NextIsNotRawText()
			}

			var href string
			var seen bool
			var count int
			for more {
				var key, value []byte
				key, value, more = z.TagAttr()
				if string(key) == "href" && !seen {
					href = string(value)
					seen = true
				}
				count++
			}
			link := n == "a" || n == "area" || len(n) > 2 && n[:2] == "v:"
			if target, ok, _ := ts.check(href); link && ok && templates == 0 && count <= htmledit.MaxAttributes {
				found = append(found, target)
			}
		}
	}
}

// incomparable matches documents that the other reading does not understand:
// conditional comments and CDATA sections.
var incomparable = regexp.MustCompile(`(?i)<!--\[if|<!\[CDATA|\x00`)

// nestedScript matches scripts in which x/net/html leaves a comment behind a <
// that begins no tag. The HTML standard (section 13.2.5.23) does not.
var nestedScript = regexp.MustCompile(`(?is)<script.*<!--.*<[^a-z/]`)

func compareLinks(t *testing.T, data []byte) {
	t.Helper()
	if incomparable.Match(data) || nestedScript.Match(data) {
		return
	}

	want := otherReading(data, newTargets(clicksOnly(), utf8Charset))
	e := editHTML(data, clicksOnly(), plainHTML, utf8Charset, withoutPixels)
	if e.overflow {
		return
	}
	var got []string
	for _, l := range linksOf(e) {
		got = append(got, l.Target)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("links %q, x/net/html finds %q in %.300q", got, want, data)
	}
}

func TestLinksCorpus(t *testing.T) {
	for name, data := range corpusHTML(t) {
		t.Run(name, func(t *testing.T) { compareLinks(t, data) })
	}
}

func FuzzLinks(f *testing.F) {
	for _, s := range []string{
		`<a href=http://x.example/ href=http://y.example/>`, `<template><a href="http://x.example/"></template><area href=' http://y.example/ '>`,
		`<noscript><a href=http://x.example/?a&copy=1></noscript>`, `<v:rect HREF="http://&#120;.example/">`, `<a/href="http://x.example/"/>`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { compareLinks(t, bytes.ToValidUTF8(data, nil)) })
}
