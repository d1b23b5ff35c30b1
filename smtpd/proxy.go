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

// proxyHeaderTimeout is how long a trusted proxy may take for its header.
const proxyHeaderTimeout = 10 * time.Second

// proxied is a listener behind proxies: from their networks a connection has to
// begin with a PROXY header (v1 or v2), whose source then counts. From anywhere
// else such a header is a command that there is not.
type proxied struct {
	net.Listener
	from  []netip.Prefix
	log   *slog.Logger
	conns chan net.Conn
	open  context.Context // ends with Close
	stop  context.CancelFunc
	err   error
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

// accept reads each header in a goroutine of its own: a proxy that says nothing
// must not hold up the others.
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

// hand hands a connection to Accept, once its header is read. One that has sent
// none is closed with the listener.
func (p *proxied) hand(raw net.Conn) {
	handed := context.AfterFunc(p.open, func() { raw.Close() })
	defer handed()

	c := raw
	if p.trusted(raw.RemoteAddr()) {
		pc := proxyproto.NewConn(raw,
			proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(proxyHeaderTimeout))
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

// refuse closes a connection that has not begun with a header.
func (p *proxied) refuse(raw net.Conn) {
	if p.open.Err() == nil {
		p.log.Warn("connection refused", "remote", raw.RemoteAddr().String(),
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
