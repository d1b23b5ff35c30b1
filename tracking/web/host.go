package web

import (
	"net/http"
	"slices"

	"postern/tracking/event"
	"postern/tracking/token"
)

// Site is a tracking host and the hosts that it had before it, whose links go
// on opening: on the former host itself and on the present one.
type Site struct {
	Host   string
	Former []string
}

// Sites joins those that have the same host, and writes hosts as tokens have
// them (token.Host). What has no host is left out, and so is a former host that
// is another site's as well: its links would open across sites.
func Sites(sites ...Site) []Site {
	out := joined(sites)

	claims := map[string]int{}
	for _, h := range Hosts(out) {
		claims[h]++
	}

	for i := range out {
		out[i].Former = slices.DeleteFunc(out[i].Former, func(f string) bool { return claims[f] > 1 })
	}

	return out
}

func joined(sites []Site) []Site {
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

// Hosts are all of the sites' hosts, present and former.
func Hosts(sites []Site) []string {
	var out []string
	for _, s := range sites {
		out = append(out, s.Host)
		out = append(out, s.Former...)
	}

	return out
}

// openers say which hosts' tokens open in a request for a host.
type openers struct {
	byHost map[string][]string
	// others are those that open in a request for any other host: where there
	// is one site, it can only be meant for that. Empty: there are several.
	others []string
}

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

// of returns what opens in a request for host; ok is false where the host is not
// one of ours. A tracker without any host opens what is sealed for none.
func (o openers) of(host string) (hosts []string, ok bool) {
	if len(o.byHost) == 0 {
		return o.others, true
	}

	hosts, ok = o.byHost[host]

	return hosts, ok
}

// host returns the host that a request was sent to, in the form of token.Host: what
// the nearest trusted proxy says, else its Host field.
func (h *Handler) host(r *http.Request) string {
	if among(h.c.TrustedProxies, peer(r)) {
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

// hosts returns those whose tokens open in a request. A request for a host that is
// not one of ours is counted; ok is false then.
func (h *Handler) hosts(r *http.Request) (hosts []string, ok bool) {
	host := h.host(r)
	hosts, ok = h.openers.of(host)
	if ok {
		return hosts, true
	}

	h.unknownHost.Inc()
	if _, isLink := token.FromPath(r.URL.Path); isLink { // all else comes from anywhere
		h.c.State.say.unknownHost.log(h.c.Now(), func() {
			h.c.Log.Warn("web: a link was asked for under a host that is not configured; does a proxy change Host?",
				"host", event.Clip(host, maxHostLogged), "remote", r.RemoteAddr)
		})
	}

	return nil, false
}

// open opens a token that came in under one of the hosts. A probe opens under
// any host, known or not.
func (h *Handler) open(text string, hosts []string, known bool) (token.Token, error) {
	if known {
		if t, err := h.c.Keys.Open(text, hosts...); err == nil {
			return t, nil
		}
	}

	return h.c.Keys.Open(text, token.Probing)
}

// maxHostLogged bounds what of a stranger's host goes into the log, in bytes.
const maxHostLogged = 255
