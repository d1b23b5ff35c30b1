package gateway

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/tracking/web"
)

// trackerHandler serves the tracker of the configuration in use, and answers
// ACME's challenges.
func (g *Gateway) TrackerHandler() http.Handler {
	tracker := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.Live.Load().Web.ServeHTTP(w, r)
	})
	if g.Acme != nil {
		return g.Acme.HTTPHandler(tracker)
	}

	return tracker
}

// newWeb makes the tracker's side of a configuration.
func (g *Gateway) newWeb(n *live, rec Recorder) (http.Handler, error) {
	c, err := g.WebConfig(n, rec)
	if err != nil {
		return nil, err
	}

	n.geo = c.Geo
	return web.New(c), nil
}

// webConfig is [tracking] for the tracker.
func (g *Gateway) WebConfig(n *live, rec Recorder) (web.Config, error) {
	t := n.C.Tracking
	c := web.Config{
		Keys:           n.Keys,
		Events:         rec,
		IDs:            g.ids,
		Expiry:         t.LinkExpiry.Std(),
		ExpiredURL:     string(t.Web.ExpiredURL),
		Sites:          t.Sites(),
		TrustedProxies: Prefixes(t.Web.TrustedProxies),
		State:          g.webState,
		TruncateIP:     t.Web.IPPrivacy == "truncate",
		WellKnown:      map[string][]byte{},
		Log:            g.log,
		Metrics:        n.metrics,

		DurationBuckets: admin.DurationBuckets,
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

func Prefixes(ps []config.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(ps))
	for i, p := range ps {
		out[i] = netip.Prefix(p)
	}
	return out
}

func (g *Gateway) TrackerListener(l net.Listener) net.Listener {
	if from := Prefixes(g.C.Tracking.Web.TrustedProxies); len(from) > 0 {
		l = web.Proxied(l, from)
	}

	if g.C.Tracking.Web.TLS {
		return tls.NewListener(l, g.Certs.Config(true))
	}
	return l
}
