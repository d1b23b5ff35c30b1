package gateway

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"

	"postern/cmd/postern/admin"
	"postern/cmd/postern/config"
	"postern/tracking/web"
)

// tracker serves the tracked links.
type tracker struct {
	cfg    *config.Loaded // as at the start
	events *events
	certs  *certificates // nil: without TLS
	state  *web.State
	log    *slog.Logger

	live atomic.Pointer[trackerGeneration]
}

// trackerGeneration is the tracker's side of a configuration.
type trackerGeneration struct {
	handler http.Handler
	geo     *web.Geo // nil: without places
}

// addTracker adds the tracker and its listeners.
func (g *Gateway) addTracker(ev *events, certs *certificates) {
	t := &tracker{
		cfg:    g.cfg,
		events: ev,
		certs:  certs,
		state:  web.NewState(),
		log:    g.log,
	}
	g.reloadables = append(g.reloadables, t)
	g.everyRound(t.refreshGeo)
	g.add(carryOn, "tracker's state", func(ctx context.Context) error { return t.state.Serve(ctx, g.log) })

	server := web.NewServer(t.handler(), g.log)
	room := newConnectionLimit(g.connections.Tracker)
	for _, a := range g.cfg.Tracking.Web.Listen {
		g.bind(binding{
			key:  "tracking.web.listen",
			addr: string(a),
			name: "tracker",
			room: room,
			serve: func(ctx context.Context, l net.Listener) error {
				return serveHTTP(ctx, server, t.listener(l), g.cfg.ShutdownGrace.Std)
			},
		})
	}
}

// handler returns the tracker, with an ACME service's challenges answered in
// front of it, where there is one.
func (t *tracker) handler() http.Handler {
	if t.certs == nil {
		return t
	}

	return t.certs.answerChallenges(t)
}

// listener adds PROXY headers and TLS to a listener, where they are configured.
func (t *tracker) listener(l net.Listener) net.Listener {
	if from := prefixes(t.cfg.Tracking.Web.TrustedProxies); len(from) > 0 {
		l = web.Proxied(l, from)
	}
	if t.cfg.Tracking.Web.TLS {
		l = tls.NewListener(l, t.certs.store.Config(true))
	}

	return l
}

// ServeHTTP implements http.Handler with the configuration in use.
func (t *tracker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.live.Load().handler.ServeHTTP(w, r)
}

// refreshGeo reads the MaxMind database again where it has changed.
func (t *tracker) refreshGeo(context.Context) {
	if n := t.live.Load(); n.geo != nil {
		n.geo.Refresh()
	}
}

// prepare implements reloadable.
func (t *tracker) prepare(next *generation) (change, error) {
	cfg, err := t.webConfig(next)
	if err != nil {
		return change{}, err
	}

	n := &trackerGeneration{handler: web.New(cfg), geo: cfg.Geo}
	return change{use: func() { t.live.Store(n) }}, nil
}

func (t *tracker) webConfig(next *generation) (web.Config, error) {
	c := next.cfg.Tracking
	wellKnown, err := readWellKnown(c.Web)
	if err != nil {
		return web.Config{}, err
	}

	var geo *web.Geo
	if c.Web.GeoIPDB != "" {
		if geo, err = web.OpenGeo(c.Web.GeoIPDB, t.log); err != nil {
			return web.Config{}, err
		}
	}

	return web.Config{
		Keys:            next.keys,
		Events:          t.events.log,
		IDs:             t.events.ids,
		Expiry:          c.LinkExpiry.Std(),
		ExpiredURL:      string(c.Web.ExpiredURL),
		Sites:           c.Sites(),
		TrustedProxies:  prefixes(c.Web.TrustedProxies),
		State:           t.state,
		Geo:             geo,
		TruncateIP:      c.Web.IPPrivacy == "truncate",
		WellKnown:       wellKnown,
		Log:             t.log,
		Metrics:         next.metrics,
		DurationBuckets: admin.DurationBuckets,
	}, nil
}

// readWellKnown reads the files by which apps claim links.
func readWellKnown(c config.Web) (map[string][]byte, error) {
	out := map[string][]byte{}
	for path, file := range map[string]string{
		web.AppleAppSitePath: c.AppleAppSite,
		web.AssetLinksPath:   c.AssetLinks,
	} {
		if file == "" {
			continue
		}

		body, err := web.ReadWellKnown(file)
		if err != nil {
			return nil, err
		}
		out[path] = body
	}

	return out, nil
}

func prefixes(list []config.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, p := range list {
		out[i] = netip.Prefix(p)
	}

	return out
}
