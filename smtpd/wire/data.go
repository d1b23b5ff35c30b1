package wire

import (
	"bytes"
	"errors"
	"io"
	"time"
)

var (
	crlf   = []byte("\r\n")
	endDot = []byte(".\r\n")
	newDot = []byte("\r\n.")
)

// OpenMessage returns a reader of the message that the client has announced. It
// ends with io.EOF at the end of the message, and with io.ErrUnexpectedEOF where
// the connection ends before that. What is not read of a message is discarded
// by the next Read of the connection.
func (c *Conn) OpenMessage(limit MessageTimeout) io.Reader {
	c.arrival = &phaseReader{
		r:     c.message(),
		conn:  c,
		limit: limit,
		start: time.Now(),
	}

	return c.arrival
}

// Chunked reports whether the message comes in chunks (BDAT).
func (c *Conn) Chunked() bool { return c.mode == modeChunks }

// message returns a reader of the message that follows DATA or BDAT.
func (c *Conn) message() io.Reader {
	if c.Chunked() {
		return (*chunkReader)(c)
	}

	return (*dataReader)(c)
}

// finishMessage discards what the session did not read of a message. It takes no
// longer than the whole message may: slow clients get the refusal of a large
// message, too, and do not send it again.
func (c *Conn) finishMessage() error {
	if c.Chunked() {
		c.arrival.r = (*chunkRest)(c)
	}
	_, err := io.Copy(io.Discard, c.arrival)

	return err
}

// unexpected returns the error for a connection that ended in a message.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}

	return err
}

// dataState is where in a line the input of DATA is.
type dataState struct {
	lineStart bool // the next byte is the first of its line
	afterCR   bool // the last byte was a CR
}

// dataReader reads a message up to CRLF.CRLF and removes the dots that the
// client put before dots (RFC 5321 section 4.5.2).
type dataReader Conn

// Read implements io.Reader.
func (d *dataReader) Read(p []byte) (int, error) {
	c := (*Conn)(d)
	n := 0
	for n < len(p) {
		if c.mode != modeData {
			return n, io.EOF
		}

		if c.needsMore() {
			if n > 0 {
				return n, nil
			}
			if err := c.fill(); err != nil {
				return 0, unexpected(err)
			}
			continue
		}

		if c.data.lineStart && c.in[0] == '.' {
			c.takeDot()
			continue
		}
		n += c.copyUntilDot(p[n:])
	}

	return n, nil
}

// needsMore reports whether the input does not tell what comes next: there is
// none, or it may be the beginning of the final dot.
func (c *Conn) needsMore() bool {
	if len(c.in) == 0 {
		return true
	}

	return c.data.lineStart && len(c.in) < len(endDot) && bytes.HasPrefix(endDot, c.in)
}

// takeDot removes the dot at the beginning of a line, which may be the final one.
func (c *Conn) takeDot() {
	c.data.lineStart = false
	if bytes.HasPrefix(c.in, endDot) {
		c.in = c.in[len(endDot):]
		c.mode = modeDot
		return
	}

	c.in = c.in[1:]
}

// copyUntilDot copies input as far as the next line that begins with a dot.
func (c *Conn) copyUntilDot(p []byte) int {
	splitCRLF := c.data.afterCR && c.in[0] == '\n'

	out := c.in
	if splitCRLF {
		out = out[:1]
	} else if i := bytes.Index(out, newDot); i >= 0 {
		out = out[:i+len(crlf)]
	}
	n := copy(p, out)
	out = out[:n]
	c.in = c.in[n:]

	c.data.lineStart = splitCRLF || bytes.HasSuffix(out, crlf)
	c.data.afterCR = out[n-1] == '\r'

	return n
}
