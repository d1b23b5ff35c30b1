package smtpd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
)

// TestProxiesCountBeforeTheirHeader: connections that say nothing take places
// as others do.
func TestProxiesCountBeforeTheirHeader(t *testing.T) {
	t.Parallel()
	r := startServer(t, func(c *setup) { options["proxy"](c); c.Limits.MaxConnections = 2 }, false)
	for range 2 {
		raw, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
	}
	raw, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	p := &player{t: t, at: "the third", raw: raw, serv: r}
	p.use(raw)
	p.expect("421 4.3.2")
}

// TestProxiedDoesNotWaitForHeadersOnceClosed: a stop does not take as long as a
// proxy may for its header.
func TestProxiedDoesNotWaitForHeadersOnceClosed(t *testing.T) {
	t.Parallel()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	accepted := &acceptedListener{Listener: raw, got: make(chan struct{}, 1)}
	l := newProxied(accepted, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		slog.New(slog.NewTextHandler(&log, nil)))

	silent, err := net.Dial("tcp", raw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	<-accepted.got
	l.Close()

	if c, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v, %v, want net.ErrClosed", c, err)
	}
	if log.Len() > 0 {
		t.Errorf("Accept has waited for the header of a connection that was to end: %s", &log)
	}
}

// acceptedListener says when it has accepted a connection.
type acceptedListener struct {
	net.Listener
	got chan struct{}
}

func (l *acceptedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.got <- struct{}{}
	}

	return c, err
}

// TestProxiedClosesWhatNobodyAccepts checks that Close closes connections that wait.
func TestProxiedClosesWhatNobodyAccepts(t *testing.T) {
	t.Parallel()
	p := &proxied{conns: make(chan net.Conn), log: quiet}
	p.open, p.stop = context.WithCancel(t.Context())
	p.stop()
	client, sock := net.Pipe()
	defer client.Close()
	raw := &pipeConn{Conn: sock, from: net.IPv4(127, 0, 0, 1)}
	p.hand(raw)
	if !raw.isClosed() {
		t.Error("the connection was left open")
	}
}

// heldConn is a connection whose address is known when the test says so.
type heldConn struct {
	pipeConn
	known chan struct{}
}

func (c *heldConn) RemoteAddr() net.Addr {
	<-c.known
	return c.pipeConn.RemoteAddr()
}

// TestProxiedWaitsForThoseItReads checks that Accept ends after the last header is read.
func TestProxiedWaitsForThoseItReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		raw := &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
		client, sock := net.Pipe()
		defer client.Close()
		held := &heldConn{pipeConn: pipeConn{Conn: sock, from: net.IPv4(127, 0, 0, 1)}, known: make(chan struct{})}
		raw.conns <- held
		p := newProxied(raw, nil, quiet)
		synctest.Wait()
		p.Close()
		synctest.Wait()
		select {
		case c, ok := <-p.conns:
			t.Errorf("Accept returns %v, %v while a header is read", c, ok)
		default:
		}

		close(held.known)
		synctest.Wait()
		if c, err := p.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, %v; want %v", c, err, net.ErrClosed)
		}
		if !held.isClosed() {
			t.Error("the connection was left open")
		}
	})
}
