package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

// Paths at which Apple's and Google's systems look up which links apps may open.
const (
	AppleAppSitePath = "/.well-known/apple-app-site-association"
	AssetLinksPath   = "/.well-known/assetlinks.json"
)

// maxWellKnown bounds the size of a file, in bytes. It is Apple's limit.
const maxWellKnown = 128 << 10

// ReadWellKnown reads a file to be served at one of these paths. It returns an
// error if the file is not JSON or is too large.
func ReadWellKnown(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	switch {
	case err != nil:
		return nil, fmt.Errorf("web: %w", err)
	case len(b) > maxWellKnown:
		return nil, fmt.Errorf("web: %s is larger than %d bytes, which Apple ignores", file, maxWellKnown)
	case !json.Valid(b):
		return nil, fmt.Errorf("web: %s is not JSON", file)
	}

	return b, nil
}

// wellKnown serves a configured file; ok is false if there is none at the path.
func (h *Handler) wellKnown(w http.ResponseWriter, r *http.Request) (ok bool) {
	body, ok := h.cfg.WellKnown[r.URL.Path]
	if !ok || len(body) == 0 {
		return false
	}

	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Write(body) // net/http omits it for HEAD

	return true
}
