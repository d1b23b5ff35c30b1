package message

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"postern/relay/reply"
)

func TestReadMessage(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
		config         ReadConfig
		err            error
	}{
		{name: "plain", in: "A: b\r\n\r\nc\r\n", want: "A: b\r\n\r\nc\r\n"},
		{name: "bare CR", in: "a\rb\r\n", err: ErrBareCR},
		{name: "CR at the end", in: "a\r", err: ErrBareCR},
		{name: "CR CR LF", in: "a\r\r\n", err: ErrBareCR},
		{name: "bare LF", in: "a\nb\r\n", err: ErrBareLF},
		{name: "bare LF normalised", in: "a\nb\r\n\n", want: "a\r\nb\r\n\r\n", config: ReadConfig{NormaliseLF: true}},
		{name: "bare CR is never normalised", in: "a\rb\n", config: ReadConfig{NormaliseLF: true}, err: ErrBareCR},
		{name: "NUL", in: "a\x00b\r\n", err: ErrNUL},
		{name: "as large as allowed", in: "abc\r\n", want: "abc\r\n", config: ReadConfig{MaxBytes: 5}},
		{name: "too large", in: "abcd\r\n", config: ReadConfig{MaxBytes: 5}, err: ErrTooLarge},
		{name: "no final newline", in: "abc", want: "abc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
				got, err := ReadMessage(r, c.config)
				if !errors.Is(err, c.err) || string(got) != c.want {
					t.Errorf("got %q, %v; want %q, %v", got, err, c.want, c.err)
				}
			}
		})
	}
}

func TestReadMessageAsksBeforeItAllocates(t *testing.T) {
	in := strings.Repeat("0123456789abcd\r\n", 5000)
	var asked []int64
	got, err := ReadMessage(strings.NewReader(in), ReadConfig{
		MaxBytes: 100_000,
		Grow:     func(n int64) error { asked = append(asked, n); return nil },
	})
	if err != nil || string(got) != in {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	last := asked[len(asked)-1]
	if int64(cap(got)) != last {
		t.Errorf("allocated %d bytes, asked for %d", cap(got), last)
	}
	if last > 100_000+64<<10 {
		t.Errorf("asked for %d bytes for a message of at most 100000", last)
	}
}

// countingReader notes how much is wanted of it beside what was delivered.
type countingReader struct {
	r     io.Reader
	given int
	ahead int // the most that was wanted beyond what was given, or 4 KiB
}

func (c *countingReader) Read(p []byte) (int, error) {
	c.ahead = max(c.ahead, len(p)-max(c.given, minBuffer))
	n, err := c.r.Read(p)
	c.given += n
	return n, err
}

// TestReadMessageReadsNoMoreThanArrived: what a message takes beside what Grow
// is asked for is bounded by what it has sent.
func TestReadMessageReadsNoMoreThanArrived(t *testing.T) {
	in := strings.Repeat("0123456789abcd\r\n", 10000)
	r := &countingReader{r: strings.NewReader(in)}
	got, err := ReadMessage(r, ReadConfig{})
	if err != nil || string(got) != in {
		t.Fatalf("got %d bytes, %v; want %d", len(got), err, len(in))
	}
	if r.ahead > 0 {
		t.Errorf("a buffer was %d bytes larger than what had arrived", r.ahead)
	}
}

func TestReadMessageCut(t *testing.T) {
	for _, cause := range []error{io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		_, err := ReadMessage(io.MultiReader(strings.NewReader("A: b\r\n"), iotest.ErrReader(cause)), ReadConfig{})
		var f *reply.Fault
		if !errors.Is(err, ErrCut) || !errors.As(err, &f) || f.Class != reply.Cut {
			t.Errorf("after %v: %v, want ErrCut of class Cut", cause, err)
		}
	}
}

// unstuff is RFC 5321 section 4.5.2 to the letter, for CRLF lines only.
func unstuff(t *testing.T, wire string) string {
	t.Helper()
	var out strings.Builder
	for {
		line, rest, ok := strings.Cut(wire, "\r\n")
		if !ok {
			t.Fatalf("no final dot")
		}
		if line == "." {
			if rest != "" {
				t.Fatalf("%q behind the final dot", rest)
			}
			return out.String()
		}
		out.WriteString(strings.TrimPrefix(line, ".") + "\r\n")
		wire = rest
	}
}

func FuzzWriteData(f *testing.F) {
	for _, s := range []string{"", ".", "..\r\n", "a\r\n.\r\nb", "\r\n.\r\n", "a\n.\r\n", "a\r.\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var wire bytes.Buffer
		w := bufio.NewWriter(&wire)
		err := WriteData(w, in)
		w.Flush()
		got, readErr := ReadMessage(bytes.NewReader(in), ReadConfig{})
		if (err == nil) != (readErr == nil) {
			t.Fatalf("the writer says %v, the reader %v", err, readErr)
		}
		if err != nil {
			if wire.Len() > 0 {
				t.Fatalf("wrote %q of a refused message", wire.Bytes())
			}
			return
		}
		want := string(got)
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		if back := unstuff(t, wire.String()); back != want {
			t.Fatalf("sent %q, arrived %q", want, back)
		}
		if model := modelWrite(string(in)); wire.String() != model {
			t.Fatalf("%q goes out as %q, want %q", in, wire.Bytes(), model)
		}
	})
}

// TestBareLFAdviceFits in a reply line, and says what can be done.
func TestBareLFAdviceFits(t *testing.T) {
	_, err := ReadMessage(strings.NewReader("a\nb\r\n"), ReadConfig{})
	answer := reply.For(err).String()
	if len(answer)+len("\r\n") > 512 || reply.CleanText(answer) != answer {
		t.Errorf("got %d bytes: %s", len(answer), answer)
	}
	for _, want := range []string{"550 5.6.0 Message contains a bare LF", "policy=email.policy.SMTP", `bare_newlines = "normalise"`} {
		if !strings.Contains(answer, want) {
			t.Errorf("no %q in %s", want, answer)
		}
	}
	if err := Check([]byte("a\nb\r\n")); !errors.Is(err, ErrBareLF) || strings.Contains(err.Error(), "Python") {
		t.Errorf("of what goes upstream: got %v, want %v without advice to a client", err, ErrBareLF)
	}
}
