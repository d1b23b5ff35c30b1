package wire

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// lostConn is a socket that fails as it is told.
type lostConn struct {
	*wire
	writeErr, closeErr error
	closed             int
}

func (c *lostConn) Write(p []byte) (int, error) {
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	return c.wire.Write(p)
}

func (c *lostConn) Close() error {
	c.closed++
	return c.closeErr
}

// TestWriteErrorsEndTheConnection: nobody knows how much of the replies
// arrived, so that nothing more is read.
func TestWriteErrorsEndTheConnection(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, c := range []struct {
		name string
		do   func(*Conn) error
	}{
		{"flush", (*Conn).flush},
		{"fill", (*Conn).fill},
		{"line", func(c *Conn) error { _, err := c.line(); return err }},
		{"Read", func(c *Conn) error { _, err := c.Read(make([]byte, 100)); return err }},
		{"the last reply", func(c *Conn) error { c.CloseAfterReply(); return c.flushFinal() }},
		{"Read after the last reply", func(c *Conn) error {
			c.CloseAfterReply()
			_, err := c.Read(make([]byte, 100))
			return err
		}},
		{"the end", func(c *Conn) error { return c.endNow(errTooMany) }},
		{"STARTTLS", func(c *Conn) error { c.cfg.TLS = serverTLS(); return c.startTLS("") }},
		{"a chunk", func(c *Conn) error { c.chunk.size = 5; return c.discardChunk() }},
		{"a reading of a chunk", func(c *Conn) error { c.chunk.size = 5; _, err := c.readChunk(make([]byte, 5)); return err }},
		{"between chunks", (*Conn).nextChunk},
		{"many replies", func(c *Conn) error {
			_, err := c.Write([]byte("250 " + strings.Repeat("x", maxOut) + "\r\n"))
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sock := &lostConn{wire: &wire{in: []byte("NOOP\r\nNOOP\r\n")}, writeErr: broken}
			conn := NewConn(sock, Config{Release: func() {}})
			conn.writeReply("250 Ok")
			if err := c.do(conn); !errors.Is(err, broken) {
				t.Errorf("got %v, want %v", err, broken)
			}
			if sock.closed == 0 {
				t.Error("the socket is still open")
			}
			if conn.secured != nil {
				t.Error("TLS began though nobody was told")
			}
		})
	}
}

// TestReadErrorsAreTold checks that errors stay, and that a cut line is never a command.
func TestReadErrorsAreTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(*Conn) error
		want error
	}{
		{"line", func(c *Conn) error { _, err := c.line(); return err }, io.EOF},
		{"Read", func(c *Conn) error { return readNothing(c) }, io.EOF},
		{"between chunks", (*Conn).nextChunk, io.EOF},
		{"a chunk that was refused", func(c *Conn) error { c.chunk.size = 50; return c.discardChunk() }, io.EOF},
		{"Read of a chunk that was refused", func(c *Conn) error {
			c.chunk.size = 50
			return readNothing(c)
		}, io.EOF},
		{"Read of the rest of a message", func(c *Conn) error {
			c.mode, c.arrival = modeData, &phaseReader{r: (*dataReader)(c), conn: c}
			return readNothing(c)
		}, io.ErrUnexpectedEOF},
		{"the rest of a chunk", func(c *Conn) error { c.chunk.size = 50; _, err := io.ReadAll((*chunkRest)(c)); return err }, nil},
		{"a message in chunks", func(c *Conn) error {
			c.mode, c.chunk = modeChunks, chunk{size: 50}
			return readAtMost(c.message(), "NOO")
		}, io.ErrUnexpectedEOF},
		{"a message between chunks", func(c *Conn) error {
			c.mode = modeChunks
			return readAtMost(c.message(), "")
		}, io.ErrUnexpectedEOF},
		{"a message", func(c *Conn) error {
			c.mode = modeData
			return readAtMost(c.message(), "NOO")
		}, io.ErrUnexpectedEOF},
		{"a message that is too large in its first chunk", func(c *Conn) error {
			c.mode, c.chunk, c.cfg.MaxMessage = modeChunks, chunk{size: 50}, 49
			return readAtMost(c.message(), "")
		}, errTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := NewConn(&lostConn{wire: &wire{in: []byte("NOO")}}, Config{Release: func() {}})
			for range 2 {
				if err := c.do(conn); !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			}
		})
	}
}

// readNothing reads what is not to be given out.
func readNothing(r io.Reader) error {
	n, err := r.Read(make([]byte, 100))
	if n != 0 {
		return fmt.Errorf("%d bytes and %q", n, fmt.Sprint(err))
	}

	return err
}

// readAtMost reads all, which is the beginning of what is given or nothing.
func readAtMost(r io.Reader, most string) error {
	got, err := io.ReadAll(r)
	if string(got) != most && len(got) != 0 {
		return fmt.Errorf("%q and %q", got, fmt.Sprint(err))
	}

	return err
}

// TestEndNowSaysWhy checks the error of endNow when replies could be sent.
func TestEndNowSaysWhy(t *testing.T) {
	t.Parallel()
	sock := &lostConn{wire: &wire{}}
	c := NewConn(sock, Config{Release: func() {}})
	c.writeReply("421 Bye")
	if err := c.endNow(errTooMany); !errors.Is(err, errTooMany) {
		t.Errorf("got %v, want %v", err, errTooMany)
	}
	if sock.closed != 1 || sock.out.String() != "421 Bye\r\n" {
		t.Errorf("closed %d times after %q", sock.closed, sock.out.String())
	}
	if err := c.flushFinal(); !errors.Is(err, errClosed) {
		t.Errorf("afterwards: %v, want %v", err, errClosed)
	}
}

// TestDropSaysHowItWent checks the error of Close, and that Release is called once.
func TestDropSaysHowItWent(t *testing.T) {
	t.Parallel()
	given := 0
	sock := &lostConn{wire: &wire{}, closeErr: errors.New("cannot close")}
	c := NewConn(sock, Config{Release: func() { given++ }})
	c.writeReply("250 Ok")
	for range 2 {
		if err := c.Close(); err == nil || err.Error() != "cannot close" {
			t.Errorf("got %v, want what the socket says", err)
		}
	}
	if given != 1 {
		t.Errorf("the place was given back %d times, want once", given)
	}
	if got := sock.out.String(); got != "250 Ok\r\n" {
		t.Errorf("sent %q, want the reply", got)
	}
}

// TestRepliesLeaveTogether when the next read has to wait, or when they are
// many.
func TestRepliesLeaveTogether(t *testing.T) {
	t.Parallel()
	sock := &lostConn{wire: &wire{in: []byte("NOOP\r\n")}}
	c := NewConn(sock, Config{Release: func() {}})
	reply := "250 " + strings.Repeat("x", 1018) + "\r\n" // 1024 bytes
	for range 32 {
		c.Write([]byte(reply))
	}
	if n := sock.out.Len(); n != 0 {
		t.Errorf("%d bytes were sent before anybody waits", n)
	}
	c.Write([]byte("250 x\r\n"))
	if n := sock.out.Len(); n != 32*1024+7 {
		t.Errorf("%d bytes were sent, want %d: they are many", n, 32*1024+7)
	}
	c.Write([]byte(reply))
	if err := c.fill(); err != nil {
		t.Fatal(err)
	}
	if n := sock.out.Len(); n != 33*1024+7 {
		t.Errorf("%d bytes were sent, want %d: the client waits", n, 33*1024+7)
	}
}

// TestLibraryRepliesAreCorrected checks each reply of go-smtp that is replaced.
func TestLibraryRepliesAreCorrected(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"502 5.5.1 Please introduce yourself first.":          "503 5.5.1 EHLO first",
		"502 5.5.1 Missing MAIL FROM command.":                "503 5.5.1 MAIL first",
		"502 5.5.1 Missing RCPT TO command.":                  "503 5.5.1 RCPT first",
		"502 5.5.4 Missing parameter":                         "501 5.5.4 Missing parameter",
		"501 5.5.2 Bad command":                               "500 5.5.2 Bad command",
		"500 5.5.4 Unknown MAIL FROM argument":                "555 5.5.4 Unknown MAIL parameter",
		"500 5.5.4 Unknown RCPT TO argument":                  "555 5.5.4 Unknown RCPT parameter",
		"500 5.5.4 Malformed AUTH parameter value":            "501 5.5.4 Malformed AUTH parameter value",
		"500 5.5.4 Malformed AUTH parameter mailbox":          "501 5.5.4 Malformed AUTH parameter mailbox",
		"454 4.7.0 Invalid base64 data":                       "501 5.5.2 Invalid base64 data",
		"501 5.0.0 Negotiation cancelled":                     "501 5.7.0 Authentication cancelled",
		"501 5.5.2 Domain/address argument required for HELO": "501 5.5.4 Domain or address literal required",
		"500 5.5.1 Too many errors. Quiting now":              "421 4.7.0 Too many errors, closing connection",
		"421 4.4.2 Idle timeout, bye bye":                     "421 4.4.2 Timeout, closing connection",
		"421 4.4.0 Connection error, sorry":                   "421 4.4.0 Connection error",
		"500 5.4.0 Too long line, closing connection":         "500 5.5.2 Line too long",
		"250 2.0.0 I have successfully done nothing":          "250 2.0.0 Ok",
		"250 2.0.0 something else":                            "250 2.0.0 something else",
	} {
		sock := &lostConn{wire: &wire{}}
		c := NewConn(sock, Config{Release: func() {}})
		c.Write([]byte(given + "\r\n"))
		c.flush()
		if got := sock.out.String(); got != want+"\r\n" {
			t.Errorf("%s: sent %q, want %q", given, got, want)
		}
	}
}

// TestIsReply: a line of three digits and more is one of a reply, a refusal if
// it is the last of one.
func TestIsReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line    string
		three   bool
		refusal bool
	}{
		{"354 Go ahead\r\n", true, false},
		{"334 ", true, false},
		{"250 Ok\r\n", false, false},
		{"421 Bye\r\n", false, true},
		{"550 No\r\n", false, true},
		{"550-No\r\n", false, false},
		{"550", false, false},
		{"354", false, false},
		{"x3 4 ", false, false},
		{"", false, false},
	} {
		if got := isReply([]byte(c.line), '3'); got != c.three {
			t.Errorf("%q asks for more: %v, want %v", c.line, got, c.three)
		}
		if got := isRefusal([]byte(c.line)); got != c.refusal {
			t.Errorf("%q is a refusal: %v, want %v", c.line, got, c.refusal)
		}
	}
}
