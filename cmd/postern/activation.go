package main

import (
	"net"
	"net/netip"
	"os"
	"strconv"
)

// inherited are the listeners that systemd opened for this process
// (sd_listen_fds(3)): LISTEN_FDS of them from descriptor 3 on, if LISTEN_PID is
// us.
type inherited struct{ free []net.Listener }

const firstInherited = 3

// inheritListeners takes them, once: programs that we start must not.
func inheritListeners() *inherited {
	in := &inherited{}
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
			in.free = append(in.free, l)
		}
		f.Close()
	}
	return in
}

// take gives the listener for a configured address: of the same port, and the
// same host or any.
func (in *inherited) take(addr string) net.Listener {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil
	}
	for i, l := range in.free {
		t, ok := l.Addr().(*net.TCPAddr)
		if !ok || strconv.Itoa(t.Port) != port || !sameHost(host, t.AddrPort().Addr()) {
			continue
		}
		in.free = append(in.free[:i:i], in.free[i+1:]...)
		return l
	}
	return nil
}

func sameHost(configured string, have netip.Addr) bool {
	have = have.Unmap()
	ip, err := netip.ParseAddr(configured)
	return have.IsUnspecified() || configured == "" || err == nil && (ip.IsUnspecified() || ip.Unmap() == have)
}
