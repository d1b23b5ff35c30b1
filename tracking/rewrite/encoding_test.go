package rewrite

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestEncodingNames(t *testing.T) {
	for name, want := range map[string]encoding{
		"": identity, "7bit": identity, "8bit": identity, "binary": identity, "quoted-printable": quotedPrintable, "base64": base64Encoding,
		"x-uuencode": unknownEncoding, "BASE64": unknownEncoding, "7-bit": unknownEncoding,
	} {
		if got := encodingByName(name); got != want {
			t.Errorf("%q is encoding %d, want %d", name, got, want)
		}
	}
	for e, want := range map[encoding]string{base64Encoding: "base64", quotedPrintable: "quoted-printable"} {
		if got := e.String(); got != want {
			t.Errorf("encoding %d is written %q, want %q", e, got, want)
		}
	}
	if _, ok := decodePart(unknownEncoding, nil); ok {
		t.Error("an unknown encoding is read")
	}
}

func TestHexDigits(t *testing.T) {
	for c := range 256 {
		want := -1
		if b, err := hex.DecodeString("0" + string([]byte{byte(c)})); err == nil {
			want = int(b[0])
		}
		if got := unhex(byte(c)); got != want {
			t.Errorf("%q is %d, want %d", byte(c), got, want)
		}
	}
}

func TestDecodeQP(t *testing.T) {
	for _, c := range []struct {
		in, want string
		ok       bool
	}{
		{"", "", true},
		{"a=3D=3d=C3=BC", "a==ü", true},
		{"a \t\r\nb  ", "a\r\nb", true},
		{"a=\r\nb", "ab", true},
		{"a= \t\r\nb", "ab", true},
		{"a =\r\nb", "a b", true},
		{"a=", "a", true},
		{"a==\r\n", "", false},
		{"a=\r\n\r\nb", "a\r\nb", true},
		{"a\nb", "ab", true},
		{"a\f\r\nb", "a\f\r\nb", true},
		{"=", "", true},
		{"=4", "", false},
		{"=41", "A", true},
		{"=4\r\n1", "", false},
		{"=4g", "", false},
		{"=g4", "", false},
		{"x=xx", "", false},
		{"=41=", "A", true},
		{"\r\n", "\r\n", true},
		{" \r\n", "\r\n", true},
	} {
		got, ok := decodeQP([]byte(c.in))
		if ok != c.ok || ok && string(got.data) != c.want {
			t.Errorf("%q is read as %q, %v, want %q, %v", c.in, got.data, ok, c.want, c.ok)
		}
		if !ok {
			continue
		}

		n := 0
		for at := 0; at < len(c.in); {
			l := readQPLine([]byte(c.in), at)
			n += l.decodedLen()
			at = l.end
		}
		if n != len(c.want) {
			t.Errorf("%q is taken to be %d bytes, want %d", c.in, n, len(c.want))
		}
	}
}

func TestDecodeBase64(t *testing.T) {
	for _, c := range []struct {
		in, want string
		ok       bool
	}{
		{"", "", true},
		{"QUJD", "ABC", true},
		{"QU\r\nJD\r\n", "ABC", true},
		{"Q U\tJD ", "ABC", true},
		{"QUI=", "AB", true},
		{"QQ==", "A", true},
		{"QQ= =", "A", true},
		{"QQ", "", false},
		{"QUJD!", "", false},
		{"QQ==QQ==", "", false},
		{"Q-_D", "", false},
		{"QU\x00JD", "", false},
	} {
		got, ok := decodeBase64([]byte(c.in))
		if ok != c.ok || ok && string(got.data) != c.want {
			t.Errorf("%q is read as %q, %v, want %q, %v", c.in, got.data, ok, c.want, c.ok)
		}
	}
}

// encodeQPSlowly is encodeQP in the plainest way: word by word, a new line where
// one does not fit.
func encodeQPSlowly(data string, continued bool) string {
	var out strings.Builder
	column := 0
	for i := 0; i < len(data); {
		if strings.HasPrefix(data[i:], "\r\n") {
			out.WriteString("\r\n")
			column = 0
			i += 2
			continue
		}

		word := string(data[i])
		atEnd := strings.HasPrefix(data[i+1:], "\r\n") || i+1 == len(data) && !continued
		space := word == " " || word == "\t"
		if space && atEnd || !space && (word == "=" || word < "!" || word > "~") {
			word = fmt.Sprintf("=%02X", data[i])
		}
		if column+len(word) > 75 {
			out.WriteString("=\r\n")
			column = 0
		}
		out.WriteString(word)
		column += len(word)
		i++
	}

	return out.String()
}

func compareQP(t *testing.T, data string) {
	t.Helper()
	for _, continued := range []bool{false, true} {
		if got, want := string(encodeQP(nil, []byte(data), continued)), encodeQPSlowly(data, continued); got != want {
			t.Fatalf("%q, continued %v: got\n%q\nwant\n%q", data, continued, got, want)
		}
	}
}

func TestEncodeQPFillsItsLines(t *testing.T) {
	for n := 60; n < 160; n++ {
		for _, tail := range []string{"", " ", "=", "ü", "\r\n", " \r\n", "\t\r\nx", "==", "x=", "  ", "\rx", "\nx"} {
			compareQP(t, strings.Repeat("x", n)+tail)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	words := []string{"word", " ", "=", "ü", "\r\n", "\t", "\x7f", "~", "\x1f", "!"}
	for range 300 {
		var b strings.Builder
		for range 60 {
			b.WriteString(words[rng.IntN(len(words))])
		}
		compareQP(t, b.String())
	}
	for c := range 256 {
		compareQP(t, string([]byte{byte(c), 'x'}))
	}
}

func TestEncodeBase64FillsItsLines(t *testing.T) {
	for n := range 200 {
		data := bytes.Repeat([]byte("x"), n)
		if got, want := string(encodeBase64(nil, data)), string(transferEncode("base64", data)); got != want {
			t.Errorf("%d bytes: got %q, want %q", n, got, want)
		}
	}
}

// TestAlignedLine: the last line that begins at or before an offset, and with a
// whole group.
func TestAlignedLine(t *testing.T) {
	const raw = "QUJD\r\nQU\r\nJDQUJD\r\nQ U\tJD\r\n" // lines of 3, 1.5, 4.5 and 3 bytes
	for at, want := range map[int][2]int{0: {0, 0}, 2: {0, 0}, 3: {6, 3}, 4: {6, 3}, 8: {6, 3}, 9: {18, 9}, 11: {18, 9}, 12: {18, 9}} {
		line, data := alignedLine([]byte(raw), at)
		if line != want[0] || data != want[1] {
			t.Errorf("at %d: line %d with offset %d, want %v", at, line, data, want)
		}
	}
}

// TestEditedLinesAlone: of an encoded part nothing changes but lines with an
// edit, in base64 those behind it as well.
func TestEditedLinesAlone(t *testing.T) {
	link := `<a href=3D"http://x.example/">`
	for _, c := range []struct{ name, in, want string }{
		{"a line", "a=20\r\n" + link + "=41\r\n=62\r\n", "a=20\r\n<a href=3D\"" + L + "\">A\r\n=62\r\n"},
		{"the first line", link + "\r\n=62", "<a href=3D\"" + L + "\">\r\n=62"},
		{"the last line", "=62\r\n" + link, "=62\r\n<a href=3D\"" + L + "\">"},
		{"two in a line", "=62\r\n" + link + link + "\r\n=62", "=62\r\n<a href=3D\"" + L + "\"><a href=\r\n=3D\"" + L + "\">\r\n=62"},
		{"two lines", link + "\r\n" + link + "\r\n=62", "<a href=3D\"" + L + "\">\r\n<a href=3D\"" + L + "\">\r\n=62"},
		{"two lines with one between", link + "\r\n=62\r\n" + link, "<a href=3D\"" + L + "\">\r\n=62\r\n<a href=3D\"" + L + "\">"},
		{"in front of a soft line break", link + "=41=\r\n=62", "<a href=3D\"" + L + "\">A=\r\n=62"},
		{"over a soft line break", "=61=\r\n<a href=3D\"http://x=\r\n.example/\">=41 =\r\n=62", "=61=\r\n<a href=3D\"" + L + "\">A =\r\n=62"},
	} {
		t.Run(c.name, func(t *testing.T) {
			head := "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
			got, _ := render(t, head+c.in, clicksOnly())
			got = strings.TrimPrefix(got, head)
			if c.name == "two in a line" { // where it is folded is encodeQP's
				got = strings.ReplaceAll(got, "=\r\n", "")
				c.want = strings.ReplaceAll(c.want, "<a href=\r\n=3D", "<a href=3D")
			}
			if got != c.want {
				t.Errorf("got\n%q\nwant\n%q", got, c.want)
			}
		})
	}

	before := base64.StdEncoding.EncodeToString([]byte("123456")) + "\r\n" + "NTY\r\n3\r\n"
	msg := "Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n" + before +
		base64.StdEncoding.EncodeToString([]byte("<a href=\"http://x.example/\">")) + "\r\n \r\n"
	got, _ := render(t, msg, clicksOnly())
	want := "Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n" + before +
		base64.StdEncoding.EncodeToString([]byte("<a href=\""+L+"\">")) + "\r\n \r\n"
	if got != want {
		t.Errorf("base64: got\n%q\nwant\n%q", got, want)
	}
}

// TestFolding holds where lines that are too long are broken.
func TestFolding(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name   string
		method foldMethod
		in     string
		want   string
	}{
		{"as long as may be", foldPlain, x(998) + "\r\n" + x(998), x(998) + "\r\n" + x(998)},
		{"one more", foldPlain, x(999) + "\r\n", x(996) + "\r\n xxx\r\n"},
		{"one more, without its end", foldPlain, x(999), x(996) + "\r\n xxx"},
		{"twice", foldPlain, x(2*996+1) + "\r\nx", x(996) + "\r\n " + x(996) + "\r\n x\r\nx"},
		{"as much as fills two lines", foldPlain, x(2 * 996), x(996) + "\r\n " + x(996)},
		{"dashes in front", foldPlain, "--" + x(998), " --" + x(994) + "\r\n xxxx"},
		{"one dash in front", foldPlain, "-" + x(998), "-" + x(995) + "\r\n xxx"},
		{"soft", foldSoft, x(999) + "\r\n", x(995) + "=\r\nxxxx\r\n"},
		{"soft, twice", foldSoft, x(995 + 997), x(995) + "=\r\n" + x(995) + "=\r\nxx"},
		{"soft, not within an escape", foldSoft, x(994) + "=3D" + x(9), x(994) + "=\r\n=3D" + x(9)},
		{"soft, not within an escape, one further", foldSoft, x(993) + "=3D" + x(9), x(993) + "=\r\n=3D" + x(9)},
		{"soft, behind an escape", foldSoft, x(992) + "=3D" + x(9), x(992) + "=3D=\r\n" + x(9)},
		{"soft, no dash begins a line", foldSoft, x(994) + "--" + x(9), x(993) + "=\r\nx--" + x(9)},
		{"soft, dashes in front", foldSoft, "--" + x(998), " --" + x(993) + "=\r\nxxxxx"},
		{"soft, dashes alone", foldSoft, "x" + strings.Repeat("-", 1000), "x" + strings.Repeat("-", 995) + "=\r\n-----"},
		{"soft, at the middle", foldSoft, x(500) + strings.Repeat("-", 600), x(499) + "=\r\nx" + strings.Repeat("-", 600)},
		{"soft, not in the first half", foldSoft, x(499) + strings.Repeat("-", 600), x(499) + strings.Repeat("-", 497) + "=\r\n" + strings.Repeat("-", 103)},
		{"header, at the last white space", foldHeader, "X: " + x(500) + " " + x(400) + "\t" + x(200) + "\r\n",
			"X: " + x(500) + " " + x(400) + "\r\n\t" + x(200) + "\r\n"},
		{"header, white space in front alone", foldHeader, " \t " + x(999) + "\r\n", " \t " + x(993) + "\r\n " + x(6) + "\r\n"},
		{"header without white space", foldHeader, x(999) + "\r\n", x(996) + "\r\n xxx\r\n"},
		{"header, a form feed is not white space", foldHeader, x(996) + "\f" + x(9), x(996) + "\r\n \f" + x(9)},
		{"header with dashes", foldHeader, "--" + x(998), "--" + x(994) + "\r\n xxxx"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(foldLines([]byte(c.in), c.method)); got != c.want {
				t.Errorf("got  %s\nwant %s", shape(got), shape(c.want))
			}
		})
	}
	for enc, want := range map[encoding]foldMethod{quotedPrintable: foldSoft, identity: foldPlain, base64Encoding: foldPlain} {
		if got := foldMethodOf(enc); got != want {
			t.Errorf("encoding %d is folded by method %d, want %d", enc, got, want)
		}
	}
}

// shape writes long runs of x as their length.
func shape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		n := i
		for n < len(s) && s[n] == s[i] {
			n++
		}
		if n-i > 8 {
			fmt.Fprintf(&b, "%c{%d}", s[i], n-i)
		} else {
			b.WriteString(strings.Trim(fmt.Sprintf("%q", s[i:n]), `"`))
		}
		i = n
	}

	return b.String()
}

// TestLineWithLinksIsMeasured: a line that the links make longer than 998 bytes
// is encoded, one of 998 is not.
func TestLineWithLinksIsMeasured(t *testing.T) {
	const tag = `<a href="http://x.example/">`
	link := len(`<a href="` + L + `">`)
	pixel := len(pixelHTML[htmlPixel].before) + len(stamps{}.Pixel(false, false)) + len(`"`)
	o := clicksOnly()
	o.MaxURL = func(l Link) int {
		if l == (Link{}) {
			return len(stamps{}.Pixel(false, false))
		}
		return len(L)
	}
	opens := o
	opens.Open, opens.Click = true, false

	for _, c := range []struct {
		name, before, after string
		slot                int
		o                   Options
	}{
		{"in the first line", tag, "\r\ny", link, o},
		{"in the last line", "y\r\n" + tag, "", link, o},
		{"two in a line", tag + tag, "\r\n", 2 * link, o},
		{"a line behind one", tag + "\r\n", "\r\n", 0, o},
		{"a line between two", tag + "\r\n", "\r\n" + tag, 0, o},
		{"a pixel in the last line", "", "", pixel, opens},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n, encoded := range map[int]bool{998 - c.slot: false, 999 - c.slot: true} {
				msg := "Content-Type: text/html\r\n\r\n" + c.before + strings.Repeat("x", n) + c.after
				got, p := render(t, msg, c.o)
				if is := strings.Contains(got, "quoted-printable"); is != encoded {
					t.Errorf("a line of %d bytes: encoded %v, want %v", n+c.slot, is, encoded)
				}
				if !p.Tracked() {
					t.Errorf("a line of %d bytes: not tracked", n+c.slot)
				}
			}
		})
	}
}

// TestUneditedPartsAreEncoded: parts that are not edited are encoded where they cannot go
// out, text in quoted-printable, anything else in base64.
func TestUneditedPartsAreEncoded(t *testing.T) {
	long := strings.Repeat("x", 999)
	for _, c := range []struct {
		name, kind, enc, body string
		sevenBit              bool
		want                  string // the encoding; empty: the message stays
	}{
		{"text", "text/plain", "", long, false, "quoted-printable"},
		{"text of another kind", "text/csv", "8bit", long, false, "quoted-printable"},
		{"something else", "application/json", "", long, false, "base64"},
		{"8-bit text", "text/plain", "8bit", "ü", true, "quoted-printable"},
		{"8-bit text that may stay", "text/plain", "8bit", "ü", false, ""},
		{"a short line", "text/plain", "", long[1:], true, ""},
		{"base64 in one line", "text/plain", "base64", strings.Repeat("QUJD", 250), false, "base64"},
		{"quoted-printable in one line", "application/x", "quoted-printable", long, false, "quoted-printable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			head := "MIME-Version: 1.0\r\nContent-Type: " + c.kind + "\r\n"
			if c.enc != "" {
				head += "Content-Transfer-Encoding: " + c.enc + "\r\n"
			}
			msg := head + "\r\n" + c.body
			got, p := render(t, msg, Options{SevenBit: c.sevenBit})
			if c.want == "" {
				if got != msg || p.Changed() {
					t.Errorf("became %q", got)
				}
				return
			}

			gotHead, body, _ := strings.Cut(got, "\r\n\r\n")
			if wantHead := "MIME-Version: 1.0\r\nContent-Type: " + c.kind + "\r\nContent-Transfer-Encoding: " + c.want; gotHead != wantHead {
				t.Errorf("header %q, want %q", gotHead, wantHead)
			}
			if a, b := decodeBody(t, c.want, body), decodeBody(t, strings.Trim(c.enc, "8bit"), c.body); c.enc != "base64" && a != b {
				t.Errorf("reads as %q, want %q", a, b)
			}
			if !p.Changed() || p.Tracked() || p.EightBit() || tooLongLine([]byte(got)) {
				t.Errorf("changed %v, tracked %v, 8-bit %v", p.Changed(), p.Tracked(), p.EightBit())
			}
		})
	}
}

func TestWithEncoding(t *testing.T) {
	for in, want := range map[string]string{
		"A: b\r\n": "A: b\r\nContent-Transfer-Encoding: base64\r\n",
		"content-transfer-encoding:\r\n 8bit\r\nA: b\r\n": "Content-Transfer-Encoding: base64\r\nA: b\r\n",
		"": "Content-Transfer-Encoding: base64\r\n",
	} {
		if got := string(withEncoding([]byte(in), base64Encoding)); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// TestRenderReturnsErrors of the writer, whichever write they come from.
func TestRenderReturnsErrors(t *testing.T) {
	p := Parse([]byte("Content-Type: text/html\r\n"), []byte("<body>\r\n<a href=http://x.example/>\r\n</body>"), true, all())
	for n := range len(p.ops) {
		w := &failingWriter{after: n}
		if err := p.Render(w, stamps{}); !errors.Is(err, io.ErrShortWrite) || w.calls != n+1 {
			t.Errorf("write %d fails: got %v after %d calls", n, err, w.calls)
		}
	}
	if err := p.Render(&failingWriter{after: len(p.ops)}, stamps{}); err != nil {
		t.Errorf("no write fails: %v", err)
	}
}

type failingWriter struct{ after, calls int }

func (w *failingWriter) Write(p []byte) (int, error) {
	w.calls++
	if w.calls > w.after {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

// TestSplitTellsWhatIsShared: the parts that hold slots are a recipient's own.
func TestSplitTellsWhatIsShared(t *testing.T) {
	qp := "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n"
	p := Parse([]byte(qp), []byte("=41\r\n<a href=3Dhttp://x.example/>\r\n=42"), true, clicksOnly())
	var got []string
	p.Split(stamps{}, func(b []byte, own bool) { got = append(got, fmt.Sprintf("%v %s", own, b)) })
	want := []string{"false " + qp, "false \r\n", "false =41\r\n", "true <a href=3D" + L + ">\r\n", "false =42"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := 320 + 2*len("http://x.example/") + len("<a href=")*3/2 + len(">\r\n")*3/2; p.OwnSize() != want {
		t.Errorf("its own are taken for %d bytes, want %d", p.OwnSize(), want)
	}
	if want := len(qp) + len("\r\n=41\r\n=42") + len("<a href=>\r\n") + 320; p.Size() != want {
		t.Errorf("a copy is taken for %d bytes, want %d", p.Size(), want)
	}
}

// TestSplitHasNoEmptyParts: where a message begins and ends with an edit.
func TestSplitHasNoEmptyParts(t *testing.T) {
	p := Parse([]byte("Content-Type: text/html\r\n"), []byte("<a href=http://x.example/>"), true, clicksOnly())
	var got []string
	p.Split(stamps{}, func(b []byte, own bool) { got = append(got, fmt.Sprintf("%v %s", own, b)) })
	if want := []string{"false Content-Type: text/html\r\n", "false \r\n", "true <a href=" + L + ">"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestPixelsAreEstimated: a copy with both has about their HTML's length more.
func TestPixelsAreEstimated(t *testing.T) {
	p := Parse([]byte("Content-Type: text/html\r\n"), []byte("<body>x</body>"), true, all())
	pixels := 2 * (len(pixelHTML[htmlPixel].before+pixelHTML[htmlPixel].after)*4/3 + 320)
	if want := len("Content-Type: text/html\r\n\r\n<body>x</body>") + pixels; p.Size() != want {
		t.Errorf("a copy is taken for %d bytes, want %d", p.Size(), want)
	}
	if want := len("<body>")*3/2 + len("x")*3/2 + len("</body>")*3/2 + pixels; p.OwnSize() != want {
		t.Errorf("its own are taken for %d bytes, want %d", p.OwnSize(), want)
	}
}

// TestEditsOfAllPartsAreBounded: parts are edited until there are 10000 edits
// in all; what would pass that is left alone, as a whole.
func TestEditsOfAllPartsAreBounded(t *testing.T) {
	part := func(n int, more string) string {
		return "--b\r\nContent-Type: text/html\r\n\r\n" + strings.Repeat("<a href=http://x.example/>\r\n", n) + more
	}
	for _, c := range []struct {
		name          string
		second, third string
		links         int
		skipped       int
	}{
		{"as many as may be", part(4000, ""), part(1, ""), 10_000, 1},
		{"one more", part(4001, ""), part(1, ""), 6001, 1},
		{"and as many reasons", part(4000, strings.Repeat("<a href=http://x.example/{{a}}>\r\n", 10_000)), "", 10_000, 10_000},
		{"and one reason more", part(3999, strings.Repeat("<a href=http://x.example/{{a}}>\r\n", 10_000)), part(1, "<a href=http://x.example/{{a}}>\r\n"), 9999, 10_001},
	} {
		msg := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part(6000, "") + c.second + c.third + "--b--"
		_, p := render(t, msg, clicksOnly())
		if p.Links != c.links || len(p.Skipped) != c.skipped {
			t.Errorf("%s: %d links, %d reasons, want %d and %d", c.name, p.Links, len(p.Skipped), c.links, c.skipped)
		}
	}
}

// TestEightBit: wherever a byte above 0x7f stands.
func TestEightBit(t *testing.T) {
	link := "<a href=\"http://x.example/\">"
	for _, c := range []struct {
		name, head, body string
		want             bool
	}{
		{"none", "", link, false},
		{"in a header", "X: ü\r\n", link, true},
		{"beside an edit", "", link + "ü", true},
		{"in front of an edit", "", "ü" + link, true},
		{"in an encoded part", "Content-Transfer-Encoding: quoted-printable\r\n", "=C3=BC<a href=3Dhttp://x.example/>", false},
		{"without an edit", "", "ü", true},
	} {
		p := Parse([]byte(c.head+"Content-Type: text/html; charset=utf-8\r\n"), []byte(c.body), true, clicksOnly())
		if got := p.EightBit(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestMessagesWithoutABody come out as they came in.
func TestMessagesWithoutABody(t *testing.T) {
	for _, separated := range []bool{false, true} {
		p := Parse([]byte("Content-Type: text/html\r\n"), nil, separated, all())
		var out bytes.Buffer
		p.Render(&out, stamps{})
		want := "Content-Type: text/html\r\n"
		if separated {
			want += "\r\n"
		}
		if out.String() != want || p.Changed() || p.Tracked() {
			t.Errorf("separated %v: became %q", separated, &out)
		}
	}
}
