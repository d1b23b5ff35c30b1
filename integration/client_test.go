package integration

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/relay/message"
)

// client submits over one kept session, opened when it is needed.
type client struct {
	addr, user, pass string
	conn             *session
}

// send submits a message; code 0 means that no answer came.
func (c *client) send(from string, to []string, msg string) (code int, text string) {
	if c.conn == nil {
		s, err := dialSMTP(c.addr, c.user, c.pass)
		if err != nil {
			return 0, err.Error()
		}
		c.conn = s
	}
	code, text, err := c.conn.transaction(from, to, msg)
	if err != nil {
		c.close()
		return 0, err.Error()
	}
	return code, text
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.c.Close()
		c.conn = nil
	}
}

// session is one SMTP session over STARTTLS.
type session struct {
	c net.Conn
	r *bufio.Reader
	w *bufio.Writer
}

func (s *session) use(c net.Conn) { s.c, s.r, s.w = c, bufio.NewReader(c), bufio.NewWriter(c) }

func dialSMTP(addr, user, pass string) (*session, error) {
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &session{}
	s.use(raw)
	if err := s.login(user, pass); err != nil {
		s.c.Close()
		return nil, err
	}
	return s, nil
}

func (s *session) login(user, pass string) error {
	if err := s.expect("220"); err != nil {
		return err
	}
	for _, line := range []string{"EHLO client.example", "STARTTLS"} {
		if _, _, err := s.command(line); err != nil {
			return err
		}
	}
	t := tls.Client(s.c, &tls.Config{InsecureSkipVerify: true})
	t.SetDeadline(time.Now().Add(30 * time.Second))
	if err := t.Handshake(); err != nil {
		return err
	}
	s.use(t)
	if _, _, err := s.command("EHLO client.example"); err != nil {
		return err
	}
	code, text, err := s.command("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+pass)))
	if err == nil && code != 235 {
		err = fmt.Errorf("AUTH: %d %s", code, text)
	}
	return err
}

func (s *session) expect(code string) error {
	n, text, err := s.reply()
	if err == nil && strconv.Itoa(n) != code {
		err = fmt.Errorf("%d %s, want %s", n, text, code)
	}
	return err
}

func (s *session) reply() (code int, text string, err error) {
	s.c.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return 0, "", err
		}
		line = strings.TrimRight(line, "\r\n")
		if len(line) < 4 {
			return 0, "", fmt.Errorf("reply %q", line)
		}
		if line[3] == ' ' {
			code, err = strconv.Atoi(line[:3])
			return code, text + line[4:], err
		}
		text += line[4:] + "\n"
	}
}

func (s *session) command(line string) (code int, text string, err error) {
	s.w.WriteString(line + "\r\n")
	if err := s.w.Flush(); err != nil {
		return 0, "", err
	}
	return s.reply()
}

// transaction sends one message to many, pipelined.
func (s *session) transaction(from string, to []string, msg string) (code int, text string, err error) {
	s.w.WriteString("MAIL FROM:<" + from + ">\r\n")
	for _, r := range to {
		s.w.WriteString("RCPT TO:<" + r + ">\r\n")
	}
	s.w.WriteString("DATA\r\n")
	if err := s.w.Flush(); err != nil {
		return 0, "", err
	}
	refused, refusal := 0, ""
	for range len(to) + 1 {
		code, text, err := s.reply()
		if err != nil {
			return 0, "", err
		}
		if code/100 != 2 {
			refused, refusal = code, text
		}
	}
	code, text, err = s.reply()
	if err != nil || code != 354 {
		if refused != 0 {
			return refused, refusal, err
		}
		return code, text, err
	}
	if err := message.WriteData(s.w, bytes.Clone([]byte(msg))); err != nil {
		return 0, "", err
	}
	if err := s.w.Flush(); err != nil {
		return 0, "", err
	}
	return s.reply()
}

// dialPlain connects without TLS and reads the greeting; call what it gives to
// close.
func dialPlain(t *testing.T, s *session, addr string) func() {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s.use(conn)
	if err := s.expect("220"); err != nil {
		t.Fatal(err)
	}
	return func() { conn.Close() }
}
