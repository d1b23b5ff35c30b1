// Package sink is an SMTP server that stands in for PowerMTA in tests, in the
// demo and under load: it takes everything, keeps what a Keep function wants,
// and fails where a Script says so. It reads DATA to the letter of RFC 5321
// (only CRLF.CRLF ends a message) and reports line ends that should not be.
//
// A Server is safe for concurrent use.
package sink

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Message is one message as it arrived, dots unstuffed.
type Message struct {
	From, To string   // the paths of MAIL and the first RCPT, without brackets
	Mail     string   // the MAIL command
	Rcpts    []string // the RCPT commands
	Data     []byte
	At       time.Time
	TLS      bool
	Conn     int // number of the connection
}

// Action is what a Script makes of a phase: the zero value lets it pass.
type Action struct {
	Reply string        // instead of the usual answer, without CRLF
	Drop  bool          // close the connection; after Reply where there is one
	Delay time.Duration // before the answer
}

// Config describes a sink.
type Config struct {
	Hostname   string
	TLS        *tls.Config // offered by STARTTLS where set
	Extensions []string    // of EHLO; nil: PIPELINING, 8BITMIME, SIZE, DSN, ENHANCEDSTATUSCODES, SMTPUTF8
	Password   string      // user:password that AUTH PLAIN wants; empty: none offered
	// Keep takes a message before it is answered; nil drops it.
	Keep func(*Message)
	// Script is asked in each phase: connect, EHLO, STARTTLS, AUTH, MAIL, RCPT,
	// DATA, "." (after the message), with the command's line.
	Script func(phase, line string) Action
}

// Server is a running sink.
type Server struct {
	c     Config
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	total int
}

// New makes a sink.
func New(c Config) *Server {
	if c.Hostname == "" {
		c.Hostname = "sink.localhost"
	}
	if c.Extensions == nil {
		c.Extensions = []string{"PIPELINING", "8BITMIME", "SIZE 104857600", "DSN", "ENHANCEDSTATUSCODES", "SMTPUTF8"}
	}
	return &Server{c: c, conns: map[net.Conn]struct{}{}}
}

// Connections is how many connections there have been.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// Serve accepts connections until ctx ends, then closes all.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		l.Close()
		s.CloseConnections()
	})
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()

	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}

		s.mu.Lock()
		s.total++
		n := s.total
		s.conns[c] = struct{}{}
		s.mu.Unlock()

		if ctx.Err() != nil {
			c.Close()
		}
		wg.Go(func() {
			(&session{s: s, c: c, raw: c, n: n}).run()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// CloseConnections cuts every connection that is open.
func (s *Server) CloseConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

type session struct {
	s     *Server
	c     net.Conn // above TLS
	raw   net.Conn
	r     *bufio.Reader
	w     *bufio.Writer
	n     int
	tls   bool
	from  string
	rcpts []string
}

var errQuit = errors.New("quit")

func (ss *session) run() {
	defer ss.raw.Close()

	ss.buffers(ss.c)
	if ss.act("connect", "", "220 "+ss.s.c.Hostname+" ESMTP sink") != nil {
		return
	}

	for {
		line, err := ss.r.ReadString('\n')
		if err != nil {
			return
		}
		if ss.command(strings.TrimRight(line, "\r\n")) != nil {
			return
		}
		if ss.r.Buffered() == 0 && ss.w.Flush() != nil {
			return
		}
	}
}

func (ss *session) buffers(c net.Conn) {
	ss.r = bufio.NewReaderSize(c, 64<<10)
	ss.w = bufio.NewWriterSize(c, 4<<10)
}

// act runs a phase: the script's answer, else the usual one.
func (ss *session) act(phase, line, usual string) error {
	var a Action
	if ss.s.c.Script != nil {
		a = ss.s.c.Script(phase, line)
	}
	if a.Delay > 0 {
		ss.w.Flush()
		time.Sleep(a.Delay)
	}

	reply := usual
	if a.Reply != "" {
		reply = a.Reply
	}
	if a.Drop && a.Reply == "" {
		reply = ""
	}

	if reply != "" {
		ss.w.WriteString(reply + "\r\n")
	}

	if a.Drop {
		ss.w.Flush()
		return errQuit
	}
	if phase == "connect" {
		ss.w.Flush()
	}
	if a.Reply != "" && a.Reply[0] >= '4' {
		return errRefused
	}
	return nil
}

var errRefused = errors.New("refused by the script")

func (ss *session) command(line string) error {
	verb, _, _ := strings.Cut(line, " ")
	var err error
	verb = strings.ToUpper(verb)

	switch verb {
	case "EHLO", "HELO":
		err = ss.act("EHLO", line, ss.hello(verb))
	case "STARTTLS":
		err = ss.startTLS(line)
	case "AUTH":
		err = ss.auth(line)
	case "MAIL":
		err = ss.act("MAIL", line, "250 2.1.0 Ok")
		if err == nil {
			ss.from = line
			ss.rcpts = nil
		}
	case "RCPT":
		err = ss.act("RCPT", line, "250 2.1.5 Ok")
		if err == nil {
			ss.rcpts = append(ss.rcpts, line)
		}
	case "DATA":
		err = ss.data(line)
	case "RSET":
		ss.from, ss.rcpts = "", nil
		ss.w.WriteString("250 2.0.0 Ok\r\n")
	case "NOOP":
		ss.w.WriteString("250 2.0.0 Ok\r\n")
	case "QUIT":
		ss.w.WriteString("221 2.0.0 Bye\r\n")
		ss.w.Flush()
		return errQuit
	default:
		ss.w.WriteString("502 5.5.2 Unknown command\r\n")
	}

	if errors.Is(err, errRefused) {
		return nil
	}
	return err
}

func (ss *session) hello(verb string) string {
	if verb == "HELO" {
		return "250 " + ss.s.c.Hostname
	}
	lines := append([]string{ss.s.c.Hostname}, ss.s.c.Extensions...)
	if ss.s.c.TLS != nil && !ss.tls {
		lines = append(lines, "STARTTLS")
	}
	if ss.s.c.Password != "" {
		lines = append(lines, "AUTH PLAIN")
	}
	return "250-" + strings.Join(lines[:len(lines)-1], "\r\n250-") + "\r\n250 " + lines[len(lines)-1]
}

func (ss *session) startTLS(line string) error {
	if ss.s.c.TLS == nil || ss.tls {
		ss.w.WriteString("502 5.5.1 Not now\r\n")
		return nil
	}
	if err := ss.act("STARTTLS", line, "220 2.0.0 Go ahead"); err != nil {
		return err
	}
	ss.w.Flush()
	t := tls.Server(ss.c, ss.s.c.TLS)
	if err := t.Handshake(); err != nil {
		return err
	}
	ss.c, ss.tls = t, true
	ss.buffers(t)
	return nil
}

func (ss *session) auth(line string) error {
	f := strings.Fields(line)
	if len(f) != 3 || !strings.EqualFold(f[1], "PLAIN") {
		ss.w.WriteString("504 5.5.4 PLAIN with an initial response only\r\n")
		return nil
	}
	raw, _ := base64.StdEncoding.DecodeString(f[2])
	usual := "535 5.7.8 Wrong"
	if parts := strings.Split(string(raw), "\x00"); len(parts) == 3 && parts[1]+":"+parts[2] == ss.s.c.Password {
		usual = "235 2.7.0 Welcome"
	}
	return ss.act("AUTH", line, usual)
}

func (ss *session) data(line string) error {
	if len(ss.rcpts) == 0 {
		ss.w.WriteString("503 5.5.1 No valid recipients\r\n")
		return nil
	}
	if err := ss.act("DATA", line, "354 Go ahead"); err != nil {
		return err
	}
	if err := ss.w.Flush(); err != nil {
		return err
	}
	msg, err := readData(ss.r)
	if err != nil {
		return err
	}
	m := &Message{
		From:  path(ss.from),
		To:    path(ss.rcpts[0]),
		Mail:  ss.from,
		Rcpts: ss.rcpts,
		Data:  msg,
		At:    time.Now(),
		TLS:   ss.tls,
		Conn:  ss.n,
	}
	usual := "250 2.0.0 Ok: taken"
	var a Action
	if ss.s.c.Script != nil {
		a = ss.s.c.Script(".", ss.rcpts[0])
	}
	taken := a.Reply == "" || a.Reply[0] == '2'
	if taken && ss.s.c.Keep != nil {
		ss.s.c.Keep(m)
	}
	ss.from, ss.rcpts = "", nil
	time.Sleep(a.Delay)
	switch {
	case a.Drop:
		return errQuit
	case a.Reply != "":
		usual = a.Reply
	}
	ss.w.WriteString(usual + "\r\n")
	return nil
}

// path is what stands between the angle brackets of a command.
func path(line string) string {
	_, arg, _ := strings.Cut(line, "<")
	return arg[:max(0, strings.LastIndexByte(arg, '>'))]
}

// readData reads to CRLF.CRLF and undoes the stuffing of dots.
func readData(r *bufio.Reader) ([]byte, error) {
	var out []byte
	start := true // at the start of a line that a CRLF opened
	for {
		chunk, err := r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, io.ErrUnexpectedEOF
		}
		if start && bytes.Equal(chunk, []byte(".\r\n")) {
			return out, nil
		}
		if start && chunk[0] == '.' {
			chunk = chunk[1:]
		}
		out = append(out, chunk...)
		start = bytes.HasSuffix(out, []byte("\r\n"))
	}
}

// Faulty tells of line ends that no message should have: a bare CR, a bare LF
// or a NUL.
func Faulty(msg []byte) bool {
	for i, c := range msg {
		switch {
		case c == 0,
			c == '\r' && (i+1 == len(msg) || msg[i+1] != '\n'),
			c == '\n' && (i == 0 || msg[i-1] != '\r'):
			return true
		}
	}
	return false
}
