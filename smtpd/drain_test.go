package smtpd

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stopsWithin fails where a server has not stopped long after it should have.
func stopsWithin(t *testing.T, r *running, most time.Duration) {
	t.Helper()
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(most):
		t.Fatalf("the server still runs after %s", most)
	}
}

// TestStopWaitsForNobodyWithoutSession: who has no session has nothing to lose,
// and cannot use up shutdown_grace.
func TestStopWaitsForNobodyWithoutSession(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		option   string // empty: none
		implicit bool
		do       func(p *player)
		last     string // what the client hears; empty: nothing
	}{
		{"silent", "", false, func(p *player) { p.expect("220") }, "421 4.3.2"},
		{"silent, implicit TLS", "", true, func(p *player) {}, ""},
		{"after TLS", "", true, func(p *player) { p.tls(); p.expect("220") }, "421 4.3.2"},
		{"half a command", "", false, func(p *player) { p.expect("220"); p.send("EHL") }, "421 4.3.2"},
		{"STARTTLS without a handshake", "", false, func(p *player) {
			p.expect("220")
			p.say("EHLO x", "250", "STARTTLS", "220")
		}, ""},
		{"without a PROXY header", "proxy", false, func(p *player) {}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := startServer(t, func(conf *setup) {
				conf.Timeouts.Grace = time.Hour
				if c.option != "" {
					options[c.option](conf)
				}
			}, c.implicit)
			p := &player{t: t, at: c.name, serv: r}
			p.dial()
			defer p.raw.Close()
			c.do(p)

			stopsWithin(t, r, 8*time.Second) // less than a proxy may take for its header
			if c.last != "" {
				p.expect(c.last)
			}
			p.check("closed")
		})
	}
}

// deafConn is a socket whose client does not read: a write ends with Close.
type deafConn struct {
	pipeConn
	writes chan struct{} // told of each
	once   sync.Once
	gone   chan struct{}
}

func (c *deafConn) Write([]byte) (int, error) {
	c.writes <- struct{}{}
	<-c.gone
	return 0, net.ErrClosed
}

func (c *deafConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.pipeConn.Close()
}

// TestStopDoesNotWaitForReaders: a client that does not read its replies is cut
// off with the others at the end of the grace.
func TestStopDoesNotWaitForReaders(t *testing.T) {
	t.Parallel()
	client, sock := net.Pipe()
	defer client.Close()
	deaf := &deafConn{
		pipeConn: pipeConn{Conn: sock, from: net.IPv4(127, 0, 0, 1)},
		writes:   make(chan struct{}, 9),
		gone:     make(chan struct{}),
	}
	l := &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conns <- deaf
	s := NewSubmission(Config{Log: quiet, Timeouts: Timeouts{Grace: time.Millisecond}}, Submission{Submit: &submitter{}})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	<-deaf.writes // the server writes, and waits
	cancel()

	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		deaf.Close()
		t.Fatal("the server still runs after 20 s")
	}
	eventually(t, "nothing is held", func() bool { return len(held(s)) == 0 })
}

// TestClientsThatDoNotReadAreGone: a reply may take so long to be written.
func TestClientsThatDoNotReadAreGone(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, false, func(b *bubble) {
		client := b.connect("127.0.0.1")
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		if client.sock.isClosed() {
			t.Error("closed within a minute")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !client.sock.isClosed() {
			t.Error("still open after a minute")
		}
	})
}
