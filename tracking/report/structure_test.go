package report

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSplitMessage cuts behind the header, whatever the line ends.
func TestSplitMessage(t *testing.T) {
	for in, want := range map[string][2]string{
		"":                           {"", ""},
		"A: b":                       {"A: b", ""},
		"A: b\n":                     {"A: b\n", ""},
		"A: b\n\nbody":               {"A: b\n", "body"},
		"A: b\r\n\r\nbody\r\n\r\nx":  {"A: b\r\n", "body\r\n\r\nx"},
		"\nbody":                     {"", "body"},
		"A: b\n \nC: d\n\nbody":      {"A: b\n \nC: d\n", "body"},
		"From x y\nA: b\n\nbody":     {"A: b\n", "body"},
		"From x y":                   {"From x y", ""},
		"From: x\n\nbody":            {"From: x\n", "body"},
		"A: b\n\n":                   {"A: b\n", ""},
		"From a\nFrom b\nA: b\n\n x": {"From b\nA: b\n", " x"},
	} {
		t.Run(in, func(t *testing.T) {
			if head, body := splitMessage([]byte(in)); string(head) != want[0] || string(body) != want[1] {
				t.Errorf("got %q and %q, want %q", head, body, want)
			}
		})
	}
}

// TestCleanHeader keeps fields with their continuations and nothing else.
func TestCleanHeader(t *testing.T) {
	for in, want := range map[string]string{
		"":                            "\r\n",
		"A: b":                        "A: b\r\n\r\n",
		"A: b\r\n c\r\nD: e\r\n":      "A: b\r\n c\r\nD: e\r\n\r\n",
		"A: b\n\tc\n \nD: e":          "A: b\r\n\tc\r\nD: e\r\n\r\n",
		" c\nA: b":                    "A: b\r\n\r\n",
		"no field\n c\nA: b":          "A: b\r\n\r\n",
		"a b: c\nA: b":                "A: b\r\n\r\n",
		"A : b":                       "A: b\r\n\r\n",
		"A\t : b":                     "A: b\r\n\r\n",
		": b\nA: b":                   "A: b\r\n\r\n",
		"ä: b\nA: b":                  "A: b\r\n\r\n",
		"a\x7f: b\nA: b":              "A: b\r\n\r\n",
		"a\x01: b\nA: b":              "A: b\r\n\r\n",
		"!~: b":                       "!~: b\r\n\r\n",
		"A: b: c":                     "A: b: c\r\n\r\n",
		">From x\nA: b":               "A: b\r\n\r\n",
		"A: b\nX\n c\nD: e\n f\n\n g": "A: b\r\nD: e\r\n f\r\n\r\n",
	} {
		t.Run(in, func(t *testing.T) {
			if got := string(cleanHeader([]byte(in))); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// nested is a mail of as many multiparts one in another, a text in the last.
func nested(depth int) []byte {
	var b bytes.Buffer
	for i := range depth {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	b.WriteString("\ninside\n")
	for i := depth - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "--b%d--\n", i)
	}

	return b.Bytes()
}

// TestStructureIsBounded: at each bound all is read, beyond it the mail counts as
// broken and its body as a text.
func TestStructureIsBounded(t *testing.T) {
	if maxDepth != 10 || maxParts != 500 || maxLooked != 8<<20 || maxText != 256<<10 || maxNotice != 128<<10 {
		t.Errorf("the bounds are %d levels, %d parts, %d, %d and %d bytes", maxDepth, maxParts, maxLooked, maxText, maxNotice)
	}
	if maxRecipients != 1000 || maxReason != 1000 || maxDiagnostic != 4000 || maxNoticeLine != 2000 {
		t.Errorf("the bounds are %d recipients, %d, %d and %d bytes", maxRecipients, maxReason, maxDiagnostic, maxNoticeLine)
	}

	for depth, broken := range map[int]bool{0: false, 1: false, maxDepth: false, maxDepth + 1: true} {
		m := readStructure(nested(depth))
		if m.broken != broken || !strings.Contains(m.text(), "inside") {
			t.Errorf("%d levels: broken is %v, want %v: %.40q", depth, m.broken, broken, m.text())
		}
	}

	for depth, broken := range map[int]bool{maxDepth - 1: false, maxDepth: true} {
		m := readStructure([]byte("Content-Type: multipart/mixed; boundary=top\n\n--top\n\nbefore\n--top\n" + string(nested(depth)) + "\n--top--\n"))
		if m.broken != broken || !strings.Contains(m.text(), "inside") || !strings.Contains(m.text(), "before") {
			t.Errorf("%d levels in the second part: broken is %v, want %v: %.60q", depth, m.broken, broken, m.text())
		}
	}

	for n, broken := range map[int]bool{maxParts - 1: false, maxParts: false, maxParts + 1: false, maxParts + 2: false} {
		m := readStructure([]byte("Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", n) + "--b--\n"))
		if m.broken != broken || len(m.parts) != min(n, maxParts) {
			t.Errorf("%d parts: broken is %v, want %v; %d parts are read", n, m.broken, broken, len(m.parts))
		}
	}

	for n, want := range map[int]int{maxLooked: maxLooked, maxLooked + 1: maxLooked} {
		m := readStructure([]byte("A: b\n\n" + strings.Repeat("x", n)))
		if len(m.raw) != want || len(m.parts) != 1 || len(m.parts[0].body) != want {
			t.Errorf("%d bytes: %d are looked at, want %d", n, len(m.raw), want)
		}
	}
}

// TestBrokenStructure: what cannot be read as MIME is taken as one text.
func TestBrokenStructure(t *testing.T) {
	for name, c := range map[string]struct {
		mail, want string
		broken     bool
	}{
		"no end":                {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n", "one", true},
		"no part":               {"Content-Type: multipart/mixed; boundary=b\n\nnothing here\n", "nothing here", true},
		"no boundary":           {"Content-Type: multipart/mixed\n\nwords\n", "words", true},
		"no type":               {"Content-Type: ;;\n\nwords\n", "words", false},
		"an unknown charset":    {"Content-Type: text/plain; charset=x-nobody\n\nwords\n", "words", false},
		"an unknown encoding":   {"Content-Transfer-Encoding: x-nobody\n\nwords\n", "words", false},
		"a broken base64":       {"Content-Transfer-Encoding: base64\n\n####\n", "####", true},
		"a part of odd charset": {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; charset=x-nobody\n\none\n--b\n\ntwo\n--b--\n", "two", false},
		"whole":                 {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n", "one", false},
		"a header that is none": {"no field at all\n\nwords\n", "words", false},
	} {
		t.Run(name, func(t *testing.T) {
			m := readStructure([]byte(c.mail))
			if m.broken != c.broken || !strings.Contains(m.text(), c.want) {
				t.Errorf("broken is %v, want %v: %q", m.broken, c.broken, m.text())
			}
		})
	}
}

// TestText: the text is the plain one, else what HTML shows, without the message
// that is returned and what stands behind it.
func TestText(t *testing.T) {
	part := func(mediaType, body string) string { return "--b\nContent-Type: " + mediaType + "\n\n" + body + "\n" }
	for _, c := range []struct {
		name  string
		parts []string
		want  string
	}{
		{"plain", []string{part("text/plain", "one\r"), part("text/plain", "two")}, "one\ntwo\n"},
		{"plain and HTML", []string{part("text/html", "<p>rich</p>"), part("text/plain", "one")}, "one\n"},
		{"HTML alone", []string{part("text/html", "<p>rich</p>"), part("text/plain", " ")}, "\nrich \n\n"},
		{"other text", []string{part("text/x-notice", "one")}, "one\n"},
		{"what is returned", []string{part("text/plain", "one"), part("message/rfc822", "A: b\n\nreturned"), part("text/plain", "two")}, "one\n"},
		{"what is returned as text", []string{part("text/plain", "one"), part("text/rfc822-headers", "A: b")}, "one\n"},
		{"what is returned stands in front", []string{part("message/rfc822", "A: b\n\nreturned"), part("text/plain", "two")}, "two\n"},
		{"pictures", []string{part("image/png", "one"), part("text/plain", "two")}, "two\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := readStructure([]byte("Content-Type: multipart/mixed; boundary=b\n\n" + strings.Join(c.parts, "") + "--b--\n"))
			if got := m.text(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}

	long := readStructure([]byte("A: b\n\n" + strings.Repeat("x", maxNotice+9)))
	if n := len(long.text()); n != maxNotice {
		t.Errorf("%d bytes of a notice are read, want %d", n, maxNotice)
	}
	all := readStructure([]byte("Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nContent-Type: image/png\n\ntwo\n--b\nContent-Type: text/html\n\n<p>\n--b--\n"))
	if got := string(all.allText()); got != "one\n<p>\n" {
		t.Errorf("got the texts %q, want those of text parts", got)
	}
}

// TestHTMLText shows HTML as a reader sees it, a line a block.
func TestHTMLText(t *testing.T) {
	for in, want := range map[string]string{
		"a  b\n c":                            "a b c ",
		"<b>a</b>b":                           "a b ",
		"a &lt;b&gt; &auml;":                  "a <b> ä ",
		"<style>x</style>a":                   "a ",
		"<script>x</script>a":                 "a ",
		"<title>x</title>a":                   "a ",
		"</style>a":                           "a ",
		"<style><b>x</b></style>a":            "a ",
		"":                                    "",
		"a<!-- x -->b":                        "a b ",
		"a<br>b<br/>c":                        "a \nb \nc ",
		"<p>a</p><div>b</div>":                "\na \n\nb \n",
		"<table><tr><td>a</td></tr></table>b": "\n\n\na \n\nb ",
		"<li>a</li><h1>b</h1><h2>c</h2>":      "\na \n\nb \nc ",
		"<h3>a</h3><pre>b</pre>":              "\na \nb ",
		"<blockquote>a</blockquote><i>b</i>":  "\na b ",
	} {
		t.Run(in, func(t *testing.T) {
			if got := htmlText([]byte(in)); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestHeaderOfAMail: fields are decoded where they can be.
func TestHeaderOfAMail(t *testing.T) {
	m := headed("Subject: =?utf-8?q?=C3=A4?= =?x-nobody?q?b?=\nX:  y \nDate: Tue, 24 Nov 2026 11:59:00 +0100")
	if got := m.get("X"); got != "y" {
		t.Errorf("got %q, want y", got)
	}
	if got := m.get("Subject"); !strings.Contains(got, "=?") && !strings.Contains(got, "ä") {
		t.Errorf("got the subject %q", got)
	}
	if got := headed("Subject: =?utf-8?q?=C3=A4?=").get("Subject"); got != "ä" {
		t.Errorf("got %q, want it decoded", got)
	}
	if want := time.Date(2026, 11, 24, 10, 59, 0, 0, time.UTC); !m.date().Equal(want) {
		t.Errorf("got %s, want %s", m.date(), want)
	}
	if got := headed("Date: yesterday").date(); !got.IsZero() {
		t.Errorf("got %s of a date that is none", got)
	}
	if got := headed("X-Y: a").get("Subject"); got != "" {
		t.Errorf("got %q of a field that is missing", got)
	}
	for header, want := range map[string]string{
		"Content-Type: multipart/report; report-type=Delivery-Status; boundary=b": "delivery-status",
		"Content-Type: MULTIPART/Report; report-type=x; boundary=b":               "x",
		"Content-Type: multipart/mixed; report-type=x; boundary=b":                "",
		"Content-Type: multipart/report; boundary=b":                              "",
		"X: y": "",
	} {
		if got := headed(header).reportType(); got != want {
			t.Errorf("%s: got %q, want %q", header, got, want)
		}
	}
}
