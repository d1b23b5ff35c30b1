package smtpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/certs"

	"postern/relay/reply"
	"postern/smtpd/auth"
)

// bubble is a server in a bubble of synctest: no time passes but what a test
// lets pass, so that a bound is held to the nanosecond and costs nothing.
type bubble struct {
	t       *testing.T
	s       *Server
	submit  *submitter
	users   *auth.Users
	log     *lockedBuffer
	metrics *prometheus.Registry
	l       *pipeListener
	socks   []*pipeConn
	stop    func() // and wait for that
}

// inBubble runs a server, and fails where anything is held once it has stopped.
func inBubble(t *testing.T, change func(*setup), implicit bool, do func(b *bubble)) {
	t.Helper()
	cert := testCert()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{
			t:       t,
			submit:  &submitter{reply: reply.Reply{Code: 250, Enhanced: reply.EnhancedCode{2, 0, 0}, Text: "taken by the test"}},
			users:   newClients(t, auth.Rate{N: 3, Per: time.Minute}, clientList()),
			log:     &lockedBuffer{},
			metrics: prometheus.NewRegistry(),
			l:       &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})},
		}
		c := setup{
			Config: Config{
				Hostname: "mail.example.com",
				TLS:      certs.ServerConfig([]tls.Certificate{cert}, tls.VersionTLS12),
				Log:      slog.New(slog.NewJSONHandler(b.log, nil)),
				Metrics:  b.metrics,
				Limits:   Limits{MaxMessageSize: 10000, MaxRecipients: 3},
				Timeouts: Timeouts{Grace: time.Second},
			},
			Submission: Submission{
				Auth:      b.users,
				Submit:    b.submit,
				Directory: b.users,
			},
		}
		if change != nil {
			change(&c)
		}
		b.s = newTestServer(c)

		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- serveTest(ctx, b.s, b.l, implicit) }()
		b.stop = sync.OnceFunc(func() {
			cancel()
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
		do(b)
		b.stop()
		synctest.Wait()
		nothingHeld(t, b.s)
		for i, c := range b.socks {
			if !c.isClosed() {
				t.Errorf("socket %d of the server was not closed", i+1)
			}
		}
	})
}

// bySource lets the clients of a bubble in without AUTH.
func bySource(c *setup) {
	c.Sources = []SourceRule{{Network: netip.MustParsePrefix("127.0.0.0/8"), User: "alice"}}
}

// reporting makes a server one for reports.
func reporting(c *setup) { c.Reports = c.Submit.(*submitter) }

// nothingHeld fails where a server without clients holds anything.
func nothingHeld(t *testing.T, s *Server) {
	t.Helper()
	for _, left := range held(s) {
		t.Errorf("at the end the server still holds %s", left)
	}
}

// held names what a server holds of its clients.
func held(s *Server) (left []string) {
	add := func(is bool, what string) {
		if is {
			left = append(left, what)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	add(s.open.Load() != 0, "a place of a connection")
	add(len(s.conns) != 0, "a connection")
	add(len(s.sessions) != 0, "a session")
	add(len(s.sources) != 0, "a count of a source")
	add(len(s.held) != 0, "a source's part of the budget")
	add(s.cfg.Budget.Used() != 0, "bytes of the budget")
	s.slots.mu.Lock()
	add(len(s.slots.queues) != 0, "a place of a handshake")
	s.slots.mu.Unlock()

	return left
}

// logged returns the lines of the log with a message.
func (b *bubble) logged(msg string) (lines []map[string]any) {
	b.t.Helper()
	for raw := range strings.Lines(b.log.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(raw), &line); err != nil {
			b.t.Fatal(err)
		}
		if line["msg"] == msg {
			lines = append(lines, line)
		}
	}

	return lines
}

// counted returns the value of a counter of the server's.
func (b *bubble) counted(name, label string) float64 {
	b.t.Helper()

	return counterValue(b.t, b.metrics, name, label)
}

// pipeListener is a listener for connections of net.Pipe.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.done)
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// pipeConn is a socket of the server's.
type pipeConn struct {
	net.Conn
	from net.IP

	mu     sync.Mutex
	closed bool
	broken error // of writes; nil: none
}

func (c *pipeConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: c.from, Port: 1234} }

func (c *pipeConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()

	return c.Conn.Close()
}

func (c *pipeConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	err := c.broken
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}

	return c.Conn.Write(p)
}

func (c *pipeConn) breakWrites(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = err
}

func (c *pipeConn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.closed
}

// caller is a client in a bubble. It reads all the time.
type caller struct {
	b    *bubble
	c    net.Conn
	sock *pipeConn     // the server's end
	gone chan struct{} // closed when nothing more is read

	mu      sync.Mutex
	lines   []string // that were read, and not taken yet
	endedAt time.Time
}

// connect begins a connection of which nothing is read yet.
func (b *bubble) connect(from string) *caller {
	b.t.Helper()
	client, server := net.Pipe()
	sock := &pipeConn{Conn: server, from: net.ParseIP(from)}
	b.socks = append(b.socks, sock)
	b.t.Cleanup(func() { client.Close() })
	b.l.conns <- sock

	return &caller{b: b, c: client, sock: sock}
}

// dial begins a connection in plain text.
func (b *bubble) dial() *caller {
	b.t.Helper()
	c := b.connect("127.0.0.1")
	c.listen()

	return c
}

// greeted begins a connection and says EHLO.
func (b *bubble) greeted() *caller {
	b.t.Helper()
	c := b.dial()
	c.expect("220 mail.example.com ESMTP Service Ready")
	c.say("EHLO client.example", "250")

	return c
}

// inMail is greeted, and a transaction with one recipient.
func (b *bubble) inMail() *caller {
	b.t.Helper()
	c := b.greeted()
	to := "b@example.net"
	if b.s.traits.listener == "reports" {
		to = "b@bounces.example.com"
	}
	c.say("MAIL FROM:<a@example.com>", "250", "RCPT TO:<"+to+">", "250")

	return c
}

// listen reads until the end.
func (c *caller) listen() {
	c.gone = make(chan struct{})
	go func() {
		in := bufio.NewReader(c.c)
		for {
			line, err := in.ReadString('\n')
			c.mu.Lock()
			if line != "" {
				c.lines = append(c.lines, strings.TrimSuffix(line, "\r\n"))
			}
			if err != nil {
				c.endedAt = time.Now()
				c.mu.Unlock()
				close(c.gone)
				return
			}
			c.mu.Unlock()
		}
	}()
}

// secure does the TLS handshake.
func (c *caller) secure() {
	c.b.t.Helper()
	if c.gone != nil { // stop reading
		c.c.SetReadDeadline(time.Now())
		<-c.gone
		c.c.SetReadDeadline(time.Time{})
	}
	over := tls.Client(c.c, &tls.Config{InsecureSkipVerify: true})
	if err := over.Handshake(); err != nil {
		c.b.t.Fatalf("TLS handshake: %v", err)
	}
	c.c = over
	c.listen()
}

// send writes, and waits until the server is done with it.
func (c *caller) send(s string) {
	c.b.t.Helper()
	if _, err := c.c.Write([]byte(s)); err != nil {
		c.b.t.Fatalf("sending %q: %v", s, err)
	}
	synctest.Wait()
}

// heard takes the replies that have come, each as its last line.
func (c *caller) heard() []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	replies := slices.DeleteFunc(c.lines, func(line string) bool { return len(line) > 3 && line[3] == '-' })
	c.lines = nil

	return replies
}

// expect takes the replies that have come: these, or such that begin so.
func (c *caller) expect(want ...string) {
	c.b.t.Helper()
	got := c.heard()
	same := slices.EqualFunc(got, want, func(g, w string) bool { return strings.HasPrefix(g, w) })
	if !same {
		c.b.t.Fatalf("heard %q, want %q", got, want)
	}
}

// say sends lines, each of which gets its reply.
func (c *caller) say(pairs ...string) {
	c.b.t.Helper()
	for pair := range slices.Chunk(pairs, 2) {
		c.send(pair[0] + "\r\n")
		if strings.HasPrefix(pair[1], "535") { // failures of a source are answered late
			time.Sleep(5 * time.Second)
		}
		c.expect(pair[1])
	}
}

// ended reports whether the server has closed the connection.
func (c *caller) ended() bool {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()

	return !c.endedAt.IsZero()
}

// endsAfter fails where the connection does not end exactly after d.
func (c *caller) endsAfter(d time.Duration) {
	c.b.t.Helper()
	begun := time.Now()
	if c.ended() {
		c.b.t.Fatalf("the connection has ended before %s", d)
	}
	time.Sleep(d + time.Hour)
	if !c.ended() {
		c.b.t.Fatalf("the connection has not ended within %s and an hour", d)
	}
	if got := c.endedAt.Sub(begun); got != d {
		c.b.t.Errorf("the connection ended after %s, want %s", got, d)
	}
}

// login is AUTH PLAIN as alice, with a password.
func (c *caller) login(want string) {
	c.b.t.Helper()
	c.say("AUTH PLAIN AGFsaWNlAHNlY3JldA==", want) // \0alice\0secret
}

// shortMessage is a message that is taken.
const shortMessage = "From: a@example.com\r\n\r\nx\r\n"

// testTLS is the TLS of a server under test.
func testTLS() *tls.Config {
	return certs.ServerConfig([]tls.Certificate{testCert()}, tls.VersionTLS12)
}
