package wire

import (
	"errors"
	"postern/relay/reply"
)

var errClosed = errors.New("smtp: closed after the last reply")

// CloseAfterReply ends the connection once the reply under way is out.
func (c *Conn) CloseAfterReply() {
	c.mu.Lock()
	c.last = true
	c.mu.Unlock()
}

// CloseAfterRefusal ends the connection once a refusal that is to come is out.
func (c *Conn) CloseAfterRefusal() {
	c.mu.Lock()
	c.refusal = true
	c.mu.Unlock()
}

// endNow sends the replies of before and closes; it returns why, or what went
// wrong with that.
func (c *Conn) endNow(why error) error {
	c.CloseAfterReply()
	if err := c.flush(); err != nil && err != errClosed {
		return err
	}

	return why
}

// closeAfterErrors tells a client that its errors were too many.
func (c *Conn) closeAfterErrors() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last {
		c.out, c.last = append(c.out, tooManyErrors...), true
	}
}

// Close sends what is queued and closes.
func (c *Conn) Close() error {
	c.flush()
	return c.Drop()
}

// Drop closes without another word.
func (c *Conn) Drop() error {
	c.mu.Lock()
	transport := c.Conn
	c.mu.Unlock()

	err := transport.Close()
	c.once.Do(c.cfg.Release)

	return err
}

// Goodbye ends a connection that is idle, with a reply. One whose TLS handshake is not
// done can be told nothing.
func (c *Conn) Goodbye(last reply.Reply) {
	c.mu.Lock()
	mute := c.secured != nil && !c.shaken.Load()
	c.mu.Unlock()
	if mute {
		c.Abort()
		return
	}

	c.writeReply(last.String())
	c.Close()
}

// Abort closes the socket, whatever is being written to it or waited for: who
// reads or writes fails and gives the rest back.
func (c *Conn) Abort() { c.sock.Close() }
