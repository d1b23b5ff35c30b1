package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

// Paths under which apps look for what links they may open.
const (
	AppleAppSitePath = "/.well-known/apple-app-site-association"
	AssetLinksPath   = "/.well-known/assetlinks.json"
)

const maxWellKnown = 128 << 10 // Apple's limit

// ReadWellKnown reads a file that is served as it is: JSON, as both systems
// want it.
func ReadWellKnown(file string) ([]byte, error) {
	b, err := os.ReadFile(file)

	switch {
	case err != nil:
		return nil, fmt.Errorf("web: %w", err)
	case len(b) > maxWellKnown:
		return nil, fmt.Errorf("web: %s has more than %d bytes, which Apple does not read", file, maxWellKnown)
	case !json.Valid(b):
		return nil, fmt.Errorf("web: %s is no JSON", file)
	}

	return b, nil
}

// wellKnown serves a configured file; ok is false where the path is not one.
func (h *Handler) wellKnown(w http.ResponseWriter, r *http.Request) (ok bool) {
	body, ok := h.c.WellKnown[r.URL.Path]
	if !ok || len(body) == 0 {
		return false
	}

	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Write(body) // net/http leaves it out for HEAD

	return true
}
