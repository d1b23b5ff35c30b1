package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/relay/dsn"
	"postern/relay/envelope"
	"postern/relay/message"
	"postern/relay/queue"
)

// dsnAt writes a DSN by a clock that stands still, with ID for its message id.
func dsnAt(t *testing.T, d *dsn.Report) (*queue.Transaction, string) {
	t.Helper()
	now := time.Date(2026, 3, 1, 12, 30, 15, 0, time.UTC)
	b := newBench(t, func(c *Config) { c.Now = func() time.Time { return now } })
	tr := b.relay.dsnFor("s.1", "u", d)
	if tr == nil {
		t.Fatal("no DSN")
	}
	return tr, strings.ReplaceAll(string(tr.Message(0)), tr.ID, "ID")
}

// TestDSNText is a notification to the letter: RFC 3464, with two recipients that
// were refused and one that expired.
func TestDSNText(t *testing.T) {
	d := &dsn.Report{
		To:       envelope.Address{Local: "sender", Domain: "example.com"},
		Params:   envelope.MailParams{EnvelopeID: "their id"},
		Original: originalFor([]byte("Subject: x\r\nBcc: y\r\n"), []byte("body\r\n"), true),
		Arrived:  time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", -3600)),
		Failed: []dsn.Recipient{
			{
				MessageID: "m1",
				Recipient: envelope.Recipient{
					Address:      envelope.Address{Local: "a", Domain: "example.net"},
					OriginalType: "rfc822",
					Original:     "first@example.net",
				},
				Reply:    "550 5.1.1 no such user\nreally",
				Upstream: "mx.example.net:25",
			},
			{
				MessageID: "m2",
				Recipient: envelope.Recipient{Address: envelope.Address{Local: "b", Domain: "example.net"}},
				Reply:     "4.4.7 not delivered in 5h0m0s, last answer: 450 4.2.2 full",
				Expired:   true,
			},
			{
				MessageID: "m3",
				Recipient: envelope.Recipient{Address: envelope.Address{Local: "c", Domain: "example.net"}, OriginalType: "utf-8", Original: "ü+c@example.net"},
				Reply:     "554 never",
				Upstream:  "here",
			},
			{
				MessageID: "m4",
				Recipient: envelope.Recipient{Address: envelope.Address{Local: "d", Domain: "example.net"}, Notify: []string{"NEVER"}},
				Reply:     "554 nobody wants to know",
			},
		},
	}

	tr, got := dsnAt(t, d)
	want := "Mime-Version: 1.0\r\nAuto-Submitted: auto-replied\r\nMessage-Id: <ID@gw.example>\r\n" +
		"Date: Sun, 01 Mar 2026 12:30:15 +0000\r\nSubject: Undelivered mail: returned to sender\r\n" +
		"To: sender@example.com\r\nFrom: Mail Delivery System <mailer-daemon@gw.example>\r\n" +
		"Content-Type: multipart/report; boundary=postern-ID;\r\n report-type=delivery-status\r\n\r\n" +
		"--postern-ID\r\nContent-Transfer-Encoding: 7bit\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n" +
		"This is the mail gateway at gw.example.\r\n\r\nYour message could not be delivered to:\r\n\r\n" +
		"  a@example.net\r\n    550 5.1.1 no such user\r\n    really\r\n\r\n" +
		"  b@example.net\r\n    4.4.7 not delivered in 5h0m0s, last answer: 450 4.2.2 full\r\n\r\n" +
		"  c@example.net\r\n    554 never\r\n\r\n" +
		"It will not be tried again.\r\n\r\n" +
		"--postern-ID\r\nContent-Transfer-Encoding: 7bit\r\nContent-Type: message/delivery-status\r\n\r\n" +
		"Reporting-Mta: dns; gw.example\r\nOriginal-Envelope-Id: their id\r\nArrival-Date: Sun, 01 Mar 2026 12:00:00 -0100\r\n\r\n" +
		"Original-Recipient: rfc822;first@example.net\r\nFinal-Recipient: rfc822;a@example.net\r\nAction: failed\r\n" +
		"Status: 5.1.1\r\nRemote-Mta: dns; mx.example.net\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user really\r\n\r\n" +
		"Final-Recipient: rfc822;b@example.net\r\nAction: failed\r\nStatus: 4.4.7\r\n" +
		"Diagnostic-Code: smtp; 4.4.7 not delivered in 5h0m0s, last answer: 450 4.2.2\r\n full\r\n\r\n" +
		"Original-Recipient: utf-8;\\x{FC}\\x{2B}c@example.net\r\nFinal-Recipient: rfc822;c@example.net\r\nAction: failed\r\n" +
		"Status: 5.0.0\r\nRemote-Mta: dns; here\r\nDiagnostic-Code: smtp; 554 never\r\n\r\n\r\n" +
		"--postern-ID\r\nContent-Transfer-Encoding: 7bit\r\nContent-Type: text/rfc822-headers\r\n\r\n" +
		"Subject: x\r\n\r\n" +
		"--postern-ID--\r\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	var in info
	if err := json.Unmarshal(tr.Info, &in); err != nil {
		t.Fatal(err)
	}
	if want := (info{Session: "s.1", User: "u", DSN: true, About: "m1,m2,m3"}); in != want {
		t.Errorf("info %+v, want %+v", in, want)
	}
	if !tr.From.IsNull() || !tr.Created.Equal(time.Date(2026, 3, 1, 12, 30, 15, 0, time.UTC)) || tr.EightBit ||
		len(tr.Copies) != 1 || tr.Copies[0].MessageID != tr.ID || tr.Copies[0].Recipient.Address != d.To {
		t.Errorf("transaction %+v", tr)
	}
}

// TestDSNInUTF8: addresses that are not ASCII make the words UTF-8.
func TestDSNInUTF8(t *testing.T) {
	d := &dsn.Report{
		To: envelope.Address{Local: "sender", Domain: "example.com"},
		Failed: []dsn.Recipient{
			{Recipient: envelope.Recipient{Address: envelope.Address{Local: "a", Domain: "example.net"}}, Reply: "550 no"},
			{Recipient: envelope.Recipient{Address: envelope.Address{Local: "ü", Domain: "example.net"}}, Reply: "550 no"},
		},
	}
	tr, got := dsnAt(t, d)
	for _, want := range []string{
		"Content-Transfer-Encoding: 8bit\r\nContent-Type: text/plain; charset=utf-8\r\n",
		"  ü@example.net\r\n",
		"Final-Recipient: utf-8;\\x{FC}@example.net\r\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if !tr.EightBit {
		t.Error("8-bit content is not told of")
	}
}

// TestDSNWhole returns the message as RET asks.
func TestDSNWhole(t *testing.T) {
	for _, c := range []struct {
		name, header, body, ret string
		separated               bool
		want                    string
	}{
		{"header", "A: b\r\n", "body\r\n", "HDRS", true, "Content-Transfer-Encoding: 7bit\r\nContent-Type: text/rfc822-headers\r\n\r\nA: b\r\n\r\n--"},
		{"not said", "A: b\r\n", "body\r\n", "", true, "Content-Transfer-Encoding: 7bit\r\nContent-Type: text/rfc822-headers\r\n\r\nA: b\r\n\r\n--"},
		{"whole", "A: b\r\n", "body\r\n", "FULL", true, "Content-Transfer-Encoding: 7bit\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\nbody\r\n\r\n--"},
		{"without a body", "A: b\r\n", "", "FULL", false, "Content-Transfer-Encoding: 7bit\r\nContent-Type: message/rfc822\r\n\r\nA: b\r\n\r\n--"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got := dsnAt(t, &dsn.Report{
				To:       envelope.Address{Local: "sender", Domain: "example.com"},
				Params:   envelope.MailParams{Return: c.ret},
				Original: originalFor([]byte(c.header), []byte(c.body), c.separated),
				Failed:   []dsn.Recipient{{Recipient: recipient("a"), Reply: "550 no"}},
			})
			if !strings.Contains(got, c.want) {
				t.Errorf("no %q in\n%s", c.want, got)
			}
		})
	}
}

// TestDSNPlainText is what is written where nothing else can be.
func TestDSNPlainText(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 30, 15, 0, time.UTC)
	b, lines := newLoggingBench(t, func(c *Config) {
		c.Hostname = "gw\r\nexample"
		c.Now = func() time.Time { return now }
	})
	tr := b.relay.dsnFor("s.1", "u", &dsn.Report{
		To:     envelope.Address{Local: "sender", Domain: "example.com"},
		Failed: []dsn.Recipient{{Recipient: recipient("a"), Reply: "550 no"}},
	})

	got := strings.ReplaceAll(string(tr.Message(0)), tr.ID, "ID")
	want := "From: Mail Delivery System <mailer-daemon@gw??example>\r\nTo: sender@example.com\r\n" +
		"Subject: Undelivered mail: returned to sender\r\nDate: Sun, 01 Mar 2026 12:30:15 +0000\r\nMessage-ID: <ID@gw??example>\r\n" +
		"Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n" +
		"This is the mail gateway at gw??example.\r\n\r\nYour message could not be delivered to:\r\n\r\n" +
		"  a@Example.NET\r\n    550 no\r\n\r\nIt will not be tried again.\r\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	warned := lines.of(t, "DSN is written without the message")
	if len(warned) != 1 {
		t.Fatalf("%d lines, want 1", len(warned))
	}
	check(t, warned[0], map[string]any{"level": "WARN", "recipient": "sender@example.com"})
	if warned[0]["err"] == nil {
		t.Error("the line does not say why")
	}
}

// TestDSNStatus tells what was refused from what expired, in the way that each
// goes: the answer's own code, and 4.4.7.
func TestDSNStatus(t *testing.T) {
	for _, c := range []struct {
		name    string
		verdict queue.Verdict
		status  string
		diag    string
	}{
		{"refused", queue.Verdict{Failed: true, Reply: "550 5.1.1 no such user", Upstream: "mx.example:25"}, "5.1.1", "550 5.1.1 no such user"},
		{"expired", queue.Verdict{Reply: "450 4.2.2 full", Upstream: "mx.example:25"}, "4.4.7", "4.4.7 not delivered in 2h0m0s, last answer: 450 4.2.2 full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Sending.QueueAlways = true })
			b.submit(submission(htmlMessage, "a"))
			tr := b.queue.got[0]
			tr.Created = tr.Created.Add(-2 * time.Hour)

			_, bodies := dsnParts(t, findDSN(t, b.relay.GiveUp(context.Background(), tr, 0, 3, c.verdict)))
			unfolded := strings.ReplaceAll(bodies[1], "\r\n ", " ")
			for _, want := range []string{
				"Status: " + c.status + "\r\n",
				"Diagnostic-Code: smtp; " + c.diag + "\r\n",
				"Remote-Mta: dns; mx.example\r\n",
				"Arrival-Date: " + tr.Created.Format(time.RFC1123Z) + "\r\n",
			} {
				if !strings.Contains(unfolded, want) {
					t.Errorf("no %q in\n%s", want, unfolded)
				}
			}
			if !strings.Contains(bodies[0], "    "+c.diag+"\r\n") {
				t.Errorf("no %q in\n%s", c.diag, bodies[0])
			}
		})
	}
}

// TestDSNOfMixedAnswer says what the upstream said, and when the message came.
func TestDSNOfMixedAnswer(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 30, 15, 0, time.UTC)
	b := newBench(t, func(c *Config) { c.Now = func() time.Time { return now } })
	no := replied(550, "no such user")
	no.Upstream = "mx.example:25"
	b.up.answers["no"], b.up.answers["no2"] = no, replied(554, "never")
	s := submission(htmlMessage, "a", "no", "no2")
	s.Envelope.Params.EnvelopeID = "their id"
	b.submit(s)

	tr := b.queue.got[0]
	_, bodies := dsnParts(t, tr.Message(0))
	for _, want := range []string{
		"Arrival-Date: Sun, 01 Mar 2026 12:30:15 +0000\r\n",
		"Original-Envelope-Id: their id\r\n",
		"Final-Recipient: rfc822;no@Example.NET\r\n",
		"Final-Recipient: rfc822;no2@Example.NET\r\n",
		"Remote-Mta: dns; mx.example\r\n",
		"Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
	} {
		if !strings.Contains(bodies[1], want) {
			t.Errorf("no %q in\n%s", want, bodies[1])
		}
	}
	if !strings.Contains(bodies[2], "From: News <news@example.com>\r\n") {
		t.Errorf("returned header %q", bodies[2])
	}
	in := infoOf(tr)
	if in.Session != "s.1" || in.User != "u" || strings.Count(in.About, ",") != 1 {
		t.Errorf("info %+v", in)
	}
}

// TestDSNAboutMany lists ten of the copies that it is about.
func TestDSNAboutMany(t *testing.T) {
	for n, want := range map[int]int{1: 1, 10: 10, 11: 10} {
		var failed []dsn.Recipient
		for i := range n {
			failed = append(failed, dsn.Recipient{MessageID: fmt.Sprint("m", i)})
		}
		if got := strings.Split(messageIDs(failed), ","); len(got) != want || got[0] != "m0" {
			t.Errorf("%d copies: about %q, want %d of them", n, got, want)
		}
	}
}

// TestDSNAboutBrokenHeader is written as text where the message that it is about
// could not be sent today.
func TestDSNAboutBrokenHeader(t *testing.T) {
	tr, got := dsnAt(t, &dsn.Report{
		To:       envelope.Address{Local: "sender", Domain: "example.com"},
		Original: originalFor([]byte("A: b\rc\r\n"), nil, false),
		Failed:   []dsn.Recipient{{Recipient: recipient("a"), Reply: "550 no"}},
	})
	if err := message.Check(tr.Message(0)); err != nil || !strings.Contains(got, "Content-Type: text/plain; charset=us-ascii\r\n\r\nThis is") {
		t.Errorf("%v in\n%s", err, got)
	}
}
