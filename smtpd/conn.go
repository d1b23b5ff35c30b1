package smtpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// conn stands between the socket and go-smtp, which sees a plain connection:
// TLS ends here. It does what the library cannot:
//
//   - whole lines only, of a bounded length; a line that ran into a deadline
//     is never executed; what a phase may take in total
//   - one reading of each command, whose line the library gets written anew
//   - STARTTLS: exactly that word, nothing sent in plain behind it, nothing of
//     before used after it, the connection closed where the handshake fails
//   - the end of a message: CRLF.CRLF and nothing else after DATA, the last
//     chunk after BDAT. The session reads the message from here, in bulk; the
//     library, which would look at each byte and read chunks in a goroutine of
//     their own, knows of DATA alone and gets its final dot
//   - a BDAT that cannot be understood ends the connection, since its chunk
//     would be run as commands
//   - commands behind one whose answer has to be waited for (EHLO, AUTH, DATA),
//     and too many refusals, end the connection
//   - replies leave together, when the next read has to wait
//
// Reading belongs to one goroutine at a time, as in go-smtp; writing and
// closing may come from others.
type conn struct {
	net.Conn // the transport: the socket, or TLS over it
	connConfig
	id      string      // of the session, for the log and the client
	said    transcript  // of the session
	sock    net.Conn    // under all
	secured *tls.Conn   // nil: plain text
	hello   *helloConn  // under secured
	shaken  atomic.Bool // the handshake is done

	in        []byte // read from the transport, not given out yet
	buf       []byte
	rest      []byte // of a command line that the library takes in parts
	pushed    []byte // a command line that ended a message, to be run after it
	mode      mode
	chunk     chunk        // what is still to come of the chunk under way
	received  int64        // bytes of a message in chunks
	arrival   *phaseReader // of the message under way
	lineStart bool         // the next byte of a message is the first of its line
	afterCR   bool         // the last byte of a message was a CR
	needEHLO  bool         // after STARTTLS
	authed    bool
	inMail    bool  // in a transaction
	unknown   int   // unknown commands so far
	rerr      error // of the transport; nothing is read after it, not even after a deadline

	mu       sync.Mutex
	phaseEnd time.Time // no read deadline is later than this; zero: none
	out      []byte    // replies that have not left yet
	goAhead  []byte    // the 354 that the session has to release
	omit     bool      // the next reply is not sent: nobody asked for it
	sasl     bool      // the next line is a response of AUTH
	last     bool      // close once the replies are out
	refusal  bool      // the next refusal is the last reply
	verb     string    // the last command's
	trusted  bool      // authenticated clients: refused recipients are a list's bad addresses
	errors   int       // refusals since a message was taken
	commands int       // and commands
	once     sync.Once
}

// connConfig is what a conn is told by its listener.
type connConfig struct {
	source      netip.Addr  // what limits count it by
	tls         *tls.Config // nil: no STARTTLS
	implicit    bool        // TLS begins at once
	idle        time.Duration
	maxMessage  int64                                 // bytes; 0: no limit
	maxCommands int                                   // without a message, of a client that is not trusted; 0: no limit
	beforeTLS   func(context.Context) (func(), error) // asked before a handshake, and told of its end
	log         *slog.Logger                          // for transcripts; nil: none
	release     func()                                // frees the connection's place
	onFail      func(error)                           // told of a failed handshake
}

type mode int

const (
	modeCommand mode = iota
	modeData         // a message is to come, up to its final dot
	modeChunks       // a message is to come, up to its last chunk
	modeDot          // the message was read; the library gets its final dot
)

const (
	readSize         = 16 << 10
	handshakeTimeout = 30 * time.Second
	maxOut           = 32 << 10
	maxErrors        = 20 // refusals in a row
	tooManyErrors    = "421 4.7.0 Too many errors, closing connection\r\n"
)

var errClosed = errors.New("smtpd: closed after the last reply")

// newConn wraps a socket.
func newConn(sock net.Conn, cfg connConfig) *conn {
	c := &conn{Conn: sock, sock: sock, connConfig: cfg, id: newSessionID()}
	c.said = transcript{log: cfg.log, session: c.id}
	if cfg.implicit {
		c.secure()
	}

	return c
}

// secure puts TLS over the transport. The handshake is still to come.
func (c *conn) secure() {
	c.hello = &helloConn{Conn: c.Conn}
	c.secured = tls.Server(c.hello, c.tls)
	c.Conn = c.secured
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

// phase begins a phase that ends after d, whatever is read; 0 means no end.
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

// endNow sends the replies of before and closes; it returns why, or what went
// wrong with that.
func (c *conn) endNow(why error) error {
	c.closeAfterReply()
	if err := c.flush(); err != nil && err != errClosed {
		return err
	}

	return why
}

// closeAfterErrors tells a client that its errors were too many.
func (c *conn) closeAfterErrors() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last {
		c.out, c.last = append(c.out, tooManyErrors...), true
	}
}

// flushFinal sends the last reply, where there has been one: what was sent
// behind it is not read.
func (c *conn) flushFinal() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.last {
		return nil
	}

	return c.flushLocked()
}

// Read gives the library one command line, or its final dot.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		return c.give(p, c.rest), nil
	}
	if err := c.flushFinal(); err != nil {
		return 0, err
	}

	if c.mode == modeData || c.mode == modeChunks { // the session left some of the message
		if err := c.finishMessage(); err != nil {
			return 0, err
		}
		c.mode = modeDot
	}
	if c.mode == modeDot {
		c.mode = modeCommand
		return copy(p, endDot), nil
	}

	for {
		line, err := c.command()
		if err != nil {
			return 0, err
		}
		if line != nil {
			return c.give(p, line), nil
		}
		if err := c.flushFinal(); err != nil {
			return 0, err
		}
	}
}

// give copies what fits: the library's buffer is 4096 bytes.
func (c *conn) give(p, line []byte) int {
	n := copy(p, line)
	c.rest = line[n:]

	return n
}

// command reads a command and returns what the library gets of it; nil where
// it was answered here.
func (c *conn) command() ([]byte, error) {
	if line := c.pushed; line != nil {
		c.pushed = nil
		return c.examine(line)
	}
	if err := c.discardChunk(); err != nil { // of a BDAT that was refused
		return nil, err
	}

	line, err := c.line()
	if err != nil {
		return nil, err
	}
	if c.isResponse() {
		c.said.response()
		return line, nil
	}
	c.said.command(line)

	return c.examine(line)
}

// isResponse reports whether the line is a response of AUTH, not a command.
func (c *conn) isResponse() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	response := c.sasl
	c.sasl = false

	return response
}

// fill reads more from the transport. Pending replies are flushed first; with
// implicit TLS the handshake comes before that.
func (c *conn) fill() error {
	if c.rerr != nil {
		return c.rerr
	}
	if c.secured != nil && !c.shaken.Load() {
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
	kept := copy(c.buf, c.in) // c.in is a part of c.buf, and shorter than the longest line
	n, err := c.Conn.Read(c.buf[kept:])
	c.in, c.rerr = c.buf[:kept+n], err
	if n > 0 {
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
			c.writeReply("500 5.5.2 Line too long")
			return nil, c.endNow(errLineTooLong)
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// startTLS answers STARTTLS and does the handshake.
func (c *conn) startTLS(params bool) error {
	switch {
	case params:
		c.writeReply("501 5.5.4 STARTTLS takes no parameters")
		return nil
	case c.tls == nil:
		c.writeReply("502 5.5.1 TLS not supported")
		return nil
	case c.secured != nil:
		c.writeReply("503 5.5.1 TLS is on already")
		return nil
	case c.authed, c.inMail: // nothing of before TLS may be used in it (RFC 3207 section 4.2)
		c.writeReply("503 5.5.1 Too late for STARTTLS")
		return nil
	case len(c.in) > 0: // sent before the handshake: never read
		c.Close()
		return errInjection
	}

	c.writeReply("220 2.0.0 Ready to start TLS")
	if err := c.flush(); err != nil {
		return err
	}

	c.mu.Lock()
	c.secure()
	c.mu.Unlock()
	c.needEHLO = true

	return c.handshake()
}

// handshake does the TLS handshake, in one of the places of the client's
// source. It takes that when the client begins: those that say nothing must not
// keep others of their source waiting.
func (c *conn) handshake() error {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	leave := func() {}
	c.hello.begun = func() error {
		done, err := c.beforeTLS(ctx)
		if err == nil {
			leave = done
		}

		return err // that of ctx, as HandshakeContext's is then
	}

	err := c.secured.HandshakeContext(ctx)
	leave()
	if err != nil {
		c.onFail(err)
		return err // after which the library closes
	}
	c.shaken.Store(true)

	return nil
}

// helloConn is the transport under TLS, which asks before the client's first
// bytes are looked at.
type helloConn struct {
	net.Conn
	begun func() error // nil once it was asked
}

// Read implements net.Conn.
func (h *helloConn) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if n == 0 || h.begun == nil {
		return n, err
	}

	begun := h.begun
	h.begun = nil
	if err := begun(); err != nil {
		return 0, err
	}

	return n, err
}

// writeReply queues a reply of our own.
func (c *conn) writeReply(line string) { c.Write([]byte(line + "\r\n")) }

// Write queues a reply line of the library's, or its replacement.
func (c *conn) Write(p []byte) (int, error) {
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
	if bytes.HasPrefix(p, []byte("250-PIPELINING")) && c.tls != nil && c.secured == nil {
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
func (c *conn) countRefusal(p []byte) {
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

// sendGoAhead releases the 354 of DATA.
func (c *conn) sendGoAhead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out, c.goAhead = append(c.out, c.goAhead...), nil
}

// refuseData takes the 354 back: DATA is answered with a refusal, and nothing
// of the message is asked for.
func (c *conn) refuseData() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goAhead, c.mode = nil, modeDot
}

// omitReply keeps the library's next reply back, which is of one line.
func (c *conn) omitReply() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.omit = true
}

// trust marks the client as one that may submit: it may have bad addresses
// among many, and may be idle.
func (c *conn) trust() {
	c.mu.Lock()
	c.trusted = true
	c.mu.Unlock()
}

// forgetErrors forgets refusals and commands: a client that gets a message
// through is not a crawler.
func (c *conn) forgetErrors() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errors, c.commands = 0, 0
}

func (c *conn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flushLocked()
}

func (c *conn) flushLocked() error {
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

// sayGoodbye ends a connection that is idle. One whose TLS handshake is not
// done can be told nothing.
func (c *conn) sayGoodbye() {
	c.mu.Lock()
	mute := c.secured != nil && !c.shaken.Load()
	c.mu.Unlock()
	if mute {
		c.abort()
		return
	}

	c.writeReply(shuttingDown.String())
	c.Close()
}

// abort closes the socket, whatever is being written to it or waited for: who
// reads or writes fails and gives the rest back.
func (c *conn) abort() { c.sock.Close() }

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
