package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"postern/cmd/postern/config"
	"postern/cmd/postern/health"
)

// binding is an address of the configuration, and where its listeners go.
type binding struct {
	key  string
	addr string
	into *[]net.Listener
	room *connectionLimit // nil: what accepts limits by itself
}

// bindings are all addresses that this gateway listens on.
func (g *gateway) bindings() []binding {
	var out []binding
	add := func(key string, into *[]net.Listener, room *connectionLimit, addrs ...config.Addr) {
		for _, a := range addrs {
			out = append(out, binding{key: key, addr: string(a), into: into, room: room})
		}
	}

	if g.smtp != nil {
		add("submission.listen", &g.submission, nil, g.c.Submission.Listen...)
		add("submission.listen_tls", &g.submissionTLS, nil, g.c.Submission.ListenTLS...)
	}
	if g.reports != nil {
		add("reports.listen", &g.port25, nil, g.c.Reports.Listen...)
	}
	add("tracking.web.listen", &g.web, newConnectionLimit(g.connections.Tracker), g.c.Tracking.Web.Listen...)
	if a := g.c.Certs.ACMEHTTPListen; g.acme != nil && g.ownACME(a) {
		add("certs.acme_http_listen", &g.acmeHTTP, newConnectionLimit(config.ACMEConnections), config.Addr(a))
	}
	if a := g.c.Certs.ACMETLSListen; g.acme != nil && g.ownACME(a) {
		add("certs.acme_tls_listen", &g.acmeTLS, newConnectionLimit(config.ACMEConnections), config.Addr(a))
	}
	if a := g.c.Admin.Listen; a != "" {
		add("admin.listen", &g.adminListeners, newConnectionLimit(config.AdminConnections), config.Addr(a))
	}

	return out
}

// listen opens every listener, or none.
func (g *gateway) listen() error {
	given := inheritListeners()
	all := g.bindings()

	var open []binding
	var errs []error
	for _, b := range all {
		taken, served, err := given.take(b.key, b.addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", b.key, err))
		}
		for _, l := range taken {
			g.use(b, l)
		}
		if err == nil && !served {
			open = append(open, b)
		}
	}

	// First, for one of them may have the port of what is opened.
	for _, addr := range given.closeRest() {
		g.log.Warn("an inherited listener is named by no key of the configuration", "addr", addr)
	}

	if err := g.listenLocally(); err != nil {
		errs = append(errs, err)
	}
	for _, b := range open {
		l, err := net.Listen(b.network(all, given), b.addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", b.key, err))
			continue
		}
		g.use(b, l)
	}

	return errors.Join(errs...)
}

// use notes a listener that is open, and watches whether it is served.
func (g *gateway) use(b binding, l net.Listener) {
	g.listeners = append(g.listeners, l)
	if b.room != nil {
		l = b.room.listener(l)
	}

	watched := health.NewListener(l)
	g.health.Watch(b.key+" "+l.Addr().String(), watched, acceptBound)
	*b.into = append(*b.into, watched)
}

// network returns what to listen on for an address: the family of a literal
// one, so that 0.0.0.0 is IPv4 alone. [::] is both families, or IPv6 alone
// where an IPv4 address of the same port is listened on by itself.
func (b binding) network(all []binding, given *inherited) string {
	ip, port, ok := literal(b.addr)
	switch {
	case !ok:
		return "tcp"
	case ip.Is4():
		return "tcp4"
	case !ip.IsUnspecified():
		return "tcp6"
	}

	if given.takesIPv4(port) {
		return "tcp6"
	}
	for _, o := range all {
		other, otherPort, ok := literal(o.addr)
		if ok && other.Is4() && otherPort == port && port != "0" {
			return "tcp6"
		}
	}

	return "tcp"
}

// literal reads an address whose host is an IP address. An empty host is [::].
func literal(addr string) (ip netip.Addr, port string, ok bool) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ip, "", false
	}

	if host == "" {
		return netip.IPv6Unspecified(), port, true
	}

	ip, err = netip.ParseAddr(host)
	return ip.Unmap(), port, err == nil
}

func addrs(ls []net.Listener) []string {
	var out []string
	for _, l := range ls {
		if l != nil {
			out = append(out, l.Addr().String())
		}
	}
	return out
}
