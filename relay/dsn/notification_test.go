package dsn

import (
	"errors"
	"strings"
	"testing"

	"postern/relay/envelope"
)

// TestRemoteOfDSN is the upstream without its port, on one line.
func TestRemoteOfDSN(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "mx.example:25": "dns; mx.example", "[2001:db8::1]:25": "dns; 2001:db8::1", "mx": "dns; mx", "a\r\nb:25": "dns; a??b",
	} {
		if got := (Recipient{Upstream: in}).remote(); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestOriginalRecipientOfDSN is ORCPT as the client gave it, on one line.
func TestOriginalRecipientOfDSN(t *testing.T) {
	for _, c := range []struct{ kind, original, want string }{
		{"", "", ""},
		{"rfc822", "", ""},
		{"rfc822", "a@b.example", "rfc822;a@b.example"},
		{"rfc\r\n822", "a\r\nb", "rfc??822;a??b"},
		{"utf-8", "ü=\r@b.example", `utf-8;\x{FC}\x{3D}\x{D}@b.example`},
		{"other", "ü", "other;??"},
	} {
		d := Recipient{Recipient: envelope.Recipient{OriginalType: c.kind, Original: c.original}}
		if got := d.original(); got != c.want {
			t.Errorf("%q of type %q: got %q, want %q", c.original, c.kind, got, c.want)
		}
	}
}

// TestStatusOfDSN is the code of the answer, where it is one of a failure.
func TestStatusOfDSN(t *testing.T) {
	for in, want := range map[string]string{
		"550 5.1.1 no such user": "5.1.1",
		"450 4.2.0 later":        "4.2.0",
		"550 no such user 5.1.1": "5.0.0",
		"550 see 4.4.7 below":    "5.0.0",
		"550 10.0.0.1 is listed": "5.0.0",
		"550 5.1.1":              "5.1.1",
		"550 5.1.1234 x":         "5.0.0",
		"550 5..1 x":             "5.0.0",
		"4.4.7 not delivered":    "4.4.7",
		"550":                    "5.0.0",
		"":                       "5.0.0",
		"999 5.1.1 x":            "5.0.0",
		"250 2.1.5 x":            "5.0.0",
	} {
		if got := (Recipient{Reply: in}).status(); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}

	if got := (Recipient{Reply: "451 4.3.0 later", Expired: true}).status(); got != "4.4.7" {
		t.Errorf("given up after temporary answers: Status %q, want 4.4.7", got)
	}
}

var errFull = errors.New("disk full")

// limitedWriter fails from a byte on.
type limitedWriter struct{ left int }

func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestDSNThatCannotBeWritten is never taken for one that was, wherever its
// writing fails.
func TestDSNThatCannotBeWritten(t *testing.T) {
	r := &Report{
		To:     envelope.Address{Local: "sender", Domain: "example.com"},
		Params: envelope.MailParams{Return: "FULL"},
		Original: Original{
			Header:  []byte("A: b\r\n"),
			Body:    []byte("gr\u00fcn\r\n"),
			HasBody: true,
		},
		Failed: []Recipient{{
			Recipient: envelope.Recipient{Address: envelope.Address{Local: "a", Domain: "example.net"}},
			Reply:     "550 no",
		}},
	}
	o := Options{ID: "id", Hostname: "gw.example"}
	whole, err := r.Encode(o)
	if err != nil {
		t.Fatal(err)
	}

	w := newWriter(r, o)
	for n := range len(whole) {
		if err := w.write(&limitedWriter{left: n}); !errors.Is(err, errFull) {
			t.Fatalf("failed after %d of %d bytes: got %v, want %v", n, len(whole), err, errFull)
		}
	}
	if err := w.write(&limitedWriter{left: len(whole)}); err != nil {
		t.Errorf("all of it: %v", err)
	}

	w.Hostname = "gw\r\nexample"
	if err := w.writeStatus(&limitedWriter{left: 10_000}); err == nil {
		t.Error("a host name with a line end is written into a field")
	}
}

// TestLongReplyInDSN is cut to 1000 bytes, and cleaned.
func TestLongReplyInDSN(t *testing.T) {
	long := strings.Repeat(strings.Repeat("x", 400)+"\n", 3)
	for in, want := range map[string]string{
		"550 a\x00b": "550 a?b",
		long:         long[:1000],
		long[:1000]:  long[:1000],
		long[:999]:   long[:999],
	} {
		if got := cutReply(in); got != want {
			t.Errorf("cutReply of %d bytes: %d bytes %.20q, want %d", len(in), len(got), got, len(want))
		}
	}
	if got := oneLine(strings.Repeat("x", 1001)); len(got) != 1000 {
		t.Errorf("a field of %d bytes, want 1000", len(got))
	}
}
