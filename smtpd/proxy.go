package smtpd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyHeaderTimeout bounds the wait for the header of a trusted proxy.
const proxyHeaderTimeout = 10 * time.Second

// proxied is a listener behind proxies. Connections from their networks must begin
// with a PROXY header (version 1 or 2), which says where the client comes from.
// From anywhere else such a header is an unknown command.
type proxied struct {
	net.Listener
	from  []netip.Prefix
	log   *slog.Logger
	conns chan net.Conn
	open  context.Context // until Close
	stop  context.CancelFunc
	err   error // of Accept; set before conns is closed
}

func newProxied(l net.Listener, from []netip.Prefix, log *slog.Logger) *proxied {
	p := &proxied{
		Listener: l,
		from:     from,
		log:      log,
		conns:    make(chan net.Conn),
	}
	p.open, p.stop = context.WithCancel(context.Background())
	go p.accept()

	return p
}

// trusted reports whether an address is a proxy's.
func (p *proxied) trusted(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return false
	}

	ip := t.AddrPort().Addr().Unmap().WithZone("")
	for _, n := range p.from {
		if n.Contains(ip) {
			return true
		}
	}

	return false
}

// accept reads each header in a separate goroutine: a silent proxy must not hold
// up the others.
func (p *proxied) accept() {
	var wg sync.WaitGroup
	for {
		raw, err := p.Listener.Accept()
		if err != nil {
			p.err = err
			break
		}
		wg.Go(func() { p.hand(raw) })
	}
	wg.Wait()
	close(p.conns)
}

// hand hands a connection to Accept once its header is read. Close of the listener
// ends the wait.
func (p *proxied) hand(raw net.Conn) {
	handed := context.AfterFunc(p.open, func() { raw.Close() })
	defer handed()

	c := raw
	if p.trusted(raw.RemoteAddr()) {
		pc := proxyproto.NewConn(raw,
			proxyproto.WithPolicy(proxyproto.REQUIRE),
			proxyproto.SetReadHeaderTimeout(proxyHeaderTimeout))
		if pc.ProxyHeader() == nil {
			p.refuse(raw)
			return
		}
		c = pc
	}

	select {
	case p.conns <- c:
	case <-p.open.Done():
		c.Close()
	}
}

// refuse closes a connection that did not begin with a header.
func (p *proxied) refuse(raw net.Conn) {
	if p.open.Err() == nil {
		p.log.Warn("connection refused",
			"remote", raw.RemoteAddr().String(),
			"reason", "no PROXY header from a trusted proxy")
	}
	raw.Close()
}

// Accept implements net.Listener.
func (p *proxied) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, p.err
	}

	return c, nil
}

// Close implements net.Listener.
func (p *proxied) Close() error {
	p.stop()
	return p.Listener.Close()
}
