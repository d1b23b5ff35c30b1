package wire

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// HandshakeTimeout bounds a TLS handshake.
const HandshakeTimeout = 30 * time.Second

// wrapTLS puts TLS over the transport. The handshake is still to come.
func (c *Conn) wrapTLS() {
	c.hello = &helloConn{Conn: c.Conn}
	c.secured = tls.Server(c.hello, c.cfg.TLS)
	c.Conn = c.secured
}

// startTLS answers STARTTLS and does the handshake.
func (c *Conn) startTLS(arg string) error {
	if refusal := c.refuseTLS(arg); refusal != "" {
		c.writeReply(refusal)
		return nil
	}
	if len(c.in) > 0 { // sent before the handshake: never read
		c.Close()
		return errInjection
	}

	c.writeReply(replyTLSReady)
	if err := c.flush(); err != nil {
		return err
	}

	c.mu.Lock()
	c.wrapTLS()
	c.mu.Unlock()
	c.needEHLO = true

	return c.handshake()
}

// refuseTLS returns the reply to a STARTTLS that is refused, or "". No state
// from before TLS may be used in it (RFC 3207 section 4.2).
func (c *Conn) refuseTLS(arg string) string {
	switch {
	case arg != "":
		return replyTLSParams
	case c.cfg.TLS == nil:
		return replyNoTLS
	case c.secured != nil:
		return replyTLSOn
	case c.authed, c.inMail:
		return replyTLSTooLate
	}

	return ""
}

// handshake does the TLS handshake, between BeforeTLS and the function that it
// returned. BeforeTLS is called once the client begins, so that silent clients
// do not hold up others of their source.
func (c *Conn) handshake() error {
	ctx, cancel := context.WithTimeout(context.Background(), HandshakeTimeout)
	defer cancel()

	done := func() {}
	c.hello.begun = func() error {
		f, err := c.cfg.BeforeTLS(ctx)
		if err == nil {
			done = f
		}

		return err // that of ctx, as HandshakeContext's is then
	}

	err := c.secured.HandshakeContext(ctx)
	done()
	if err != nil {
		c.cfg.OnFail(err)
		return err // after which the library closes
	}
	c.shaken.Store(true)

	return nil
}

// helloConn is the transport under TLS. It calls begun before it hands out the
// client's first bytes.
type helloConn struct {
	net.Conn
	begun func() error // nil once it was called
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

// Secure reports whether the connection uses TLS.
func (c *Conn) Secure() bool { return c.secured != nil }

// Protection returns the TLS version and cipher suite for Received and the log,
// or "" for plain text.
func (c *Conn) Protection() string {
	if c.secured == nil {
		return ""
	}

	s := c.secured.ConnectionState()
	return fmt.Sprintf("%s %s", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite))
}
