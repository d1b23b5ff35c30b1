// Package systemd talks to the service manager: listeners that it has opened
// (sd_listen_fds(3)), and how the process is (sd_notify(3)). Without a service
// manager it does nothing.
package systemd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// socket is a listener that the service manager opened.
type socket struct {
	net.Listener
	at     netip.AddrPort
	v6only bool // an IPv6 wildcard that takes no IPv4
	key    string
}

// Inherited are the listeners that systemd opened for this process
// (sd_listen_fds(3)): LISTEN_FDS of them from descriptor 3 on, if LISTEN_PID is
// us.
type Inherited struct {
	sockets []*socket
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

const (
	firstInherited = 3
	resolveTimeout = 10 * time.Second
)

// InheritListeners takes them, once: programs that we start must not.
func InheritListeners() *Inherited {
	in := &Inherited{resolve: lookup}
	pid, fds := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	n, err := strconv.Atoi(fds)
	if err != nil || pid != strconv.Itoa(os.Getpid()) {
		return in
	}

	for fd := firstInherited; fd < firstInherited+n; fd++ {
		f := os.NewFile(uintptr(fd), "inherited "+strconv.Itoa(fd))
		if l, err := net.FileListener(f); err == nil { // a copy of the descriptor
			in.add(l)
		}
		f.Close()
	}
	return in
}

func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

func (in *Inherited) add(l net.Listener) {
	s := &socket{Listener: l}
	if t, ok := l.Addr().(*net.TCPAddr); ok {
		at := t.AddrPort()
		s.at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		s.v6only = isV6Only(l)
	}
	in.sockets = append(in.sockets, s)
}

// isV6Only reports whether a socket is an IPv6 one that takes no IPv4.
func isV6Only(l net.Listener) bool {
	t, ok := l.(*net.TCPListener)
	if !ok {
		return false
	}
	c, err := t.SyscallConn()
	if err != nil {
		return false
	}

	only := 0
	_ = c.Control(func(fd uintptr) {
		only, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY)
	})
	return only != 0
}

// Take returns the listeners that serve an address of the configuration and
// that key has not taken yet. served is true where there is at least one, also
// among those that key has taken before: a wildcard serves every address of
// its port. A socket that another key has taken is an error.
func (in *Inherited) Take(key, addr string) (taken []net.Listener, served bool, err error) {
	if len(in.sockets) == 0 {
		return nil, false, nil
	}
	fits, err := in.fitting(addr)
	if err != nil {
		return nil, false, err
	}

	for _, s := range fits {
		switch s.key {
		case "":
			s.key = key
			taken = append(taken, s.Listener)
		case key:
		default:
			return taken, false, fmt.Errorf("%s is served by the inherited socket %s, which %s has taken", addr, s.at, s.key)
		}
	}
	return taken, len(fits) > 0, nil
}

// fitting returns the sockets that serve an address: those that are bound to
// it, or else the wildcards of its port.
func (in *Inherited) fitting(addr string) ([]*socket, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, err
	}

	samePort := slices.DeleteFunc(slices.Clone(in.sockets), func(s *socket) bool {
		return !s.at.IsValid() || s.at.Port() != uint16(port)
	})
	if len(samePort) == 0 {
		return nil, nil
	}

	ips, err := in.addrsOf(host)
	if err != nil {
		return nil, err
	}
	var exact, wild []*socket
	for _, s := range samePort {
		switch {
		case slices.ContainsFunc(ips, s.within):
			exact = append(exact, s)
		case slices.ContainsFunc(ips, s.covers):
			wild = append(wild, s)
		}
	}
	if len(exact) > 0 {
		return exact, nil
	}
	return wild, nil
}

// addrsOf returns the addresses that a host stands for. An empty one is both
// wildcards.
func (in *Inherited) addrsOf(host string) ([]netip.Addr, error) {
	if host == "" {
		return []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}

	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	ips, err := in.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	return ips, nil
}

// within reports whether the socket is bound to ip, or to one of the addresses
// that ip, a wildcard, stands for.
func (s *socket) within(ip netip.Addr) bool {
	return s.at.Addr() == ip || ip.IsUnspecified() && ip.Is4() == s.at.Addr().Is4()
}

// covers reports whether the socket is a wildcard that takes connections to ip.
func (s *socket) covers(ip netip.Addr) bool {
	have := s.at.Addr()
	return have.IsUnspecified() && (have.Is4() == ip.Is4() || have.Is6() && !s.v6only)
}

// CloseRest closes what no key has taken, and returns its addresses.
func (in *Inherited) CloseRest() []string {
	var out []string
	for _, s := range in.sockets {
		if s.key == "" {
			out = append(out, s.Addr().String())
			s.Close()
		}
	}
	return out
}

// TakesIPv4 reports whether a socket that a key has taken is an IPv4 one of
// that port.
func (in *Inherited) TakesIPv4(port string) bool {
	return slices.ContainsFunc(in.sockets, func(s *socket) bool {
		return s.key != "" && s.at.Addr().Is4() && strconv.Itoa(int(s.at.Port())) == port
	})
}
