package smtpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// conn stands between the socket and go-smtp, which sees a plain connection:
// TLS ends here. It decides what the library cannot (library-faults.md):
//
//   - whole lines only, of a bounded length; a line that ran into a deadline
//     is never executed; what a phase may take in total
//   - STARTTLS: exactly that word, nothing sent in plain behind it, the
//     connection closed where the handshake fails, EHLO anew after it
//   - the end of a message: CRLF.CRLF and nothing else. The session reads the
//     message from here, in bulk; the library, which would look at each byte,
//     then gets its final dot
//   - a BDAT that cannot be understood ends the connection, since its chunk
//     would be run as commands
//   - commands behind one whose answer has to be waited for (EHLO, AUTH, DATA),
//     and too many refusals, end the connection
//   - replies leave together, when the next read has to wait
//
// Reading belongs to one goroutine at a time, as in go-smtp; writing and
// closing may come from others.
type conn struct {
	net.Conn             // the transport: the socket, or TLS over it
	conf     *tls.Config // nil: no STARTTLS
	release  func()      // gives the connection's place back
	onFail   func(error) // hears of a failed handshake
	secured  *tls.Conn   // nil: plain text

	in        []byte // read from the transport, not given out yet
	buf       []byte
	rest      []byte // of a command line that the library takes in parts
	mode      mode
	chunk     int64 // bytes of a BDAT chunk still to pass
	lineStart bool  // the next byte of a message is the first of its line
	afterCR   bool  // the last byte of a message was a CR
	needEHLO  bool  // after STARTTLS
	locked    bool  // STARTTLS is over: authenticated, or in a transaction
	rerr      error

	mu       sync.Mutex
	phaseEnd time.Time // no read deadline is later than this; zero: none
	out      []byte    // replies that have not left yet
	last     bool      // close once they have
	refusal  bool      // the next refusal is the last reply
	verb     string    // the last command's
	trusted  bool      // refused recipients are a list's bad addresses, not a crawler's
	errors   int       // refusals since a message was taken
	once     sync.Once
}

type mode int

const (
	modeCommand mode = iota
	modeData         // a message is to come, up to its final dot
	modeDot          // the message was read; the library gets its final dot
)

const (
	maxCommandLine   = 12288 + 2 // an AUTH response (RFC 4954 section 4)
	readSize         = 16 << 10
	handshakeTimeout = 30 * time.Second
	maxOut           = 32 << 10
	maxErrors        = 20 // refusals in a row
	tooManyErrors    = "421 4.7.0 Too many errors, closing connection\r\n"
)

var (
	errLineTooLong = errors.New("smtpd: command line too long")
	errInjection   = errors.New("smtpd: plain text behind STARTTLS")
	errBadChunk    = errors.New("smtpd: BDAT that cannot be understood")
	errEarly       = errors.New("smtpd: commands sent before they may be")
	errClosed      = errors.New("smtpd: closed after the last reply")
)

// newConn wraps a socket. implicit: TLS begins at once.
func newConn(sock net.Conn, conf *tls.Config, implicit bool, release func(), onFail func(error)) *conn {
	c := &conn{Conn: sock, conf: conf, release: release, onFail: onFail}
	if implicit {
		c.secured = tls.Server(sock, conf)
		c.Conn = c.secured
	}
	return c
}

// SetReadDeadline is called by go-smtp before each line. It never reaches
// beyond the phase's end.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.phaseEnd.IsZero() && (t.IsZero() || t.After(c.phaseEnd)) {
		t = c.phaseEnd
	}
	return c.Conn.SetReadDeadline(t)
}

// phase begins a phase that ends within d, whatever is read; 0 lifts the bound.
func (c *conn) phase(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phaseEnd = time.Time{}
	if d > 0 {
		c.phaseEnd = time.Now().Add(d)
		c.Conn.SetReadDeadline(c.phaseEnd)
	}
}

// closeAfterReply ends the connection once the reply under way is out.
func (c *conn) closeAfterReply() {
	c.mu.Lock()
	c.last = true
	c.mu.Unlock()
}

// closeAfterRefusal ends the connection once a refusal that is to come is out.
func (c *conn) closeAfterRefusal() {
	c.mu.Lock()
	c.refusal = true
	c.mu.Unlock()
}

// over sends the last reply, where there has been one: what was sent behind it
// is not read.
func (c *conn) over() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last {
		return nil
	}
	if err := c.flushLocked(); err != nil {
		return err
	}
	return errClosed
}

// Read gives the library one command line, a part of a chunk, or its final dot.
func (c *conn) Read(p []byte) (int, error) {
	switch {
	case len(c.rest) > 0:
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	case c.chunk > 0:
		return c.readChunk(p)
	case c.mode == modeData: // the session left some of the message
		if _, err := io.Copy(io.Discard, c.message()); err != nil {
			return 0, err
		}
		fallthrough
	case c.mode == modeDot:
		c.mode = modeCommand
		return copy(p, ".\r\n"), nil
	}
	for {
		if err := c.over(); err != nil {
			return 0, err
		}
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		give, err := c.examine(line)
		if err != nil {
			return 0, err
		}
		if give {
			if len(line) > len(p) { // the library's buffer is 4096
				n := copy(p, line)
				c.rest = line[n:]
				return n, nil
			}
			return copy(p, line), nil
		}
	}
}

// fill reads more from the transport. What was to be said is said before, and
// before that TLS begins, where it does so with the connection.
func (c *conn) fill() error {
	if c.rerr != nil {
		return c.rerr
	}
	if c.secured != nil && !c.secured.ConnectionState().HandshakeComplete {
		if err := c.handshake(); err != nil {
			return err
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	if c.buf == nil {
		c.buf = make([]byte, readSize)
	}
	if len(c.in) > len(c.buf)/2 { // a long command line
		c.buf = make([]byte, 2*len(c.buf))
	}
	kept := copy(c.buf, c.in) // c.in is a part of c.buf, or of what it was before
	n, err := c.Conn.Read(c.buf[kept:])
	c.in = c.buf[:kept+n]
	if n > 0 {
		if err != nil && !isTimeout(err) {
			c.rerr = err
		}
		return nil
	}
	return err
}

// line takes one line off the input. It stays valid until the next fill.
func (c *conn) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.in, '\n'); i >= 0 && i < maxCommandLine {
			line := c.in[:i+1]
			c.in = c.in[i+1:]
			return line, nil
		}
		if len(c.in) >= maxCommandLine {
			c.say("500 5.5.2 Line too long")
			c.closeAfterReply()
			c.flush()
			return nil, errLineTooLong
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// examine looks at a command before the library does. give is false where it
// was answered here.
func (c *conn) examine(line []byte) (give bool, err error) {
	f := strings.Fields(string(line[:min(len(line), 64)]))
	if len(f) == 0 {
		return true, nil
	}
	verb := strings.ToUpper(f[0])
	c.mu.Lock()
	c.verb = verb
	c.mu.Unlock()
	switch verb {
	case "EHLO", "HELO":
		c.needEHLO = false
		return true, c.alone()
	case "STARTTLS":
		return false, c.startTLS(len(f) > 1)
	case "XMRG", "XDFN", "XPRT", "XACK": // PowerMTA's mail merge
		c.say("502 5.5.1 Mail merge is not offered")
		return false, nil
	case "BDAT":
		n, err := chunkSize(f)
		if err != nil {
			c.say("501 5.5.4 Malformed BDAT")
			c.closeAfterReply()
			c.flush()
			return false, errBadChunk
		}
		c.chunk = n
	case "MAIL", "RCPT", "DATA", "AUTH":
		if c.needEHLO {
			c.say("503 5.5.1 EHLO first")
			return false, nil
		}
		if verb == "DATA" || verb == "AUTH" {
			return true, c.alone()
		}
	default:
		if strings.HasPrefix(verb, "STARTTLS") { // the library takes the beginning for the word
			c.say("500 5.5.2 Unknown command")
			return false, nil
		}
	}
	return true, nil
}

// alone wants nothing behind a command whose answer decides what may follow
// (RFC 2920 section 3.1): who does not wait for it is no mail client.
func (c *conn) alone() error {
	if len(c.in) == 0 {
		return nil
	}
	c.say("503 5.5.1 Improper use of command pipelining")
	c.closeAfterReply()
	c.flush()
	return errEarly
}

const maxChunk = 1<<31 - 1

// chunkSize reads BDAT as the library will.
func chunkSize(f []string) (int64, error) {
	if len(f) < 2 || len(f) > 3 || len(f) == 3 && !strings.EqualFold(f[2], "LAST") {
		return 0, errBadChunk
	}
	n, err := strconv.ParseUint(f[1], 10, 32)
	if err != nil || n > maxChunk {
		return 0, errBadChunk
	}
	return int64(n), nil
}

// readChunk passes a chunk's bytes through.
func (c *conn) readChunk(p []byte) (int, error) {
	if len(c.in) == 0 {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p[:min(int64(len(p)), c.chunk)], c.in)
	c.in = c.in[n:]
	c.chunk -= int64(n)
	return n, nil
}

// startTLS answers STARTTLS and does the handshake.
func (c *conn) startTLS(params bool) error {
	switch {
	case params:
		c.say("501 5.5.4 STARTTLS takes no parameters")
		return nil
	case c.conf == nil:
		c.say("502 5.5.1 TLS not supported")
		return nil
	case c.secured != nil:
		c.say("503 5.5.1 TLS is on already")
		return nil
	case c.locked:
		c.say("503 5.5.1 Too late for STARTTLS")
		return nil
	case len(c.in) > 0: // sent before the handshake: never read
		c.Close()
		return errInjection
	}
	c.say("220 2.0.0 Ready to start TLS")
	if err := c.flush(); err != nil {
		return err
	}
	c.mu.Lock()
	c.secured = tls.Server(c.Conn, c.conf)
	c.Conn = c.secured
	c.mu.Unlock()
	c.needEHLO = true
	return c.handshake()
}

func (c *conn) handshake() error {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	err := c.secured.HandshakeContext(ctx)
	if err != nil {
		c.onFail(err)
		c.drop()
	}
	return err
}

// message reads the message after DATA, dots unstuffed, up to CRLF.CRLF. A
// transport that ends before is io.ErrUnexpectedEOF.
func (c *conn) message() io.Reader { return (*messageReader)(c) }

type messageReader conn

var (
	crlf   = []byte("\r\n")
	endDot = []byte(".\r\n")
	newDot = []byte("\r\n.")
)

// Read implements io.Reader.
func (m *messageReader) Read(p []byte) (int, error) {
	c := (*conn)(m)
	n := 0
	for n < len(p) {
		if c.mode != modeData {
			return n, io.EOF
		}
		if len(c.in) == 0 || c.lineStart && len(c.in) < len(endDot) && bytes.HasPrefix(endDot, c.in) {
			if n > 0 {
				return n, nil
			}
			if err := c.fill(); err == io.EOF {
				return 0, io.ErrUnexpectedEOF
			} else if err != nil {
				return 0, err
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
		n += c.take(p[n:])
	}
	return n, nil
}

// take copies input as far as the next line that begins with a dot.
func (c *conn) take(p []byte) int {
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

// say queues a reply of our own.
func (c *conn) say(line string) { c.Write([]byte(line + "\r\n")) }

// Write queues a reply line. The library's EHLO knows nothing of the TLS that
// is on offer here.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := len(p)
	if bytes.HasPrefix(p, []byte("500 5.5.1 Too many errors")) { // the library's, which then closes
		p, c.last = []byte(tooManyErrors), true
	}
	c.out = append(c.out, p...)
	if len(p) > 3 && p[0] >= '4' && p[3] == ' ' && !(c.trusted && c.verb == "RCPT") {
		if c.errors++; c.errors >= maxErrors && !c.last {
			c.out, c.last = append(c.out, tooManyErrors...), true
		}
	}
	switch {
	case bytes.HasPrefix(p, []byte("250-PIPELINING")) && c.conf != nil && c.secured == nil:
		c.out = append(c.out, "250-STARTTLS\r\n"...)
	case c.verb == "DATA" && bytes.HasPrefix(p, []byte("354 ")):
		c.mode, c.lineStart, c.afterCR = modeData, true, false
	}
	if c.refusal && len(p) > 3 && p[0] >= '4' && p[3] == ' ' {
		c.last = true
	}
	if len(c.out) > maxOut {
		return written, c.flushLocked()
	}
	return written, nil
}

// trust: who submits may have bad addresses among many.
func (c *conn) trust() {
	c.mu.Lock()
	c.trusted = true
	c.mu.Unlock()
}

// taken forgets refusals: who gets a message through is no crawler.
func (c *conn) taken() {
	c.mu.Lock()
	c.errors = 0
	c.mu.Unlock()
}

func (c *conn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flushLocked()
}

func (c *conn) flushLocked() error {
	if len(c.out) > 0 {
		c.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := c.Conn.Write(c.out)
		c.out = c.out[:0]
		if err != nil {
			return err
		}
	}
	if c.last {
		c.Conn.Close()
		return errClosed
	}
	return nil
}

// SetWriteDeadline is ours to set.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// Close sends what is queued and closes.
func (c *conn) Close() error {
	c.flush()
	return c.drop()
}

// drop closes without another word.
func (c *conn) drop() error {
	c.mu.Lock()
	transport := c.Conn
	c.mu.Unlock()
	err := transport.Close()
	c.once.Do(c.release)
	return err
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// protection names a connection's TLS for Received and the log; empty: plain.
func (c *conn) protection() string {
	if c.secured == nil {
		return ""
	}
	s := c.secured.ConnectionState()
	return fmt.Sprintf("%s %s", tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite))
}
