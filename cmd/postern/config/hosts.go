package config

import (
	"cmp"
	"postern/tracking/token"
	"postern/tracking/web"
)

// Sites returns the tracking hosts, present and former. Rules with the same host are
// one site, and rules without a URL belong to that of [tracking].
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

// urlOf returns the URL of a rule's links.
func (t *Tracking) urlOf(r TrackingRule) URL {
	return cmp.Or(r.URL, t.URL)
}

// checkHosts checks that tokens can be sealed for all hosts, and that no former host
// opens links of another rule.
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

// hostClaims says by host which present host its links open on, and which key says so.
type hostClaims map[string]struct{ key, present string }

// claimHost claims the host of u for itself.
func (b *binder) claimHost(c hostClaims, key string, u URL) {
	host := token.HostOf(string(u))
	if u != "" && host == "" {
		b.problem(key, "the host of %q is not one that a browser can ask for", u)
	}
	if _, taken := c[host]; !taken {
		c[host] = struct{ key, present string }{key, host}
	}
}

// claimFormer claims former hosts for the host of u.
func (b *binder) claimFormer(c hostClaims, key string, u URL, hosts []Host) {
	present := token.HostOf(string(u))
	for i, f := range hosts {
		key := keyOf(key, i)
		host := token.Host(string(f))

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
