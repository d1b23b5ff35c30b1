package wire

import (
	"errors"

	"postern/relay/reply"
)

var errClosed = errors.New("wire: closed after the last reply")

// CloseAfterReply closes the connection once the next reply is sent.
func (c *Conn) CloseAfterReply() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = true
}

// CloseAfterRefusal closes the connection once the next refusal is sent.
func (c *Conn) CloseAfterRefusal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusal = true
}

// endNow sends pending replies and closes. It returns why, or the error of
// sending.
func (c *Conn) endNow(why error) error {
	c.CloseAfterReply()
	if err := c.flush(); err != nil && !errors.Is(err, errClosed) {
		return err
	}

	return why
}

// closeAfterErrors closes the connection after too many errors.
func (c *Conn) closeAfterErrors() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endErrorsLocked()
}

// endErrorsLocked makes "too many errors" the last reply, unless there is one
// already. mu is held.
func (c *Conn) endErrorsLocked() {
	if c.last {
		return
	}

	c.out = append(c.out, replyTooManyErrors+"\r\n"...)
	c.last = true
}

// Close sends pending replies and closes the connection.
func (c *Conn) Close() error {
	c.flush()
	return c.Drop()
}

// Drop closes the connection without sending anything.
func (c *Conn) Drop() error {
	c.mu.Lock()
	transport := c.Conn
	c.mu.Unlock()

	err := transport.Close()
	c.released.Do(c.cfg.Release)

	return err
}

// Goodbye closes an idle connection with a reply, or without one where the TLS
// handshake is not done.
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

// Abort closes the socket under reads and writes that wait. They fail, and their
// goroutines release what the connection holds.
func (c *Conn) Abort() { c.sock.Close() }
