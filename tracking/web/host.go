package web

import (
	"net/http"
	"slices"

	"postern/tracking/event"
	"postern/tracking/token"
)

// Site is a tracking host together with its former names. Links to a former host
// still open, on that host and on the present one.
type Site struct {
	Host   string
	Former []string
}

// Sites returns the sites with their hosts in the form of token.Host. Sites with
// the same host are merged, and sites without a host are dropped. A former host
// that several sites claim is dropped as well, since its links would open on all
// of them.
func Sites(sites ...Site) []Site {
	out := merged(sites)

	claims := map[string]int{}
	for _, h := range Hosts(out) {
		claims[h]++
	}

	for i := range out {
		out[i].Former = slices.DeleteFunc(out[i].Former, func(f string) bool { return claims[f] > 1 })
	}

	return out
}

// merged returns the sites with valid hosts, in the form of token.Host, and merges
// those with the same one.
func merged(sites []Site) []Site {
	var out []Site
	for _, s := range sites {
		host := token.Host(s.Host)
		if host == "" {
			continue
		}

		at := slices.IndexFunc(out, func(o Site) bool { return o.Host == host })
		if at < 0 {
			at = len(out)
			out = append(out, Site{Host: host})
		}

		for _, f := range s.Former {
			former := token.Host(f)
			if former != "" && former != host && !slices.Contains(out[at].Former, former) {
				out[at].Former = append(out[at].Former, former)
			}
		}
	}

	return out
}

// Hosts returns all hosts of the sites, present and former.
func Hosts(sites []Site) []string {
	var out []string
	for _, s := range sites {
		out = append(out, s.Host)
		out = append(out, s.Former...)
	}

	return out
}

// openers has the hosts whose tokens open in a request, by the host of the
// request.
type openers struct {
	byHost map[string][]string // empty if there is at most one site

	// others are the hosts for a request for any host, if there is only one site
	// that it can be meant for.
	others []string
}

// newOpeners returns the openers of a tracker with these sites.
func newOpeners(sites []Site) openers {
	sites = Sites(sites...)
	if len(sites) == 1 {
		return openers{others: Hosts(sites)}
	}

	o := openers{byHost: map[string][]string{}}
	for _, s := range sites {
		o.byHost[s.Host] = Hosts([]Site{s})
		for _, f := range s.Former {
			o.byHost[f] = []string{f}
		}
	}

	return o
}

// of returns the hosts whose tokens open in a request for host; ok is false if
// host is not a tracking host. Without sites, tokens that are sealed for no host
// open.
func (o openers) of(host string) (hosts []string, ok bool) {
	if len(o.byHost) == 0 {
		return o.others, true
	}

	hosts, ok = o.byHost[host]

	return hosts, ok
}

// host returns the host that a request was sent to, in the form of token.Host:
// what the nearest trusted proxy says, or else the Host field.
func (h *Handler) host(r *http.Request) string {
	if among(h.cfg.TrustedProxies, peer(r)) {
		host, err := forwardedHost(r.Header)
		if err != nil {
			h.unreadable.Inc()
		}
		if host != "" {
			return host
		}
	}

	return token.Host(r.Host)
}

// hosts returns the hosts whose tokens open in a request. ok is false if the
// request is for a host that is not a tracking host, which is counted.
func (h *Handler) hosts(r *http.Request) (hosts []string, ok bool) {
	host := h.host(r)
	hosts, ok = h.openers.of(host)
	if ok {
		return hosts, true
	}

	h.unknownHost.Inc()
	if _, isLink := token.FromPath(r.URL.Path); isLink { // other paths are asked for by scanners
		h.cfg.State.limits.unknownHost.log(h.cfg.Now(), func() {
			h.cfg.Log.Warn("web: link requested on a host that is not configured; does a proxy change Host?",
				"host", event.Clip(host, maxHostLogged), "remote", r.RemoteAddr)
		})
	}

	return nil, false
}

// open opens a token that is sealed for one of the hosts. Probes open whether the
// host is known or not.
func (h *Handler) open(text string, hosts []string, known bool) (token.Token, error) {
	if known {
		if t, err := h.cfg.Keys.Open(text, hosts...); err == nil {
			return t, nil
		}
	}

	return h.cfg.Keys.Open(text, token.Probing)
}

// maxHostLogged bounds an unknown host in the log, in bytes.
const maxHostLogged = 255
