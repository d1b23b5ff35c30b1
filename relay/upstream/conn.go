package upstream

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"postern/relay/reply"
)

// Timeouts are the client's, phase by phase (RFC 5321 section 4.5.3.2). Zero
// values get the RFC's minimum, but 30 s for the connection itself.
type Timeouts struct {
	Connect, Greeting, Command, Data, FinalDot time.Duration
}

func (t Timeouts) withDefaults() Timeouts {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.Connect, 30*time.Second)
	set(&t.Greeting, 5*time.Minute)
	set(&t.Command, 5*time.Minute)
	set(&t.Data, 3*time.Minute) // for each block written
	set(&t.FinalDot, 10*time.Minute)

	return t
}

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

// setupError is a refusal before any mail command: never the message's fault,
// so whatever the code it is temporary for the client.
func setupError(phase string, r reply.Reply) *reply.Fault {
	r.Text = reply.CleanText(r.Text)

	return &reply.Fault{
		Class: reply.Temporary,
		Err:   fmt.Errorf("upstream: %s answered %s", phase, r),
		Reply: reply.Reply{
			Code:     451,
			Enhanced: reply.EnhancedCode{4, 4, 1},
			Text:     "Upstream does not take mail now, try again later",
		},
	}
}

// login logs in with the pool's own credentials, where it has any.
func (p *Pool) login(c *conn) error {
	if p.c.Username == "" {
		return nil
	}

	r, err := p.auth(c, p.c.Username, p.c.Password)
	if err == nil && r.Code != 235 {
		err = setupError("AUTH", r)
	}

	return err
}

// dialAs opens a connection: greeting, EHLO, STARTTLS, EHLO, login.
func (p *Pool) dialAs(ctx context.Context, addr string, login func(*conn) error) (*conn, error) {
	raw, err := p.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, unreachable(err)
	}

	c := &conn{
		raw:  raw,
		t:    p.c.Timeouts,
		born: time.Now(),
		said: transcript{
			log:        p.c.Log,
			upstream:   addr,
			connection: raw.LocalAddr().String(),
		},
	}
	c.buffers(raw)

	// A cancelled caller must not wait for a peer that says nothing.
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	if err := p.setup(c, addr, login); err != nil {
		raw.Close()
		var f *reply.Fault
		if !errors.As(err, &f) {
			err = unreachable(err)
		}
		return nil, err
	}
	if !stop() {
		raw.Close()
		return nil, unreachable(ctx.Err())
	}

	return c, nil
}

func unreachable(err error) error {
	return reply.Defer(451, reply.EnhancedCode{4, 4, 1}, "Upstream is not reachable, try again later",
		fmt.Errorf("upstream: %w", err))
}

func (c *conn) buffers(rw net.Conn) {
	c.r = bufio.NewReaderSize(rw, maxReplyLine)
	c.w = bufio.NewWriterSize(rw, 32<<10)
}

func (p *Pool) setup(c *conn, addr string, login func(*conn) error) error {
	c.raw.SetDeadline(time.Now().Add(c.t.Greeting))
	r, err := c.readReply()
	if err != nil {
		return err
	}
	if r.Code != 220 {
		return setupError("greeting", r)
	}

	if err := p.ehlo(c); err != nil {
		return err
	}
	if err := p.startTLS(c, addr); err != nil {
		return err
	}

	p.mu.Lock()
	p.mechanisms, p.spoken = c.ext["AUTH"], true
	p.mu.Unlock()

	return login(c)
}

func (p *Pool) ehlo(c *conn) error {
	hello := "EHLO " + p.c.Hostname
	c.said.command(hello)
	if err := c.writeCommand(hello); err != nil {
		return err
	}
	r, err := c.readLines() // extensions may be many
	if err != nil {
		return err
	}

	c.ext = Extensions{}
	if r.Code == 250 {
		for i, line := range strings.Split(r.Text, "\n") {
			if i > 0 { // the first line greets
				name, params, _ := strings.Cut(strings.TrimSpace(line), " ")
				c.ext[strings.ToUpper(name)] = params
			}
		}
		return nil
	}

	if r.Code/100 == 5 {
		r, err = c.command("HELO " + p.c.Hostname)
		if err != nil {
			return err
		}
		if r.Code == 250 {
			return nil
		}
	}

	return setupError("EHLO", r)
}

func (p *Pool) startTLS(c *conn, addr string) error {
	offered := c.ext.Has("STARTTLS")
	if p.c.TLS == TLSOff || !offered && p.c.TLS == TLSOpportunistic {
		return nil
	}
	if !offered {
		return setupError("EHLO", reply.Reply{
			Code: 250,
			Text: "without STARTTLS, which relay.tls = \"required\" wants",
		})
	}

	r, err := c.command("STARTTLS")
	if err != nil {
		return err
	}
	if r.Code != 220 {
		if p.c.TLS == TLSOpportunistic && r.Code/100 != 2 {
			return nil
		}
		return setupError("STARTTLS", r)
	}
	if c.r.Buffered() > 0 { // what came in plain must not be read as if under TLS
		return errors.New("upstream: plain bytes after the answer to STARTTLS")
	}

	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	conf := &tls.Config{
		ServerName: host,
		MinVersion: tls.VersionTLS12,
		RootCAs:    p.c.RootCAs,
		// Opportunistic TLS keeps out who only listens; "required" verifies.
		InsecureSkipVerify: p.c.TLS == TLSOpportunistic,
		ClientSessionCache: p.sessions,
	}
	tc := tls.Client(c.raw, conf)
	tc.SetDeadline(time.Now().Add(c.t.Command))
	if err := tc.Handshake(); err != nil {
		return fmt.Errorf("TLS with %s: %w", addr, err)
	}
	c.raw, c.tls = tc, true
	c.buffers(tc)

	return p.ehlo(c)
}

// auth logs in with PLAIN, or with LOGIN where only that is offered, and gives
// the upstream's answer. Passwords go out only over verified TLS or to loopback.
func (p *Pool) auth(c *conn, user, pass string) (r reply.Reply, err error) {
	verified := c.tls && p.c.TLS == TLSRequired
	if a, ok := c.raw.RemoteAddr().(*net.TCPAddr); !verified && !(ok && a.IP.IsLoopback()) {
		return r, errors.New("upstream: passwords go only over verified TLS (relay.tls = \"required\") or to loopback")
	}

	mechs := " " + strings.ToUpper(c.ext["AUTH"]) + " "
	b64 := base64.StdEncoding.EncodeToString
	switch {
	case strings.Contains(mechs, " PLAIN "):
		return c.secretCommand("AUTH PLAIN "+b64([]byte("\x00"+user+"\x00"+pass)), "AUTH PLAIN ***")
	case strings.Contains(mechs, " LOGIN "):
		r, err = c.command("AUTH LOGIN")
		for _, secret := range []string{user, pass} {
			if err != nil || r.Code/100 != 3 {
				break
			}
			r, err = c.secretCommand(b64([]byte(secret)), "***")
		}
		return r, err
	}

	return r, setupError("EHLO", reply.Reply{Code: 250, Text: "without AUTH PLAIN or LOGIN"})
}
