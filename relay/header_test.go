package relay

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	msgdkim "github.com/emersion/go-msgauth/dkim"

	"postern/dkim"

	"postern/relay/message"
	"postern/relay/reply"
)

// TestTooManyFields: the number of header fields is bounded.
func TestTooManyFields(t *testing.T) {
	for _, c := range []struct{ fields, code int }{{maxFields, 250}, {maxFields + 1, 550}, {100_000, 550}} {
		b := newBench(t, nil)
		msg := "From: a@example.com\r\n" + strings.Repeat("X: y\r\n", c.fields-1) + "\r\nx\r\n"

		answer := b.relay.Submit(context.Background(), submission(msg, "a"))
		if answer.Code != c.code || c.code == 550 && answer.Enhanced != (reply.EnhancedCode{5, 6, 0}) {
			t.Errorf("%d fields: %v, want %d", c.fields, answer, c.code)
		}
	}
}

// TestHeaderOnly: a message that ends with its header is completed, too, so that
// the fields of its signature are there.
func TestHeaderOnly(t *testing.T) {
	for _, msg := range []string{
		"From: a@example.com\r\nSubject: x\r\n",
		"From: a@example.com\r\nSubject: x",
		"From: a@example.com\r\nSubject: x\r\nDate: x\r\nMessage-ID: <1@x>",
		"From: a@example.com\r\nSubject: x\r\n\r\n",
	} {
		b := newBench(t, nil)
		if reply := b.relay.Submit(context.Background(), submission(msg, "a")); reply.Code != 250 {
			t.Fatal(reply)
		}

		msg := string(b.up.got[0].Message[0])
		header, _, _ := message.Split([]byte(msg))
		for _, name := range []string{"Date", "Message-ID", "Subject", "From"} {
			fields := 0
			for _, f := range message.Fields(header) {
				if f.Is(name) {
					fields++
				}
			}
			if fields != 1 {
				t.Errorf("%q: %d fields %s in\n%s", msg, fields, name, msg)
			}
		}
		if !strings.HasSuffix(msg, "\r\n") {
			t.Errorf("%q: no line end at the end of %q", msg, msg)
		}
		if signed := regexp.MustCompile(`(?s)h=.*?;`).FindString(msg); strings.Count(signed, "Date") != 2 || strings.Count(signed, "Message-ID") != 2 {
			t.Errorf("%q: signed %s", msg, signed)
		}
	}
}

// TestSignatureOfEncodedCopies: copies whose header has changed with their
// encoding, after they had been signed once, have valid signatures.
func TestSignatureOfEncodedCopies(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Upstream = &sevenBitUpstream{c.Upstream.(*fakeUpstream)} })
	msg := "From: a@example.com\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 8bit\r\n\r\n<p>Gr\u00fc\u00dfe</p>\r\n"

	if reply := b.relay.Submit(context.Background(), submission(msg, "a", "b")); reply.Code != 250 {
		t.Fatalf("got %v, want 250", reply)
	}
	if len(b.up.got) != 2 {
		t.Fatalf("got %d copies, want 2", len(b.up.got))
	}

	record, err := dkim.RecordValue(testKey())
	if err != nil {
		t.Fatal(err)
	}
	for _, sent := range b.up.got {
		found, err := msgdkim.VerifyWithOptions(strings.NewReader(string(sent.Message[0])), &msgdkim.VerifyOptions{
			LookupTXT: func(string) ([]string, error) { return []string{record}, nil },
		})
		if err != nil || len(found) != 1 || found[0].Err != nil {
			t.Errorf("got %d signatures, %v in\n%s", len(found), errors.Join(err, firstError(found)), sent.Message[0])
		}
	}
}

func firstError(found []*msgdkim.Verification) error {
	for _, v := range found {
		if v.Err != nil {
			return v.Err
		}
	}
	return nil
}

// BenchmarkCopies submits a message with much of one thing for many recipients.
func BenchmarkCopies(b *testing.B) {
	const size = 1_000_000
	for name, msg := range map[string]string{
		"body":   "From: a@example.com\r\n\r\n" + strings.Repeat("x\r\n", size/3),
		"fields": "From: a@example.com\r\n" + strings.Repeat("X: "+strings.Repeat("y", size/1990-5)+"\r\n", 1990) + "\r\nx\r\n",
		"signed": "From: a@example.com\r\n" + strings.Repeat("Feedback-ID: "+strings.Repeat("y", size/1990-15)+"\r\n", 1990) + "\r\nx\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			bench := newBench(b, nil)
			bench.up.forget = true
			to := make([]string, 100)
			for i := range to {
				to[i] = fmt.Sprint("r", i)
			}
			for b.Loop() {
				if reply := bench.relay.Submit(context.Background(), submission(msg, to...)); reply.Code != 250 {
					b.Fatal(reply)
				}
			}
		})
	}
}
