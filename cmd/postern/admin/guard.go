package admin

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"postern/cmd/postern/config"
)

const (
	healthPath = "/healthz"
	readyPath  = "/readyz"
)

// hostGuard passes on the requests to the admin listener that name it by a
// name that is its own. A page of another site can have a browser on this
// network ask for its own name, once that name has been made to lead here (DNS
// rebinding); it cannot have it ask for one of these.
type hostGuard struct {
	next  http.Handler
	hosts map[string]bool // in lower case
}

// NewHostGuard returns a handler that passes on requests for a host of the
// configuration.
func NewHostGuard(next http.Handler, c *config.Config) http.Handler {
	g := &hostGuard{next: next, hosts: map[string]bool{"localhost": true}}
	g.hosts[plainHost(string(c.Hostname))] = true
	for _, h := range c.Admin.Hosts {
		g.hosts[plainHost(string(h))] = true
	}

	return g
}

// ServeHTTP implements http.Handler: 421 for a Host that is not ours (RFC 9110
// section 15.5.20), 403 for an Origin that is another. Probes of load balancers
// send any Host or none, and learn nothing but whether this runs.
func (g *hostGuard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	probe := r.URL.Path == healthPath || r.URL.Path == readyPath
	if !probe && !g.knows(r.Host) {
		http.Error(w, fmt.Sprintf("%q is not a name of this listener; [admin] hosts takes more of them", r.Host),
			http.StatusMisdirectedRequest)
		return
	}
	for _, origin := range r.Header.Values("Origin") {
		if !isSameOrigin(origin, r.Host) {
			http.Error(w, "requests of other origins are not answered", http.StatusForbidden)
			return
		}
	}

	g.next.ServeHTTP(w, r)
}

// knows reports whether a Host field names an IP address or a name that is
// ours, with or without a port.
func (g *hostGuard) knows(hostPort string) bool {
	u := url.URL{Host: hostPort}
	host := plainHost(u.Hostname())
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}

	return host != "" && g.hosts[host]
}

// plainHost writes a host name in the one form in which names are compared.
func plainHost(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// isSameOrigin reports whether an Origin field (RFC 6454 section 7) is that of
// the listener itself.
func isSameOrigin(origin, hostPort string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}

	return u.Host != "" && strings.EqualFold(u.Host, hostPort)
}
