package smtpd

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// conn is the socket under a session. go-smtp's deadlines bound one line and
// its STARTTLS goes on in plain text after a failed handshake, so what a phase
// may take, and what may be said in plain text, is decided here.
//
// In plain text it gives at most one line a Read: what a client sent behind
// STARTTLS is then read by the TLS handshake, which fails on it, and never
// becomes a command. After STARTTLS was answered nothing but TLS records go
// out: the library's words after a failed handshake close the connection.
type conn struct {
	net.Conn
	release func() // gives the connection's place back

	mu       sync.Mutex
	phaseEnd time.Time // no read deadline is later than this; zero: none
	plain    bool      // commands are read in plain text, by lines
	secured  bool      // STARTTLS was answered
	starttls bool      // the last line read was STARTTLS
	data     bool      // a message is coming in: no bound on a line
	budget   int       // bytes that the command phase may still read
	last     bool      // close after the next write
	once     sync.Once

	pending []byte // read from the socket in plain text, not yet given out
	rerr    error
}

// maxCommandBytes bounds what is read from the socket for one command or
// answer: go-smtp's own limit on lines has to let long lines of messages pass.
const maxCommandBytes = 64 << 10

var (
	errPlainAfterSTARTTLS = errors.New("smtpd: plain text after STARTTLS was answered")
	errCommandTooLong     = errors.New("smtpd: command too long")
)

func newConn(c net.Conn, plain bool, release func()) *conn {
	return &conn{Conn: c, plain: plain, release: release, budget: maxCommandBytes}
}

// underlying finds the conn below a session's net.Conn.
func underlying(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	u, _ := c.(*conn)
	return u
}

// SetReadDeadline is called by go-smtp before each line, by tls before a
// handshake. It never reaches beyond the phase's end.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget = maxCommandBytes
	if !c.phaseEnd.IsZero() && (t.IsZero() || t.After(c.phaseEnd)) {
		t = c.phaseEnd
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline bounds reading as SetReadDeadline does.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.Conn.SetWriteDeadline(t)
}

// phase begins a phase that ends within d, whatever is read; 0 lifts the bound.
func (c *conn) phase(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phaseEnd = time.Time{}
	if d > 0 {
		c.phaseEnd = time.Now().Add(d)
		c.Conn.SetReadDeadline(c.phaseEnd)
	}
}

// message tells that a message's bytes are coming in (true), or commands.
func (c *conn) message(on bool) {
	c.mu.Lock()
	c.data = on
	c.budget = maxCommandBytes
	c.mu.Unlock()
}

// closeAfterReply ends the connection once the next write is out.
func (c *conn) closeAfterReply() {
	c.mu.Lock()
	c.last = true
	c.mu.Unlock()
}

func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	plain, data, budget := c.plain, c.data, c.budget
	c.mu.Unlock()
	if !data && budget <= 0 {
		return 0, errCommandTooLong
	}
	var n int
	var err error
	if plain {
		n, err = c.readPlain(p, data)
	} else if len(c.pending) > 0 {
		n = copy(p, c.pending)
		c.pending = c.pending[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	c.mu.Lock()
	c.budget -= n
	c.mu.Unlock()
	return n, err
}

// readPlain gives out at most one line, or all there is of a message.
func (c *conn) readPlain(p []byte, data bool) (int, error) {
	if len(c.pending) == 0 {
		if c.rerr != nil {
			return 0, c.rerr
		}
		buf := make([]byte, 4096)
		n, err := c.Conn.Read(buf)
		c.pending = buf[:n]
		if n == 0 {
			return 0, err
		}
		if err != nil && !isTimeout(err) {
			c.rerr = err
		}
	}
	out := c.pending
	if i := bytes.IndexByte(out, '\n'); i >= 0 && !data {
		out = out[:i+1]
	}
	n := copy(p, out)
	line := c.pending[:n]
	c.pending = c.pending[n:]
	if !data {
		c.mu.Lock()
		c.starttls = bytes.EqualFold(bytes.TrimRight(line, " \t\r\n"), []byte("STARTTLS"))
		c.mu.Unlock()
	}
	return n, nil
}

const (
	handshakeTimeout = 30 * time.Second
	firstTLSRecord   = 20 // change_cipher_spec, alert, handshake, application_data
	lastTLSRecord    = 23
)

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.secured && len(p) > 0 && (p[0] < firstTLSRecord || p[0] > lastTLSRecord) {
		c.mu.Unlock()
		c.Close()
		return 0, errPlainAfterSTARTTLS
	}
	if c.starttls && bytes.HasPrefix(p, []byte("220 ")) {
		c.starttls, c.secured, c.plain = false, true, false
		c.Conn.SetReadDeadline(time.Now().Add(handshakeTimeout))
	}
	last := c.last
	c.mu.Unlock()
	n, err := c.Conn.Write(p)
	if last {
		c.Close()
	}
	return n, err
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// describeTLS names a connection's protection for Received and the log.
func describeTLS(c net.Conn) string {
	t, ok := c.(*tls.Conn)
	if !ok {
		return ""
	}
	s := t.ConnectionState()
	return fmt.Sprintf("%s %s", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite))
}
