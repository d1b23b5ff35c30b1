package config

import (
	"postern/tracking/token"
	"postern/tracking/web"
)

// Sites are the tracking hosts, present and former. Rules with the same host,
// and one without a URL of its own and [tracking], are one.
func (t *Tracking) Sites() []web.Site {
	former := func(hosts []Host) (out []string) {
		for _, h := range hosts {
			out = append(out, string(h))
		}
		return out
	}

	sites := []web.Site{{Host: token.HostOf(string(t.URL)), Former: former(t.Former)}}
	for _, r := range t.Rules {
		sites = append(sites, web.Site{Host: token.HostOf(string(t.urlOf(r))), Former: former(r.Former)})
	}
	return web.Sites(sites...)
}

func (t *Tracking) urlOf(r TrackingRule) URL {
	if r.URL == "" {
		return t.URL
	}
	return r.URL
}

// checkHosts wants hosts that links can be sealed for, and former ones whose
// links cannot open across rules.
func (b *binder) checkHosts(t *Tracking) {
	c := hostClaims{}
	b.claimHost(c, "tracking.url", t.URL)
	for i, r := range t.Rules {
		b.claimHost(c, keyOf("tracking.rule", i)+".url", t.urlOf(r))
	}

	b.claimFormer(c, "tracking.former", t.URL, t.Former)
	for i, r := range t.Rules {
		b.claimFormer(c, keyOf("tracking.rule", i)+".former", t.urlOf(r), r.Former)
	}
}

// hostClaims say for each host which present host its links open on, and which
// key says so.
type hostClaims map[string]struct{ key, present string }

func (b *binder) claimHost(c hostClaims, key string, u URL) {
	host := token.HostOf(string(u))
	if u != "" && host == "" {
		b.problem(key, "the host of %q is not one that a browser can ask for", u)
	}
	if _, taken := c[host]; !taken {
		c[host] = struct{ key, present string }{key, host}
	}
}

func (b *binder) claimFormer(c hostClaims, key string, u URL, hosts []Host) {
	present := token.HostOf(string(u))
	for i, f := range hosts {
		key, host := keyOf(key, i), token.Host(string(f))
		have, taken := c[host]
		switch {
		case host == "":
			b.problem(key, "%q is not a host that a browser can ask for", f)
		case taken && have.present != present:
			b.problem(key, "%s is named by %s, too: links for one of the two would open on the other's host",
				f, have.key)
		case !taken:
			c[host] = struct{ key, present string }{key, present}
		}
	}
}
