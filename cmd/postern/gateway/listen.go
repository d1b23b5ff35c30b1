package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"postern/cmd/postern/config"
	"postern/cmd/postern/health"
	"postern/cmd/postern/systemd"
)

// binding is an address of the configuration, and where its listeners go.
type Binding struct {
	Key  string
	Addr string
	into *[]net.Listener
	Room *connectionLimit // nil: what accepts limits by itself
}

// bindings are all addresses that this gateway listens on.
func (g *Gateway) Bindings() []Binding {
	var out []Binding
	add := func(key string, into *[]net.Listener, room *connectionLimit, addrs ...config.Addr) {
		for _, a := range addrs {
			out = append(out, Binding{Key: key, Addr: string(a), into: into, Room: room})
		}
	}

	if g.Smtp != nil {
		add("submission.listen", &g.Submission, nil, g.C.Submission.Listen...)
		add("submission.listen_tls", &g.SubmissionTLS, nil, g.C.Submission.ListenTLS...)
	}
	if g.Reports != nil {
		add("reports.listen", &g.Port25, nil, g.C.Reports.Listen...)
	}
	add("tracking.web.listen", &g.Web, NewConnectionLimit(g.Connections.Tracker), g.C.Tracking.Web.Listen...)
	if a := g.C.Certs.ACMEHTTPListen; g.Acme != nil && g.OwnACME(a) {
		add("certs.acme_http_listen", &g.AcmeHTTP, NewConnectionLimit(config.ACMEConnections), config.Addr(a))
	}
	if a := g.C.Certs.ACMETLSListen; g.Acme != nil && g.OwnACME(a) {
		add("certs.acme_tls_listen", &g.AcmeTLS, NewConnectionLimit(config.ACMEConnections), config.Addr(a))
	}
	if a := g.C.Admin.Listen; a != "" {
		add("admin.listen", &g.AdminListeners, NewConnectionLimit(config.AdminConnections), config.Addr(a))
	}

	return out
}

// listen opens every listener, or none.
func (g *Gateway) listen() error {
	given := systemd.InheritListeners()
	all := g.Bindings()

	var open []Binding
	var errs []error
	for _, b := range all {
		taken, served, err := given.Take(b.Key, b.Addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", b.Key, err))
		}
		for _, l := range taken {
			g.use(b, l)
		}
		if err == nil && !served {
			open = append(open, b)
		}
	}

	// First, for one of them may have the port of what is opened.
	for _, addr := range given.CloseRest() {
		g.log.Warn("an inherited listener is named by no key of the configuration", "addr", addr)
	}

	if err := g.listenLocally(); err != nil {
		errs = append(errs, err)
	}
	for _, b := range open {
		l, err := net.Listen(b.Network(all, given), b.Addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", b.Key, err))
			continue
		}
		g.use(b, l)
	}

	return errors.Join(errs...)
}

// use notes a listener that is open, and watches whether it is served.
func (g *Gateway) use(b Binding, l net.Listener) {
	g.Listeners = append(g.Listeners, l)
	if b.Room != nil {
		l = b.Room.Listener(l)
	}

	watched := health.NewListener(l)
	g.Health.Watch(b.Key+" "+l.Addr().String(), watched, AcceptBound)
	*b.into = append(*b.into, watched)
}

// network returns what to listen on for an address: the family of a literal
// one, so that 0.0.0.0 is IPv4 alone. [::] is both families, or IPv6 alone
// where an IPv4 address of the same port is listened on by itself.
func (b Binding) Network(all []Binding, given *systemd.Inherited) string {
	ip, port, ok := literal(b.Addr)
	switch {
	case !ok:
		return "tcp"
	case ip.Is4():
		return "tcp4"
	case !ip.IsUnspecified():
		return "tcp6"
	}

	if given.TakesIPv4(port) {
		return "tcp6"
	}
	for _, o := range all {
		other, otherPort, ok := literal(o.Addr)
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

func Addrs(ls []net.Listener) []string {
	var out []string
	for _, l := range ls {
		if l != nil {
			out = append(out, l.Addr().String())
		}
	}
	return out
}
