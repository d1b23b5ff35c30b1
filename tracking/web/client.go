package web

import (
	"net/http"
	"net/netip"
	"slices"
)

// peer returns whom the connection comes from; it is not valid where the
// connection has no address.
func peer(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}

	return addr.Addr().Unmap().WithZone("")
}

// client returns the peer, or what the trusted proxies say it is: their entries are
// followed from the nearest proxy on, as long as they name trusted proxies. It
// is not valid where a proxy hides the address.
func (h *Handler) client(r *http.Request) netip.Addr {
	addr := peer(r)
	if !among(h.c.TrustedProxies, addr) {
		return addr
	}

	hops, err := nodes(r.Header)
	if err != nil {
		h.unreadable.Inc()
		return addr
	}

	for i := len(hops) - 1; i >= 0 && among(h.c.TrustedProxies, addr); i-- {
		next, err := readNode(hops[i])
		if err != nil {
			h.unreadable.Inc()
			break
		}
		addr = next
	}

	return addr
}

// among reports whether an address is of one of the networks.
func among(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// truncated returns the network alone: 24 bits of an IPv4 address, 48 of an IPv6
// one.
func truncated(a netip.Addr) netip.Addr {
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // of no address it is none

	return p.Addr()
}
