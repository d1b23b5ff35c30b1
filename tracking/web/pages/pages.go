// Package pages holds what recipients see of the tracker: its few pages, the
// tracking pixel, and the header fields that go with them. The HTML is in the
// .html files beside this one, which are embedded templates; pages have no
// scripts and load nothing.
//
// Everything here is safe for concurrent use.
package pages

import (
	"bytes"
	"embed"
	"html/template"
	"io/fs"
	"net/http"
	"strings"
)

// Page is a page that is the same for everyone.
type Page struct {
	status int
	html   []byte
}

// The pages of one-click unsubscription (RFC 8058).
var (
	// Unsubscribe asks for confirmation. Its form sends the one-click POST to
	// the address that the page was loaded from.
	Unsubscribe = newPage("unsubscribe.html", http.StatusOK)

	// Unsubscribed says that the request is recorded.
	Unsubscribed = newPage("unsubscribed.html", http.StatusOK)

	// NotYetUnsubscribed says that the request could not be recorded.
	NotYetUnsubscribed = newPage("not_yet.html", http.StatusServiceUnavailable)
)

// policy lets a page send its form, and nothing else.
const policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"

// Respond answers a request with the page.
func (p *Page) Respond(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")

	w.WriteHeader(p.status)
	w.Write(p.html)
}

// SetPrivate sets the header fields that every answer of the tracker has: it is
// neither indexed nor cached, and what a link leads to does not learn the link.
func SetPrivate(h http.Header) {
	h.Set("X-Robots-Tag", "noindex")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

//go:embed *.html
var files embed.FS

const layout = "layout.html"

// newPage renders a page out of the layout and the file that has its title and
// its body.
func newPage(file string, status int) *Page {
	t := template.Must(template.New(layout).Parse(source(layout)))
	template.Must(t.Parse(source(file)))

	var b bytes.Buffer
	if err := t.Execute(&b, nil); err != nil {
		panic(err)
	}

	return &Page{status: status, html: b.Bytes()}
}

// source returns a template without its line ends and indentation.
func source(file string) string {
	text, err := fs.ReadFile(files, file)
	if err != nil {
		panic(err)
	}

	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		b.WriteString(strings.TrimSpace(line))
	}

	return b.String()
}
