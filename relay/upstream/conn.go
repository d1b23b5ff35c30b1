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

// Extensions are what the upstream's EHLO offered, keyword in upper case to
// its parameters.
type Extensions map[string]string

// Has reports whether the extension was offered.
func (e Extensions) Has(name string) bool { _, ok := e[name]; return ok }

// conn is one connection to an upstream. It belongs to one goroutine at a time.
type conn struct {
	raw      net.Conn
	r        *bufio.Reader
	w        *bufio.Writer
	t        Timeouts
	ext      Extensions
	tls      bool
	messages int
	born     time.Time
	idle     time.Time // since when it has been idle
	broken   bool      // must not be used again
	said     transcript
}

// Limits on what an upstream may answer.
const (
	maxReplyBytes = 64 << 10
	maxReplyLine  = 4 << 10
)

var errReply = errors.New("upstream: answer is no SMTP reply")

// readReply reads one reply (RFC 5321 section 4.2.1). Its text is clean from here
// on: printable ASCII, of a bounded length.
func (c *conn) readReply() (reply.Reply, error) {
	r, err := c.readLines()
	r.Text = reply.CleanText(r.Text)

	return r, err
}

// readLines reads one reply, however many lines, in printable ASCII.
func (c *conn) readLines() (reply.Reply, error) {
	var r reply.Reply
	total := 0
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			c.broken = true
			if errors.Is(err, bufio.ErrBufferFull) {
				err = errReply
			}
			return r, err
		}

		total += len(line)
		if total > maxReplyBytes {
			c.broken = true
			return r, errReply
		}

		line = bytes.TrimRight(line, "\r\n")
		c.said.reply(line)
		if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
			c.broken = true
			return r, errReply
		}

		code, err := strconv.Atoi(string(line[:3]))
		if err != nil || code < 200 || code > 599 || !first && code != r.Code {
			c.broken = true
			return r, errReply
		}

		more := len(line) > 3 && line[3] == '-'
		text := reply.CleanLine(string(line[min(4, len(line)):]), maxReplyLine)
		if first {
			r.Code = code
			r.Enhanced, text = cutEnhanced(code, text)
			r.Text = text
		} else {
			if _, t := cutEnhanced(code, text); r.Enhanced != (reply.EnhancedCode{}) {
				text = t
			}
			r.Text += "\n" + text
		}

		if !more {
			return r, nil
		}
	}
}

// cutEnhanced takes an enhanced status code off a reply's text (RFC 2034).
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

// command sends one line and reads its reply.
func (c *conn) command(line string) (reply.Reply, error) {
	return c.secretCommand(line, line)
}

// secretCommand is command for a line of which a transcript may have no more
// than what is shown.
func (c *conn) secretCommand(line, shown string) (reply.Reply, error) {
	c.said.command(shown)
	if err := c.writeCommand(line); err != nil {
		return reply.Reply{}, err
	}

	return c.readReply()
}

// writeCommand sends one line.
func (c *conn) writeCommand(line string) error {
	c.raw.SetDeadline(time.Now().Add(c.t.Command))
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

func (c *conn) buffers(rw net.Conn) {
	c.r = bufio.NewReaderSize(rw, maxReplyLine)
	c.w = bufio.NewWriterSize(rw, 32<<10)
}

// quit is polite and does not wait.
func (c *conn) quit() {
	if !c.broken {
		c.raw.SetDeadline(time.Now().Add(time.Second))
		c.said.command("QUIT")
		c.w.WriteString("QUIT\r\n")
		c.w.Flush()
	}
	c.raw.Close()
}
