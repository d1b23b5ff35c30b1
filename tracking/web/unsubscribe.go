package web

import (
	"errors"
	"net/http"
	"strings"

	"postern/tracking/token"
	"postern/tracking/web/pages"
)

// maxForm bounds the body of an unsubscribe request, in bytes.
const maxForm = 4096

// retryAfter is the time after which an unsubscribe request that could not be
// recorded should be repeated, in seconds.
const retryAfter = "60"

// unsubscribe answers the one-click POST of RFC 8058, which mail programs and the
// button of our page send, and returns the outcome. The status is 200 once the
// event is durable, and 503 if it cannot be written. A GET never unsubscribes,
// because link scanners send those.
func (h *Handler) unsubscribe(w http.ResponseWriter, r *http.Request, hit hit) string {
	if hit.token.Kind != token.ListUnsubscribe {
		w.Header().Set("Allow", "GET, HEAD")
		return plain(w, "method", http.StatusMethodNotAllowed)
	}
	if !isOneClick(w, r) {
		return plain(w, "bad_unsubscribe", http.StatusBadRequest)
	}

	if err := h.recordUnsubscribe(r, hit); err != nil {
		w.Header().Set("Retry-After", retryAfter)
		pages.NotYetUnsubscribed.Respond(w)

		return "unsubscribe_failed"
	}

	pages.Unsubscribed.Respond(w)

	return hit.token.Kind.String()
}

// isOneClick reports whether the body of a request is that of RFC 8058 section
// 3.2. Without a Content-Type it is read as a form. Only the body counts: a
// malformed query, which some programs append to the link, is ignored.
func isOneClick(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}

	r.URL.RawQuery = ""
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	err := r.ParseMultipartForm(maxForm)
	if err != nil && !errors.Is(err, http.ErrNotMultipart) {
		return false
	}

	return strings.TrimSpace(r.PostForm.Get("List-Unsubscribe")) == "One-Click"
}
