package wire

import (
	"bytes"
	"errors"
	"io"
	"time"

	"postern/relay/message"
	"postern/relay/reply"
)

// ErrAborted says that the client gave up a message between two chunks: with
// RSET, EHLO or QUIT (RFC 3030 section 3, RFC 5321 section 4.1.4).
var ErrAborted = errors.New("smtp: message given up by the client")

var errTooLarge = &reply.Fault{
	Class: reply.Permanent,
	Err:   message.ErrTooLarge,
	Reply: reply.Reply{
		Code:     552,
		Enhanced: reply.EnhancedCode{5, 3, 4},
		Text:     "Message exceeds the maximum size",
	},
}

type chunkReader Conn

// Read implements io.Reader. By the time that it is called again, what it gave
// was accepted: a chunk is acknowledged when the next one is asked for.
func (r *chunkReader) Read(p []byte) (int, error) {
	c := (*Conn)(r)
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
func (c *Conn) checkChunk() error {
	if c.cfg.MaxMessage > 0 && c.received+c.chunk.size > c.cfg.MaxMessage {
		return errTooLarge
	}

	return nil
}

// readChunk reads a part of the chunk under way.
func (c *Conn) readChunk(p []byte) (int, error) {
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
func (c *Conn) discardChunk() error {
	for c.chunk.size > 0 {
		c.SetReadDeadline(time.Now().Add(c.cfg.Idle))
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
type chunkRest Conn

// Read implements io.Reader.
func (r *chunkRest) Read(p []byte) (int, error) {
	c := (*Conn)(r)
	if c.chunk.size == 0 {
		return 0, io.EOF
	}

	return c.readChunk(p)
}

// nextChunk reads commands up to the next BDAT of a message. Those that would
// begin something else are refused; those that end the transaction are kept
// for afterwards, and the message is given up.
func (c *Conn) nextChunk() error {
	for {
		c.SetReadDeadline(time.Now().Add(c.cfg.Idle))
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
			return ErrAborted
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

// beginChunks begins a message in chunks. The library knows it as DATA: chunks
// are read here, in the goroutine of the connection.
func (c *Conn) beginChunks(cmd command) ([]byte, error) {
	ch, err := parseChunk(cmd.arg)
	if err != nil {
		return nil, c.rejectChunk()
	}

	c.chunk = ch
	if c.needEHLO {
		c.writeReply("503 5.5.1 EHLO first")
		return nil, nil // the chunk is passed over
	}

	return command{verb: "DATA"}.line(), nil
}

// rejectChunk ends the connection: where nobody knows how long a chunk is, it
// would be run as commands.
func (c *Conn) rejectChunk() error {
	c.writeReply("501 5.5.4 Malformed BDAT")

	return c.endNow(errBadChunk)
}
