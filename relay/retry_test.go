package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/relay/dsn"
	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/relay/upstream"
)

// TestWaitingTransaction: what the retry spool keeps of a message.
func TestWaitingTransaction(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 30, 15, 0, time.UTC)
	b := newBench(t, func(c *Config) {
		c.Now = func() time.Time { return now }
		c.Routes.Rewrite = []RewriteRule{{From: "*@example.com", To: "*@bounces.example.com"}}
		c.Routes.VERPDomain = "v.example"
	})
	later := replied(450, "later")
	later.Upstream = "mx.example:25"
	b.up.answers["b"], b.up.answers["c"] = later, later
	message := "From: a@example.com\r\nX-Job: spring\r\nContent-Type: text/html\r\n\r\n<body><a href=\"https://e.example/\">gr\u00fcn</a></body>\r\n"
	s := submission(message, "a", "b", "c")
	s.Envelope.Params = envelope.MailParams{Return: "HDRS", EnvelopeID: "e"}
	s.Envelope.Recipients[1].Notify = []string{"FAILURE"}
	b.submit(s)

	if len(b.queue.got) != 1 {
		t.Fatalf("%d transactions, want 1", len(b.queue.got))
	}
	tr := b.queue.got[0]
	if tr.ID != tr.Copies[0].MessageID || tr.Session != "s.1" || !tr.Created.Equal(now) || tr.From != s.Envelope.From ||
		tr.Params != (envelope.MailParams{Return: "HDRS", EnvelopeID: "e"}) || !tr.EightBit || tr.Recovered {
		t.Errorf("transaction %+v", tr)
	}
	if len(tr.Copies) != 2 || len(tr.Shared) == 0 {
		t.Fatalf("%d copies that share %d pieces, want 2 and some", len(tr.Copies), len(tr.Shared))
	}
	for i, c := range tr.Copies {
		if c.Recipient.Address != s.Envelope.Recipients[i+1].Address || c.EnvelopeID != "e" ||
			c.From != (envelope.Address{Local: "bounce+" + c.MessageID, Domain: "v.example"}) || len(c.Own) != len(tr.Shared)+1 {
			t.Errorf("copy %d: %+v", i, c)
		}
		want := queue.Verdict{Reply: "450 4.1.1 later", Upstream: "mx.example:25"}
		if c.Tried == nil || *c.Tried != want {
			t.Errorf("copy %d was tried with %+v, want %+v", i, c.Tried, want)
		}
	}
	if fmt.Sprint(tr.Copies[0].Recipient.Notify) != "[FAILURE]" {
		t.Errorf("NOTIFY of the first copy: %v", tr.Copies[0].Recipient.Notify)
	}

	in := infoOf(tr)
	if in.Session != "s.1" || in.User != "u" || in.Job != "spring" || in.DSN || in.About != "" || in.Injected == nil {
		t.Errorf("info %+v", in)
	}
	if got := in.Injected.Timestamp; !got.Equal(now) {
		t.Errorf("injected at %v, want %v", got, now)
	}
	if in.Injected.Local.Session != "s.1" {
		t.Errorf("beside the event: %+v", in.Injected.Local)
	}

	for i, e := range b.rec.events {
		if want := fmt.Sprint(len(b.up.got[0].Message[0])); i == 0 && e.MsgSize != want {
			t.Errorf("size of the copy that was taken: %s, want %s", e.MsgSize, want)
		}
		for j := range tr.Copies {
			if want := fmt.Sprint(len(tr.Message(j))); e.MessageID == tr.Copies[j].MessageID && e.MsgSize != want {
				t.Errorf("size of the copy %d that waits: %s, want %s", j, e.MsgSize, want)
			}
		}
	}
}

// TestUntriedCopyWaits without an answer.
func TestUntriedCopyWaits(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	b.submit(submission(htmlMessage, "a"))
	if got := b.queue.got[0].Copies[0].Tried; got != nil {
		t.Errorf("tried with %+v, want not tried", got)
	}
}

// TestUnreportedWaits without an event, and has none later.
func TestUnreportedWaits(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sending.QueueAlways, c.Signals.Enable = true, EnableFalse })
	b.submit(submission(htmlMessage, "a"))
	tr := b.queue.got[0]
	if in := infoOf(tr); in.Injected != nil || in.Session != "s.1" {
		t.Errorf("info %+v", in)
	}

	tr.Recovered = true
	b.up.answers["a"] = replied(450, "later")
	v := b.relay.Deliver(context.Background(), tr, 0, 0)
	b.relay.GiveUp(context.Background(), tr, 0, 1, v)
	if len(b.rec.calls) != 0 {
		t.Errorf("%d writes of events, want none", len(b.rec.calls))
	}
}

// TestBrokenInfo: of a transaction that says nothing readable of its message
// nothing is told, and it is sent.
func TestBrokenInfo(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	b.submit(submission(htmlMessage, "a"))
	tr := b.queue.got[0]
	b.rec.events = nil
	tr.Info = json.RawMessage(`{"session":"x","user":7}`)
	tr.Recovered = true

	if got := infoOf(tr); got != (info{}) {
		t.Errorf("info %+v, want nothing", got)
	}
	if v := b.relay.Deliver(context.Background(), tr, 0, 0); !v.Done || len(b.up.got) != 1 || len(b.rec.events) != 0 {
		t.Errorf("%+v, %d sent, %d events", v, len(b.up.got), len(b.rec.events))
	}
}

// TestDeliverSendsWhatWaits: the copy's own envelope, and the message as it was
// signed.
func TestDeliverSendsWhatWaits(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sending.QueueAlways, c.Routes.VERPDomain = true, "v.example" })
	s := submission(htmlMessage, "a", "b")
	s.Envelope.Params = envelope.MailParams{Return: "FULL", Size: 5}
	b.submit(s)
	tr := b.queue.got[0]

	v := b.relay.Deliver(context.Background(), tr, 1, 3)
	if want := (queue.Verdict{Done: true, Reply: "250 2.1.1 taken"}); v != want {
		t.Errorf("got %+v, want %+v", v, want)
	}
	got, c := b.up.got[0], tr.Copies[1]
	if got.From != c.From || got.Recipient.Address != c.Recipient.Address || got.Session != "s.1" || got.MessageID != c.MessageID ||
		got.Params != (envelope.MailParams{Return: "FULL", Size: 5, EnvelopeID: c.MessageID}) || got.EightBit != tr.EightBit {
		t.Errorf("sent %+v", got)
	}
	if string(got.Message[0]) != string(tr.Message(1)) {
		t.Errorf("sent\n%s\nwant\n%s", got.Message[0], tr.Message(1))
	}
	if tr.Params.EnvelopeID != "" {
		t.Error("the transaction has changed")
	}
}

// TestEightBitMessageIsNotTornApart: only notifications of ours are sent without
// their 8-bit content.
func TestEightBitMessageIsNotTornApart(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	b.submit(submission("From: a@example.com\r\n\r\ngr\u00fcn\r\n", "a"))
	b.relay.cfg.Upstream = &sevenBitUpstream{b.up}

	v := b.relay.Deliver(context.Background(), b.queue.got[0], 0, 0)
	if v.Done || v.Failed || len(b.up.got) != 0 {
		t.Errorf("%+v, %d sent, want that it waits", v, len(b.up.got))
	}
}

// TestVerdictInFull, each field.
func TestVerdictInFull(t *testing.T) {
	fault := func(class reply.Class, enhanced reply.EnhancedCode, cause error) error {
		return &reply.Fault{Class: class, Reply: reply.Reply{Code: 451, Enhanced: enhanced, Text: "x"}, Err: cause}
	}
	away, lost := reply.EnhancedCode{4, 4, 1}, reply.EnhancedCode{4, 4, 2}

	for _, c := range []struct {
		name string
		out  upstream.Outcome
		want queue.Verdict
	}{
		{"taken", upstream.Outcome{Upstream: "u", Reply: reply.Reply{Code: 250, Text: "ok"}}, queue.Verdict{Done: true, Reply: "250 ok", Upstream: "u"}},
		{"refused", upstream.Outcome{Upstream: "u", Reply: reply.Reply{Code: 550, Text: "no"}}, queue.Verdict{Failed: true, Reply: "550 no", Upstream: "u"}},
		{"later", upstream.Outcome{Upstream: "u", Reply: reply.Reply{Code: 450, Enhanced: away, Text: "later"}}, queue.Verdict{Reply: "450 4.4.1 later", Upstream: "u"}},
		{"not reachable", upstream.Outcome{Upstream: "u", Err: fault(reply.Temporary, away, nil)}, queue.Verdict{Away: true, Reply: "451 4.4.1 x", Upstream: "u"}},
		{"lost", upstream.Outcome{Upstream: "u", Err: fault(reply.Temporary, lost, nil)}, queue.Verdict{Reply: "451 4.4.2 x", Upstream: "u"}},
		{"no upstream", upstream.Outcome{Err: fault(reply.Temporary, lost, nil)}, queue.Verdict{Away: true, Reply: "451 4.4.2 x"}},
		{"session refused", upstream.Outcome{Err: fault(reply.Temporary, away, upstream.ErrSession)}, queue.Verdict{Reply: "451 4.4.1 x"}},
		{"refused here", upstream.Outcome{Upstream: "u", Err: fault(reply.Permanent, reply.EnhancedCode{5, 6, 7}, nil)}, queue.Verdict{Failed: true, Reply: "451 5.6.7 x", Upstream: "u"}},
		{"8-bit", upstream.Outcome{Upstream: "u", Err: fault(reply.Permanent, reply.EnhancedCode{5, 6, 3}, upstream.ErrEightBit)}, queue.Verdict{Reply: "451 5.6.3 x", Upstream: "u"}},
		{"unclassified", upstream.Outcome{Upstream: "u", Err: errors.New("x")}, queue.Verdict{Reply: "451 4.3.0 Internal error, try again later", Upstream: "u"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := verdict(c.out); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestQueuedInPartOnly: one of several pieces fails, and what is on disk
// already is told apart from what is not.
func TestQueuedInPartOnly(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	b.queue.broken, b.queue.good = true, 1
	link := "<a href=\"https://example.com/" + strings.Repeat("y", 1500) + "\">x</a>\r\n"
	message := "From: a@example.com\r\nContent-Type: text/html\r\n\r\n<body>" + strings.Repeat(link, 300) + "</body>\r\n"
	to := make([]string, 20)
	for i := range to {
		to[i] = fmt.Sprint("r", i)
	}

	if got := b.submit(submission(message, to...)); got != "452 4.3.1 Insufficient system storage, try again later" {
		t.Errorf("got %q", got)
	}
	if len(b.queue.got) != 1 || len(b.rec.events) != len(b.queue.got[0].Copies) || len(b.rec.events) == len(to) {
		t.Errorf("%d events, %d transactions, want an event for each copy that is on disk", len(b.rec.events), len(b.queue.got))
	}
}

// TestGiveUpOfADSN has neither an event nor a DSN, and says so in the log once.
func TestGiveUpOfADSN(t *testing.T) {
	b, lines := newLoggingBench(t, nil)
	tr := b.relay.dsnFor("s.1", "u", &dsn.Report{
		To:     envelope.Address{Local: "s", Domain: "example.com"},
		Failed: []dsn.Recipient{{MessageID: "m1", Recipient: recipient("a"), Reply: "550 no"}},
	})
	tr.Created = tr.Created.Add(-time.Hour)
	if again := b.relay.GiveUp(context.Background(), tr, 0, 4, queue.Verdict{Reply: "450 later", Upstream: "u:25"}); again != nil {
		t.Errorf("%d transactions, want none", len(again))
	}
	if len(b.rec.calls) != 0 {
		t.Errorf("%d writes of events, want none", len(b.rec.calls))
	}

	got := lines.of(t, "dsn")
	if len(got) != 1 {
		t.Fatalf("%d lines, want 1", len(got))
	}
	checkLine(t, got[0], map[string]any{
		"level":        "WARN",
		"msg":          "dsn",
		"message_id":   tr.ID,
		"about":        "m1",
		"recipient":    "s@example.com",
		"outcome":      "bounced",
		"session":      "s.1",
		"user":         "u",
		"attempt":      4.0,
		"reply":        "4.4.7 not delivered in 1h0m0s, last answer: 450 later",
		"upstream":     "u:25",
		"took_seconds": got[0]["took_seconds"],
	})
}

// TestRefusedLaterIsGivenUpAtOnce: its log line is that of the attempt.
func TestRefusedLaterIsGivenUpAtOnce(t *testing.T) {
	b, lines := newLoggingBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	b.submit(submission(htmlMessage, "a"))
	lines.out.Reset()
	b.up.answers["a"] = replied(550, "no")

	v := b.relay.Deliver(context.Background(), b.queue.got[0], 0, 0)
	about := b.relay.GiveUp(context.Background(), b.queue.got[0], 0, 1, v)
	if got := lines.of(t, "copy"); len(got) != 1 {
		t.Errorf("%d lines, want 1: %v", len(got), got)
	}
	if len(about) != 1 || len(lines.of(t, "dsn")) != 1 {
		t.Errorf("%d DSNs and %d lines about them, want 1", len(about), len(lines.of(t, "dsn")))
	}
}

// TestNothingWaitsWithoutItsEvent: what cannot be told of a copy later keeps it
// out of the retry spool.
func TestNothingWaitsWithoutItsEvent(t *testing.T) {
	b := newBench(t, nil)
	m, err := b.relay.prepare(submission(htmlMessage, "a"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	m.template.RcptMeta = json.RawMessage("{")
	if err := b.relay.queueCopies(context.Background(), m, m.copies); err == nil || len(b.queue.got) != 0 || m.copies[0].queued {
		t.Errorf("got %v, %d transactions, want an error and none", err, len(b.queue.got))
	}
}
