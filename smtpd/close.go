package smtpd

import (
	"errors"
	"postern/relay/reply"
)

var errClosed = errors.New("smtpd: closed after the last reply")

// closeAfterReply ends the connection once the reply under way is out.
func (c *conn) closeAfterReply() {
	c.mu.Lock()
	c.last = true
	c.mu.Unlock()
}

// closeAfterRefusal ends the connection once a refusal that is to come is out.
func (c *conn) closeAfterRefusal() {
	c.mu.Lock()
	c.refusal = true
	c.mu.Unlock()
}

// endNow sends the replies of before and closes; it returns why, or what went
// wrong with that.
func (c *conn) endNow(why error) error {
	c.closeAfterReply()
	if err := c.flush(); err != nil && err != errClosed {
		return err
	}

	return why
}

// closeAfterErrors tells a client that its errors were too many.
func (c *conn) closeAfterErrors() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last {
		c.out, c.last = append(c.out, tooManyErrors...), true
	}
}

// Close sends what is queued and closes.
func (c *conn) Close() error {
	c.flush()
	return c.drop()
}

// drop closes without another word.
func (c *conn) drop() error {
	c.mu.Lock()
	transport := c.Conn
	c.mu.Unlock()

	err := transport.Close()
	c.once.Do(c.cfg.release)

	return err
}

// goodbye ends a connection that is idle, with a reply. One whose TLS handshake is not
// done can be told nothing.
func (c *conn) goodbye(last reply.Reply) {
	c.mu.Lock()
	mute := c.secured != nil && !c.shaken.Load()
	c.mu.Unlock()
	if mute {
		c.abort()
		return
	}

	c.writeReply(last.String())
	c.Close()
}

// abort closes the socket, whatever is being written to it or waited for: who
// reads or writes fails and gives the rest back.
func (c *conn) abort() { c.sock.Close() }
