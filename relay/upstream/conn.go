package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"postern/relay/reply"
)

const (
	// maxReplyBytes limits a reply, with all its lines.
	maxReplyBytes = 64 << 10

	// maxReplyLine limits one line of a reply.
	maxReplyLine = 4 << 10

	writeBuffer = 32 << 10
	quitTimeout = time.Second
)

var errReply = errors.New("malformed SMTP reply")

// aLongTimeAgo, as a deadline, ends pending reads and writes at once.
var aLongTimeAgo = time.Unix(1, 0)

// Extensions are the service extensions in an upstream's reply to EHLO: the
// keyword in upper case, and its parameters.
type Extensions map[string]string

// Has reports whether the extension was offered. name is in upper case.
func (e Extensions) Has(name string) bool {
	_, ok := e[name]
	return ok
}

// conn is one connection to an upstream. It belongs to one goroutine at a time.
type conn struct {
	raw      net.Conn
	r        *bufio.Reader
	w        *bufio.Writer
	timeouts Timeouts
	ext      Extensions
	tls      bool
	messages int // transactions that were begun
	born     time.Time
	idle     time.Time // when it became idle
	broken   bool      // must not be used again

	transcript transcript
}

func (c *conn) setBuffers(rw net.Conn) {
	c.r = bufio.NewReaderSize(rw, maxReplyLine)
	c.w = bufio.NewWriterSize(rw, writeBuffer)
}

// readReply reads one reply (RFC 5321 section 4.2.1). Its text is cleaned:
// printable ASCII of limited length.
func (c *conn) readReply() (reply.Reply, error) {
	r, err := c.readLines()
	r.Text = reply.CleanText(r.Text)

	return r, err
}

// readLines reads one reply with any number of lines, in printable ASCII.
// After an error the connection is broken.
func (c *conn) readLines() (reply.Reply, error) {
	r, err := c.parseReply()
	if err != nil {
		c.broken = true
	}

	return r, err
}

func (c *conn) parseReply() (reply.Reply, error) {
	var r reply.Reply
	total := 0
	for first := true; ; first = false {
		raw, err := c.r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return r, errReply
		}
		if err != nil {
			return r, err
		}

		total += len(raw)
		if total > maxReplyBytes {
			return r, errReply
		}

		raw = bytes.TrimRight(raw, "\r\n")
		c.transcript.reply(raw)
		line, ok := parseReplyLine(raw)
		if !ok || !first && line.code != r.Code {
			return r, errReply
		}

		enhanced, text := cutEnhanced(line.code, line.text)
		switch {
		case first:
			r.Code = line.code
			r.Enhanced = enhanced
			r.Text = text
		case r.Enhanced == reply.EnhancedCode{}: // only a code that began on the first line is cut
			r.Text += "\n" + line.text
		default:
			r.Text += "\n" + text
		}

		if !line.more {
			return r, nil
		}
	}
}

// replyLine is one line of a reply.
type replyLine struct {
	code int
	more bool // other lines follow
	text string
}

// parseReplyLine parses a line without its line end. A code may stand alone
// (RFC 5321 section 4.2).
func parseReplyLine(line []byte) (l replyLine, ok bool) {
	if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
		return l, false
	}

	code, err := strconv.Atoi(string(line[:3]))
	if err != nil || code < 200 || code > 599 {
		return l, false
	}

	return replyLine{
		code: code,
		more: len(line) > 3 && line[3] == '-',
		text: reply.CleanLine(string(line[min(4, len(line)):]), maxReplyLine),
	}, true
}

// cutEnhanced cuts an enhanced status code (RFC 2034) from the text of a reply.
// A code whose class is not that of the reply remains part of the text.
func cutEnhanced(code int, text string) (reply.EnhancedCode, string) {
	word, rest, _ := strings.Cut(text, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 {
		return reply.EnhancedCode{}, text
	}

	var e reply.EnhancedCode
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 999 || len(p) > 3 {
			return reply.EnhancedCode{}, text
		}
		e[i] = n
	}

	if e[0] != code/100 {
		return reply.EnhancedCode{}, text
	}

	return e, rest
}

// command sends one command and reads its reply.
func (c *conn) command(line string) (reply.Reply, error) {
	return c.secretCommand(line, line)
}

// secretCommand is like command; the transcript has shown in place of the line.
func (c *conn) secretCommand(line, shown string) (reply.Reply, error) {
	c.transcript.command(shown)
	if err := c.writeCommand(line); err != nil {
		return reply.Reply{}, err
	}

	return c.readReply()
}

// writeCommand sends one command.
func (c *conn) writeCommand(line string) error {
	c.raw.SetDeadline(time.Now().Add(c.timeouts.Command))
	if _, err := c.w.WriteString(line + "\r\n"); err != nil {
		c.broken = true
		return err
	}

	if err := c.w.Flush(); err != nil {
		c.broken = true
		return err
	}

	return nil
}

// quit closes the connection. QUIT is sent first unless the connection is
// broken; its reply is not read.
func (c *conn) quit() {
	if !c.broken {
		c.raw.SetDeadline(time.Now().Add(quitTimeout))
		c.transcript.command("QUIT")
		c.w.WriteString("QUIT\r\n")
		c.w.Flush()
	}

	c.raw.Close()
}
