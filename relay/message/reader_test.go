package message

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"postern/relay/reply"
)

// pieces gives each of its strings by one Read, and an error with the last one
// or behind it.
type pieces struct {
	parts    []string
	err      error // io.EOF where nil
	together bool  // the error comes with the last piece
	asked    []int // sizes of the buffers
}

func (p *pieces) Read(b []byte) (int, error) {
	p.asked = append(p.asked, len(b))
	err := p.err
	if err == nil {
		err = io.EOF
	}
	if len(p.parts) == 0 {
		return 0, err
	}

	n := copy(b, p.parts[0])
	if p.parts[0] = p.parts[0][n:]; p.parts[0] == "" {
		p.parts = p.parts[1:]
	}
	if p.together && len(p.parts) == 0 {
		return n, err
	}
	return n, nil
}

// budget is memory that is asked for in steps, and runs out.
type budget struct {
	left  int64
	asked []int64
}

var errBudget = errors.New("no memory")

func (b *budget) grow(n int64) error {
	b.asked = append(b.asked, n)
	if n > b.left {
		return errBudget
	}
	return nil
}

func (b *budget) last() int64 {
	if len(b.asked) == 0 {
		return 0
	}
	return b.asked[len(b.asked)-1]
}

// modelRead is RFC 5321 section 2.3.8 byte by byte: what a message becomes, and
// what it is refused for.
func modelRead(in string, normalise bool) (out string, lineEnd error) {
	if strings.Contains(in, "\x00") {
		return "", ErrNUL
	}
	for i := 0; i < len(in); i++ {
		switch {
		case in[i] == '\r' && (i+1 == len(in) || in[i+1] != '\n'):
			return "", ErrBareCR
		case in[i] == '\r':
			out += "\r\n"
			i++
		case in[i] == '\n' && !normalise:
			return "", ErrBareLF
		case in[i] == '\n':
			out += "\r\n"
		default:
			out += in[i : i+1]
		}
	}
	return out, nil
}

// modelWrite is RFC 5321 section 4.5.2 line by line.
func modelWrite(msg string) string {
	wire := ""
	for line := range strings.Lines(msg) {
		if strings.HasPrefix(line, ".") {
			line = "." + line
		}
		if !strings.HasSuffix(line, "\r\n") {
			line += "\r\n"
		}
		wire += line
	}
	return wire + ".\r\n"
}

// lineEnds are messages that line ends are told apart by.
var lineEnds = []string{
	"", "a", "\r\n", "a\r\n", "a\r\nb", "a\r\n\r\nb\r\n", "\r\n\r\n", ".\r\n..\r\n.a\r\n", "a.\r\n.", ".",
	"\r", "\n", "a\r", "a\n", "\ra\r\n", "b\r\n\ra\r\n", "\ra", "\na", "a\rb\r\n", "a\nb\r\n", "a\r\r\n", "a\n\r\n", "a\r\n\rb", "a\r\n\nb", "\n\n", "\r\r",
	"\x00", "a\r\nb\x00c", "\r\x00\n", "a\n\r", "ab\r\ncd\r\n\r\n\r\nef",
}

// TestReadMessageInPieces cuts messages at every two places: however they
// arrive, they are read, or refused, as they are as a whole.
func TestReadMessageInPieces(t *testing.T) {
	for _, in := range lineEnds {
		for _, normalise := range []bool{false, true} {
			want, wantErr := modelRead(in, normalise)
			for i := 0; i <= len(in); i++ {
				for j := i; j <= len(in); j++ {
					for _, together := range []bool{false, true} {
						r := &pieces{parts: []string{in[:i], in[i:j], in[j:]}, together: together}
						got, err := ReadMessage(r, ReadConfig{NormaliseLF: normalise})
						// The first piece may be refused for another fault than the whole is.
						if string(got) != want || (err == nil) != (wantErr == nil) ||
							i == 0 && j == len(in) && !errors.Is(err, wantErr) {
							t.Errorf("%q cut at %d and %d, normalise %v: got %q, %v, want %q, %v",
								in, i, j, normalise, got, err, want, wantErr)
						}
					}
				}
			}
		}
	}
}

// TestLineEndAcrossReads: what follows a CRLF that two reads share is read.
func TestLineEndAcrossReads(t *testing.T) {
	r := &pieces{parts: []string{"Subject: x\r", "\n\r\nbody\r\nmore\r", "\nlast\r\n"}}
	got, err := ReadMessage(r, ReadConfig{})
	if want := "Subject: x\r\n\r\nbody\r\nmore\r\nlast\r\n"; string(got) != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// TestReadMessageAsksForWhatItTakes: the memory of a message is that which was
// asked for last, whatever its size and wherever its line ends are cut.
func TestReadMessageAsksForWhatItTakes(t *testing.T) {
	for _, size := range []int{1, 100, 4094, 4095, 4096, 4097, 4098, 6143, 6144, 6145, 9216, 9217, 13823, 13825, 40_000} {
		for _, fill := range []string{"x", "\n", "\r\n"} {
			in := strings.Repeat(fill, size/len(fill))
			if fill == "x" {
				in += "\r\ny"
			}
			for _, cut := range []int{0, 1, 2, 3} {
				at := max(0, len(in)-cut)
				b := &budget{left: 1 << 30}
				r := &pieces{parts: []string{in[:at], in[at:]}}

				got, err := ReadMessage(r, ReadConfig{NormaliseLF: true, Grow: b.grow})
				if err != nil {
					t.Fatalf("%d times %q: %v", size, fill, err)
				}
				if int64(cap(got)) != b.last() {
					t.Errorf("%d bytes of %q, cut before the last %d: takes %d bytes, asked for %d",
						size, fill, cut, cap(got), b.asked)
				}
				if want := int64(max(4096, len(got)*3/2+4096+1)); b.last() > want {
					t.Errorf("%d bytes of %q: asked for %d bytes, want at most %d", len(got), fill, b.last(), want)
				}
				for i := 2; i < len(b.asked); i++ {
					if b.asked[i] < b.asked[i-1]*3/2 {
						t.Errorf("%d bytes of %q: asked for %d, want half as much again each time", size, fill, b.asked)
					}
				}
			}
		}
	}
}

// TestReadMessageBudget: memory that is refused ends the reading, before it is
// used.
func TestReadMessageBudget(t *testing.T) {
	for _, c := range []struct {
		name string
		hint int64
		left int64
		size int
		want []int64 // asked for
		fits bool
	}{
		{"no hint", 0, 1 << 20, 10, []int64{4096}, true},
		{"as much as the smallest buffer holds", 0, 1 << 20, 4095, []int64{4096}, true},
		{"a byte more", 0, 1 << 20, 4096, []int64{4097}, true},
		{"no hint, no memory", 0, 4095, 10, []int64{4096}, false},
		{"hint", 10_000, 1 << 20, 10_000, []int64{10_512}, true},
		{"hint of one byte", 1, 1 << 20, 1, []int64{4608}, true},
		{"small hint", 10, 1 << 20, 4000, []int64{4608}, true},
		{"hint without memory", 10_000, 10_511, 10, []int64{10_512}, false},
		{"hint that is too small", 5000, 1 << 20, 8000, []int64{5512, 8268}, true},
		{"no memory for what follows", 5000, 8267, 8000, []int64{5512, 8268}, false},
		{"hint of more than anybody may ask for", 1 << 40, 1 << 20, 10, []int64{64<<20 + 512}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &budget{left: c.left}
			in := strings.Repeat("x", c.size)
			got, err := ReadMessage(strings.NewReader(in), ReadConfig{SizeHint: c.hint, Grow: b.grow})
			if fmt.Sprint(b.asked) != fmt.Sprint(c.want) {
				t.Errorf("asked for %d, want %d", b.asked, c.want)
			}
			if c.fits && (err != nil || string(got) != in) || !c.fits && (!errors.Is(err, errBudget) || got != nil) {
				t.Errorf("got %d bytes, %v, want fits %v", len(got), err, c.fits)
			}
		})
	}

	for size, want := range map[int64]int64{0: 4608, 1: 4608, 4096: 4608, 4097: 4609, 64 << 20: 64<<20 + 512, 1 << 40: 64<<20 + 512} {
		if got := FirstBuffer(size); got != want {
			t.Errorf("FirstBuffer(%d) = %d, want %d", size, got, want)
		}
	}
}

// TestReadMessageGrowsToItsLimit: near the largest message, a buffer is hardly
// larger than that.
func TestReadMessageGrowsToItsLimit(t *testing.T) {
	const limit = 100_000
	b := &budget{left: 1 << 30}
	in := strings.Repeat("x", limit)

	got, err := ReadMessage(strings.NewReader(in), ReadConfig{MaxBytes: limit, Grow: b.grow})
	if err != nil || string(got) != in {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	if want := int64(limit + 32<<10); b.last() != want {
		t.Errorf("asked for %d, the last should be %d", b.asked, want)
	}
}

// TestReadMessageReadSizes: small messages are read by 4 KiB, large ones by 32.
func TestReadMessageReadSizes(t *testing.T) {
	whole := strings.Repeat("x", 200_000)
	r := &pieces{parts: []string{whole}}
	if got, err := ReadMessage(r, ReadConfig{}); err != nil || string(got) != whole {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}

	read := 0
	for i, n := range r.asked {
		want := 4096
		if read >= 32<<10 {
			want = 32 << 10
		}
		if n != want {
			t.Errorf("read %d, after %d bytes: a buffer of %d bytes, want %d", i, read, n, want)
		}
		read += n
	}
}

// TestReadMessageLimit: a message of the greatest size is read, and one more
// byte is refused with a reply of its own.
func TestReadMessageLimit(t *testing.T) {
	for _, c := range []struct {
		in        string
		max       int64
		normalise bool
		want      string // reply; empty: it fits
	}{
		{in: "abc\r\n", max: 5},
		{in: "abcd\r\n", max: 5, want: "552 5.3.4 Message exceeds the maximum size"},
		{in: "abc\n", max: 5, normalise: true},
		{in: "abc\n", max: 4, normalise: true, want: "552 5.3.4 Message exceeds the maximum size"},
		{in: "a", max: 1},
		{in: "ab", max: 1, want: "552 5.3.4 Message exceeds the maximum size"},
		{in: "ab", max: 0},
	} {
		got, err := ReadMessage(strings.NewReader(c.in), ReadConfig{MaxBytes: c.max, NormaliseLF: c.normalise})
		if c.want == "" {
			if err != nil || got == nil {
				t.Errorf("%q, at most %d: got %q, %v", c.in, c.max, got, err)
			}
			continue
		}
		var f *reply.Fault
		if !errors.As(err, &f) || f.Class != reply.Permanent || !errors.Is(err, ErrTooLarge) || f.Reply.String() != c.want || got != nil {
			t.Errorf("%q, at most %d: got %q, %v, want %q", c.in, c.max, got, err, c.want)
		}
	}
}

// TestRefusedBytes: what a client is told of a message that is not SMTP's.
func TestRefusedBytes(t *testing.T) {
	for in, want := range map[string]string{
		"a\rb\r\n":   "550 5.6.0 Message contains a bare CR; lines end with CRLF (RFC 5321 section 2.3.8)",
		"a\r":        "550 5.6.0 Message contains a bare CR; lines end with CRLF (RFC 5321 section 2.3.8)",
		"a\x00b\r\n": "550 5.6.0 Message contains a NUL byte",
	} {
		for _, read := range []func() error{
			func() error { _, err := ReadMessage(strings.NewReader(in), ReadConfig{}); return err },
			func() error { return Check([]byte(in)) },
		} {
			err := read()
			var f *reply.Fault
			if !errors.As(err, &f) || f.Class != reply.Permanent || f.Err == nil || f.Reply.String() != want {
				t.Errorf("%q: got %v, want %q", in, err, want)
			}
		}
	}

	err := Check([]byte("a\nb"))
	if want := "550 5.6.0 Message contains a bare LF; lines end with CRLF (RFC 5321 section 2.3.8)"; reply.For(err).String() != want {
		t.Errorf("bare LF: got %v, want %q", err, want)
	}
}

// TestReadMessageKeepsTheTransportsFault: an error with a class of its own is
// not taken for a client that has gone.
func TestReadMessageKeepsTheTransportsFault(t *testing.T) {
	late := reply.Defer(421, reply.EnhancedCode{4, 4, 2}, "too slow", nil)
	r := &pieces{parts: []string{"a: b\r\n"}, err: fmt.Errorf("read: %w", late), together: true}
	if got, err := ReadMessage(r, ReadConfig{}); !errors.Is(err, late) || got != nil {
		t.Errorf("got %q, %v, want %v", got, err, late)
	}

	cause := errors.New("connection reset")
	got, err := ReadMessage(&pieces{parts: []string{"a: b\r\n"}, err: cause}, ReadConfig{})
	var f *reply.Fault
	if !errors.As(err, &f) || f.Class != reply.Cut || !errors.Is(err, cause) || !errors.Is(err, ErrCut) || got != nil {
		t.Errorf("got %q, %v, want ErrCut and its cause", got, err)
	}
}

// TestCheckIsAsStrictAsTheReader, for messages as they are and in two parts.
func TestCheckIsAsStrictAsTheReader(t *testing.T) {
	for _, in := range lineEnds {
		_, want := modelRead(in, false)
		if err := Check([]byte(in)); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("Check(%q) = %v, want %v", in, err, want)
		}
	}
}

// failingWriter fails from a byte on.
type failingWriter struct{ left int }

var errWriter = errors.New("connection reset")

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errWriter
	}
	return len(p), nil
}

// TestWriteDataReportsFailures, at whatever byte the connection is lost.
func TestWriteDataReportsFailures(t *testing.T) {
	msg := strings.Repeat(".x\r\n", 20)
	for left := range len(modelWrite(msg)) {
		w := bufio.NewWriterSize(&failingWriter{left: left}, 16)
		err := WriteData(w, []byte(msg[:40]), []byte(msg[40:]))
		if flushed := w.Flush(); !errors.Is(errors.Join(err, flushed), errWriter) {
			t.Errorf("connection lost after %d bytes: %v, %v", left, err, flushed)
		}
		if left < len(modelWrite(msg))-16 && !errors.Is(err, errWriter) {
			t.Errorf("connection lost after %d bytes: %v before the flush, want %v", left, err, errWriter)
		}
	}
}

// TestWriteDataIsTheModel, whole and in parts, with empty ones everywhere.
func TestWriteDataIsTheModel(t *testing.T) {
	for _, msg := range lineEnds {
		_, refused := modelRead(msg, false)
		want := ""
		if refused == nil {
			want = modelWrite(msg)
		}
		for i := 0; i <= len(msg); i++ {
			got, err := written(nil, []byte(msg[:i]), nil, nil, []byte(msg[i:]), nil)
			if got != want || (err == nil) != (refused == nil) {
				t.Errorf("%q cut at %d: got %q, %v, want %q, %v", msg, i, got, err, want, refused)
			}
		}
	}
}

// FuzzReadMessage cuts a message at two places and holds it to the model.
func FuzzReadMessage(f *testing.F) {
	for i, in := range lineEnds {
		f.Add([]byte(in), uint(i), uint(1), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, in []byte, i, j uint, normalise bool) {
		if len(in) > 1<<16 {
			return
		}
		i = min(i, uint(len(in)))
		j = min(i+j, uint(len(in)))
		want, refused := modelRead(string(in), normalise)

		b := &budget{left: 1 << 30}
		r := &pieces{parts: []string{string(in[:i]), string(in[i:j]), string(in[j:])}}
		got, err := ReadMessage(r, ReadConfig{NormaliseLF: normalise, Grow: b.grow})
		if string(got) != want || (err == nil) != (refused == nil) {
			t.Fatalf("%q cut at %d and %d: got %q, %v, want %q, %v", in, i, j, got, err, want, refused)
		}
		if err != nil {
			return
		}
		if int64(cap(got)) != b.last() {
			t.Fatalf("%q: takes %d bytes, asked for %d", in, cap(got), b.asked)
		}

		wire, err := written(got)
		if err != nil || wire != modelWrite(want) {
			t.Fatalf("%q goes out as %q, %v, want %q", want, wire, err, modelWrite(want))
		}
		again, err := ReadMessage(iotest.HalfReader(bytes.NewReader(got)), ReadConfig{NormaliseLF: normalise})
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%q reads back as %q, %v", got, again, err)
		}
	})
}
