package smtpd

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
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

// TestDrain ends a server with an idle session and one in a transaction.
func TestDrain(t *testing.T) {
	t.Parallel()
	r := startServer(t, func(c *setup) { c.Timeouts.Grace = 10 * time.Second }, true)
	idle, busy := dialTLS(t, r), dialTLS(t, r)
	busy.send("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
	for range 3 {
		busy.reply()
	}
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	if got := idle.reply(); !strings.HasPrefix(got, "421 4.3.2") {
		t.Errorf("the idle session got %q", got)
	}
	busy.send("From: a@example.com\r\n\r\nx\r\n.\r\n")
	if got := busy.reply(); !strings.HasPrefix(got, "250") {
		t.Errorf("the busy session got %q", got)
	}
	<-stopped
	if n := len(r.submit.submissions()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// dialTLS logs in over implicit TLS.
func dialTLS(t *testing.T, r *running) *player {
	t.Helper()
	raw, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	p := &player{t: t, at: "dial", raw: raw, serv: r}
	p.tls()
	p.reply()
	p.send("EHLO x\r\n")
	p.reply()
	p.send("AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n")
	if got := p.reply(); !strings.HasPrefix(got, "235") {
		t.Fatalf("login: %s", got)
	}
	return p
}

// TestStopLetsTransactionsEnd, whatever listeners a server has.
func TestStopLetsTransactionsEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*setup)
		header string
	}{
		{"plain", bySource, ""},
		{"behind a proxy", options["proxy"], "PROXY TCP4 192.0.2.7 192.0.2.1 4321 587\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(conf *setup) { c.change(conf); conf.Timeouts.Grace = time.Minute }, false, func(b *bubble) {
				client := b.dial()
				if c.header != "" {
					client.send(c.header)
				}
				client.expect("220")
				client.say("EHLO x", "250", "MAIL FROM:<a@example.com>", "250", "RCPT TO:<b@example.net>", "250", "DATA", "354")

				// a second listener of the same server, which is drained but once
				ctx, cancel := context.WithCancel(context.Background())
				second := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
				ended := make(chan error, 1)
				go func() { ended <- b.s.Serve(ctx, second) }()
				synctest.Wait()

				begun := time.Now()
				stopped := make(chan struct{})
				go func() { b.stop(); close(stopped) }()
				synctest.Wait()
				cancel()
				time.Sleep(59 * time.Second)
				client.say(shortMessage+".", "250 2.0.0 taken by the test")
				if !client.ended() {
					t.Error("the session goes on after its transaction")
				}
				<-stopped
				if err := <-ended; err != nil {
					t.Errorf("the second listener: %v", err)
				}
				if got := time.Since(begun); got != 59*time.Second {
					t.Errorf("stopped after %s, want 59s: nobody is left", got)
				}
				if n := len(b.logged("sessions cut off at the end of shutdown_grace")); n != 0 {
					t.Errorf("%d lines of sessions cut off", n)
				}
			})
		})
	}
}

// TestBrokenListenersDrain the server, as a stop does.
func TestBrokenListenersDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		raw := &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
		broken := make(chan struct{})
		s := NewSubmission(Config{
			Hostname: "x",
			Timeouts: Timeouts{Grace: time.Second},
			Log:      quiet,
		}, Submission{Submit: &submitter{}})
		served := make(chan error, 1)
		go func() { served <- s.Serve(t.Context(), &breakingListener{raw, broken}) }()
		client, sock := net.Pipe()
		raw.conns <- &pipeConn{Conn: sock, from: net.IPv4(127, 0, 0, 1)}
		c := &caller{b: &bubble{t: t}, c: client}
		c.listen()
		c.expect("220")

		close(broken)
		if err := <-served; !errors.Is(err, syscall.EINVAL) {
			t.Errorf("got %v, want %v", err, syscall.EINVAL)
		}
		c.expect("421 4.3.2 Shutting down, try again later")
		if !c.ended() {
			t.Error("the connection goes on")
		}
		synctest.Wait()
		nothingHeld(t, s)
		client.Close()
	})
}

// breakingListener fails for good once it is broken.
type breakingListener struct {
	*pipeListener
	broken chan struct{}
}

func (l *breakingListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.broken:
		return nil, syscall.EINVAL
	}
}
