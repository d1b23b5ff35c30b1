package wire

import (
	"bytes"
	"errors"
	"io"

	"postern/relay/message"
	"postern/relay/reply"
)

// ErrAborted is the error of a message that the client gave up between two
// chunks: with RSET, EHLO or QUIT (RFC 3030 section 3, RFC 5321 section 4.1.4).
var ErrAborted = errors.New("wire: message given up by the client")

var errTooLarge = &reply.Fault{
	Class: reply.Permanent,
	Err:   message.ErrTooLarge,
	Reply: reply.Reply{
		Code:     552,
		Enhanced: reply.EnhancedCode{5, 3, 4},
		Text:     "Message exceeds the maximum size",
	},
}

// beginChunks begins a message in chunks. The library gets a DATA: chunks are
// read here, in the goroutine of the connection.
func (c *Conn) beginChunks(cmd command) ([]byte, error) {
	ch, err := parseChunk(cmd.arg)
	if err != nil {
		return nil, c.rejectChunk()
	}

	c.chunk = ch
	if c.needEHLO {
		c.writeReply(replyEHLOFirst)
		return nil, nil // the chunk is discarded
	}

	return command{verb: "DATA"}.line(), nil
}

// rejectChunk closes the connection after a malformed BDAT. Nobody knows how
// long its chunk is, and it would be run as commands.
func (c *Conn) rejectChunk() error {
	c.writeReply(replyBadChunk)

	return c.endNow(errBadChunk)
}

// chunkReader reads a message chunk by chunk, up to the last.
type chunkReader Conn

// Read implements io.Reader. When it is called again, what it returned before
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

		c.writeReply(replyContinue)
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

// checkChunk returns an error if the chunk makes the message too large, before
// it is read (RFC 1870 section 6.3).
func (c *Conn) checkChunk() error {
	if c.cfg.MaxMessage > 0 && c.received+c.chunk.size > c.cfg.MaxMessage {
		return errTooLarge
	}

	return nil
}

// readChunk reads a part of the current chunk.
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

// discardChunk discards the chunk of a BDAT that was refused.
func (c *Conn) discardChunk() error {
	for c.chunk.size > 0 {
		c.allowIdle()
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

// chunkRest reads what is left of a chunk.
type chunkRest Conn

// Read implements io.Reader.
func (r *chunkRest) Read(p []byte) (int, error) {
	c := (*Conn)(r)
	if c.chunk.size == 0 {
		return 0, io.EOF
	}

	return c.readChunk(p)
}

// nextChunk reads commands up to the next BDAT of a message.
func (c *Conn) nextChunk() error {
	for {
		c.allowIdle()
		line, err := c.line()
		if err != nil {
			return err
		}
		c.said.command(line)

		found, err := c.betweenChunks(line)
		if found || err != nil {
			return err
		}
		if err := c.flushFinal(); err != nil {
			return err
		}
	}
}

// betweenChunks runs a command between two chunks, and reports whether it is the
// next BDAT. Commands that would begin something else are refused. Those that
// end the transaction are run after it, and the message is given up.
func (c *Conn) betweenChunks(line []byte) (bool, error) {
	cmd := parseCommand(line)
	if err := c.countCommand(cmd.verb); err != nil {
		return false, err
	}

	switch cmd.verb {
	case "BDAT":
		ch, err := parseChunk(cmd.arg)
		if err != nil {
			return false, c.rejectChunk()
		}
		c.chunk = ch
		return true, nil
	case "RSET", "EHLO", "HELO", "QUIT":
		c.pushed = bytes.Clone(line)
		c.mode = modeDot
		c.omitReply()
		return false, ErrAborted
	case "NOOP":
		c.writeReply(replyOK)
	case "MAIL", "RCPT", "DATA", "AUTH", "STARTTLS":
		c.writeReply(replyInMessage)
	default:
		return false, c.answer(cmd)
	}

	return false, nil
}
