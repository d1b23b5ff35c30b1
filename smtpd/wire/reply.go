package wire

import (
	"bytes"
	"time"
)

// flushFinal sends the last reply, where there has been one: what was sent
// behind it is not read.
func (c *Conn) flushFinal() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last {
		return nil
	}

	return c.flushLocked()
}

// writeTimeout is how long replies may take to leave.
const writeTimeout = time.Minute

// writeReply queues a reply of our own.
func (c *Conn) writeReply(line string) { c.Write([]byte(line + "\r\n")) }

// Write queues a reply line of the library's, or its replacement.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := len(p)
	p = corrected(p)

	switch {
	case c.omit:
		c.omit = false
		return written, nil
	case c.verb == "DATA" && isReply(p, '3'):
		c.mode = modeData
		c.lineStart, c.afterCR = true, false
		c.goAhead = bytes.Clone(p)
		return written, nil
	case c.verb == "BDAT" && isReply(p, '3'): // the library's; a chunk waits for nothing
		c.mode, c.received = modeChunks, 0
		return written, nil
	case c.verb == "AUTH" && isReply(p, '3'):
		c.sasl = true
	}

	c.out = append(c.out, p...)
	if bytes.HasPrefix(p, []byte("250-PIPELINING")) && c.cfg.TLS != nil && c.secured == nil {
		c.out = append(c.out, "250-STARTTLS\r\n"...) // the library knows nothing of it
	}
	c.countRefusal(p)
	if len(c.out) > maxOut {
		return written, c.flushLocked()
	}

	return written, nil
}

// countRefusal closes the connection after the refusal that is to be the last,
// and after too many. Called under mu.
func (c *Conn) countRefusal(p []byte) {
	if !isRefusal(p) {
		return
	}
	if c.refusal {
		c.last = true
	}
	if c.trusted && c.verb == "RCPT" {
		return
	}

	c.errors++
	if c.errors >= maxErrors && !c.last {
		c.out, c.last = append(c.out, tooManyErrors...), true
	}
}

// GoAhead releases the 354 of DATA.
func (c *Conn) GoAhead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out, c.goAhead = append(c.out, c.goAhead...), nil
}

// RefuseData takes the 354 back: DATA is answered with a refusal, and nothing
// of the message is asked for.
func (c *Conn) RefuseData() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goAhead, c.mode = nil, modeDot
}

// omitReply keeps the library's next reply back, which is of one line.
func (c *Conn) omitReply() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.omit = true
}

// Trust marks the client as one that may submit: it may have bad addresses
// among many, and may be idle.
func (c *Conn) Trust() {
	c.mu.Lock()
	c.trusted = true
	c.mu.Unlock()
}

// MarkAuthenticated marks the client as one that has authenticated, and trusts
// it: STARTTLS comes too late for it.
func (c *Conn) MarkAuthenticated() {
	c.authed = true
	c.Trust()
}

// BeginTransaction tells the connection of MAIL: STARTTLS has to wait.
func (c *Conn) BeginTransaction() { c.inMail = true }

// EndTransaction tells the connection that the transaction of MAIL is over.
func (c *Conn) EndTransaction() { c.inMail = false }

// ForgetErrors forgets refusals and commands: a client that gets a message
// through is not a crawler.
func (c *Conn) ForgetErrors() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errors, c.commands = 0, 0
}

func (c *Conn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flushLocked()
}

func (c *Conn) flushLocked() error {
	if len(c.out) > 0 {
		c.said.replies(c.out)
		c.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := c.Conn.Write(c.out)
		c.out = c.out[:0]
		if err != nil { // nobody knows how much of the replies arrived
			c.Conn.Close()
			return err
		}
	}

	if c.last {
		c.Conn.Close()
		return errClosed
	}

	return nil
}

// isReply reports whether p is the last line of a reply of a class, which is
// its first digit.
func isReply(p []byte, class byte) bool { return len(p) > 3 && p[0] == class && p[3] == ' ' }

func isRefusal(p []byte) bool { return isReply(p, '4') || isReply(p, '5') }

// libraryReplies are replies of go-smtp whose codes RFC 5321 (sections 4.1.1.11,
// 4.1.4 and 4.2.4) and RFC 4954 (section 4) want otherwise.
var libraryReplies = map[string]string{
	"502 5.5.1 Please introduce yourself first.":          "503 5.5.1 EHLO first",
	"502 5.5.1 Missing MAIL FROM command.":                "503 5.5.1 MAIL first",
	"502 5.5.1 Missing RCPT TO command.":                  "503 5.5.1 RCPT first",
	"502 5.5.4 Missing parameter":                         "501 5.5.4 Missing parameter",
	"501 5.5.2 Bad command":                               "500 5.5.2 Bad command",
	"500 5.5.4 Unknown MAIL FROM argument":                "555 5.5.4 Unknown MAIL parameter",
	"500 5.5.4 Unknown RCPT TO argument":                  "555 5.5.4 Unknown RCPT parameter",
	"500 5.5.4 Malformed AUTH parameter value":            "501 5.5.4 Malformed AUTH parameter value",
	"500 5.5.4 Malformed AUTH parameter mailbox":          "501 5.5.4 Malformed AUTH parameter mailbox",
	"454 4.7.0 Invalid base64 data":                       "501 5.5.2 Invalid base64 data",
	"501 5.0.0 Negotiation cancelled":                     "501 5.7.0 Authentication cancelled",
	"501 5.5.2 Domain/address argument required for HELO": "501 5.5.4 Domain or address literal required",
	"500 5.5.1 Too many errors. Quiting now":              "421 4.7.0 Too many errors, closing connection",
	"421 4.4.2 Idle timeout, bye bye":                     "421 4.4.2 Timeout, closing connection",
	"421 4.4.0 Connection error, sorry":                   "421 4.4.0 Connection error",
	"500 5.4.0 Too long line, closing connection":         "500 5.5.2 Line too long",
	"250 2.0.0 I have successfully done nothing":          "250 2.0.0 Ok",
}

// corrected returns a line of the library's as RFC 5321 wants it.
func corrected(p []byte) []byte {
	if r, ok := libraryReplies[string(bytes.TrimSuffix(p, crlf))]; ok {
		return []byte(r + "\r\n")
	}

	return p
}
