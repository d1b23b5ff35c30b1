package web

import (
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyHeaderTimeout is how long a trusted proxy may take for its header.
const proxyHeaderTimeout = 10 * time.Second

// Proxied reads PROXY headers (v1 and v2) of trusted proxies, which may also
// send none and name the client in X-Forwarded-For. From anywhere else such a
// header is not HTTP.
func Proxied(l net.Listener, from []netip.Prefix) net.Listener {
	policy := func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
		t, ok := o.Upstream.(*net.TCPAddr)
		if ok && among(from, t.AddrPort().Addr().Unmap().WithZone("")) {
			return proxyproto.USE, nil
		}

		return proxyproto.SKIP, nil
	}

	return &proxyproto.Listener{
		Listener:          l,
		ReadHeaderTimeout: proxyHeaderTimeout,
		ConnPolicy:        policy,
	}
}
