package web

import (
	"net/http"
	"net/netip"
	"slices"
)

// peer returns the address of the peer of a connection. It is invalid if the
// connection has none.
func peer(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}

	return addr.Addr().Unmap().WithZone("")
}

// client returns the address of the client: the peer, or what trusted proxies say.
// Their entries are followed from the nearest proxy on, as long as they name
// trusted proxies. The address is invalid if a proxy hides it.
func (h *Handler) client(r *http.Request) netip.Addr {
	addr := peer(r)
	if !among(h.cfg.TrustedProxies, addr) {
		return addr
	}

	hops, err := nodes(r.Header)
	if err != nil {
		h.unreadable.Inc()
		return addr
	}

	for i := len(hops) - 1; i >= 0 && among(h.cfg.TrustedProxies, addr); i-- {
		next, err := readNode(hops[i])
		if err != nil {
			h.unreadable.Inc()
			break
		}
		addr = next
	}

	return addr
}

// among reports whether an address is in one of the networks.
func among(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// truncated returns the network of an address: 24 bits in IPv4, 48 bits in IPv6.
func truncated(a netip.Addr) netip.Addr {
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits) // invalid if a is

	return p.Addr()
}
