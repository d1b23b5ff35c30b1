package rewrite

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const linkPart = "<body><a href=\"http://x.example/\">x</a></body>\r\n"

// TestOnlyInlinePartsAreBodies: what is not plainly inline is an attachment
// (RFC 2183 section 2.8).
func TestOnlyInlinePartsAreBodies(t *testing.T) {
	for _, c := range []struct {
		disposition string
		tracked     bool
	}{
		{"", true},
		{"Content-Disposition: inline", true},
		{"Content-Disposition: INLINE; filename=x.html", true},
		{"Content-Disposition: inline (shown)", true},
		{"Content-Disposition:\r\n inline", true},
		{"Content-Disposition: attachment", false},
		{"Content-Disposition: Attachment; filename=\"r.html\"", false},
		{"Content-Disposition: attachment filename=\"r.html\"", false},
		{"Content-Disposition: inline filename=\"r.html\"", false},
		{"Content-Disposition: \"attachment\"; filename=\"r.html\"", false},
		{"Content-Disposition: form-data; name=x", false},
		{"Content-Disposition: x-unknown", false},
		{"Content-Disposition: ; filename=r.html", false},
		{"Content-Disposition: =?utf-8?q?attachment?=", false},
		{"Content-Disposition: (inline) attachment", false},
		{"content-disposition : attachment", false},
	} {
		for _, kind := range []string{"text/html", "text/plain"} {
			t.Run(kind+" "+c.disposition, func(t *testing.T) {
				head := "Content-Type: " + kind + "\r\n"
				if c.disposition != "" {
					head += c.disposition + "\r\n"
				}
				body := linkPart
				if kind == "text/plain" {
					body = "http://x.example/\r\n"
				}
				msg := head + "\r\n" + body
				got, p := render(t, msg, corpusOptions())
				if p.Tracked() != c.tracked || !c.tracked && got != msg {
					t.Errorf("tracked %v, want %v: %q", p.Tracked(), c.tracked, got)
				}
				if kind == "text/html" && !c.tracked && !slices.Equal(p.Skipped, []Reason{Attachment}) {
					t.Errorf("skipped for %v, want %s", p.Skipped, Attachment)
				}
			})
		}
	}
}

// TestAttachedMultipartsAreNotTouched: the disposition of a multipart applies to
// all of it (RFC 2183 section 2).
func TestAttachedMultipartsAreNotTouched(t *testing.T) {
	html := "Content-Type: text/html\r\n\r\n" + linkPart
	nested := "Content-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\n" + html + "--i--\r\n"
	for _, c := range []struct {
		name, outer, inner string
		parts              string
		links              int
		skipped            []Reason
	}{
		{"inline", "", "Content-Disposition: inline\r\n", html, 2, nil},
		{"attachment", "", "Content-Disposition: attachment; filename=\"m\"\r\n", html, 1, []Reason{Attachment}},
		{"unknown", "", "Content-Disposition: x\r\n", html, 1, []Reason{Attachment}},
		{"a multipart in it", "", "Content-Disposition: attachment\r\n", nested, 1, []Reason{Attachment}},
		{"the message itself", "Content-Disposition: attachment\r\n", "", html, 2, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			attached := c.inner + "Content-Type: multipart/mixed; boundary=n\r\n\r\n--n\r\n" + c.parts + "--n--\r\n"
			msg := c.outer + "Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n" + attached + "--o\r\n" + html + "--o--\r\n"
			got, p := render(t, msg, corpusOptions())
			if p.Links != c.links || p.Pixels != 2 || !slices.Equal(p.Skipped, c.skipped) {
				t.Errorf("%d links, %d pixels, skipped for %v; want %d, 2, %v", p.Links, p.Pixels, p.Skipped, c.links, c.skipped)
			}
			if c.links == 1 && !strings.Contains(got, attached) {
				t.Errorf("the attachment changed:\n%s", got)
			}
		})
	}
}

// TestMediaTypesThatCannotBeReadHaveAReason, where a mail program could read
// them as HTML.
func TestMediaTypesThatCannotBeReadHaveAReason(t *testing.T) {
	for _, kind := range []string{"text / html", `"text/html"`, "text/html charset=utf-8", "text/html, text/plain", "text/html/x", "/html"} {
		msg := "Content-Type: " + kind + "\r\n\r\n" + linkPart
		got, p := render(t, msg, corpusOptions())
		if got != msg || !slices.Equal(p.Skipped, []Reason{BadHeader}) {
			t.Errorf("%s: changed %v, skipped for %v, want %s", kind, got != msg, p.Skipped, BadHeader)
		}
	}
}

// TestPixelsGoIntoThePartThatIsShown counts the pixels of each HTML part.
func TestPixelsGoIntoThePartThatIsShown(t *testing.T) {
	html := func(header string) string { return "Content-Type: text/html" + header + "\r\n\r\n" + linkPart }
	parts := func(kind, boundary string, parts ...string) string {
		s := "Content-Type: multipart/" + kind + "; boundary=" + boundary + "\r\n\r\n"
		for _, p := range parts {
			s += "--" + boundary + "\r\n" + p
		}
		return s + "--" + boundary + "--\r\n"
	}
	text := "Content-Type: text/plain\r\n\r\ntext\r\n"
	for _, c := range []struct {
		name, msg string
		pixels    string // in each part, in order
	}{
		{"one", html(""), "[2]"},
		{"two", parts("mixed", "b", html(""), html("")), "[2 0]"},
		{"two alternatives", parts("alternative", "b", html(""), html("")), "[2 0]"},
		{"root of a multipart/related by its id", parts(`related; start="<r>"`, "b", html(""), html("\r\nContent-ID: <r>")), "[0 2]"},
		{"root without angle brackets", parts(`related; start=r`, "b", html(""), html("\r\nContent-ID: <r>")), "[0 2]"},
		{"root in pieces", parts(`related; start*0="<r"; start*1=">"`, "b", html(""), html("\r\nContent-ID: <r>")), "[0 2]"},
		{"root that is not there", parts(`related; start="<q>"`, "b", html(""), html("\r\nContent-ID: <r>")), "[2 0]"},
		{"root that is the first", parts("related", "b", html(""), html("\r\nContent-ID: <r>")), "[2 0]"},
		{"root that is an alternative", parts(`related; start="<r>"`, "b", html(""),
			strings.Replace(parts("alternative", "c", text, html("")), "\r\n\r\n", "\r\nContent-ID: <r>\r\n\r\n", 1)), "[0 2]"},
		{"no HTML in the root", parts("related", "b", text, html("")), "[2]"},
		{"related in a mixed, one behind it", parts("mixed", "b", parts("related", "c", text, html("")), html("")), "[0 2]"},
		{"a file before the body", parts("mixed", "b", html("; name=\"x.html\""), html("")), "[0 2]"},
		{"a file by its disposition", parts("mixed", "b", html("\r\nContent-Disposition: inline; filename*=utf-8''x.html"), html("")), "[0 2]"},
		{"a file alone", parts("mixed", "b", text, html("; name=\"x.html\"")), "[2]"},
		{"an unreadable part first", parts("mixed", "b", html("; charset=utf-16"), html("")), "[0 2]"},
		{"AMP has its own", parts("alternative", "b", text, strings.Replace(html(""), "text/html", "text/x-amp-html", 1), html("")), "[2 2]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := render(t, c.msg, all())
			var counts []int
			for _, part := range strings.Split(got, "<body>")[1:] {
				counts = append(counts, strings.Count(part, tracker+"/t/P"))
			}
			if fmt.Sprint(counts) != c.pixels {
				t.Errorf("%v pixels, want %s, in %q", counts, c.pixels, got)
			}
		})
	}
}

// TestNoLineOverTheLimitGoesOut takes lines of every length near the limit to
// each place where a message can have them.
func TestNoLineOverTheLimitGoesOut(t *testing.T) {
	part := "Content-Type: text/html\r\n\r\n" + linkPart
	for _, c := range []struct{ name, before, after string }{
		{"preamble", "Content-Type: multipart/mixed; boundary=b\r\n\r\n", "\r\n--b\r\n" + part + "--b--\r\n"},
		{"preamble without parts", "Content-Type: multipart/mixed; boundary=b\r\n\r\n", "\r\n"},
		{"epilogue", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + part + "--b--\r\n", "\r\nx"},
		{"epilogue of an inner multipart", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n" +
			"--c\r\n" + part + "--c--\r\n", "\r\n--b--\r\n"},
		{"behind a closing delimiter", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + part + "--b--", "\r\n"},
		{"part header", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX-Y: ", "\r\n" + part + "--b--\r\n"},
		{"header of an inner multipart", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX-Y: ",
			"\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n" + part + "--c--\r\n--b--\r\n"},
		{"part without an empty line", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", "\r\n--b\r\n" + part + "--b--\r\n"},
		{"no boundary", "Content-Type: multipart/mixed\r\n\r\n", "\r\n"},
		{"two types", "Content-Type: text/html\r\nContent-Type: text/plain\r\n\r\n", "\r\n"},
		{"odd type", "Content-Type: text/html charset=utf-8\r\n\r\n", "\r\n"},
		{"broken quoted-printable", "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=xx", "\r\n"},
		{"unknown encoding", "Content-Type: text/html\r\nContent-Transfer-Encoding: x-y\r\n\r\n", "\r\n"},
		{"attachment", "Content-Type: text/html\r\nContent-Disposition: attachment\r\n\r\n", "\r\n"},
	} {
		for _, filling := range []string{"x", "y ", "-", "--b ", "=20", "=3D"} {
			for _, n := range []int{990, 996, 997, 998, 999, 1000, 1993, 1994, 1995, 1996, 1997, 1998, 5000} {
				t.Run(fmt.Sprintf("%s/%q/%d", c.name, filling, n), func(t *testing.T) {
					long := strings.Repeat(filling, n/len(filling)+1)[:n]
					msg := c.before + long + c.after
					got, _ := render(t, msg, all())
					for line := range strings.SplitSeq(got, "\r\n") {
						if len(line) > maxLine {
							t.Fatalf("a line of %d bytes: %.80q", len(line), line)
						}
					}
					if a, b := delimiters(msg), delimiters(got); !slices.Equal(a, b) {
						t.Errorf("delimiters %q, were %q", b, a)
					}
				})
			}
		}
	}
}

// delimiters lists the lines that are delimiters of b and c.
func delimiters(msg string) (out []string) {
	for line := range strings.SplitSeq(msg, "\r\n") {
		for _, b := range []string{"--b", "--c"} {
			if delimiter([]byte(line), []byte(b)) != notDelimiter {
				out = append(out, strings.TrimRight(line, " "))
			}
		}
	}

	return out
}

// TestShortPreamblesKeepTheirBytes: only what cannot go out changes.
func TestShortPreamblesKeepTheirBytes(t *testing.T) {
	msg := "Content-Type: multipart/mixed; boundary=b\r\n\r\n-- a\r\n\xfc\r\n--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\nend\xfc"
	if got, p := render(t, msg, all()); got != msg || p.Changed() {
		t.Errorf("became %q", got)
	}

	o := all()
	o.SevenBit = true
	want := strings.ReplaceAll(msg, "\xfc", "?")
	got, p := render(t, msg, o)
	if got != want || p.EightBit() {
		t.Errorf("as 7-bit it became %q, want %q", got, want)
	}
}

// TestHeaderOfTheMessageIsNotFolded: long lines in it are not this package's.
func TestHeaderOfTheMessageIsNotFolded(t *testing.T) {
	head := "X: " + strings.Repeat("y ", 1000) + "\r\nContent-Type: text/html\r\n"
	got, p := render(t, head+"\r\n"+linkPart, clicksOnly())
	if !strings.HasPrefix(got, head+"\r\n") || p.Links != 1 {
		t.Errorf("%d links in %.80q, want one below the header as it was", p.Links, got)
	}
}

func TestSignedPartsWithLongLinesHaveAReason(t *testing.T) {
	msg := "Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n" + strings.Repeat("x", 2000) + "\r\n--b--\r\n"
	got, p := render(t, msg, all())
	if got != msg || !slices.Equal(p.Skipped, []Reason{Signed, LongLine}) {
		t.Errorf("skipped for %v, changed %v", p.Skipped, got != msg)
	}
}
