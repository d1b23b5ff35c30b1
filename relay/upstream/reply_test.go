package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"postern/relay/reply"
)

// read reads one reply from a reader, and returns what is left.
func read(r io.Reader) (answer reply.Reply, rest string, broken bool, err error) {
	c := &conn{r: bufio.NewReaderSize(r, maxReplyLine)}
	answer, err = c.readReply()
	left, _ := io.ReadAll(c.r)

	return answer, string(left), c.broken, err
}

func TestReplies(t *testing.T) {
	enhanced := func(a, b, c int) reply.EnhancedCode { return reply.EnhancedCode{a, b, c} }
	for _, c := range []struct {
		name, text string
		want       reply.Reply
	}{
		{"three digits", "250\r\n", reply.Reply{Code: 250}},
		{"a space and nothing", "250 \r\n", reply.Reply{Code: 250}},
		{"one character", "250 x\r\n", reply.Reply{Code: 250, Text: "x"}},
		{"a line feed alone", "354 go\n", reply.Reply{Code: 354, Text: "go"}},
		{"the lowest code", "200 x\r\n", reply.Reply{Code: 200, Text: "x"}},
		{"the highest code", "599 x\r\n", reply.Reply{Code: 599, Text: "x"}},
		{"an enhanced code", "250 2.1.5 fine\r\n", reply.Reply{Code: 250, Enhanced: enhanced(2, 1, 5), Text: "fine"}},
		{"an enhanced code alone", "550 5.1.1\r\n", reply.Reply{Code: 550, Enhanced: enhanced(5, 1, 1)}},
		{"of three digits", "550 5.999.999 x\r\n", reply.Reply{Code: 550, Enhanced: enhanced(5, 999, 999), Text: "x"}},
		{"of four digits", "550 5.1.1000 x\r\n", reply.Reply{Code: 550, Text: "5.1.1000 x"}},
		{"of four digits with a zero", "550 5.1.0001 x\r\n", reply.Reply{Code: 550, Text: "5.1.0001 x"}},
		{"with a zero", "550 5.0.0 x\r\n", reply.Reply{Code: 550, Enhanced: enhanced(5, 0, 0), Text: "x"}},
		{"negative", "550 5.-1.1 x\r\n", reply.Reply{Code: 550, Text: "5.-1.1 x"}},
		{"of letters", "550 5.1.x x\r\n", reply.Reply{Code: 550, Text: "5.1.x x"}},
		{"of two parts", "550 5.1 x\r\n", reply.Reply{Code: 550, Text: "5.1 x"}},
		{"of four parts", "550 5.1.1.1 x\r\n", reply.Reply{Code: 550, Text: "5.1.1.1 x"}},
		{"of another class", "550 4.1.1 x\r\n", reply.Reply{Code: 550, Text: "4.1.1 x"}},
		{"many lines", "250-a\r\n250-b\r\n250 c\r\n", reply.Reply{Code: 250, Text: "a\nb\nc"}},
		{"many lines of three digits", "250-\r\n250\r\n", reply.Reply{Code: 250, Text: "\n"}},
		{
			"many lines with enhanced codes",
			"550-5.1.1 a\r\n550-5.1.1 b\r\n550 5.1.1 c\r\n",
			reply.Reply{Code: 550, Enhanced: enhanced(5, 1, 1), Text: "a\nb\nc"},
		},
		{
			"an enhanced code in the second line alone is text",
			"550-a\r\n550 5.1.1 b\r\n",
			reply.Reply{Code: 550, Text: "a\n5.1.1 b"},
		},
		{
			"an enhanced code in the first line alone",
			"550-5.1.1 a\r\n550 b\r\n",
			reply.Reply{Code: 550, Enhanced: enhanced(5, 1, 1), Text: "a\nb"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.Text = reply.CleanText(c.want.Text)
			const next = "220 next\r\n"
			for name, r := range map[string]io.Reader{
				"whole":        strings.NewReader(c.text + next),
				"byte by byte": iotest.OneByteReader(strings.NewReader(c.text + next)),
			} {
				got, rest, broken, err := read(r)
				if err != nil || got != c.want || broken || rest != next {
					t.Errorf("%s: got %+v, %v, broken %v, left %q; want %+v", name, got, err, broken, rest, c.want)
				}
			}
			for i := range c.text {
				split := io.MultiReader(strings.NewReader(c.text[:i]), strings.NewReader(c.text[i:]+next))
				if got, rest, _, err := read(split); err != nil || got != c.want || rest != next {
					t.Errorf("split at %d: got %+v, %v, left %q", i, got, err, rest)
				}
			}
		})
	}
}

func TestRepliesThatAreNone(t *testing.T) {
	long := "250 " + strings.Repeat("x", maxReplyLine-6) + "\r\n" // as long as a line may be
	many := strings.Repeat("250-"+strings.Repeat("x", 1018)+"\r\n", 64)
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"empty", "\r\n", errReply},
		{"two digits", "25\r\n", errReply},
		{"four digits", "2500 x\r\n", errReply},
		{"no space", "250x\r\n", errReply},
		{"a comma", "250,x\r\n", errReply},
		{"letters", "abc x\r\n", errReply},
		{"a sign", "+25 x\r\n", errReply},
		{"too low", "199 x\r\n", errReply},
		{"too high", "600 x\r\n", errReply},
		{"HTTP", "HTTP/1.1 400 Bad Request\r\n", errReply},
		{"another code in a later line", "250-a\r\n251 b\r\n", errReply},
		{"a line of maximal length", long, nil},
		{"a line that is longer", strings.Replace(long, "x", "xx", 1), errReply},
		{"64 KiB", many[:len(many)-1024] + "250 " + many[4:1024], nil},
		{"a byte more", many[:len(many)-1024] + "250 x" + many[4:1024], errReply},
		{"nothing", "", io.EOF},
		{"half a line", "250 o", io.EOF},
		{"half a reply", "250-a\r\n", io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer, _, broken, err := read(strings.NewReader(c.text))
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || broken != (c.want != nil) {
				t.Errorf("got %d, %v, broken %v; want %v", answer.Code, err, broken, c.want)
			}
		})
	}
	if maxReplyLine != 4096 || maxReplyBytes != 65536 {
		t.Errorf("lines of %d bytes, replies of %d; want 4096 and 65536", maxReplyLine, maxReplyBytes)
	}
}

// deadlines records the deadline that a connection was given last.
type deadlines struct {
	net.Conn
	last time.Time
}

func (d *deadlines) SetDeadline(t time.Time) error {
	d.last = t
	return nil
}

// TestDeadlineOfAPhase checks the deadline of a phase, and that it is in the
// past once the context has ended.
func TestDeadlineOfAPhase(t *testing.T) {
	raw := &deadlines{}
	c := &conn{raw: raw}
	c.setDeadline(context.Background(), time.Hour)
	if left := time.Until(raw.last); left <= 59*time.Minute || left > time.Hour {
		t.Errorf("%v are left, want an hour", left)
	}

	over, cancel := context.WithCancel(context.Background())
	cancel()
	c.setDeadline(over, time.Hour)
	if left := time.Until(raw.last); left > 0 {
		t.Errorf("%v are left to a caller who is gone, want none", left)
	}
}

// TestTranscriptIsBounded checks the length of lines, and that a transcript
// without a log does nothing.
func TestTranscriptIsBounded(t *testing.T) {
	var out strings.Builder
	tr := transcript{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	tr.reply([]byte(strings.Repeat("x", 600)))
	if n := strings.Count(out.String(), "x"); n != 500 {
		t.Errorf("%d characters of a line are written, want 500", n)
	}

	out.Reset()
	tr.log = slog.New(slog.NewTextHandler(&out, nil))
	tr.command("MAIL")
	tr.reply([]byte("250 ok"))
	tr.message(10)
	if out.Len() != 0 {
		t.Errorf("written though the log is not at debug: %s", out.String())
	}
	none := transcript{}
	none.command("MAIL")
}

// FuzzReply checks that a reply that is read is clean and short, and is the
// same after it is written and read again.
func FuzzReply(f *testing.F) {
	f.Add("250-5.1.1 a\r\n250 b\r\n")
	f.Add("550 5.1.1 \x1b[2J\xff\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		answer, _, _, err := read(strings.NewReader(text))
		if err != nil {
			return
		}
		if answer.Code < 200 || answer.Code > 599 {
			t.Fatalf("%q: code %d", text, answer.Code)
		}
		if answer.Enhanced != (reply.EnhancedCode{}) && answer.Enhanced[0] != answer.Code/100 {
			t.Fatalf("%q: code %d with %v", text, answer.Code, answer.Enhanced)
		}
		var again strings.Builder
		lines := strings.Split(answer.Text, "\n")
		for i, line := range lines {
			separator := "-"
			if i == len(lines)-1 {
				separator = " "
			}
			for _, b := range []byte(line) {
				if b < ' ' || b > '~' {
					t.Fatalf("%q: %q is not clean", text, line)
				}
			}
			code := ""
			if answer.Enhanced != (reply.EnhancedCode{}) {
				code = fmt.Sprintf("%d.%d.%d ", answer.Enhanced[0], answer.Enhanced[1], answer.Enhanced[2])
			}
			fmt.Fprintf(&again, "%d%s%s%s\r\n", answer.Code, separator, code, line)
		}
		back, _, _, err := read(strings.NewReader(again.String()))
		if err != nil || back.Code != answer.Code || back.Text != reply.CleanText(answer.Text) {
			t.Fatalf("%q: came back as %+v, %v; want %+v", text, back, err, answer)
		}
	})
}
