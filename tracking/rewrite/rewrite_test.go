package rewrite

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"

	"postern/relay/message"
)

const tracker = "https://t.example"

type stamps struct{}

func (stamps) Link(l Link) string { return tracker + "/t/" + l.Name + "L" }
func (stamps) Pixel(initial, _ bool) string {
	return fmt.Sprintf("%s/t/P%v", tracker, initial)
}

func all() Options {
	return Options{Open: true, InitialOpen: true, Click: true, Tracker: tracker,
		MaxURL: func(l Link) int { return len(tracker) + 4 + len(l.Name) + 5 }}
}

func pixelOf(initial bool) string {
	return pixelHTML[htmlPixel].before + stamps{}.Pixel(initial, false) + pixelHTML[htmlPixel].after
}

func render(t testing.TB, msg string, o Options) (string, *Plan) {
	t.Helper()
	h, b, sep := message.Split([]byte(msg))
	p := Parse(h, b, sep, o)
	var out bytes.Buffer
	if err := p.Render(&out, stamps{}); err != nil {
		t.Fatal(err)
	}
	return out.String(), p
}

func TestHTML(t *testing.T) {
	clicks := all()
	clicks.Open, clicks.InitialOpen = false, false
	L := tracker + "/t/L"
	for _, c := range []struct{ name, in, want, target string }{
		{"plain", `<a href="https://x.example/a">x</a>`, `<a href="` + L + `">x</a>`, "https://x.example/a"},
		{"entities decoded once", `<a href="http://x.example/?a=1&amp;b=2&amp;amp;c">`, `<a href="` + L + `">`, "http://x.example/?a=1&b=2&amp;c"},
		{"reference without semicolon in an attribute", `<a href="http://x.example/?a=1&copy=2">`, `<a href="` + L + `">`, "http://x.example/?a=1&copy=2"},
		{"unquoted, odd case, order kept", `<A  CLASS=x   hReF = HTTP://x.example/ id=1>`, `<A  CLASS=x   hReF = ` + L + ` id=1>`, "HTTP://x.example/"},
		{"single quotes and white space", "<a href=' http://x.example/\n'>", `<a href='` + L + `'>`, "http://x.example/"},
		{"clicktrack 0", `<a data-msys-clicktrack="0" href="http://x.example/">`, `<a href="http://x.example/">`, ""},
		{"clicktrack 0 at the end", `<a href="http://x.example/" data-msys-clicktrack='0'>`, `<a href="http://x.example/">`, ""},
		{"attribute glued to the next", `<a data-msys-clicktrack="0"href="http://x.example/">`, `<a href="http://x.example/">`, ""},
		{"linkname", `<a data-msys-linkname="top" href="http://x.example/">`, `<a href="` + tracker + `/t/topL">`, "http://x.example/"},
		{"first of two hrefs", `<a href="http://x.example/1" href="http://x.example/2">`, `<a href="` + L + `" href="http://x.example/2">`, "http://x.example/1"},
		{"mailto stays", `<a href="mailto:a@b.example">`, `<a href="mailto:a@b.example">`, ""},
		{"relative stays", `<a href="/x">`, `<a href="/x">`, ""},
		{"template leftover stays", `<a href="{{url}}">`, `<a href="{{url}}">`, ""},
		{"link to the tracker stays", `<a href="` + tracker + `/t/abc">`, `<a href="` + tracker + `/t/abc">`, ""},
		{"comment stays", `<!-- <a href="http://x.example/"> -->`, `<!-- <a href="http://x.example/"> -->`, ""},
		{"script stays", `<script>'<a href="http://x.example/">'</script>`, `<script>'<a href="http://x.example/">'</script>`, ""},
		{"link element stays", `<link href="http://x.example/">`, `<link href="http://x.example/">`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			head := "Content-Type: text/html; charset=utf-8\r\n\r\n"
			got, p := render(t, head+c.in+"\r\n", clicks)
			if got != head+c.want+"\r\n" {
				t.Errorf("got  %q\nwant %q", got, head+c.want+"\r\n")
			}
			var target string
			for _, o := range p.ops {
				if o.region != nil {
					for _, pc := range o.region.pieces {
						target += pc.link.Target
					}
				}
			}
			if target != c.target {
				t.Errorf("target %q, want %q", target, c.target)
			}
		})
	}
}

func TestPixels(t *testing.T) {
	first, last := pixelOf(true), pixelOf(false)
	for _, c := range []struct{ name, in, want string }{
		{"body", `<html><body class="x">a</body></html>`, `<html><body class="x">` + first + `a` + last + `</body></html>`},
		{"no body tag", `<html><head><title>t</title></head><p>a</p></html>`, `<html><head><title>t</title></head>` + first + `<p>a</p>` + last + `</html>`},
		{"fragment", `a`, first + `a` + last},
		{"body in a comment", `<!-- </body> --><body>a`, `<!-- </body> --><body>` + first + `a` + last},
		{"empty body", `<body></body>`, `<body>` + first + last + `</body>`},
	} {
		t.Run(c.name, func(t *testing.T) {
			head := "Content-Type: text/html\r\n\r\n"
			if got, _ := render(t, head+c.in, all()); got != head+c.want {
				t.Errorf("got  %q\nwant %q", got, head+c.want)
			}
		})
	}
}

func TestMultipartKeepsTheRest(t *testing.T) {
	msg := "Content-Type: multipart/alternative; boundary=\"b==\"\r\n\r\npreamble\r\n--b==\r\n\r\ntext\r\n--b==  \r\nContent-Type: TEXT/HTML\r\n\r\n<body>x</body>\r\n--b==--\r\nepilogue"
	want := strings.Replace(msg, "<body>x</body>", "<body>"+pixelOf(true)+"x"+pixelOf(false)+"</body>", 1)
	if got, _ := render(t, msg, all()); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestUntouched(t *testing.T) {
	html := "Content-Type: text/html\r\n\r\n<a href=http://x.example/>x</a>"
	for _, c := range []struct {
		name, msg string
		reason    Reason
	}{
		{"signed", "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n" + html + "\r\n--b--\r\n", Signed},
		{"encrypted", "Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n" + html + "\r\n--b--\r\n", Encrypted},
		{"attachment", "Content-Disposition: attachment; filename=x\r\n" + html, Attachment},
		{"two content types", "Content-Type: text/plain\r\n" + html, BadHeader},
		{"unknown encoding", "Content-Transfer-Encoding: x-uuencode\r\n" + html, BadEncoding},
		{"utf-16", "Content-Type: text/html; charset=utf-16\r\n\r\n<a href=http://x.example/>x</a>", Charset},
		{"no boundary", "Content-Type: multipart/mixed\r\n\r\n--b\r\n" + html, BadBoundary},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, p := render(t, c.msg, all())
			if got != c.msg {
				t.Errorf("got %q\nwant %q", got, c.msg)
			}
			if len(p.Skipped) != 1 || p.Skipped[0] != c.reason {
				t.Errorf("reasons %v, want %s", p.Skipped, c.reason)
			}
		})
	}
}

// decodeBody is an independent reading of an encoded body.
func decodeBody(t testing.TB, encoding, body string) string {
	t.Helper()
	var r io.Reader = strings.NewReader(body)
	switch encoding {
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v in %q", encoding, err, body)
	}
	return string(out)
}

func encodeBody(encoding, html string) string {
	switch encoding {
	case "quoted-printable":
		var b bytes.Buffer
		w := quotedprintable.NewWriter(&b)
		io.WriteString(w, html)
		w.Close()
		return b.String()
	case "base64":
		return string(encodeBase64(nil, []byte(html)))
	}
	return html
}

func TestEncodedPartsAgree(t *testing.T) {
	html := "<html><body>\r\n" + strings.Repeat("<p>über alles = gut   \r\n", 20) +
		"<a href=\"https://x.example/?a=1&amp;b=2\">ü</a>\r\n" + strings.Repeat("tail of some words\r\n", 20) + "</body></html>\r\n"
	plain, _ := render(t, "Content-Type: text/html; charset=utf-8\r\n\r\n"+html, all())
	_, want, _ := strings.Cut(plain, "\r\n\r\n")
	for _, encoding := range []string{"quoted-printable", "base64"} {
		t.Run(encoding, func(t *testing.T) {
			head := "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n"
			in := encodeBody(encoding, html)
			out, _ := render(t, head+in, all())
			body, ok := strings.CutPrefix(out, head)
			if !ok {
				t.Fatal("the header changed")
			}
			if got := decodeBody(t, encoding, body); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			if encoding == "quoted-printable" && strings.Count(body, "tail of some words\r\n") != 20 {
				t.Error("lines without an edit did not keep their bytes")
			}
			for _, l := range strings.Split(body, "\r\n") {
				if len(l) > encodedLine {
					t.Errorf("line of %d", len(l))
				}
			}
		})
	}
}

func TestLongLineBecomesQuotedPrintable(t *testing.T) {
	html := "<body>" + strings.Repeat("x", 970) + "</body>\r\n"
	out, _ := render(t, "Content-Type: text/html\r\nContent-Transfer-Encoding: 7bit\r\nX: y\r\n\r\n"+html, all())
	head, body, _ := strings.Cut(out, "\r\n\r\n")
	if head != "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\nX: y\r\nMIME-Version: 1.0" {
		t.Errorf("header %q", head)
	}
	want := "<body>" + pixelOf(true) + strings.Repeat("x", 970) + pixelOf(false) + "</body>\r\n"
	if got := decodeBody(t, "quoted-printable", body); got != want {
		t.Errorf("got %q", got)
	}
}

func BenchmarkParseAndRender(b *testing.B) {
	html := "<html><body>\r\n" + strings.Repeat(strings.Repeat("<td style=\"padding:0\">some text</td>\r\n", 40)+"<a href=\"https://x.example/?a=1&amp;b=2\">x</a>\r\n", 20) + "</body></html>\r\n"
	for _, encoding := range []string{"7bit", "quoted-printable", "base64"} {
		b.Run(encoding, func(b *testing.B) {
			h, body, sep := message.Split([]byte("Content-Type: text/html\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n" + encodeBody(encoding, html)))
			b.ReportAllocs()
			for b.Loop() {
				if err := Parse(h, body, sep, all()).Render(io.Discard, fixed{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(encoding+"/further_recipient", func(b *testing.B) {
			h, body, sep := message.Split([]byte("Content-Type: text/html\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n" + encodeBody(encoding, html)))
			p := Parse(h, body, sep, all())
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Render(io.Discard, fixed{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fixed costs nothing: the tokens are measured where they are made.
type fixed struct{}

func (fixed) Link(Link) string {
	return tracker + "/t/AeC09ttlWsWn0rx_dM8LBxjZ6uEFZPTwIGAsZ7T0OTlpBRJc9o0FhMFfKtcKmi7vhHYBfbbtVyxT4QeFf4hDFQ"
}
func (fixed) Pixel(bool, bool) string {
	return tracker + "/t/AeC09ttlWsWn0rx_dM8LBxjZ6uEFZPTwIGAsZ7T0OTlpBRJc9o0Fh"
}
