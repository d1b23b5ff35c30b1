// Package wire is the transport under go-smtp. A Conn is a net.Conn between the
// socket and the library, for what a server has to do and the library cannot: it
// bounds lines, commands and time, ends TLS, and finds the end of messages.
package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a client's connection as go-smtp sees it: plain text, a command line
// at a time. In between it
//
//   - reads whole lines of a bounded length, never executes a line that a
//     deadline cut, and bounds the time of each phase in total
//   - parses each command once, and writes its line anew for the library
//   - does STARTTLS: exactly that word, nothing in plain text behind it, no state
//     from before it, and the connection closed if the handshake fails
//   - finds the end of a message: CRLF.CRLF and nothing else after DATA, the last
//     chunk after BDAT. The session reads the message from here, in bulk. The
//     library, which would look at each byte and read chunks in another
//     goroutine, knows only DATA and gets its final dot
//   - closes after a malformed BDAT, whose chunk would be run as commands
//   - closes after commands that did not wait for the reply to EHLO, AUTH or
//     DATA, and after too many refusals
//   - sends replies together, before a read that has to wait
//
// Reading belongs to one goroutine at a time, as in go-smtp; writing and closing
// are safe for concurrent use.
type Conn struct {
	net.Conn // the transport: the socket, or TLS over it
	cfg      Config
	id       string
	said     transcript
	sock     net.Conn    // below TLS
	secured  *tls.Conn   // nil: plain text
	hello    *helloConn  // below secured
	shaken   atomic.Bool // the handshake is done

	// What the reading goroutine knows.
	buf      []byte
	in       []byte // the part of buf that was read and not used yet
	readErr  error  // of the transport; nothing is read after it, deadlines included
	rest     []byte // of a command line that the library reads in parts
	pushed   []byte // a command line that ended a message, to be run after it
	mode     mode
	data     dataState
	chunk    chunk        // what is still to come of the current chunk
	received int64        // bytes of a message in chunks
	arrival  *phaseReader // of the current message
	needEHLO bool         // after STARTTLS
	authed   bool
	inMail   bool // in a transaction
	unknown  int  // unknown commands so far

	mu       sync.Mutex // guards what follows, and writes
	phaseEnd time.Time  // no read deadline is later; zero: none
	out      []byte     // replies that have not been sent yet
	goAhead  []byte     // the 354 that the session has to release
	omit     bool       // the next reply is not sent: nobody asked for it
	sasl     bool       // the next line is a response of AUTH
	last     bool       // close once the replies are sent
	refusal  bool       // the next refusal is the last reply
	verb     string     // of the last command
	trusted  bool       // refused recipients are bad addresses of a list, not guesses
	errors   int        // refusals since the last message
	commands int        // commands since the last message
	released sync.Once
}

// Config is what a listener tells a Conn.
type Config struct {
	Source      netip.Addr    // what limits count the connection by
	TLS         *tls.Config   // nil: no TLS
	Implicit    bool          // TLS begins with the connection
	Idle        time.Duration // for each read of a message
	MaxMessage  int64         // bytes; 0: no limit
	MaxCommands int           // without a message, of a client that is not trusted; 0: no limit
	Log         *slog.Logger  // for transcripts at level debug; nil: none

	// BeforeTLS is called when a client begins a handshake, which waits for it.
	// The function that it returns is called at the end of the handshake.
	BeforeTLS func(context.Context) (func(), error)
	// OnFail is called with the error of a handshake that failed.
	OnFail func(error)
	// Release is called once, when the connection is closed.
	Release func()
}

// mode says what comes next from the client.
type mode int

const (
	modeCommand mode = iota
	modeData         // a message, up to its final dot
	modeChunks       // a message, up to its last chunk
	modeDot          // a command; the library gets a final dot before it
)

// readSize is how much is read from the transport at once, in bytes.
const readSize = 16 << 10

// NewConn returns a Conn over a socket.
func NewConn(sock net.Conn, cfg Config) *Conn {
	c := &Conn{
		Conn: sock,
		sock: sock,
		cfg:  cfg,
		id:   newSessionID(),
	}
	c.said = transcript{log: cfg.Log, session: c.id}
	if cfg.Implicit {
		c.wrapTLS()
	}

	return c
}

// SessionID returns the id of the connection's session.
func (c *Conn) SessionID() string { return c.id }

// Source returns what limits count the connection by.
func (c *Conn) Source() netip.Addr { return c.cfg.Source }

// Read implements net.Conn for the library, which gets one command line, or the
// final dot of a message.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		return c.give(p, c.rest), nil
	}
	if err := c.flushFinal(); err != nil {
		return 0, err
	}

	if c.mode == modeData || c.mode == modeChunks { // the session did not read all of it
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

// give copies as much of a line as fits: the library's buffer has 4096 bytes.
func (c *Conn) give(p, line []byte) int {
	n := copy(p, line)
	c.rest = line[n:]

	return n
}

// command reads a command and returns what the library gets of it, or nil where
// it was answered here.
func (c *Conn) command() ([]byte, error) {
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

// isResponse reports whether the line that was read is a response of AUTH.
func (c *Conn) isResponse() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	response := c.sasl
	c.sasl = false

	return response
}

// fill reads more from the transport. Pending replies are flushed first; with
// implicit TLS the handshake comes before that.
func (c *Conn) fill() error {
	if c.readErr != nil {
		return c.readErr
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
	kept := copy(c.buf, c.in) // shorter than the longest line
	n, err := c.Conn.Read(c.buf[kept:])
	c.in = c.buf[:kept+n]
	c.readErr = err
	if n > 0 {
		return nil
	}

	return err
}

// line returns the next line of the input. It is valid until the next fill.
func (c *Conn) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.in, '\n'); i >= 0 && i < MaxLine {
			line := c.in[:i+1]
			c.in = c.in[i+1:]

			return line, nil
		}

		if len(c.in) >= MaxLine {
			c.writeReply(replyLineTooLong)
			return nil, c.endNow(errLineTooLong)
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}
