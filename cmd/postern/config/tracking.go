package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"postern/tracking/token"
	"postern/tracking/web"
)

// Tracking says how messages are tracked, and by which links.
type Tracking struct {
	URL           URL            `toml:"url"`
	Open          bool           `toml:"open"`
	InitialOpen   bool           `toml:"initial_open"`
	Click         bool           `toml:"click"`
	TextLinks     bool           `toml:"text_links"`
	LinkExpiry    Duration       `toml:"link_expiry"`
	MaxLinkLength int            `toml:"max_link_length"`
	ListUnsub     bool           `toml:"list_unsubscribe"`
	KeyFile       string         `toml:"key_file"`
	Former        []Host         `toml:"former"` // previous tracking hosts
	Rules         []TrackingRule `toml:"rule"`
	Web           Web            `toml:"web"`
}

// TrackingRule overrides [tracking] for a sending domain.
type TrackingRule struct {
	SenderOrFrom string `toml:"sender_or_from"`
	URL          URL    `toml:"url"`
	Former       []Host `toml:"former"` // its previous tracking hosts
	Open         *bool  `toml:"open"`
	InitialOpen  *bool  `toml:"initial_open"`
	Click        *bool  `toml:"click"`
}

// Web is the tracker's listener.
type Web struct {
	Listen         []Addr   `toml:"listen"`
	TLS            bool     `toml:"tls"`
	TrustedProxies []Prefix `toml:"trusted_proxies"`
	MaxConnections int      `toml:"max_connections"`
	GeoIPDB        string   `toml:"geoip_db"`
	ExpiredURL     URL      `toml:"expired_url"`

	// IPPrivacy is "full" or "truncate": the last byte of an IPv4 address, all
	// behind the first 48 bits of an IPv6 address.
	IPPrivacy string `toml:"ip_privacy"`

	// EventsPerClient is no longer read.
	EventsPerClient struct{} `toml:"events_per_client" retired:"has no effect any more, take it out"`

	// Files for universal links and app links, served under /.well-known/.
	AppleAppSite string `toml:"apple_app_site_association"`
	AssetLinks   string `toml:"assetlinks"`
}

// defaultTracking returns the defaults of [tracking].
func defaultTracking() Tracking {
	return Tracking{
		Open:          true,
		InitialOpen:   true,
		Click:         true,
		LinkExpiry:    seconds(365 * 86400),
		MaxLinkLength: 2000,
		KeyFile:       "token.keys",
		Web: Web{
			Listen:         []Addr{"0.0.0.0:8080"},
			MaxConnections: 10000,
			IPPrivacy:      "full",
		},
	}
}

// minLinkLength is the least that tracking.max_link_length may be, in bytes: a
// token and the tracker's URL need as much.
const minLinkLength = 200

// checkTracking checks what a tracker and a gateway use of [tracking].
func (b *binder) checkTracking(t *Tracking) {
	switch {
	case t.URL == "" && t.usesLinks():
		b.problem("tracking.url", `missing; where recipients reach the tracker, `+
			`for example "https://track.example.com"`)
	case isPlainHTTP(t.URL):
		b.warn("tracking.url", "links over plain http show mail programs' warnings; an https address is better")
	}

	b.checkHosts(t)
	b.checkWeb(&t.Web)

	t.KeyFile = b.Path(t.KeyFile)
	if _, err := token.ReadKeys(t.KeyFile); err != nil {
		b.problem("tracking.key_file", "%s", tokenKeyAdvice(t.KeyFile, err))
	}
}

// usesLinks reports whether messages get links to the tracker.
func (t *Tracking) usesLinks() bool {
	return t.Open || t.InitialOpen || t.Click || t.ListUnsub || len(t.Rules) > 0
}

// isPlainHTTP reports whether u leads over plain HTTP to another machine.
func isPlainHTTP(u URL) bool {
	host, ok := strings.CutPrefix(string(u), "http://")

	return ok && !strings.HasPrefix(host, "127.") && !strings.HasPrefix(host, "localhost")
}

// checkWeb checks [tracking.web].
func (b *binder) checkWeb(w *Web) {
	b.positive("tracking.web.max_connections", int64(w.MaxConnections))
	b.oneOf("tracking.web.ip_privacy", w.IPPrivacy, "full", "truncate")

	w.GeoIPDB = b.Path(w.GeoIPDB)
	if w.GeoIPDB != "" {
		if err := web.CheckGeo(w.GeoIPDB); err != nil {
			b.problem("tracking.web.geoip_db", "%v", err)
		}
	}

	b.checkWellKnown("tracking.web.apple_app_site_association", &w.AppleAppSite)
	b.checkWellKnown("tracking.web.assetlinks", &w.AssetLinks)
}

// checkWellKnown reads a file that is served under /.well-known/ (RFC 8615), and
// makes its path absolute.
func (b *binder) checkWellKnown(key string, file *string) {
	if *file == "" {
		return
	}

	*file = b.Path(*file)
	if _, err := web.ReadWellKnown(*file); err != nil {
		b.problem(key, "%v", err)
	}
}

// checkTrackingRules checks what only a gateway uses of [tracking].
func (b *binder) checkTrackingRules(t *Tracking) {
	for i, r := range t.Rules {
		if r.SenderOrFrom == "" {
			b.problem(keyOf("tracking.rule", i)+".sender_or_from", `missing; a domain, "*.domain" or "*"`)
		}
	}

	if n := t.MaxLinkLength; n > 0 && n < minLinkLength {
		b.problem("tracking.max_link_length", "want at least %d, or 0 for no limit", minLinkLength)
	}
}

// tokenKeyAdvice returns what to do about a token key file that cannot be used. A
// new one is advised only if there is none: it cannot open links sent before.
func tokenKeyAdvice(file string, err error) string {
	switch data, readErr := os.ReadFile(file); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("%v; `postern token keygen %s` makes it, where no links were sent before", err, file)
	case readErr != nil:
		return fmt.Sprintf("%v; the gateway's user has to be able to read it", err)
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return fmt.Sprintf("%s holds PEM, a certificate or another kind of key: "+
			"name the file that `postern token keygen` made", file)
	}

	return err.Error()
}

// trackingURLs returns tracking.url and the URLs of the rules.
func (c *Config) trackingURLs() []*url.URL {
	all := []URL{c.Tracking.URL}
	for _, r := range c.Tracking.Rules {
		all = append(all, r.URL)
	}

	var out []*url.URL
	for _, u := range all {
		if p, err := url.Parse(string(u)); err == nil && p.Host != "" {
			out = append(out, p)
		}
	}

	return out
}
