package web

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/tracking/agent"
)

// State is what a tracker remembers of clients, all of it bounded and none of
// it needed to answer: a Handler that takes another's place goes on with it.
type State struct {
	agents  *agent.Reader
	flood   flood
	history *history
	limit   limit
}

// NewState makes an empty memory.
func NewState() *State { return &State{agents: agent.NewReader(), history: newHistory()} }

// limit counts events per client, an IPv4 address or an IPv6 /64, in windows.
type limit struct {
	mu     sync.Mutex
	window time.Time
	counts map[netip.Addr]int
}

// maxClients bounds what is counted of one window; beyond it all pass.
const maxClients = 1 << 17

// over counts one more event of a client and tells whether it is too many.
func (l *limit) over(client netip.Addr, n int, per time.Duration, now time.Time) bool {
	if n <= 0 || !client.IsValid() {
		return false
	}
	if client.Is6() {
		p, _ := client.Prefix(64)
		client = p.Addr()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil || now.Sub(l.window) >= per || now.Before(l.window) {
		l.window, l.counts = now, map[netip.Addr]int{}
	}
	if _, known := l.counts[client]; !known && len(l.counts) >= maxClients {
		return false
	}
	l.counts[client]++
	return l.counts[client] > n
}

// client is the peer, or what the nearest trusted proxy says it is.
func (h *Handler) client(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	peer, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	peer = peer.Unmap().WithZone("")
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && among(h.c.TrustedProxies, peer); i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		peer = next.Unmap().WithZone("")
	}
	return peer
}

// among tells whether an address is of one of the networks.
func among(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// truncated leaves the network: 24 bits of an IPv4 address, 48 of an IPv6 one.
func truncated(a netip.Addr) netip.Addr {
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
}
