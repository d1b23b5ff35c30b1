package wire

import (
	"bytes"
	"io"
	"time"
)

var (
	crlf   = []byte("\r\n")
	endDot = []byte(".\r\n")
	newDot = []byte("\r\n.")
)

// OpenMessage begins the message that the client has announced, and returns what
// reads it within its time.
func (c *Conn) OpenMessage(limit MessageTimeout) io.Reader {
	c.arrival = &phaseReader{
		r:     c.message(),
		conn:  c,
		limit: limit,
		start: time.Now(),
	}

	return c.arrival
}

// Chunked reports whether the message under way comes in chunks (BDAT).
func (c *Conn) Chunked() bool { return c.mode == modeChunks }

// message reads the message that follows DATA or BDAT: dots unstuffed up to
// CRLF.CRLF, or chunk after chunk up to the last. A transport that ends before
// is io.ErrUnexpectedEOF.
func (c *Conn) message() io.Reader {
	if c.Chunked() {
		return (*chunkReader)(c)
	}

	return (*dataReader)(c)
}

type dataReader Conn

// Read implements io.Reader.
func (d *dataReader) Read(p []byte) (int, error) {
	c := (*Conn)(d)
	n := 0
	for n < len(p) {
		if c.mode != modeData {
			return n, io.EOF
		}
		if len(c.in) == 0 || c.lineStart && len(c.in) < len(endDot) && bytes.HasPrefix(endDot, c.in) {
			if n > 0 {
				return n, nil
			}
			if err := c.fill(); err != nil {
				return 0, unexpected(err)
			}
			continue
		}
		if c.lineStart && c.in[0] == '.' {
			c.lineStart = false
			if bytes.HasPrefix(c.in, endDot) {
				c.in, c.mode = c.in[len(endDot):], modeDot
				continue
			}
			c.in = c.in[1:]
			continue
		}
		n += c.copyUntilDot(p[n:])
	}

	return n, nil
}

// copyUntilDot copies input as far as the next line that begins with a dot.
func (c *Conn) copyUntilDot(p []byte) int {
	out := c.in
	if c.afterCR && out[0] == '\n' {
		out = out[:1]
	} else if i := bytes.Index(out, newDot); i >= 0 {
		out = out[:i+len(crlf)]
	}
	k := copy(p, out)
	out, c.in = out[:k], c.in[k:]

	c.lineStart = bytes.HasSuffix(out, crlf) || k == 1 && c.afterCR && out[0] == '\n'
	c.afterCR = out[k-1] == '\r'

	return k
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}

	return err
}

// finishMessage passes over what the session left of a message, in the time
// that it would have had for it: who sends a large message slowly gets the
// refusal, too, and does not come again.
func (c *Conn) finishMessage() error {
	if c.Chunked() {
		c.arrival.r = (*chunkRest)(c)
	}
	_, err := io.Copy(io.Discard, c.arrival)

	return err
}
