package pages

import (
	"image/gif"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

func TestPages(t *testing.T) {
	for _, c := range []struct {
		name   string
		page   *Page
		status int
		title  string
		text   string
	}{
		{"question", Unsubscribe, http.StatusOK, "Unsubscribe", "Do you want to unsubscribe?"},
		{"done", Unsubscribed, http.StatusOK, "Unsubscribed", "You are unsubscribed."},
		{"failed", NotYetUnsubscribed, http.StatusServiceUnavailable, "Not yet unsubscribed", "Please try again in a minute."},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			c.page.Respond(w)

			if w.Code != c.status {
				t.Errorf("status %d, want %d", w.Code, c.status)
			}
			if got := w.Header().Get("Content-Security-Policy"); got != policy {
				t.Errorf("policy %q, want %q", got, policy)
			}

			body := w.Body.String()
			for _, want := range []string{"<title>" + c.title + "</title>", "<h1>" + c.title + "</h1>", "<p>" + c.text + "</p>"} {
				if !strings.Contains(body, want) {
					t.Errorf("no %s in %s", want, body)
				}
			}
		})
	}
}

// TestPagesLoadNothing: the policy would block it, and a mail program's preview
// would show a broken page.
func TestPagesLoadNothing(t *testing.T) {
	for _, p := range []*Page{Unsubscribe, Unsubscribed, NotYetUnsubscribed} {
		z := html.NewTokenizer(strings.NewReader(string(p.html)))
		for z.Next() != html.ErrorToken {
			token := z.Token()
			if token.Data == "script" || token.Data == "link" {
				t.Errorf("%s in %s", token, p.html)
			}
			for _, a := range token.Attr {
				if a.Key == "src" || a.Key == "href" || a.Key == "style" || strings.HasPrefix(a.Key, "on") {
					t.Errorf("%s in %s", token, p.html)
				}
			}
		}
	}
}

func TestWritePixel(t *testing.T) {
	w := httptest.NewRecorder()
	WritePixel(w, httptest.NewRequest(http.MethodGet, "/", nil))

	img, err := gif.Decode(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	if size := img.Bounds().Size(); size.X != 1 || size.Y != 1 {
		t.Errorf("the pixel is %v, want 1 by 1", size)
	}
	if _, _, _, alpha := img.At(0, 0).RGBA(); alpha != 0 {
		t.Errorf("alpha %d, want 0", alpha)
	}
}

func TestWritePixelToHead(t *testing.T) {
	w := httptest.NewRecorder()
	WritePixel(w, httptest.NewRequest(http.MethodHead, "/", nil))

	if w.Body.Len() > 0 || w.Header().Get("Content-Length") != "43" {
		t.Errorf("got %d bytes and Content-Length %s, want none and 43", w.Body.Len(), w.Header().Get("Content-Length"))
	}
}

func TestSetPrivate(t *testing.T) {
	h := http.Header{}
	SetPrivate(h)

	for name, want := range map[string]string{
		"X-Robots-Tag":    "noindex",
		"Referrer-Policy": "no-referrer",
		"Cache-Control":   "no-store",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
