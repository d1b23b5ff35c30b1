package wire

import (
	"bytes"
	"time"
)

const (
	// writeTimeout bounds the sending of replies.
	writeTimeout = time.Minute
	// maxOut is how many bytes of replies may be pending.
	maxOut = 32 << 10
)

// The line of the reply to EHLO that STARTTLS is put behind.
var (
	pipelining = []byte("250-PIPELINING")
	offerTLS   = []byte("250-STARTTLS\r\n")
)

// writeReply queues a reply.
func (c *Conn) writeReply(line string) { c.Write([]byte(line + "\r\n")) }

// Write implements net.Conn. It queues a line of the library's replies, or its
// replacement.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := len(p)
	p = corrected(p)
	if c.holdBack(p) {
		return written, nil
	}

	c.out = append(c.out, p...)
	if bytes.HasPrefix(p, pipelining) && c.cfg.TLS != nil && c.secured == nil {
		c.out = append(c.out, offerTLS...) // of which the library knows nothing
	}
	c.countRefusal(p)
	if len(c.out) > maxOut {
		return written, c.flushLocked()
	}

	return written, nil
}

// holdBack reports whether a reply is not to be sent, or not yet, and notes what
// a reply that asks for more means. mu is held.
func (c *Conn) holdBack(p []byte) bool {
	if c.omit {
		c.omit = false
		return true
	}
	if !isReply(p, '3') {
		return false
	}

	switch c.verb {
	case "DATA":
		c.mode = modeData
		c.data = dataState{lineStart: true}
		c.goAhead = bytes.Clone(p)
		return true
	case "BDAT": // the library thinks it is DATA; a chunk waits for no reply
		c.mode = modeChunks
		c.received = 0
		return true
	case "AUTH":
		c.sasl = true
	}

	return false
}

// GoAhead sends the 354 of DATA.
func (c *Conn) GoAhead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(c.out, c.goAhead...)
	c.goAhead = nil
}

// RefuseData drops the 354: DATA is answered with a refusal, and the client
// sends no message.
func (c *Conn) RefuseData() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goAhead = nil
	c.mode = modeDot
}

// omitReply drops the library's next reply, which has one line.
func (c *Conn) omitReply() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.omit = true
}

// flush sends pending replies, and closes after the last.
func (c *Conn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()

	return c.flushLocked()
}

// flushFinal sends the last reply, where there is one: what the client sent
// after it is not read.
func (c *Conn) flushFinal() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last {
		return nil
	}

	return c.flushLocked()
}

// flushLocked is flush with mu held.
func (c *Conn) flushLocked() error {
	if err := c.send(); err != nil {
		c.Conn.Close() // nobody knows how much of the replies arrived
		return err
	}

	if c.last {
		c.Conn.Close()
		return errClosed
	}

	return nil
}

// send sends pending replies. mu is held.
func (c *Conn) send() error {
	if len(c.out) == 0 {
		return nil
	}

	c.said.replies(c.out)
	c.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.Conn.Write(c.out)
	c.out = c.out[:0]

	return err
}

// isReply reports whether p is the last line of a reply whose code begins with a
// digit.
func isReply(p []byte, digit byte) bool { return len(p) > 3 && p[0] == digit && p[3] == ' ' }

// isRefusal reports whether p is the last line of a 4xx or 5xx reply.
func isRefusal(p []byte) bool { return isReply(p, '4') || isReply(p, '5') }
