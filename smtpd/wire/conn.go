// Package wire is the transport under go-smtp: what the library cannot do for a
// server is done between it and the socket. See Conn.
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

// Conn stands between the socket and go-smtp, which sees a plain connection:
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
type Conn struct {
	net.Conn // the transport: the socket, or TLS over it
	cfg      Config
	id       string      // of the session, for the log and the client
	said     transcript  // of the session
	sock     net.Conn    // under all
	secured  *tls.Conn   // nil: plain text
	hello    *helloConn  // under secured
	shaken   atomic.Bool // the handshake is done

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

// Config is what a conn is told by its listener.
type Config struct {
	Source      netip.Addr  // what limits count it by
	TLS         *tls.Config // nil: no STARTTLS
	Implicit    bool        // TLS begins at once
	Idle        time.Duration
	MaxMessage  int64                                 // bytes; 0: no limit
	MaxCommands int                                   // without a message, of a client that is not trusted; 0: no limit
	BeforeTLS   func(context.Context) (func(), error) // asked before a handshake, and told of its end
	Log         *slog.Logger                          // for transcripts; nil: none
	Release     func()                                // frees the connection's place
	OnFail      func(error)                           // told of a failed handshake
}

type mode int

const (
	modeCommand mode = iota
	modeData         // a message is to come, up to its final dot
	modeChunks       // a message is to come, up to its last chunk
	modeDot          // the message was read; the library gets its final dot
)

// NewConn wraps a socket.
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

// Read gives the library one command line, or its final dot.
func (c *Conn) Read(p []byte) (int, error) {
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
func (c *Conn) give(p, line []byte) int {
	n := copy(p, line)
	c.rest = line[n:]

	return n
}

// command reads a command and returns what the library gets of it; nil where
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

// isResponse reports whether the line is a response of AUTH, not a command.
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
func (c *Conn) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(c.in, '\n'); i >= 0 && i < MaxLine {
			line := c.in[:i+1]
			c.in = c.in[i+1:]

			return line, nil
		}

		if len(c.in) >= MaxLine {
			c.writeReply("500 5.5.2 Line too long")
			return nil, c.endNow(errLineTooLong)
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}
