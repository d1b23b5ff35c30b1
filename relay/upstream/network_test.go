package upstream_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"postern/cmd/postern/demo/sink"
	"postern/relay/upstream"
)

// counter counts the open connections of a pool, and records what is written to
// them.
type counter struct {
	mu     sync.Mutex
	open   int
	none   chan struct{} // closed while none is
	writes []string
}

type countedConn struct {
	net.Conn
	c    *counter
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.c.add(-1) })
	return c.Conn.Close()
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.c.mu.Lock()
	c.c.writes = append(c.c.writes, string(b))
	c.c.mu.Unlock()

	return c.Conn.Write(b)
}

// written returns what was written, one element for each call.
func (c *counter) written() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.writes)
}

func (c *counter) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open += n; c.open == 0 {
		close(c.none)
	} else if c.open == n {
		c.none = make(chan struct{})
	}
}

func (c *counter) now() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// watch counts the connections of a pool. The test fails if one is open at its
// end.
func watch(t testing.TB, p *upstream.Pool) *counter {
	c := &counter{none: make(chan struct{})}
	close(c.none)
	p.WrapDial(func(dial upstream.Dial) upstream.Dial {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			c.add(1)
			return &countedConn{Conn: conn, c: c}, nil
		}
	})
	t.Cleanup(func() {
		if err := p.Balance(); err != nil {
			t.Errorf("at the end: %v", err)
		}
		p.Close()
		c.mu.Lock()
		none := c.none
		c.mu.Unlock()
		select {
		case <-none:
		case <-time.After(10 * time.Second):
			t.Errorf("%d connections are open at the end", c.now())
		}
	})

	return c
}

// network is a network of upstreams in memory, for tests with a fake clock.
type network struct {
	mu    sync.Mutex
	hosts map[string]func(net.Conn)
	dials map[string][]time.Time
	// dialing, where set, is called first.
	dialing func(ctx context.Context, addr string) error
}

func newNetwork() *network {
	return &network{hosts: map[string]func(net.Conn){}, dials: map[string][]time.Time{}}
}

// host adds an upstream that replies as answer says; see newScripted.
func (n *network) host(addr string, answer func(conn int, command string) string) *scripted {
	s := &scripted{addr: addr, answer: answer}
	n.add(addr, func(c net.Conn) {
		s.mu.Lock()
		s.conns++
		number := s.conns
		s.mu.Unlock()
		go func() {
			defer c.Close()
			s.serve(c, number)
		}()
	})

	return s
}

func (n *network) add(addr string, accept func(net.Conn)) {
	n.mu.Lock()
	n.hosts[addr] = accept
	n.mu.Unlock()
}

// sink adds a sink, which is closed at the end of the test.
func (n *network) sink(t *testing.T, addr string, c sink.Config) *upstreamServer {
	t.Helper()
	l := &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	n.add(addr, func(c net.Conn) {
		select {
		case l.conns <- c:
		case <-l.closed:
			c.Close()
		}
	})

	return startOn(t, l, addr, c)
}

type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{} }

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.dials[addr] = append(n.dials[addr], time.Now())
	accept, dialing := n.hosts[addr], n.dialing
	n.mu.Unlock()
	if dialing != nil {
		if err := dialing(ctx, addr); err != nil {
			return nil, err
		}
	}
	if accept == nil {
		return nil, errors.New("connection refused")
	}
	remote, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}

	client, server := net.Pipe()
	accept(server)

	return addressedConn{client, remote}, nil
}

// dialled returns when an address was dialled.
func (n *network) dialled(addr string) []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]time.Time(nil), n.dials[addr]...)
}

// addressedConn is a connection with TCP addresses.
type addressedConn struct {
	net.Conn
	remote *net.TCPAddr
}

func (c addressedConn) RemoteAddr() net.Addr { return c.remote }
func (c addressedConn) LocalAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}
}

// pool returns a pool that dials in the network.
func (n *network) pool(t testing.TB, c upstream.Config) (*upstream.Pool, *counter) {
	c.Hostname, c.Log = "gateway.example", quiet
	if c.TLS == "" {
		c.TLS = upstream.TLSOpportunistic
	}
	p := upstream.New(c)
	p.WrapDial(func(upstream.Dial) upstream.Dial { return n.dial })

	return p, watch(t, p)
}
