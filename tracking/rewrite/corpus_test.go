package rewrite

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/charmap"

	"postern/relay/message"
)

// numbered makes a URL for each link that tells its target.
type numbered struct{ targets map[string]string }

func (n *numbered) Link(l Link) string {
	u := fmt.Sprintf("%s/t/%x", tracker, l.Target)
	n.targets[u] = l.Target
	return u
}
func (n *numbered) Pixel(initial, amp bool) string {
	return fmt.Sprintf("%s/p/%v%v", tracker, initial, amp)
}

func corpusOptions() Options {
	return Options{Open: true, InitialOpen: true, Click: true, Tracker: tracker, TextLinks: true,
		MaxURL: func(l Link) int { return len(tracker) + 16 + 2*len(l.Target) }}
}

// apply is the plainest reading of what edits mean.
func apply(data []byte, edits []edit, s Stamper) []byte {
	var out []byte
	at := 0
	for _, e := range edits {
		out = append(out, data[at:e.start]...)
		if e.kind != slotNone {
			out = (&piece{kind: e.kind, pixel: e.pixel, link: e.link}).appendTo(out, s)
		}
		at = e.end
	}
	return append(out, data[at:]...)
}

// checkEdits holds edits to what may change: attribute values, data-msys-*
// attributes with the white space before them, and insertions.
func checkEdits(t *testing.T, data []byte, edits []edit) {
	t.Helper()
	at := 0
	for _, e := range edits {
		if e.start < at || e.end < e.start || e.end > len(data) {
			t.Fatalf("edit %+v out of order in %.200q", e, data)
		}
		at = e.end
		cut := data[e.start:e.end]
		switch e.kind {
		case slotNone:
			if !bytes.Contains(bytes.ToLower(cut), msysPrefix) {
				t.Fatalf("%q would go", cut)
			}
		case slotLink:
			if _, ok := Redirect(e.link.Target); !ok {
				t.Fatalf("%q leads to %q, which no tracker redirects to", cut, e.link.Target)
			}
		default:
			if len(cut) > 0 {
				t.Fatalf("a pixel takes the place of %q", cut)
			}
		}
	}
}

func crlfOf(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	b = bytes.ReplaceAll(b, []byte("\r"), []byte("\n"))
	return bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\x00"), nil), []byte("\n"), []byte("\r\n"))
}

// TestCorpusHTML wraps every page in each transfer encoding and in several
// charsets, and checks what comes out against the edits applied by hand.
func TestCorpusHTML(t *testing.T) {
	links, pages := 0, 0
	for name, raw := range corpusHTML(t) {
		for _, cs := range []string{"utf-8", "windows-1252", "iso-2022-jp"} {
			data := crlfOf(raw)
			if cs == "windows-1252" {
				latin, err := charmap.Windows1252.NewEncoder().Bytes(bytes.ToValidUTF8(data, nil))
				if err != nil {
					continue
				}
				data = latin
			}
			if cs == "iso-2022-jp" && !isASCII(data) {
				continue
			}
			for _, enc := range []string{"8bit", "quoted-printable", "base64"} {
				t.Run(name+"/"+cs+"/"+enc, func(t *testing.T) {
					n := checkPage(t, data, cs, enc)
					links += n
					pages++
				})
			}
		}
	}
	t.Logf("%d pages in all encodings, %d links wrapped", pages, links)
}

func transferEncode(enc string, data []byte) []byte {
	var b bytes.Buffer
	switch enc {
	case "quoted-printable":
		w := quotedprintable.NewWriter(&b)
		w.Write(data)
		w.Close()
	case "base64":
		s := base64.StdEncoding.EncodeToString(data)
		for ; len(s) > 76; s = s[76:] {
			b.WriteString(s[:76] + "\r\n")
		}
		b.WriteString(s)
	default:
		b.Write(data)
	}
	return b.Bytes()
}

func checkPage(t *testing.T, data []byte, cs, enc string) (links int) {
	head := "From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=\"b==\"\r\n\r\n"
	before := "preamble\r\n--b==\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b==\r\n"
	partHead := "Content-Type: text/html; charset=" + cs + "\r\nContent-Transfer-Encoding: " + enc + "\r\n"
	after := "\r\n--b==--\r\nepilogue"
	msg := head + before + partHead + "\r\n" + string(transferEncode(enc, data)) + after
	header, body, sep := message.Split([]byte(msg))
	off := Parse(header, body, sep, Options{Tracker: tracker})
	var same bytes.Buffer
	off.Render(&same, nil)
	if same.String() != msg && !tooLongLine([]byte(msg)) {
		t.Fatal("with opens and clicks off the message changed")
	}
	p := Parse(header, body, sep, corpusOptions())
	stamps := &numbered{targets: map[string]string{}}
	var out bytes.Buffer
	if err := p.Render(&out, stamps); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	if !strings.HasPrefix(got, head+before) || !strings.HasSuffix(got, after) {
		t.Fatal("what is around the part changed")
	}
	gotHead, gotBody, _ := strings.Cut(got[len(head+before):len(got)-len(after)], "\r\n\r\n")
	gotEnc := enc
	if enc == "8bit" && strings.Contains(gotHead, "quoted-printable") {
		gotEnc = "quoted-printable" // for a line that would be too long
	}
	if want := strings.Replace(partHead, enc, gotEnc, 1); gotHead+"\r\n" != want {
		t.Fatalf("part header %q, want %q", gotHead, want)
	}
	charset, ok := readCharset(cs, data)
	if !ok {
		if p.Tracked() || !slices.Contains(p.Skipped, Charset) {
			t.Fatalf("tracked %v, skipped %v in %s", p.Tracked(), p.Skipped, cs)
		}
		return 0
	}
	e := editHTML(data, corpusOptions(), plainHTML, charset, withPixels)
	checkEdits(t, data, e.list)
	if want := apply(data, e.list, stamps); decodeBody(t, gotEnc, gotBody) != string(want) {
		t.Fatalf("the part decodes to something else than the edited input")
	}
	for _, line := range strings.Split(got, "\r\n") {
		if len(line) > maxLine {
			t.Fatalf("a line of %d bytes went out", len(line))
		}
	}
	h2, b2, _ := message.Split([]byte(got))
	if again := Parse(h2, b2, true, corpusOptions()); again.Links != 0 {
		t.Fatalf("a second pass wraps %d links", again.Links)
	}
	return p.Links
}

// TestCorpusMessages takes the real and broken messages: no crash, nothing
// changes with tracking off, no line is too long, nothing is wrapped twice, and
// signed and encrypted ones come out as they were.
func TestCorpusMessages(t *testing.T) {
	files, err := filepath.Glob("testdata/corpus/messages/*")
	if err != nil || len(files) < 100 {
		t.Fatal(len(files), err)
	}
	tracked := 0
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if checkMessage(t, crlfOf(data)) {
				tracked++
			}
		})
	}
	t.Logf("%d of %d messages were tracked", tracked, len(files))
}

func checkMessage(t *testing.T, msg []byte) (tracked bool) {
	t.Helper()
	header, body, sep := message.Split(msg)
	off := Parse(header, body, sep, Options{Tracker: tracker})
	var same bytes.Buffer
	off.Render(&same, nil)
	if !bytes.Equal(same.Bytes(), msg) && !tooLongLine(msg) {
		t.Fatalf("with tracking off the message changed:\n%.500q\n%.500q", msg, same.Bytes())
	}
	p := Parse(header, body, sep, corpusOptions())
	stamps := &numbered{targets: map[string]string{}}
	var out bytes.Buffer
	if err := p.Render(&out, stamps); err != nil {
		t.Fatal(err)
	}
	if err := message.Check(out.Bytes()); err != nil {
		t.Fatalf("%v in %.500q", err, out.Bytes())
	}
	var split []byte
	p.Split(stamps, func(b []byte, _ bool) { split = append(split, b...) })
	if !bytes.Equal(split, out.Bytes()) {
		t.Fatal("Split and Render differ")
	}
	h2, b2, sep2 := message.Split(out.Bytes())
	again := Parse(h2, b2, sep2, corpusOptions())
	// (A link with data-msys-clicktrack="0" is no longer marked in the second.)
	if again.Links != 0 && !hasMsys(decodedAll(msg)) {
		t.Fatalf("a second pass wraps %d links of %.500q", again.Links, out.Bytes())
	}
	if !p.Tracked() && len(p.Skipped) == 0 && !tooLongLine(msg) && !bytes.Contains(bytes.ToLower(msg), msysPrefix) && !bytes.Equal(out.Bytes(), msg) {
		t.Fatalf("nothing to track, and it changed:\n%.500q\n%.500q", msg, out.Bytes())
	}
	return p.Tracked()
}

// decodedAll undoes escapes and base64 lines, wherever they may be, to look
// for a word.
func decodedAll(msg []byte) []byte {
	out := append([]byte(nil), msg...)
	if dec, ok := decodeQP(msg); ok {
		out = append(out, dec.data...)
	} else {
		out = append(out, bytes.ReplaceAll(bytes.ReplaceAll(msg, []byte("=\r\n"), nil), []byte("=2D"), []byte("-"))...)
	}
	for _, chunk := range bytes.Split(msg, []byte("\r\n\r\n")) {
		body, _, _ := bytes.Cut(chunk, []byte("\r\n--"))
		if dec, ok := decodeBase64(body); ok {
			out = append(out, dec.data...)
		}
	}
	return out
}

func FuzzMessage(f *testing.F) {
	files, _ := filepath.Glob("testdata/corpus/messages/*")
	for i, file := range files {
		if b, err := os.ReadFile(file); err == nil && len(b) < 4000 && i%4 == 0 {
			f.Add(b)
		}
	}
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\nContent-Transfer-Encoding: base64\n\nPGEgaHJlZj0iaHR0cDovL3guZXhhbXBsZS8iPg==\n--b--"))
	f.Add([]byte("Content-Type: text/plain; format=flowed\n\nsee (http://x.example/a_(b)), or http://y.example/[[data-msys-clicktrack=\"0\"]].\n"))
	f.Fuzz(func(t *testing.T, b []byte) { checkMessage(t, crlfOf(b)) })
}

var utf8Charset = textCharset{utf8Bytes: true, namedUTF8: true}

func FuzzEditHTML(f *testing.F) {
	for _, s := range []string{`<body><a href="http://x.example/?a&amp;b">x</a></body>`, `<a data-msys-clicktrack=0 data-msys-linkname='x'href=http://x.example/>`,
		`<!--[if mso]><v:rect href="http://x.example/"><![endif]-->`, "<title><a></title><html>x</html>", `<a href=" https://[::1]:80/ü#f ">`, `<p data-msys-x>`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		data := crlfOf(b)
		for _, kind := range []htmlKind{plainHTML, ampHTML} {
			edits := editHTML(data, corpusOptions(), kind, utf8Charset, withPixels).list
			checkEdits(t, data, edits)
			if hasMsys(data) {
				continue // marks are gone after the first pass
			}
			out := apply(data, edits, &numbered{targets: map[string]string{}})
			again := editHTML(out, corpusOptions(), kind, utf8Charset, withoutPixels).list
			for _, e := range again {
				if e.kind == slotLink {
					t.Fatalf("a second pass wraps %q in %q", e.link.Target, out)
				}
			}
		}
	})
}

func FuzzEncoders(f *testing.F) {
	f.Add([]byte("a=b \r\n \t\r\nü\r\n."), true)
	f.Fuzz(func(t *testing.T, data []byte, continued bool) {
		data = crlfOf(data)
		compareQP(t, string(data))
		qp := encodeQP(nil, data, false)
		back, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(qp)))
		if err != nil || !bytes.Equal(back, data) {
			t.Fatalf("quoted-printable of %q: %q gives %q, %v", data, qp, back, err)
		}
		dec, ok := decodeQP(qp)
		if !ok || !bytes.Equal(dec.data, data) {
			t.Fatalf("we read %q back as %q", qp, dec.data)
		}
		for _, line := range bytes.Split(qp, crlf) {
			if len(line) > encodedLine {
				t.Fatalf("line of %d", len(line))
			}
		}
		b64 := encodeBase64(nil, data)
		if want := transferEncode("base64", data); !bytes.Equal(b64, want) {
			t.Fatalf("base64 of %q: %q, want %q", data, b64, want)
		}
		dec, ok = decodeBase64(b64)
		if !ok || !bytes.Equal(dec.data, data) {
			t.Fatalf("base64 of %q is read back as %q", data, dec.data)
		}
	})
}

func TestTooLongLine(t *testing.T) {
	for _, c := range []struct {
		name string
		in   string
		want bool
	}{
		{"empty", "", false},
		{"as long as may be", strings.Repeat("x", 998) + "\r\n", false},
		{"as long as may be, without its end", strings.Repeat("x", 998), false},
		{"one more", strings.Repeat("x", 999) + "\r\n", true},
		{"one more, without its end", strings.Repeat("x", 999), true},
		{"999 bytes of short lines", strings.Repeat("12345678\n", 111), false},
		{"the second line", "a\r\n" + strings.Repeat("x", 999), true},
		{"the last of many", strings.Repeat("abc\r\n", 1000) + strings.Repeat("x", 5000) + "\r\n", true},
	} {
		if got := tooLongLine([]byte(c.in)); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func corpusHTML(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/corpus/html/*")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	out := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = b
	}
	return out
}
