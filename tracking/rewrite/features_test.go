package rewrite

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"

	"postern/relay/message"
)

func clicksOnly() Options {
	o := all()
	o.Open, o.InitialOpen = false, false
	return o
}

const L = tracker + "/t/L"

func TestLinks(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"area", `<area href="http://x.example/">`, `<area href="` + L + `">`},
		{"Outlook's conditional comment", `<!--[if mso]><a href="http://x.example/">x</a><![endif]-->`, `<!--[if mso]><a href="` + L + `">x</a><![endif]-->`},
		{"with an expression", `<!--[if (gte mso 9)|(IE)]><v:rect href="http://x.example/" style="x"></v:rect><![endif]-->`, `<!--[if (gte mso 9)|(IE)]><v:rect href="` + L + `" style="x"></v:rect><![endif]-->`},
		{"downlevel-revealed", `<!--[if !mso]><!--><a href="http://x.example/">x</a><!--<![endif]-->`, `<!--[if !mso]><!--><a href="` + L + `">x</a><!--<![endif]-->`},
		{"revealed, the other form", `<![if !mso]><a href="http://x.example/">x</a><![endif]>`, `<![if !mso]><a href="` + L + `">x</a><![endif]>`},
		{"VML outside of comments", `<v:roundrect href="http://x.example/">`, `<v:roundrect href="` + L + `">`},
		{"clicktrack 0 in a conditional comment", `<!--[if mso]><a href="http://x.example/" data-msys-clicktrack="0">x</a><![endif]-->`, `<!--[if mso]><a href="http://x.example/">x</a><![endif]-->`},
		{"plain comment", `<!-- [if mso]><a href="http://x.example/">--><!--x<a href="http://x.example/">-->`, `<!-- [if mso]><a href="http://x.example/">--><!--x<a href="http://x.example/">-->`},
		{"style, textarea, title", `<style><a href="http://x.example/"></style><textarea><a href="http://x.example/"></textarea><title><a href="http://x.example/"></title>`, `<style><a href="http://x.example/"></style><textarea><a href="http://x.example/"></textarea><title><a href="http://x.example/"></title>`},
		{"template", `<template><a href="http://x.example/"></a></template>`, `<template><a href="http://x.example/"></a></template>`},
		{"base and form", `<base href="https://x.example/"><form action="https://x.example/"><a href="rel">`, `<base href="https://x.example/"><form action="https://x.example/"><a href="rel">`},
		{"template leftovers", `<a href="*|UNSUB|*"><a href="{{url}}"><a href="[[x]]"><a href="%%y%%">`, `<a href="*|UNSUB|*"><a href="{{url}}"><a href="[[x]]"><a href="%%y%%">`},
		{"other schemes", `<a href="mailto:a@b"><a href="tel:1"><a href="sms:1"><a href="cid:x"><a href="data:,x"><a href="javascript:x()"><a href="#top"><a href="app://x"><a href="">`, `<a href="mailto:a@b"><a href="tel:1"><a href="sms:1"><a href="cid:x"><a href="data:,x"><a href="javascript:x()"><a href="#top"><a href="app://x"><a href="">`},
		{"IPv6, port, user info, fragment", `<a href="https://u:p@[2001:db8::1]:8443/x#f">`, `<a href="` + L + `">`},
		{"international host", `<a href="https://b&uuml;cher.example/">`, `<a href="` + L + `">`},
		{"does not parse", `<a href="http://[::1/">`, `<a href="http://[::1/">`},
		{"no host", `<a href="http:///x"><a href="http://"><a href="https:///">`, `<a href="http:///x"><a href="http://"><a href="https:///">`},
		{"over 4096 bytes", `<a href="http://x.example/` + strings.Repeat("y", 6400) + `">`, `<a href="http://x.example/` + strings.Repeat("y", 6400) + `">`},
		{"sublink that is not a path", `<a data-msys-sublink="a b" href="http://x.example/">`, `<a href="` + L + `">`},
		{"sublink upwards", `<a data-msys-sublink="../x" href="http://x.example/">`, `<a href="` + L + `">`},
		{"white space around 0", `<a data-msys-clicktrack=' 0 ' href="http://x.example/">`, `<a href="http://x.example/">`},
		{"odd case of names", `<a DATA-MSYS-ClickTrack="0" href="http://x.example/">`, `<a href="http://x.example/">`},
		{"the first of two counts", `<a data-msys-clicktrack="1" data-msys-clicktrack="0" href="http://x.example/">`, `<a href="` + L + `">`},
		{"on other tags they go, too", `<p data-msys-clicktrack="0" class=x>`, `<p class=x>`},
		{"other data attributes stay", `<a data-ms="1" data-msy-s href="http://x.example/">`, `<a data-ms="1" data-msy-s href="` + L + `">`},
		{"malformed markup", `<a href=http://x.example/><<b <a href='http://y.example/'`, `<a href=` + L + `><<b <a href='http://y.example/'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			head := "Content-Type: text/html; charset=utf-8\r\n\r\n"
			if got, _ := render(t, head+long(c.in), clicksOnly()); got != head+long(c.want) {
				t.Errorf("got  %.400q\nwant %.400q", got, head+long(c.want))
			}
		})
	}
}

// long breaks what would be too long a line.
func long(s string) string {
	if len(s) < 900 {
		return s + "\r\n"
	}
	return strings.ReplaceAll(s, strings.Repeat("y", 64), strings.Repeat("y", 62)+"\r\n") + "\r\n"
}

func TestLinkAttributes(t *testing.T) {
	head := "Content-Type: text/html\r\n\r\n"
	_, p := render(t, head+`<a data-msys-linkname="`+strings.Repeat("é", 40)+`" data-msys-unsubscribe="1" data-msys-sublink="/app/x" href="http://x.example/">`, clicksOnly())
	var got Link
	for _, o := range p.ops {
		if o.region != nil {
			for _, pc := range o.region.pieces {
				if pc.kind == slotLink {
					got = pc.link
				}
			}
		}
	}
	if got.Name != strings.Repeat("é", 31) || !got.Unsubscribe || got.Sublink != "app/x" {
		t.Errorf("%+v", got)
	}
}

func TestMaxLinkLength(t *testing.T) {
	o := clicksOnly()
	o.MaxURL = func(l Link) int { return len(l.Target) + 100 }
	o.MaxLinkLength = 150
	msg := "Content-Type: text/html\r\n\r\n<a href=\"http://x.example/short\"><a href=\"http://x.example/" + strings.Repeat("y", 60) + "\">"
	_, p := render(t, msg, o)
	if p.Links != 1 || fmt.Sprint(p.Skipped) != "[link_too_long]" {
		t.Errorf("%d links, skipped %v", p.Links, p.Skipped)
	}
}

func TestTextLinks(t *testing.T) {
	o := clicksOnly()
	o.TextLinks = true
	for _, c := range []struct{ name, in, want string }{
		{"plain", "see http://x.example/a?b=c now", "see " + L + " now"},
		{"end of a sentence", "see http://x.example/.", "see " + L + "."},
		{"in brackets", "(http://x.example/a) <http://x.example/b> [http://x.example/c]", "(" + L + ") <" + L + "> [" + L + "]"},
		{"brackets of its own", "http://x.example/a_(b)", L},
		{"quotes", `"http://x.example/" 'https://x.example/'`, `"` + L + `" '` + L + `'`},
		{"clicktrack 0", `http://x.example/[[data-msys-clicktrack="0"]] and http://x.example/2`, "http://x.example/ and " + L},
		{"unsubscribe", `http://x.example/[[data-msys-unsubscribe="1"]].`, L + "."},
		{"not in a word", "xhttp://x.example/", "xhttp://x.example/"},
		{"not the tracker's", tracker + "/t/abc", tracker + "/t/abc"},
		{"other schemes", "ftp://x.example/ mailto:a@b", "ftp://x.example/ mailto:a@b"},
		{"at the line's end", "http://x.example/\r\nhttp://y.example/", L + "\r\n" + L},
	} {
		t.Run(c.name, func(t *testing.T) {
			head := "Content-Type: text/plain; format=flowed\r\n\r\n"
			if got, _ := render(t, head+c.in+"\r\n", o); got != head+c.want+"\r\n" {
				t.Errorf("got  %q\nwant %q", got, head+c.want+"\r\n")
			}
			if got, _ := render(t, head+c.in+"\r\n", clicksOnly()); got != head+c.in+"\r\n" {
				t.Errorf("without text_links: %q", got)
			}
		})
	}
}

func TestAMP(t *testing.T) {
	head := "Content-Type: text/x-amp-html; charset=utf-8\r\n\r\n"
	in := "<!doctype html><html ⚡4email><head></head><body><a href=\"https://x.example/\">x</a></body></html>\r\n"
	got, _ := render(t, head+in, all())
	want := "<!doctype html><html ⚡4email><head></head><body>" + ampPixelBefore + tracker + "/t/Ptrue" + ampPixelAfter + `<a href="` + L + `">x</a>` +
		ampPixelBefore + tracker + "/t/Pfalse" + ampPixelAfter + "</body></html>\r\n"
	if got != head+want {
		t.Errorf("got  %q\nwant %q", got, head+want)
	}
	plain := all()
	plain.Tracker = "http://t.example"
	if got, p := render(t, head+in, plain); p.Pixels != 0 || strings.Contains(got, "amp-img") {
		t.Errorf("a picture over plain http: %q", got)
	}
}

// TestComplaints are what users of other tools complain of.
func TestComplaints(t *testing.T) {
	html := func(b string) string {
		return "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + b
	}
	t.Run("two parameters in a password reset link", func(t *testing.T) {
		_, p := render(t, html(`<a href="https://x.example/reset?user=1&amp;token=abc">reset</a>`), clicksOnly())
		if got := p.ops[len(p.ops)-1].region.pieces[1].link.Target; got != "https://x.example/reset?user=1&token=abc" {
			t.Errorf("target %q", got)
		}
	})
	t.Run("a boundary that ends in ==, behind quoted-printable", func(t *testing.T) {
		msg := "Content-Type: multipart/alternative; boundary=\"===============123==\"\r\n\r\n--===============123==\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" +
			"<a href=3D\"http://x.example/\">x</a>=\r\n\r\n--===============123==--\r\n"
		got, p := render(t, msg, all())
		if p.Links != 1 || p.Pixels != 2 {
			t.Fatalf("%d links, %d pixels: %q", p.Links, p.Pixels, got)
		}
		if parts := partsOf(t, got); len(parts) != 1 {
			t.Errorf("%d parts of %q", len(parts), got)
		}
	})
	t.Run("base64 HTML, as Python sends it, is tracked", func(t *testing.T) {
		msg := "Content-Type: text/html; charset=\"utf-8\"\r\nContent-Transfer-Encoding: base64\r\nMIME-Version: 1.0\r\n\r\n" + string(transferEncode("base64", []byte("<p>Grüße <a href='http://x.example/'>x</a></p>\n"))) + "\r\n"
		_, p := render(t, msg, all())
		if p.Links != 1 || p.Pixels != 2 {
			t.Errorf("%d links, %d pixels", p.Links, p.Pixels)
		}
	})
	t.Run("no pixel behind the closing boundary where </body> is missing", func(t *testing.T) {
		got, _ := render(t, "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>x\r\n--b--\r\n", all())
		if strings.LastIndex(got, "<img") > strings.Index(got, "--b--") {
			t.Errorf("%q", got)
		}
	})
	t.Run("umlauts", func(t *testing.T) {
		for cs, in := range map[string]string{"iso-8859-1": "<p>gr\xfcn</p>", "utf-8": "<p>grün</p>", "": "<p>gr\xfcn</p>"} {
			head := "Content-Type: text/html; charset=" + cs + "\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
			if got, _ := render(t, head+in+"\r\n", all()); !strings.Contains(got, in[3:len(in)-4]) || !strings.HasPrefix(got, head) {
				t.Errorf("%s: %q", cs, got)
			}
		}
	})
	t.Run("a mail without a text part", func(t *testing.T) {
		got, _ := render(t, html("<p>x</p>\r\n"), all())
		if !strings.HasPrefix(got, "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<img") || strings.Count(got, "Content-") != 2 {
			t.Errorf("%q", got)
		}
	})
	t.Run("links in Outlook's conditional comments are counted", func(t *testing.T) {
		_, p := render(t, html(`<!--[if mso]><v:roundrect href="http://x.example/"><![endif]--><a href="http://x.example/">x</a>`), clicksOnly())
		if p.Links != 2 {
			t.Errorf("%d links", p.Links)
		}
	})
	t.Run("opens and clicks apart", func(t *testing.T) {
		for _, o := range []Options{{Open: true}, {InitialOpen: true}, {Click: true}} {
			o.Tracker, o.MaxURL = tracker, all().MaxURL
			_, p := render(t, html(`<body><a href="http://x.example/">x</a></body>`), o)
			wantLinks, wantPixels := 0, 1
			if o.Click {
				wantLinks, wantPixels = 1, 0
			}
			if p.Links != wantLinks || p.Pixels != wantPixels {
				t.Errorf("%+v: %d links, %d pixels", o, p.Links, p.Pixels)
			}
		}
	})
}

func partsOf(t *testing.T, msg string) (out []string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(msg))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
}

func TestNeverTouched(t *testing.T) {
	html := "<a href=\"http://x.example/\">x</a>\r\n"
	for _, c := range []struct {
		name, msg string
		reason    Reason
	}{
		{"PGP inline", "Content-Type: text/html\r\n\r\n<pre>-----BEGIN PGP SIGNED MESSAGE-----</pre>" + html, PGP},
		{"a message inside", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: text/html\r\n\r\n" + html + "--b--\r\n", ""},
		{"S/MIME", "Content-Type: application/pkcs7-mime\r\n\r\n" + html, Encrypted},
		{"UTF-7", "Content-Type: text/html; charset=utf-7\r\n\r\n" + html, Charset},
		{"ISO-2022-JP", "Content-Type: text/html; charset=iso-2022-jp\r\n\r\n\x1b$B$\"\x1b(B" + html, Charset},
		{"Shift_JIS", "Content-Type: text/html; charset=shift_jis\r\n\r\n\x83\x5c" + html, Charset},
		{"unknown charset with 8-bit bytes", "Content-Type: text/html; charset=x-strange\r\n\r\n\xff" + html, Charset},
		{"two Content-Types", "Content-Type: text/html\r\nContent-Type: text/plain\r\n\r\n" + html, BadHeader},
		{"broken base64", "Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n" + html, BadEncoding},
		{"unknown encoding", "Content-Type: text/html\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n" + html, BadEncoding},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, p := render(t, c.msg, all())
			if got != c.msg || p.Tracked() {
				t.Errorf("became %q", got)
			}
			if c.reason != "" && (len(p.Skipped) == 0 || p.Skipped[0] != c.reason) {
				t.Errorf("skipped %v, want %s", p.Skipped, c.reason)
			}
		})
	}
}

func TestStructure(t *testing.T) {
	part := "Content-Type: text/html\r\n\r\n<body><a href=\"http://x.example/\">x</a></body>\r\n"
	for _, c := range []struct {
		name, msg string
		links     int
	}{
		{"nested", "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/related; boundary=i\r\n\r\n--i\r\n" + part + "--i--\r\n--o--\r\n", 1},
		{"odd case and comments", "CONTENT-type: (c) Multipart/MIXED ; (x) Boundary = \"o\" (y)\r\n\r\n--o\r\n" + part + "--o--\r\n", 1},
		{"quoted pairs in the boundary", "Content-Type: multipart/mixed; boundary=\"a\\b\"\r\n\r\n--ab\r\n" + part + "--ab--\r\n", 1},
		{"white space behind the boundary", "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o \t\r\n" + part + "--o-- \r\n", 1},
		{"unterminated", "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n" + part, 1},
		{"two HTML parts", "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n" + part + "--o\r\n" + part + "--o--\r\n", 2},
		{"a boundary that begins with the other's", "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/mixed; boundary=o2\r\n\r\n--o2\r\n" + part + "--o2--\r\n--o--\r\n", 1},
		{"a boundary in pieces", "Content-Type: multipart/mixed; boundary*0=\"o\"; boundary*1=\"-p\"\r\n\r\n--o-p\r\n" + part + "--o-p--\r\n", 1},
		{"a boundary with a charset of its own", "Content-Type: multipart/mixed; boundary*=us-ascii'en'o%2Dp\r\n\r\n--o-p\r\n" + part + "--o-p--\r\n", 1},
		{"pieces that do not make a whole", "Content-Type: multipart/mixed; boundary*0=o; boundary*2=p\r\n\r\n--op\r\n" + part + "--op--\r\n", 0},
		{"in pieces and whole", "Content-Type: multipart/mixed; boundary=o; boundary*0=p\r\n\r\n--o\r\n" + part + "--o--\r\n", 0},
		{"a charset in pieces", "Content-Type: text/html; charset*0=utf; charset*1=\"-8\"\r\n\r\n<a href=\"http://x.example/\">ü</a>\r\n", 1},
		{"other parameters in pieces", "Content-Type: text/html; name*0=a; name*1=b\r\n\r\n<a href=\"http://x.example/\">x</a>\r\n", 1},
		{"no Content-Type", "X: y\r\n\r\n<a href=\"http://x.example/\">x</a>\r\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, p := render(t, c.msg, all())
			if p.Links != c.links || c.links > 0 && p.Pixels != 2 {
				t.Errorf("%d links, %d pixels in %q", p.Links, p.Pixels, got)
			}
		})
	}
}

func TestLongLines(t *testing.T) {
	x := strings.Repeat("x", 2000)
	for _, c := range []struct{ name, head, body, want string }{
		{"text", "Content-Type: text/plain\r\nContent-Transfer-Encoding: 7bit", x, "quoted-printable"},
		{"other", "Content-Type: application/json", x, "base64"},
		{"base64 in one line", "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64", strings.Repeat("QUJD", 500), "base64"},
		{"tracking off does not matter", "Content-Type: text/html", "<p>" + x, "quoted-printable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := render(t, c.head+"\r\n\r\n"+c.body+"\r\n", Options{})
			head, body, _ := strings.Cut(got, "\r\n\r\n")
			if !strings.Contains(head, "Content-Transfer-Encoding: "+c.want) {
				t.Errorf("header %q", head)
			}
			for _, l := range strings.Split(body, "\r\n") {
				if len(l) > encodedLine {
					t.Errorf("line of %d bytes", len(l))
				}
			}
			want := c.body + "\r\n"
			if strings.Contains(c.head, "base64") {
				want = strings.Repeat("ABC", 500)
			}
			if decoded := decodeBody(t, c.want, body); decoded != want {
				t.Errorf("decodes to %.100q", decoded)
			}
		})
	}
	if got, p := render(t, "Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\n"+x, Options{}); !strings.HasSuffix(got, x) || len(p.Skipped) != 1 || p.Skipped[0] != LongLine {
		t.Errorf("message/rfc822: skipped %v", p.Skipped)
	}
}

// bombs are the inputs that make quadratic readers fall over.
var bombs = []struct {
	name string
	make func(n int) string
}{
	{"tags that never end", func(n int) string { return "Content-Type: text/html\r\n\r\n" + strings.Repeat("<a\r\n", n) }},
	{"attributes on one tag", func(n int) string { return "Content-Type: text/html\r\n\r\n<a" + strings.Repeat(" b=c\r\n", n) + ">" }},
	{"msys attributes on one tag", func(n int) string {
		return "Content-Type: text/html\r\n\r\n<a" + strings.Repeat(" data-msys-x=1\r\n", n) + ">"
	}},
	{"comments", func(n int) string { return "Content-Type: text/html\r\n\r\n" + strings.Repeat("<!--[if x]>\r\n", n) }},
	{"end tags of a style", func(n int) string { return "Content-Type: text/html\r\n\r\n<style>" + strings.Repeat("</styl\r\n", n) }},
	{"scripts", func(n int) string {
		return "Content-Type: text/html\r\n\r\n" + strings.Repeat("<script>\r\n</script>\r\n", n)
	}},
	{"nested multiparts", func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		return b.String()
	}},
	{"parts", func(n int) string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Type: text/html\r\n\r\nx\r\n", n)
	}},
	{"a long line", func(n int) string {
		return "Content-Type: text/html\r\n\r\n" + strings.Repeat("x<a href=http://x.example/>", n)
	}},
	{"dashes", func(n int) string { return "Content-Type: text/html\r\n\r\n" + strings.Repeat("-\r\n--", n) }},
	{"URLs in text", func(n int) string {
		return "Content-Type: text/plain\r\n\r\n" + strings.Repeat("http://x.example/((((\r\n", n)
	}},
	{"attributes behind URLs on one line", func(n int) string {
		return "Content-Type: text/plain\r\n\r\n" + strings.Repeat("http://a.b[[data-msys-x ", n)
	}},
	{"URLs in URLs", func(n int) string {
		return "Content-Type: text/plain\r\n\r\n" + strings.Repeat("http://a.b?x,", n)
	}},
	{"unclear URLs", func(n int) string {
		return "Content-Type: text/plain; charset=utf-8\r\n\r\n" + strings.Repeat("http://a.b/ü(", n)
	}},
	{"templates", func(n int) string { return "Content-Type: text/html\r\n\r\n" + strings.Repeat("<template>\r\n", n) }},
	{"variables in URLs", func(n int) string {
		return "Content-Type: text/html\r\n\r\n" + strings.Repeat("<a href='http://a.b/{{%%a'>\r\n", n)
	}},
	{"CDATA", func(n int) string {
		return "Content-Type: text/html\r\n\r\n<svg>" + strings.Repeat("<![CDATA[>\r\n", n)
	}},
	{"tables", func(n int) string {
		return "Content-Type: text/html\r\n\r\n" + strings.Repeat("<table><tr><td>\r\n", n)
	}},
	{"style sheets", func(n int) string {
		return "Content-Type: text/html\r\n\r\n<style>" + strings.Repeat(" + ~ \r\n", n) + "</style>"
	}},
	{"scripts with comments", func(n int) string {
		return "Content-Type: text/html\r\n\r\n" + strings.Repeat("<script><!--</script>\r\n", n)
	}},
	{"international hosts", func(n int) string {
		return "Content-Type: text/html; charset=utf-8\r\n\r\n" + strings.Repeat("<a href=http://ü.example/>\r\n", n)
	}},
	{"preamble of long lines", func(n int) string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b ", n) + "x\r\n--b--\r\n"
	}},
	{"part header of one line", func(n int) string {
		return "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX: " + strings.Repeat("y ", n) + "\r\n\r\nx\r\n--b--\r\n"
	}},
	{"short lines of quoted-printable", func(n int) string {
		return "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<a href=3Dhttp://x.example/>=\r\n" +
			strings.Repeat("=\r\n", n) + "<p>"
	}},
	{"short lines of base64", func(n int) string {
		return "Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat("P\r\nG\r\nE\r\n+\r\n", n)
	}},
	{"brackets behind a URL", func(n int) string {
		return "Content-Type: text/plain\r\n\r\nhttp://x.example/" + strings.Repeat(")", n)
	}},
}

// TestBombs reads each of them, large; BenchmarkBombs shows that four times the
// input takes about four times as long.
func TestBombs(t *testing.T) {
	o := all()
	o.TextLinks = true
	for _, c := range bombs {
		t.Run(c.name, func(t *testing.T) {
			got, _ := render(t, c.make(100_000), o)
			if err := message.Check([]byte(got)); err != nil {
				t.Error(err)
			}
		})
	}
}

func BenchmarkBombs(b *testing.B) {
	o := all()
	o.TextLinks = true
	for _, c := range bombs {
		for _, n := range []int{10_000, 40_000} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				h, body, sep := message.Split([]byte(c.make(n)))
				for b.Loop() {
					Parse(h, body, sep, o)
				}
			})
		}
	}
}
