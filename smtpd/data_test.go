package smtpd

import (
	"fmt"
	"io"
	"strings"
	"testing"
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
