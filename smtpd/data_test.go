package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/relay"

	"postern/relay/message"
	"postern/relay/reply"
	"postern/smtpd/auth"
)

// strictChunks reads what follows RCPT as RFC 3030 says, for lines that are
// BDAT or NOOP: the message, and what is left behind its last chunk.
func strictChunks(in string) (msg, rest string, ok bool) {
	for {
		i := strings.IndexByte(in, '\n')
		if i < 0 || i >= maxCommandLine {
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
		c := newConn(w, connConfig{release: func() {}})
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

func TestParseChunk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		arg  string
		want string
	}{
		{"0", "0 false"},
		{"7", "7 false"},
		{"0 LAST", "0 true"},
		{"1 2", "error"},
		{"LAST", "error"},
		{"LAST 1", "error"},
		{"4294967295", "error"},
		{"4294967296", "error"},
		{"2147483647 LAST", "2147483647 true"},
		{"12 LAST", "12 true"},
		{"12    last", "12 true"},
		{"2147483647", "2147483647 false"},
		{"2147483648", "error"},
		{"", "error"},
		{"-1", "error"},
		{"+1", "error"},
		{"0x10", "error"},
		{"1_0", "error"},
		{"1 LAST LAST", "error"},
		{"1 FIRST", "error"},
	} {
		t.Run(c.arg, func(t *testing.T) {
			got := "error"
			if ch, err := parseChunk(c.arg); err == nil {
				got = fmt.Sprint(ch.size, ch.last)
			}
			if got != c.want {
				t.Errorf("parseChunk(%q) = %s, want %s", c.arg, got, c.want)
			}
			if _, err := parseChunk(c.arg); err != nil && err != errBadChunk {
				t.Errorf("parseChunk(%q): %v, want %v", c.arg, err, errBadChunk)
			}
		})
	}
}

// FuzzSession throws bytes at a session that may submit: what comes through has
// lines that end with CRLF, and nothing is left reserved.
func FuzzSession(f *testing.F) {
	const begin = "EHLO a\r\nMAIL FROM:<a@b.example> SIZE=100\r\nRCPT TO:<c@d.example>\r\n"
	for _, s := range []string{
		"DATA\r\nFrom: a@b.example\r\n\r\n..\r\n.\r\nQUIT\r\n",
		"DATA\r\nFrom: a@b.example\r\n\r\na\nb\r\n.\r\nNOOP\r\n",
		"BDAT 20\r\nFrom: a@b.example\r\n\nBDAT 0 LAST\r\n",
		"BDAT 19\r\nFrom: a@b.example\r\nNOOP\r\nBDAT 2 LAST\r\n\r\nQUIT\r\n",
		"BDAT 19\r\nFrom: a@b.example\r\nRSET\r\nBDAT 4 LAST\r\nRSET",
		"BDAT 5000 LAST\r\n",
		"BDAT 2147483647\r\nxEHLO b\r\n",
		"BDAT 19\r\nFrom: a@b.example\r\nEHLO b\r\nDATA\r\n",
		"STARTTLS\r\nAUTH LOGIN bDAt\r\n*\r\n",
	} {
		f.Add(s)
	}
	users := newClients(f, auth.Rate{}, nil)
	f.Fuzz(func(t *testing.T, in string) {
		sub, budget := &submitter{reply: reply.Reply{Code: 250}}, NewBudget(10_000)
		s := New(Config{
			Hostname:       "x",
			Auth:           users,
			Submit:         sub,
			Directory:      anybody{},
			Sources:        []SourceRule{{Network: netip.MustParsePrefix("127.0.0.0/8")}},
			Budget:         budget,
			MaxMessageSize: 1000,
			Log:            quiet,
			Grace:          time.Second,
		})
		l := &oneConn{c: &wire{in: []byte(begin + in)}, done: make(chan struct{})}
		if err := s.Serve(context.Background(), l); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}

		for _, got := range sub.submissions() {
			if err := message.Check(got.Message); err != nil || len(got.Message) > 1000 {
				t.Errorf("submitted %q: %v", got.Message, err)
			}
		}
		nothingHeld(t, s)
	})
}

// anybody is a Directory that knows everybody.
type anybody struct{}

func (anybody) Lookup(name string) (relay.User, bool) { return relay.User{Name: name}, true }

// TestParseCommand: one reading of a line, which the library gets written anew.
func TestParseCommand(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, verb, arg, anew string }{
		{"NOOP\r\n", "NOOP", "", "NOOP\r\n"},
		{"noop\n", "NOOP", "", "NOOP\r\n"},
		{"NOOP", "NOOP", "", "NOOP\r\n"},
		{"mail from:<A@b.example>\r\n", "MAIL", "from:<A@b.example>", "MAIL from:<A@b.example>\r\n"},
		{"MAIL \t from:<a@b>  \t\r\n", "MAIL", "from:<a@b>", "MAIL from:<a@b>\r\n"},
		{"BDAT\t5 LAST\r\n", "BDAT", "5 LAST", "BDAT 5 LAST\r\n"},
		{" BDAT 5\r\n", "", "BDAT 5", " BDAT 5\r\n"},
		{"NOOP\r\r\n", "NOOP\r", "", "NOOP\r\r\n"},
		{"\r\n", "", "", "\r\n"},
		{"r\u017fet\r\n", "R\u017fET", "", "R\u017fET\r\n"},
	} {
		got := parseCommand([]byte(c.line))
		if got.verb != c.verb || got.arg != c.arg || string(got.line()) != c.anew {
			t.Errorf("%q: %q, %q, anew %q; want %q, %q, %q", c.line, got.verb, got.arg, got.line(), c.verb, c.arg, c.anew)
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
			c := newConn(&pieces{parts: []string{data[:first], data[first:]}}, connConfig{release: func() {}})
			c.mode, c.lineStart = modeData, true
			got, err := readBy(c.message(), read)
			if string(got) != msg || err != nil || left(c) != rest {
				t.Errorf("split at %d, read by %d: %q, %v, left %q", first, read, got, err, left(c))
			}
		}
	}
	for first := 1; first < len(chunks); first++ {
		for read := 1; read < 9; read++ {
			c := newConn(&pieces{parts: []string{chunks[:first], chunks[first:]}}, connConfig{release: func() {}})
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
func left(c *conn) string {
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
		{"chunks that were given up", "BDAT 3\r\na\r\nRSET\r\nBDAT 5 LAST\r\nNOOP\r\n", modeChunks, errAborted},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := newConn(&pieces{parts: []string{c.in}}, connConfig{release: func() {}})
			conn.mode, conn.lineStart = c.mode, true
			if c.mode == modeChunks {
				if err := conn.nextChunk(); err != nil {
					t.Fatal(err)
				}
			}
			r := conn.message()
			if got, err := readBy(r, 10); string(got) != "a\r\n" || err != c.want {
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
