package web

import (
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyHeaderTimeout bounds the time that a trusted proxy takes for its header.
const proxyHeaderTimeout = 10 * time.Second

// Proxied returns a listener that reads the PROXY headers, version 1 or 2, of
// connections from the networks of trusted proxies. A trusted proxy may omit the
// header, and name the client in X-Forwarded-For. On other connections a PROXY
// header is passed on, and is not valid HTTP.
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
