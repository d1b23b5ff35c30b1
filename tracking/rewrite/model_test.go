package rewrite

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/relay/message"
)

// modelLeaf is a leaf as the slow model of the structure of messages has it.
type modelLeaf struct {
	kind         leafKind
	header, body string
	aside        bool
}

// model reads the structure of a message in the plainest way: line by line, with
// a copy of each part. It knows the same rules as the walker and shares nothing
// with it but the reading of a part's fields.
type model struct {
	leaves []modelLeaf
	parts  int
}

func (m *model) add(kind leafKind, header, body string) {
	m.leaves = append(m.leaves, modelLeaf{kind: kind, header: header, body: body})
}

func (m *model) between(kind leafKind, text string) {
	if text != "" {
		m.add(kind, "", text)
	}
}

// entity adds the leaves of an entity and returns its Content-ID.
func (m *model) entity(header, body string, depth int, defaultType string, attached bool) string {
	h, ok := readContentHeader([]byte(header), defaultType)
	attached = attached || h.attachment && (depth > 0 || !strings.HasPrefix(h.mediaType, "multipart/"))
	kind, sub, _ := strings.Cut(h.mediaType, "/")
	large := len(body) > maxHTMLPart
	switch {
	case !ok:
		m.add(unreadLeaf, header, body)
	case h.mediaType == "multipart/signed", h.mediaType == "multipart/encrypted", kind == "message" && strings.Contains(h.mediaType, "/"),
		strings.HasSuffix(h.mediaType, "pkcs7-mime"):
		m.add(untouchedLeaf, header, body)
	case kind == "multipart" && strings.Contains(h.mediaType, "/"):
		m.multipart(h, header, body, depth, attached)
	case h.mediaType == "text/plain" && !attached && !large:
		m.add(textLeaf, header, body)
	case h.mediaType == "text/html" && !attached && !large:
		m.add(htmlLeaf, header, body)
	case kind == "text" && sub == "x-amp-html" && !attached && !large:
		m.add(ampLeaf, header, body)
	default:
		m.add(opaqueLeaf, header, body)
	}

	return h.id
}

func (m *model) multipart(h contentHeader, header, body string, depth int, attached bool) {
	if h.boundary == "" || depth >= 32 {
		m.add(unreadLeaf, header, body)
		return
	}

	m.add(untouchedLeaf, header, "")
	inner := "text/plain"
	if h.mediaType == "multipart/digest" {
		inner = "message/rfc822"
	}
	type part struct {
		id       string
		from, to int
	}
	var parts []part
	finish := func(lines []string, closed bool) {
		text := strings.Join(lines, "")
		if closed {
			text = strings.TrimSuffix(text, "\r\n")
		}
		p := part{from: len(m.leaves)}
		if header, body, ok := message.Split([]byte(text)); ok {
			p.id = m.entity(string(header), string(body), depth+1, inner, attached)
		} else {
			m.between(unreadLeaf, text)
		}
		p.to = len(m.leaves)
		parts = append(parts, p)
	}

	var lines []string // of the present part, or of the preamble
	inPart, done := false, false
	rest := strings.SplitAfter(body, "\n")
	for len(rest) > 0 && !done {
		line := rest[0]
		rest = rest[1:]
		mark := strings.TrimRight(line, " \t\r\n")
		if mark != "--"+h.boundary && mark != "--"+h.boundary+"--" {
			lines = append(lines, line)
			continue
		}

		if inPart {
			finish(lines, true)
			lines = nil
		}

		m.between(betweenLeaf, strings.Join(lines, ""))
		lines = nil
		inPart = mark == "--"+h.boundary
		if inPart {
			m.parts++
			continue
		}
		m.between(betweenLeaf, strings.Join(rest, ""))
		done = true
	}
	switch {
	case done:
	case inPart:
		finish(lines, false)
	default:
		m.between(betweenLeaf, strings.Join(lines, ""))
	}

	if h.mediaType != "multipart/related" {
		return
	}
	root := 0
	if i := slices.IndexFunc(parts, func(p part) bool { return h.start != "" && p.id == h.start }); i >= 0 {
		root = i
	}
	for i, p := range parts {
		for j := p.from; j < p.to && i != root; j++ {
			m.leaves[j].aside = true
		}
	}
}

// compareStructure holds the walker against the model.
func compareStructure(t *testing.T, msg []byte) {
	t.Helper()
	header, body, separated := message.Split(msg)
	if !separated {
		return
	}
	for _, f := range message.Fields(msg) {
		if strings.Contains(f.Value(), " \"") || strings.HasSuffix(f.Value(), " ") {
			return // a boundary with white space at its end
		}
	}

	m := &model{}
	m.entity(string(header), string(body), 0, "text/plain", false)
	w := newWalker(body, corpusOptions())
	w.entity(span{at: noOffset, bytes: header}, span{at: 0, bytes: body}, 0, "text/plain")
	var got []modelLeaf
	at := 0
	for _, l := range w.leaves {
		got = append(got, modelLeaf{kind: l.kind, header: string(l.header.bytes), body: string(l.body.bytes), aside: l.aside})
		if l.body.at < at || !bytes.HasPrefix(body[l.body.at:], l.body.bytes) {
			t.Fatalf("a leaf at %d, behind %d, is not what the body has there: %.80q", l.body.at, at, l.body.bytes)
		}
		at = l.body.end()
	}
	if m.parts > maxParts {
		return // where it stops is held by a test of its own
	}
	if !slices.Equal(got, m.leaves) {
		t.Fatalf("leaves\n%s\nthe model has\n%s\nof %.600q", printed(got), printed(m.leaves), msg)
	}
}

// printed writes one leaf a line.
func printed(leaves []modelLeaf) string {
	var b strings.Builder
	for _, l := range leaves {
		fmt.Fprintf(&b, "%d aside=%v %.80q %.80q\n", l.kind, l.aside, l.header, l.body)
	}

	return b.String()
}

func TestStructureCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/corpus/messages/*")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(f), func(t *testing.T) { compareStructure(t, crlfOf(data)) })
	}
}

// structures are messages whose structure is odd.
var structures = []string{
	"Content-Type: multipart/mixed; boundary=b\n\npre\n--b\n\nx\n--b\nContent-Type: text/html\n\n<a>\n--b--\nepi\n--b\n",
	"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n--b\n\n--b--",
	"Content-Type: multipart/mixed; boundary=b\n\n--b\nx\n--b--\n--b\n\nx",
	"Content-Type: multipart/mixed; boundary=b\n\n--b \t\n\nx\n--bb\n--b- -\n--b---\n--b-- \n",
	"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\nx\n--b\n\ny\n--bb\n\nz\n--b--\n",
	"Content-Type: multipart/related; start=\"<r>\"; boundary=b\n\n--b\nContent-Type: text/html\n\na\n--b\nContent-ID: <r>\n\nb\n--b\n\nc\n--b--",
	"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\na\n--c--\n--b\n\nb\n",
	"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\ny\n--b\nContent-Type: text/plain\n\nz\n--b--",
	"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Disposition: attachment\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-Type: text/html\n\nx\n--c--\n--b\nContent-Type: text/html\n\ny\n--b--",
	"Content-Disposition: attachment\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-Type: text/html\n\nx\n--c--",
	"Content-Type: multipart/signed; boundary=b\n\n--b\n\nx\n--b--",
	"Content-Type: multipart/mixed\n\n--b\n\nx\n--b--",
	"Content-Type: multipart/mixed; boundary=b\n\nnothing",
	"Content-Type: multipart/mixed; boundary=b\n\n",
	"Content-Type: multipart/mixed; boundary=b\n\n--b",
	"Content-Type: multipart/mixed; boundary=b\n\n--b--",
	"Content-Type: application/x-pkcs7-mime\n\nx",
	"Content-Type: message/rfc822\n\nContent-Type: text/html\n\nx",
	"Content-Type: text/html\nContent-Type: text/html\n\nx",
}

func FuzzStructure(f *testing.F) {
	for _, s := range structures {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) { compareStructure(t, crlfOf(b)) })
}

// TestDepthIsBounded: multiparts of 32 levels are read, the next is not.
func TestDepthIsBounded(t *testing.T) {
	nested := func(n int) string {
		var open, end strings.Builder
		for i := range n {
			b := strings.Repeat("b", i+1)
			open.WriteString("Content-Type: multipart/mixed; boundary=" + b + "\r\n\r\n--" + b + "\r\n")
		}
		for i := n - 1; i >= 0; i-- {
			end.WriteString("\r\n--" + strings.Repeat("b", i+1) + "--")
		}
		return open.String() + "Content-Type: text/html\r\n\r\n<a href=http://x.example/>" + end.String()
	}
	for n, links := range map[int]int{1: 1, 31: 1, 32: 1, 33: 0} {
		compareStructure(t, []byte(nested(n)))
		_, p := render(t, nested(n), clicksOnly())
		if p.Links != links || slices.Contains(p.Skipped, TooDeep) != (links == 0) {
			t.Errorf("%d levels: %d links, skipped for %v, want %d", n, p.Links, p.Skipped, links)
		}
	}
}

// TestPartsAreBounded: of 2000 parts all are read, the next and all behind it
// are not.
func TestPartsAreBounded(t *testing.T) {
	part := "--b\r\nContent-Type: text/html\r\n\r\n<a href=http://x.example/>\r\n"
	for n, links := range map[int]int{1999: 1999, 2000: 2000, 2001: 2000, 2003: 2000} {
		msg := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat(part, n) + "--b--\r\nend"
		got, p := render(t, msg, clicksOnly())
		if p.Links != links || slices.Contains(p.Skipped, TooManyParts) != (n > 2000) {
			t.Errorf("%d parts: %d links, skipped for %v, want %d", n, p.Links, p.Skipped, links)
		}
		if rest := strings.Repeat(part, n-links) + "--b--\r\nend"; !strings.HasSuffix(got, rest) {
			t.Errorf("%d parts: what is behind the last one read is not as it was: %.200q", n, got[max(0, len(got)-200):])
		}
	}
}

// TestPartsAreBoundedInAll: those of inner multiparts count, too.
func TestPartsAreBoundedInAll(t *testing.T) {
	html := "Content-Type: text/html\r\n\r\n<a href=http://x.example/>\r\n"
	inner := "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n" + strings.Repeat("--c\r\n"+html, 999) + "--c--\r\n"
	msg := "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + inner + inner + "--b\r\n" + html + "--b--\r\n"
	_, p := render(t, msg, clicksOnly())
	if p.Links != 2*999 || !slices.Equal(p.Skipped, []Reason{TooManyParts}) {
		t.Errorf("%d links, skipped for %v, want %d and %s", p.Links, p.Skipped, 2*999, TooManyParts)
	}
}

// TestPartSizeIsBounded: a part of 16 MiB is read, one that is larger is not.
func TestPartSizeIsBounded(t *testing.T) {
	const limit = 16 << 20
	for _, kind := range []string{"text/html", "text/x-amp-html", "text/plain"} {
		for n, want := range map[int]leafKind{limit: htmlLeaf, limit + 1: opaqueLeaf} {
			switch {
			case want == htmlLeaf && kind == "text/plain":
				want = textLeaf
			case want == htmlLeaf && kind == "text/x-amp-html":
				want = ampLeaf
			}
			body := make([]byte, n)
			w := newWalker(body, corpusOptions())
			w.entity(span{at: noOffset, bytes: []byte("Content-Type: " + kind + "\r\n")}, span{bytes: body}, 0, "text/plain")
			if len(w.leaves) != 1 || w.leaves[0].kind != want {
				t.Errorf("%s of %d bytes: leaf of kind %d, want %d", kind, n, w.leaves[0].kind, want)
			}
			tooLarge := want == opaqueLeaf && kind != "text/plain"
			if slices.Contains(w.skipped, TooLarge) != tooLarge {
				t.Errorf("%s of %d bytes: skipped for %v", kind, n, w.skipped)
			}
		}
	}
}
