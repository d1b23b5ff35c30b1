package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// wire is a connection that gives prepared bytes: so many at a time, or a line
// at a time, as a client that waits for its answers.
type wire struct {
	net.Conn
	in   []byte
	step int // 0: a line
	out  bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.in) == 0 {
		return 0, io.EOF
	}
	step := w.step
	if step == 0 {
		if step = bytes.IndexByte(w.in, '\n') + 1; step == 0 {
			step = len(w.in)
		}
	}
	n := copy(p[:min(len(p), step)], w.in)
	w.in = w.in[n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) { return w.out.Write(p) }

func (w *wire) Close() error { return nil }

func (w *wire) SetReadDeadline(time.Time) error { return nil }

func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// strictData is RFC 5321 section 4.5.2 to the letter.
func strictData(in string) (msg, rest string, ok bool) {
	for line := true; ; {
		if line && strings.HasPrefix(in, ".\r\n") {
			return msg, in[3:], true
		}
		if line {
			in = strings.TrimPrefix(in, ".")
		}
		i := strings.Index(in, "\r\n")
		if i < 0 {
			return "", "", false
		}
		msg, in, line = msg+in[:i+2], in[i+2:], true
	}
}

func FuzzMessageReader(f *testing.F) {
	for _, s := range []string{
		"a\r\n.\r\n",
		".\r\n",
		"..\r\n.\r\nQUIT\r\n",
		"x\r\r\n.\r\nMAIL\r\n.\r\n",
		"x\n.\n.\r\n\r\n.\r\n",
		"\r\n.\r",
		"..a\r\n...\r\n.\r\n",
		"\r\n.\n.\r\n.\r\n",
	} {
		f.Add(s, byte(3), byte(5))
	}
	f.Fuzz(func(t *testing.T, in string, step, read byte) {
		w := &wire{in: []byte(in), step: 1 + int(step)}
		c := NewConn(w, Config{Release: func() {}})
		c.mode, c.data.lineStart = modeData, true
		var got []byte
		buf := make([]byte, 1+int(read))
		var err error
		for err == nil {
			var n int
			n, err = c.message().Read(buf)
			got = append(got, buf[:n]...)
		}
		msg, rest, ok := strictData(in)
		if !ok {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("cut message ended with %v", err)
			}
			return
		}
		if err != io.EOF || string(got) != msg {
			t.Fatalf("got %q, %v; want %q", got, err, msg)
		}
		if left := string(c.in) + string(w.in); left != rest {
			t.Fatalf("left %q, want %q", left, rest)
		}
	})
}

// strictChunks reads what follows RCPT as RFC 3030 says, for lines that are
// BDAT or NOOP: the message, and what is left behind its last chunk.
func strictChunks(in string) (msg, rest string, ok bool) {
	for {
		i := strings.IndexByte(in, '\n')
		if i < 0 || i >= MaxLine {
			return "", "", false
		}
		cmd := parseCommand([]byte(in[:i+1]))
		in = in[i+1:]
		if cmd.verb == "NOOP" {
			continue
		}
		ch, err := parseChunk(cmd.arg)
		if cmd.verb != "BDAT" || err != nil || int64(len(in)) < ch.size {
			return "", "", false
		}
		msg, in = msg+in[:ch.size], in[ch.size:]
		if ch.last {
			return msg, in, true
		}
	}
}

// FuzzChunkReader holds the reader of chunks to what BDAT says: not a byte of a
// chunk becomes a command, and not a byte of a command becomes the message.
func FuzzChunkReader(f *testing.F) {
	for _, s := range []string{
		"BDAT 2\r\nabBDAT 3 LAST\r\ncdeQUIT\r\n",
		"BDAT 0 LAST\r\n",
		"bdat 6\r\nNOOP\r\nNOOP\r\nBDAT 0 last\r\nRSET\r\n",
		"BDAT                                                                       11 LAST\r\nabcdefghijkNOOP\r\n",
		"BDAT 1\r\n\nBDAT 1 LAST\n\r",
	} {
		f.Add(s, byte(3), byte(5))
	}
	f.Fuzz(func(t *testing.T, in string, step, read byte) {
		msg, rest, ok := strictChunks(in)
		if !ok {
			return
		}

		w := &wire{in: []byte(in), step: 1 + int(step)}
		c := NewConn(w, Config{Release: func() {}})
		c.mode = modeChunks
		if err := c.nextChunk(); err != nil {
			t.Fatalf("first chunk of %q: %v", in, err)
		}
		var got []byte
		buf := make([]byte, 1+int(read))
		var err error
		for err == nil {
			var n int
			n, err = c.message().Read(buf)
			got = append(got, buf[:n]...)
		}

		if err != io.EOF || string(got) != msg {
			t.Fatalf("got %q, %v; want %q", got, err, msg)
		}
		if left := string(c.in) + string(w.in); left != rest {
			t.Fatalf("left %q, want %q", left, rest)
		}
	})
}

// TestMessagesSplitAnywhere: wherever the input is divided, a message ends at
// the same place and is the same, by DATA and by BDAT.
func TestMessagesSplitAnywhere(t *testing.T) {
	t.Parallel()
	data := "a\r\n..\r\n.b\r\n\r\r\n.\n\n.\r\n\r.\r\n.\r\nNOOP\r\n"
	msg, rest, ok := strictData(data)
	if !ok || rest != "NOOP\r\n" {
		t.Fatalf("the model leaves %q", rest)
	}
	chunks := "BDAT 7\r\na\r\n.\r\nBNOOP\r\nBDAT 0\r\nbdat 5 last\r\nDAT\r\nQUIT\r\n"
	for first := 1; first < len(data); first++ {
		for read := 1; read < 9; read++ {
			c := NewConn(&pieces{parts: []string{data[:first], data[first:]}}, Config{Release: func() {}})
			c.mode, c.data.lineStart = modeData, true
			got, err := readBy(c.message(), read)
			if string(got) != msg || err != nil || left(c) != rest {
				t.Errorf("split at %d, read by %d: %q, %v, left %q", first, read, got, err, left(c))
			}
		}
	}
	for first := 1; first < len(chunks); first++ {
		for read := 1; read < 9; read++ {
			c := NewConn(&pieces{parts: []string{chunks[:first], chunks[first:]}}, Config{Release: func() {}})
			c.mode = modeChunks
			if err := c.nextChunk(); err != nil {
				t.Fatalf("split at %d: %v", first, err)
			}
			got, err := readBy(c.message(), read)
			if string(got) != "a\r\n.\r\nBDAT\r\n" || err != nil || left(c) != "QUIT\r\n" {
				t.Errorf("split at %d, read by %d: %q, %v, left %q", first, read, got, err, left(c))
			}
		}
	}
}

// readBy reads all, n bytes at a time.
func readBy(r io.Reader, n int) (all []byte, err error) {
	buf := make([]byte, n)
	for {
		k, err := r.Read(buf)
		all = append(all, buf[:k]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// left is what a connection has not given out yet.
func left(c *Conn) string {
	rest := string(c.in)
	for _, part := range c.sock.(*pieces).parts {
		rest += part
	}

	return rest
}

// pieces is a socket whose input comes in parts.
type pieces struct {
	wire
	parts []string
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.parts[0])
	if p.parts[0] = p.parts[0][n:]; p.parts[0] == "" {
		p.parts = p.parts[1:]
	}

	return n, nil
}

// TestReadersStayAtTheEnd: who reads on gets nothing of what follows.
func TestReadersStayAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		mode     mode
		want     error
	}{
		{"DATA", "a\r\n.\r\nNOOP\r\n", modeData, nil},
		{"chunks", "BDAT 3 LAST\r\na\r\nBDAT 5 LAST\r\nNOOP\r\n", modeChunks, nil},
		{"chunks that were given up", "BDAT 3\r\na\r\nRSET\r\nBDAT 5 LAST\r\nNOOP\r\n", modeChunks, ErrAborted},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := NewConn(&pieces{parts: []string{c.in}}, Config{Release: func() {}})
			conn.mode, conn.data.lineStart = c.mode, true
			if c.mode == modeChunks {
				if err := conn.nextChunk(); err != nil {
					t.Fatal(err)
				}
			}
			r := conn.message()
			if got, err := readBy(r, 10); string(got) != "a\r\n" || !errors.Is(err, c.want) {
				t.Fatalf("read %q, %v; want %v", got, err, c.want)
			}
			before := left(conn)
			if n, err := r.Read(make([]byte, 10)); n != 0 || err != io.EOF {
				t.Errorf("read %d bytes, %v at the end", n, err)
			}
			if left(conn) != before {
				t.Errorf("left %q, want %q", left(conn), before)
			}
		})
	}
}
