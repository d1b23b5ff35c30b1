package gateway

import (
	"net"
	"sync"
)

// connectionLimit bounds the connections of several listeners together. What
// is beyond waits in the kernel's queue, where it costs no descriptor.
type connectionLimit struct{ free chan struct{} }

func newConnectionLimit(n int) *connectionLimit {
	return &connectionLimit{free: make(chan struct{}, n)}
}

// listener returns l with the limit.
func (c *connectionLimit) listener(l net.Listener) net.Listener {
	return &limitedListener{
		Listener: l,
		limit:    c,
		closed:   make(chan struct{}),
	}
}

type limitedListener struct {
	net.Listener
	limit  *connectionLimit
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.limit.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}

	c, err := l.Listener.Accept()
	if err != nil {
		<-l.limit.free
		return nil, err
	}

	return &limitedConn{Conn: c, limit: l.limit}, nil
}

// Close implements net.Listener.
func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	limit *connectionLimit
	once  sync.Once
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.limit.free })
	return err
}
