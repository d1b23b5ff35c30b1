package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"

	"postern/cmd/postern/config"
	"postern/tracking/web"
)

// trackerHandler serves the tracker of the configuration in use, and answers
// ACME's challenges.
func (g *gateway) trackerHandler() http.Handler {
	tracker := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.live.Load().web.ServeHTTP(w, r)
	})
	if g.acme != nil {
		return g.acme.HTTPHandler(tracker)
	}

	return tracker
}

// newWeb makes the tracker's side of a configuration.
func (g *gateway) newWeb(n *live, rec recorder) (http.Handler, error) {
	c, err := g.webConfig(n, rec)
	if err != nil {
		return nil, err
	}

	n.geo = c.Geo
	return web.New(c), nil
}

// webConfig is [tracking] for the tracker.
func (g *gateway) webConfig(n *live, rec recorder) (web.Config, error) {
	t := n.c.Tracking
	c := web.Config{
		Keys:           n.keys,
		Events:         rec,
		IDs:            g.ids,
		Expiry:         t.LinkExpiry.Std(),
		ExpiredURL:     string(t.Web.ExpiredURL),
		Sites:          t.Sites(),
		TrustedProxies: prefixes(t.Web.TrustedProxies),
		State:          g.webState,
		TruncateIP:     t.Web.IPPrivacy == "truncate",
		WellKnown:      map[string][]byte{},
		Log:            g.log,
		Metrics:        n.metrics,

		DurationBuckets: durationBuckets,
	}

	wellKnown := map[string]string{
		web.AppleAppSitePath: t.Web.AppleAppSite,
		web.AssetLinksPath:   t.Web.AssetLinks,
	}
	for path, file := range wellKnown {
		if file == "" {
			continue
		}
		body, err := web.ReadWellKnown(file)
		if err != nil {
			return c, err
		}
		c.WellKnown[path] = body
	}

	if t.Web.GeoIPDB == "" {
		return c, nil
	}
	geo, err := web.OpenGeo(t.Web.GeoIPDB, g.log)
	c.Geo = geo
	return c, err
}

func prefixes(ps []config.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(ps))
	for i, p := range ps {
		out[i] = netip.Prefix(p)
	}
	return out
}

func (g *gateway) trackerListener(l net.Listener) net.Listener {
	if from := prefixes(g.c.Tracking.Web.TrustedProxies); len(from) > 0 {
		l = web.Proxied(l, from)
	}

	if g.c.Tracking.Web.TLS {
		return tls.NewListener(l, g.certs.Config(true))
	}
	return l
}
