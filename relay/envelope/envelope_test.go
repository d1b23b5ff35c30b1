package envelope

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFromUnquoted(t *testing.T) {
	for _, c := range []struct {
		name, in, path string
		bad            bool
	}{
		{"plain", "a.b@example.org", "<a.b@example.org>", false},
		{"null path", "", "<>", false},
		{"needs quotes", "a b@example.org", `<"a b"@example.org>`, false},
		{"smuggled parameter", "v@evil.example> ORCPT=rfc822;x@example.org", "", true},
		{"two ats", "a@b@example.org", "", true},
		{"control", "a\r\nRCPT@example.org", "", true},
		{"international", "ü@bücher.example", "<ü@bücher.example>", false},
		{"8-bit that is no UTF-8", "\xfc@example.org", "", true},
		{"a C1 control", "a\u0085b@example.org", "", true},
		{"a direction mark", "a\u202eb@example.org", "", true},
		{"literal", "a@[192.0.2.1]", "<a@[192.0.2.1]>", false},
		{"long local part", strings.Repeat("x", 65) + "@example.org", "", true},
		{"domain with space", "a@exa mple.org", "", true},
		{"no domain", "a@", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := FromUnquoted(c.in)
			if (err != nil) != c.bad {
				t.Fatalf("error %v, want bad %v", err, c.bad)
			}
			if err == nil && a.Path() != c.path {
				t.Errorf("got %s, want %s", a.Path(), c.path)
			}
		})
	}
}

// TestTyped writes addresses for delivery status notifications and ORCPT.
func TestTyped(t *testing.T) {
	for in, want := range map[string]string{"a@b.example": "rfc822;a@b.example", "jösé+x@b.example": `utf-8;j\x{F6}s\x{E9}\x{2B}x@b.example`} {
		a, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Typed(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"a@b", `"a b"@c.d`, `a\"b@c`, "x@[1.2.3.4]", "a..b@c", "", "ü@ü.example", "a\u0085@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := FromUnquoted(s)
		if err != nil || a.IsNull() {
			return
		}
		back, err := Parse(a.String())
		if err != nil || back != a {
			t.Fatalf("%q wrote %q, which reads back as %+v, %v", s, a.String(), back, err)
		}
	})
}

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
		var f *Fault
		if !errors.Is(err, ErrCut) || !errors.As(err, &f) || f.Class != Cut {
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

func TestCleanText(t *testing.T) {
	long := strings.Repeat("x\n", 50000)
	if got := CleanText(long); strings.Count(got, "\n") > maxReplyLines {
		t.Errorf("%d lines left", strings.Count(got, "\n"))
	}
	if got := CleanText("a\rb\x00\x1b[2J ü"); got != "a?b??[2J ??" {
		t.Errorf("got %q", got)
	}
}

func TestReplyFor(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		code int
	}{
		{"unclassified is never permanent", errors.New("x"), 451},
		{"overloaded", &Fault{Class: Overloaded}, 452},
		{"permanent", &Fault{Class: Permanent}, 550},
		{"its own words", Refuse(553, [3]int{5, 1, 3}, "bad address"), 553},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := ReplyFor(c.err); got.Code != c.code {
				t.Errorf("got %v, want %d", got, c.code)
			}
		})
	}
}

func TestMatchDomain(t *testing.T) {
	for _, c := range []struct {
		pattern, domain string
		want            bool
	}{
		{"example.com", "Example.COM", true},
		{"example.com", "a.example.com", false},
		{"*.example.com", "a.b.example.com", true},
		{"*.example.com", "example.com", false},
		{"*.example.com", "notexample.com", false},
		{"*", "anything.example", true},
		{"*", "", false},
		{"b\u00fccher.example", "xn--bcher-kva.example", true},
		{"*.xn--bcher-kva.example", "news.B\u00dcCHER.example", true},
		{"bucher.example", "b\u00fccher.example", false},
		{"[192.0.2.1]", "[192.0.2.1]", true},
	} {
		if got := MatchDomain(c.pattern, c.domain); got != c.want {
			t.Errorf("%s %s: %v", c.pattern, c.domain, got)
		}
	}
}

// TestBareLFAdviceFits in a reply line, and says what can be done.
func TestBareLFAdviceFits(t *testing.T) {
	_, err := ReadMessage(strings.NewReader("a\nb\r\n"), ReadConfig{})
	reply := ReplyFor(err).String()
	if len(reply)+len("\r\n") > 512 || CleanText(reply) != reply {
		t.Errorf("got %d bytes: %s", len(reply), reply)
	}
	for _, want := range []string{"550 5.6.0 Message contains a bare LF", "policy=email.policy.SMTP", `bare_newlines = "normalise"`} {
		if !strings.Contains(reply, want) {
			t.Errorf("no %q in %s", want, reply)
		}
	}
	if err := Check([]byte("a\nb\r\n")); !errors.Is(err, ErrBareLF) || strings.Contains(err.Error(), "Python") {
		t.Errorf("of what goes upstream: got %v, want %v without advice to a client", err, ErrBareLF)
	}
}
