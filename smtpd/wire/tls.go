package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

const (
	readSize         = 16 << 10
	HandshakeTimeout = 30 * time.Second
	maxOut           = 32 << 10
	maxErrors        = 20 // refusals in a row
	tooManyErrors    = "421 4.7.0 Too many errors, closing connection\r\n"
)

// wrapTLS puts TLS over the transport. The handshake is still to come.
func (c *Conn) wrapTLS() {
	c.hello = &helloConn{Conn: c.Conn}
	c.secured = tls.Server(c.hello, c.cfg.TLS)
	c.Conn = c.secured
}

// startTLS answers STARTTLS and does the handshake.
func (c *Conn) startTLS(params bool) error {
	switch {
	case params:
		c.writeReply("501 5.5.4 STARTTLS takes no parameters")
		return nil
	case c.cfg.TLS == nil:
		c.writeReply("502 5.5.1 TLS not supported")
		return nil
	case c.secured != nil:
		c.writeReply("503 5.5.1 TLS is on already")
		return nil
	case c.authed, c.inMail: // nothing of before TLS may be used in it (RFC 3207 section 4.2)
		c.writeReply("503 5.5.1 Too late for STARTTLS")
		return nil
	case len(c.in) > 0: // sent before the handshake: never read
		c.Close()
		return errInjection
	}

	c.writeReply("220 2.0.0 Ready to start TLS")
	if err := c.flush(); err != nil {
		return err
	}

	c.mu.Lock()
	c.wrapTLS()
	c.mu.Unlock()
	c.needEHLO = true

	return c.handshake()
}

// handshake does the TLS handshake, in one of the places of the client's
// source. It takes that when the client begins: those that say nothing must not
// keep others of their source waiting.
func (c *Conn) handshake() error {
	ctx, cancel := context.WithTimeout(context.Background(), HandshakeTimeout)
	defer cancel()
	leave := func() {}
	c.hello.begun = func() error {
		done, err := c.cfg.BeforeTLS(ctx)
		if err == nil {
			leave = done
		}

		return err // that of ctx, as HandshakeContext's is then
	}

	err := c.secured.HandshakeContext(ctx)
	leave()
	if err != nil {
		c.cfg.OnFail(err)
		return err // after which the library closes
	}
	c.shaken.Store(true)

	return nil
}

// helloConn is the transport under TLS, which asks before the client's first
// bytes are looked at.
type helloConn struct {
	net.Conn
	begun func() error // nil once it was asked
}

// Read implements net.Conn.
func (h *helloConn) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if n == 0 || h.begun == nil {
		return n, err
	}

	begun := h.begun
	h.begun = nil
	if err := begun(); err != nil {
		return 0, err
	}

	return n, err
}

// Secure reports whether TLS is on, or about to be.
func (c *Conn) Secure() bool { return c.secured != nil }

// Protection names a connection's TLS for Received and the log; empty: plain.
func (c *Conn) Protection() string {
	if c.secured == nil {
		return ""
	}

	s := c.secured.ConnectionState()
	return fmt.Sprintf("%s %s", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite))
}
