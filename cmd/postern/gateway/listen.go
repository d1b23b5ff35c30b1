package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"postern/cmd/postern/health"
	"postern/cmd/postern/systemd"
)

// binding is an address of the configuration, and what serves it.
type binding struct {
	key   string // of the configuration
	addr  string
	name  string // of the component
	stage stage
	room  *connectionLimit // nil: what serves limits connections by itself
	serve func(ctx context.Context, l net.Listener) error
}

// bind adds an address to listen on.
func (g *Gateway) bind(b binding) { g.bindings = append(g.bindings, b) }

// listen opens every listener, or none: inherited ones first, then Unix
// sockets, then all others.
func (g *Gateway) listen() error {
	given := systemd.InheritListeners()

	var open []binding
	var errs []error
	for _, b := range g.bindings {
		taken, served, err := given.Take(b.key, b.addr)
		if err != nil {
			errs = append(errs, named(b.key, err))
		}
		for _, l := range taken {
			g.serveOn(b, l)
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
		l, err := net.Listen(b.network(g.bindings, given.TakesIPv4), b.addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", b.key, err))
			continue
		}
		g.serveOn(b, l)
	}

	return errors.Join(errs...)
}

// serveOn adds the component that serves an open listener, and watches whether
// it does.
func (g *Gateway) serveOn(b binding, l net.Listener) {
	g.listeners = append(g.listeners, l)
	g.addrs[b.key] = append(g.addrs[b.key], l.Addr())
	if b.room != nil {
		l = b.room.listener(l)
	}

	watched := health.NewListener(l)
	g.health.Watch(b.key+" "+l.Addr().String(), watched, acceptBound)
	g.add(b.stage, b.name, func(ctx context.Context) error { return b.serve(ctx, watched) })
}

// network returns what to listen on for an address: the family of a literal
// one, so that 0.0.0.0 is IPv4 alone. [::] is both families, or IPv6 alone
// where an IPv4 address of the same port is listened on by itself: by another
// binding, or by an inherited listener, as takesIPv4 says.
func (b binding) network(all []binding, takesIPv4 func(port string) bool) string {
	ip, port, ok := literal(b.addr)
	switch {
	case !ok:
		return "tcp"
	case ip.Is4():
		return "tcp4"
	case !ip.IsUnspecified():
		return "tcp6"
	}

	if takesIPv4(port) {
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

// serveHTTP serves until ctx ends, then lets requests finish for as long as
// grace says at that time.
func serveHTTP(ctx context.Context, s *http.Server, l net.Listener, grace func() time.Duration) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)

		bounded, cancel := context.WithTimeout(context.Background(), grace())
		defer cancel()
		if s.Shutdown(bounded) != nil {
			s.Close()
		}
	})

	err := s.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}

	return err
}
