package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"slices"
	"strings"
	"testing"

	"postern/relay/dsn"
	"postern/relay/envelope"
	"postern/relay/message"
	"postern/relay/queue"
)

// secretFields are fields that nobody gets to see, in odd spellings, too.
const secretFields = "Bcc: hidden-one@secret.example\r\n" +
	"X-DKIM-Key: -----BEGIN RSA PRIVATE KEY-----\r\n MIIsecret\r\n" +
	"x-dkim-options : secret\r\n" +
	"X-MSYS-API: {\"campaign_id\":\"c\",\"metadata\":{\"token\":\"tok-secret\"}}\r\n" +
	"RESENT-BCC: hidden-two@secret.example\r\n" +
	"Return-Path: <secret@secret.example>\r\n"

// dsnParts reads a DSN as a mail program does: the type and the decoded body of
// each part.
func dsnParts(t *testing.T, dsn []byte) (types, bodies []string) {
	t.Helper()
	if err := message.Check(dsn); err != nil {
		t.Error(err)
	}
	msg, err := mail.ReadMessage(bytes.NewReader(dsn))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	if kind == "text/plain" {
		body, _ := io.ReadAll(msg.Body)
		return []string{kind}, []string{string(body)}
	}

	r := multipart.NewReader(msg.Body, params["boundary"])
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return types, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = p
		if p.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			body = quotedprintable.NewReader(p)
		}
		b, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type"))
		types, bodies = append(types, kind), append(bodies, string(b))
	}
}

// findDSN returns the DSN among what was queued.
func findDSN(t *testing.T, ts []*queue.Transaction) []byte {
	t.Helper()
	i := slices.IndexFunc(ts, func(t *queue.Transaction) bool { return infoOf(t).DSN })
	if i < 0 {
		t.Fatalf("no DSN among %d transactions", len(ts))
	}
	return ts[i].Message(0)
}

// TestDSNKeepsSecrets: what nobody gets to see is not returned, either.
func TestDSNKeepsSecrets(t *testing.T) {
	msg := "Subject: hello\r\n" + secretFields + "From: a@example.com\r\n\r\nthe body\r\n"

	for _, ret := range []string{"", "HDRS", "FULL"} {
		for _, way := range []string{"mixed answer", "retried", "stored by another version"} {
			t.Run(way+" "+ret, func(t *testing.T) {
				b := newBench(t, func(c *Config) { c.Headers.MsysAPI, c.Sending.QueueAlways = true, way != "mixed answer" })
				b.up.answers["b"] = replied(550, "no")
				s := submission(msg, "a", "b")
				s.Envelope.Params.Return = ret
				b.relay.Submit(context.Background(), s)

				queued := b.queue.got
				if way != "mixed answer" {
					tr := queued[0]
					if way != "retried" {
						tr.Copies[1].Own[0] = slices.Concat([]byte(secretFields), tr.Copies[1].Own[0])
					}
					queued = b.relay.GiveUp(context.Background(), tr, 1, 1, queue.Verdict{Failed: true, Reply: "550 5.1.1 no"})
				}

				dsn := string(findDSN(t, queued))
				if strings.Contains(strings.ToLower(dsn), "secret") {
					t.Errorf("secrets in\n%s", dsn)
				}
				types, bodies := dsnParts(t, []byte(dsn))
				want := "text/rfc822-headers"
				if ret == "FULL" {
					want = "message/rfc822"
				}
				if len(types) != 3 || types[2] != want || !strings.Contains(bodies[2], "Subject: hello\r\n") ||
					strings.Contains(bodies[2], "the body") != (ret == "FULL") {
					t.Errorf("got parts %q, the last %q, want %s", types, bodies[len(bodies)-1], want)
				}
			})
		}
	}
}

// TestNoDSN: nothing goes to the null path, about a DSN, or to who asked for
// silence (RFC 5321 section 4.5.5, RFC 3461 section 4.1).
func TestNoDSN(t *testing.T) {
	sender := envelope.Address{Local: "s", Domain: "example.com"}

	for _, c := range []struct {
		name   string
		from   envelope.Address
		notify []string
		want   bool
	}{
		{"sender", sender, nil, true},
		{"sender that asks for failures", sender, []string{"DELAY", "FAILURE"}, true},
		{"null path", envelope.Address{}, nil, false},
		{"null path that asks for failures", envelope.Address{}, []string{"FAILURE"}, false},
		{"sender that asks for silence", sender, []string{"NEVER"}, false},
		{"sender that asks for successes", sender, []string{"SUCCESS", "DELAY"}, false},
	} {
		for _, way := range []string{"mixed answer", "refused later", "expired"} {
			t.Run(c.name+", "+way, func(t *testing.T) {
				b := newBench(t, func(conf *Config) { conf.Sending.QueueAlways = way != "mixed answer" })
				b.up.answers["b"] = replied(550, "no")
				s := submission("From: a@example.com\r\n\r\nx\r\n", "a", "b")
				s.Envelope.From = c.from
				s.Envelope.Recipients[1].Notify = c.notify

				if answer := b.relay.Submit(context.Background(), s); answer.Code != 250 {
					t.Fatalf("got %v, want 250", answer)
				}
				queued := b.queue.got
				if way != "mixed answer" {
					v := queue.Verdict{Failed: way == "refused later", Reply: "550 5.1.1 no"}
					queued = b.relay.GiveUp(context.Background(), queued[0], 1, 1, v)
				}

				if got := len(queued); got != 0 != c.want {
					t.Fatalf("got %d DSNs, want one: %v", got, c.want)
				}
				for _, dsn := range queued {
					if again := b.relay.GiveUp(context.Background(), dsn, 0, 1, queue.Verdict{Failed: true, Reply: "550 no"}); len(again) != 0 {
						t.Errorf("a DSN about a DSN:\n%s", again[0].Message(0))
					}
				}
			})
		}
	}
}

// TestDSNAlwaysArrives: whatever an upstream or a client wrote, the sender hears
// of a message that was taken and did not arrive.
func TestDSNAlwaysArrives(t *testing.T) {
	for _, c := range []struct {
		name   string
		reply  string
		rcpt   envelope.Recipient
		params envelope.MailParams
	}{
		{name: "CR in the answer", reply: "550 5.1.1 no \rsuch user"},
		{name: "line ends in the answer", reply: "550 5.1.1 no\r\nBcc: x@example.com\r\n\r\nsuch user"},
		{name: "NUL and 8-bit in the answer", reply: "550 5.1.1 \x00\xff\u00fc"},
		{name: "no text", reply: "550"},
		{name: "long answer", reply: "550 " + strings.Repeat("x", 100_000)},
		{name: "line end in ORCPT", reply: "550 no", rcpt: envelope.Recipient{OriginalType: "rfc822", Original: "a@b\r\nBcc: x@y"}},
		{name: "8-bit ORCPT", reply: "550 no", rcpt: envelope.Recipient{OriginalType: "utf-8", Original: "\u00fc@b\r\n"}},
		{name: "line end in the type of ORCPT", reply: "550 no", rcpt: envelope.Recipient{OriginalType: "x\r\ny", Original: "a"}},
		{name: "line end in ENVID", reply: "550 no", params: envelope.MailParams{EnvelopeID: "a\r\nBcc: x@y"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Sending.QueueAlways = true })
			s := submission(htmlMessage, "a")
			c.rcpt.Address = s.Envelope.Recipients[0].Address
			s.Envelope.Recipients[0], s.Envelope.Params = c.rcpt, c.params
			b.relay.Submit(context.Background(), s)

			about := b.relay.GiveUp(context.Background(), b.queue.got[0], 0, 1, queue.Verdict{Failed: true, Reply: c.reply})
			types, bodies := dsnParts(t, findDSN(t, about))
			if len(types) != 3 || types[1] != "message/delivery-status" {
				t.Fatalf("parts %q", types)
			}
			if strings.Contains(bodies[1], "\nBcc:") || strings.Contains(bodies[1], "\ny") || message.HasEightBit([]byte(bodies[1])) {
				t.Errorf("delivery status:\n%s", bodies[1])
			}
			if !strings.Contains(bodies[1], "Final-Recipient: rfc822;a@Example.NET\r\n") {
				t.Errorf("no recipient in\n%s", bodies[1])
			}
		})
	}
}

// TestDSNPlainer: a notification that cannot be written as wanted is written as
// text.
func TestDSNPlainer(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Hostname = "gw\r\nexample" })
	d := &dsn.Report{
		To:     envelope.Address{Local: "a", Domain: "example.com"},
		Failed: []dsn.Recipient{{Recipient: envelope.Recipient{Address: envelope.Address{Local: "\u00fc", Domain: "example.net"}}, Reply: "550 no"}},
	}

	tr := b.relay.dsnFor("s.1", "u", d)
	if tr == nil {
		t.Fatal("no DSN")
	}
	types, bodies := dsnParts(t, tr.Message(0))
	if types[0] != "text/plain" || tr.EightBit || !strings.Contains(bodies[0], "??@example.net\r\n    550 no\r\n") {
		t.Errorf("got %q %q", types, bodies)
	}
}

// TestDSNForSevenBitUpstream: a DSN has 8-bit content only where the upstream
// takes it.
func TestDSNForSevenBitUpstream(t *testing.T) {
	msg := "From: a@example.com\r\nSubject: gr\u00fcn\r\nContent-Type: text/plain; charset=utf-8\r\n\r\ngr\u00fcn\r\n"

	for _, takes := range []bool{true, false} {
		for _, ret := range []string{"HDRS", "FULL"} {
			t.Run(fmt.Sprint(ret, ", upstream takes it: ", takes), func(t *testing.T) {
				b := newBench(t, nil)
				if !takes {
					b.relay.cfg.Upstream = &sevenBitUpstream{b.up}
				}
				tr := b.relay.dsnFor("s.1", "u", &dsn.Report{
					To:       envelope.Address{Local: "a", Domain: "example.com"},
					Params:   envelope.MailParams{Return: ret},
					Original: originalFor(message.Split([]byte(msg))),
					Failed:   []dsn.Recipient{{Recipient: submission("", "b").Envelope.Recipients[0], Reply: "550 no"}},
				})
				if tr.EightBit != takes || message.HasEightBit(tr.Message(0)) != takes {
					t.Errorf("EightBit %v, 8-bit content %v, want %v", tr.EightBit, message.HasEightBit(tr.Message(0)), takes)
				}
				if v := b.relay.Deliver(context.Background(), tr, 0, 0); !v.Done {
					t.Errorf("not delivered: %+v", v)
				}

				types, bodies := dsnParts(t, tr.Message(0))
				want := "text/rfc822-headers"
				if ret == "FULL" && takes {
					want = "message/rfc822"
				}
				if types[2] != want || !strings.Contains(bodies[2], "Subject: gr\u00fcn\r\n") {
					t.Errorf("got %s %q, want %s", types[2], bodies[2], want)
				}
			})
		}
	}
}

// TestWaitingDSNForSevenBitUpstream: one that waits with 8-bit content is sent
// without where the upstream turns out not to take it.
func TestWaitingDSNForSevenBitUpstream(t *testing.T) {
	b := newBench(t, nil)
	raw, _ := json.Marshal(info{DSN: true})
	tr := &queue.Transaction{
		EightBit: true,
		Info:     raw,
		Copies:   []queue.Copy{{Recipient: submission("", "a").Envelope.Recipients[0], Own: [][]byte{[]byte("Subject: gr\u00fcn\r\n\r\n")}}},
	}
	b.relay.cfg.Upstream = &sevenBitUpstream{b.up}

	v := b.relay.Deliver(context.Background(), tr, 0, 0)
	if !v.Done || string(b.up.got[0].Message[0]) != "Subject: gr??n\r\n\r\n" {
		t.Errorf("%+v, sent %q", v, b.up.got[0].Message)
	}
}
