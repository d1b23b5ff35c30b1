package smtpd

import (
	"bytes"
	"errors"
	"io"
	"time"

	"postern/relay/message"
	"postern/relay/reply"
)

// errAborted says that the client gave up a message between two chunks: with
// RSET, EHLO or QUIT (RFC 3030 section 3, RFC 5321 section 4.1.4).
var errAborted = errors.New("smtpd: message given up by the client")

var errTooLarge = &reply.Fault{
	Class: reply.Permanent,
	Err:   message.ErrTooLarge,
	Reply: reply.Reply{
		Code:     552,
		Enhanced: reply.EnhancedCode{5, 3, 4},
		Text:     "Message exceeds the maximum size",
	},
}

var (
	crlf   = []byte("\r\n")
	endDot = []byte(".\r\n")
	newDot = []byte("\r\n.")
)

// message reads the message that follows DATA or BDAT: dots unstuffed up to
// CRLF.CRLF, or chunk after chunk up to the last. A transport that ends before
// is io.ErrUnexpectedEOF.
func (c *conn) message() io.Reader {
	if c.mode == modeChunks {
		return (*chunkReader)(c)
	}

	return (*dataReader)(c)
}

type dataReader conn

// Read implements io.Reader.
func (d *dataReader) Read(p []byte) (int, error) {
	c := (*conn)(d)
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
func (c *conn) copyUntilDot(p []byte) int {
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

type chunkReader conn

// Read implements io.Reader. By the time that it is called again, what it gave
// was accepted: a chunk is acknowledged when the next one is asked for.
func (r *chunkReader) Read(p []byte) (int, error) {
	c := (*conn)(r)
	if c.mode != modeChunks {
		return 0, io.EOF
	}
	if err := c.checkChunk(); err != nil {
		return 0, err
	}

	for c.chunk.size == 0 {
		if c.chunk.last {
			c.mode = modeDot
			return 0, io.EOF
		}

		c.writeReply("250 2.0.0 Continue")
		if err := c.nextChunk(); err != nil {
			return 0, unexpected(err)
		}
		if err := c.checkChunk(); err != nil {
			return 0, err
		}
	}

	n, err := c.readChunk(p)
	c.received += int64(n)

	return n, unexpected(err)
}

// checkChunk refuses a message that its chunks make too large, before they are
// read (RFC 1870 section 6.3).
func (c *conn) checkChunk() error {
	if c.maxMessage > 0 && c.received+c.chunk.size > c.maxMessage {
		return errTooLarge
	}

	return nil
}

// readChunk reads a part of the chunk under way.
func (c *conn) readChunk(p []byte) (int, error) {
	if len(c.in) == 0 {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}

	n := copy(p[:min(int64(len(p)), c.chunk.size)], c.in)
	c.in = c.in[n:]
	c.chunk.size -= int64(n)

	return n, nil
}

// discardChunk passes over the chunk of a BDAT that was refused.
func (c *conn) discardChunk() error {
	for c.chunk.size > 0 {
		c.SetReadDeadline(time.Now().Add(c.idle))
		if len(c.in) == 0 {
			if err := c.fill(); err != nil {
				return err
			}
		}

		n := min(int64(len(c.in)), c.chunk.size)
		c.in = c.in[n:]
		c.chunk.size -= n
	}

	return nil
}

// chunkRest is what is left of a chunk.
type chunkRest conn

// Read implements io.Reader.
func (r *chunkRest) Read(p []byte) (int, error) {
	c := (*conn)(r)
	if c.chunk.size == 0 {
		return 0, io.EOF
	}

	return c.readChunk(p)
}

// nextChunk reads commands up to the next BDAT of a message. Those that would
// begin something else are refused; those that end the transaction are kept
// for afterwards, and the message is given up.
func (c *conn) nextChunk() error {
	for {
		c.SetReadDeadline(time.Now().Add(c.idle))
		line, err := c.line()
		if err != nil {
			return err
		}

		c.said.command(line)
		cmd := parseCommand(line)
		if err := c.countCommand(cmd.verb); err != nil {
			return err
		}

		switch cmd.verb {
		case "BDAT":
			ch, err := parseChunk(cmd.arg)
			if err != nil {
				return c.rejectChunk()
			}
			c.chunk = ch
			return nil
		case "RSET", "EHLO", "HELO", "QUIT":
			c.pushed = bytes.Clone(line)
			c.mode = modeDot
			c.omitReply()
			return errAborted
		case "NOOP":
			c.writeReply("250 2.0.0 Ok")
		case "MAIL", "RCPT", "DATA", "AUTH", "STARTTLS":
			c.writeReply("503 5.5.1 Not allowed during a message transfer")
		default:
			if err := c.answer(cmd); err != nil {
				return err
			}
		}

		if err := c.flushFinal(); err != nil {
			return err
		}
	}
}

// finishMessage passes over what the session left of a message, in the time
// that it would have had for it: who sends a large message slowly gets the
// refusal, too, and does not come again.
func (c *conn) finishMessage() error {
	if c.mode == modeChunks {
		c.arrival.r = (*chunkRest)(c)
	}
	_, err := io.Copy(io.Discard, c.arrival)

	return err
}

// phaseReader holds a message's arrival to its time as a whole, and each read
// to the idle timeout.
type phaseReader struct {
	r     io.Reader
	conn  *conn
	limit phases
	start time.Time
	n     int64
}

// refusedSize is how many times the size of the largest message one that is too
// large may have and get the time for it.
const refusedSize = 2

func (p *phaseReader) Read(b []byte) (int, error) {
	total := p.limit.message
	if p.limit.minRate > 0 {
		size := p.n
		if most := p.conn.maxMessage; most > 0 {
			size = min(size, refusedSize*most)
		}
		total += time.Duration(size/p.limit.minRate) * time.Second
	}
	left := total - time.Since(p.start)

	p.conn.phase(max(left, time.Millisecond))
	p.conn.SetReadDeadline(time.Now().Add(p.conn.idle))
	n, err := p.r.Read(b)
	p.n += int64(n)

	return n, err
}
