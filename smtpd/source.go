package smtpd

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"

	"postern/relay"
)

// SourceRule says who need not authenticate, by network. The first that
// matches counts; where none does, AUTH is required.
type SourceRule struct {
	Network     netip.Prefix
	RequireAuth bool
	User        string // whose settings apply
}

// Directory finds users by name; *Users is one.
type Directory interface {
	Lookup(name string) (relay.User, bool)
}

// sourceUser gives the user whose settings apply to who comes from an address
// without authenticating; nil: nobody's.
func (s *Server) sourceUser(ip netip.Addr) *relay.User {
	if s.c.Reports != nil {
		return nil
	}
	for _, r := range s.c.Sources {
		if !r.Network.Contains(ip.Unmap()) {
			continue
		}
		if r.RequireAuth || s.c.Directory == nil {
			return nil
		}
		if u, ok := s.c.Directory.Lookup(r.User); ok {
			return &u
		}
		s.c.Log.Error("a source rule names a user that is not there", "user", r.User)
		return nil
	}
	return nil
}

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
	stop  chan struct{}
	once  sync.Once
	err   error

	mu      sync.Mutex
	waiting map[net.Conn]struct{} // for their headers; nil: closed
}

func newProxied(l net.Listener, from []netip.Prefix, log *slog.Logger) *proxied {
	p := &proxied{
		Listener: l,
		from:     from,
		log:      log,
		conns:    make(chan net.Conn),
		stop:     make(chan struct{}),
		waiting:  map[net.Conn]struct{}{},
	}
	go p.accept()
	return p
}

func (p *proxied) trusted(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := t.AddrPort().Addr().Unmap()
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
		wg.Go(func() {
			c := raw
			if p.trusted(raw.RemoteAddr()) {
				if c = p.readHeader(raw); c == nil {
					raw.Close()
					return
				}
			}
			select {
			case p.conns <- c:
			case <-p.stop:
				c.Close()
			}
		})
	}
	wg.Wait()
	close(p.conns)
}

// readHeader returns a connection with the source that its header names, nil
// where there is none, or the listener was closed before it came.
func (p *proxied) readHeader(raw net.Conn) net.Conn {
	p.mu.Lock()
	closed := p.waiting == nil
	if !closed {
		p.waiting[raw] = struct{}{}
	}
	p.mu.Unlock()
	if closed {
		return nil
	}

	c := proxyproto.NewConn(raw,
		proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(proxyHeaderTimeout))
	header := c.ProxyHeader()

	p.mu.Lock()
	delete(p.waiting, raw)
	closed = p.waiting == nil
	p.mu.Unlock()
	if closed {
		return nil
	}
	if header == nil {
		p.log.Warn("connection refused", "remote", raw.RemoteAddr().String(),
			"reason", "no PROXY header from a trusted proxy")
		return nil
	}

	return c
}

// Accept implements net.Listener.
func (p *proxied) Accept() (net.Conn, error) {
	c, ok := <-p.conns
	if !ok {
		return nil, p.err
	}
	return c, nil
}

// Close implements net.Listener. Connections whose header has not come are
// closed: nobody waits for it.
func (p *proxied) Close() error {
	p.once.Do(func() { close(p.stop) })
	err := p.Listener.Close()

	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.waiting {
		c.Close()
	}
	p.waiting = nil

	return err
}
