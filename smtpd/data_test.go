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
	"postern/relay/envelope"
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
	users := newUsers(f, Rate{}, nil)
	f.Fuzz(func(t *testing.T, in string) {
		sub, budget := &submitter{reply: envelope.Reply{Code: 250}}, NewBudget(10_000)
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
		if err := s.Serve(context.Background(), l, false); !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}

		for _, got := range sub.submissions() {
			if err := envelope.Check(got.Message); err != nil || len(got.Message) > 1000 {
				t.Errorf("submitted %q: %v", got.Message, err)
			}
		}
		if n := budget.Used(); n != 0 {
			t.Errorf("%d bytes are left reserved", n)
		}
		if s.open.Load() != 0 || len(s.sources) != 0 {
			t.Errorf("%d connections open, of %v", s.open.Load(), s.sources)
		}
	})
}

// anybody is a Directory that knows everybody.
type anybody struct{}

func (anybody) Lookup(name string) (relay.User, bool) { return relay.User{Name: name}, true }
