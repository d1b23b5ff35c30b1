package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/tracking/event"
)

// logLines collects what a relay logs, as the attributes of each line.
type logLines struct{ out bytes.Buffer }

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(&l.out, nil)) }

// of returns the lines with a message.
func (l *logLines) of(t *testing.T, msg string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(l.out.String()) {
		var attrs map[string]any
		if err := json.Unmarshal([]byte(line), &attrs); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if attrs["msg"] == msg {
			found = append(found, attrs)
		}
	}
	return found
}

// check compares some of a line's attributes.
func check(t *testing.T, line map[string]any, want map[string]any) {
	t.Helper()
	for key, w := range want {
		if line[key] != w {
			t.Errorf("%s: got %v, want %v in %v", key, line[key], w, line)
		}
	}
}

func newLoggingBench(t *testing.T, change func(*Config)) (*bench, *logLines) {
	lines := &logLines{}
	b := newBench(t, func(c *Config) {
		c.Log = lines.logger()
		if change != nil {
			change(c)
		}
	})
	return b, lines
}

// TestEachCopyHasItsLine: three recipients, three outcomes, and the DSN for the
// one that bounced.
func TestEachCopyHasItsLine(t *testing.T) {
	b, lines := newLoggingBench(t, nil)
	b.up.answers["gone"] = replied(550, "no such user")
	b.up.answers["full"] = replied(450, "mailbox full")
	answer := b.relay.Submit(context.Background(), submission("X-Job: spring\r\n"+htmlMessage, "ok", "gone", "full"))
	if got := answer.String(); got != "250 2.0.0 Ok: queued as s.1" {
		t.Errorf("got %s, want the id that leads to all copies", got)
	}

	copies := lines.of(t, "copy")
	if len(copies) != 3 {
		t.Fatalf("got %d lines, want 3: %v", len(copies), copies)
	}
	ids := map[string]bool{}
	for i, want := range []map[string]any{
		{"recipient": "ok@Example.NET", "outcome": "accepted", "reply": "250 2.1.1 taken", "level": "INFO"},
		{"recipient": "gone@Example.NET", "outcome": "bounced", "reply": "550 5.1.1 no such user", "level": "WARN"},
		{"recipient": "full@Example.NET", "outcome": "queued", "reply": "450 4.1.1 mailbox full", "level": "INFO"},
	} {
		check(t, copies[i], want)
		check(t, copies[i], map[string]any{"session": "s.1", "user": "u", "from": "bounce@example.com", "job": "spring"})
		if _, ok := copies[i]["took_seconds"].(float64); !ok {
			t.Errorf("took_seconds is %v", copies[i]["took_seconds"])
		}
		ids[copies[i]["message_id"].(string)] = true
	}
	if len(ids) != 3 {
		t.Errorf("got %d message ids, want 3", len(ids))
	}

	dsns := lines.of(t, "dsn")
	if len(dsns) != 1 {
		t.Fatalf("got %d lines about DSNs, want 1", len(dsns))
	}
	check(t, dsns[0], map[string]any{
		"about":     copies[1]["message_id"],
		"recipient": "bounce@example.com",
		"outcome":   "queued",
		"session":   "s.1",
	})

	sums := lines.of(t, "message")
	if len(sums) != 1 {
		t.Fatalf("got %d sums, want 1", len(sums))
	}
	check(t, sums[0], map[string]any{
		"recipients": 3.0,
		"accepted":   1.0,
		"bounced":    1.0,
		"queued":     1.0,
		"refused":    0.0,
		"deferred":   0.0,
		"remote":     "192.0.2.7:1000",
		"reply":      "250 2.0.0 Ok: queued as s.1",
	})
}

func TestAnswerOfOneCopy(t *testing.T) {
	b, lines := newLoggingBench(t, nil)
	b.up.answers["r"] = replied(250, "queued as 4711 upstream")
	if got := b.relay.Submit(context.Background(), submission(htmlMessage, "r")).Text; got != "queued as 4711 upstream" {
		t.Errorf("got %q, want the upstream's own", got)
	}
	check(t, lines.of(t, "copy")[0], map[string]any{"reply": "250 2.1.1 queued as 4711 upstream"})

	for _, c := range []struct {
		code    int
		outcome string
	}{{550, "refused"}, {450, "deferred"}} {
		b, lines := newLoggingBench(t, nil)
		b.up.answers["r"] = replied(c.code, "no")
		b.relay.Submit(context.Background(), submission(htmlMessage, "r"))
		check(t, lines.of(t, "copy")[0], map[string]any{"outcome": c.outcome})
	}
}

// TestSessionStandsInSpoolAndEvents: the id of the answer is in the retry
// spool, and in the events of all copies.
func TestSessionStandsInSpoolAndEvents(t *testing.T) {
	b, lines := newLoggingBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	answer := b.relay.Submit(context.Background(), submission(htmlMessage, "a", "b"))
	if answer.Text != "Ok: queued as s.1" {
		t.Fatalf("got %v", answer)
	}
	for _, q := range b.queue.got {
		if q.Session != "s.1" {
			t.Errorf("in the spool: session %q, want s.1", q.Session)
		}
	}

	q := b.queue.got[0]
	b.relay.GiveUp(context.Background(), q, 0, 3, queue.Verdict{Failed: true, Reply: "550 5.1.1 no"})
	if len(b.rec.events) != 3 {
		t.Fatalf("got %d events, want two injections and a bounce", len(b.rec.events))
	}
	for _, e := range b.rec.events {
		if e.Local.Session != "s.1" {
			t.Errorf("%s event: session %q, want s.1", e.Type, e.Local.Session)
		}
	}
	for _, line := range lines.of(t, "copy") {
		check(t, line, map[string]any{"outcome": "queued", "reply": "", "session": "s.1"})
	}
}

// TestRetriesHaveTheSameLine as the first attempt, and DSNs have their own.
func TestRetriesHaveTheSameLine(t *testing.T) {
	b, lines := newLoggingBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	b.relay.Submit(context.Background(), submission("X-Job: spring\r\n"+htmlMessage, "a"))
	waiting := b.queue.got[0]
	lines.out.Reset()

	b.up.answers["a"] = replied(450, "later")
	b.relay.Deliver(context.Background(), waiting, 0, 1)
	b.up.answers["a"] = replied(550, "no")
	v := b.relay.Deliver(context.Background(), waiting, 0, 2)
	dsns := b.relay.GiveUp(context.Background(), waiting, 0, 3, v)
	b.relay.Deliver(context.Background(), dsns[0], 0, 0)

	id := waiting.Copies[0].MessageID
	copies := lines.of(t, "copy")
	if len(copies) != 2 {
		t.Fatalf("got %d lines, want one for each attempt: %v", len(copies), copies)
	}
	for i, want := range []map[string]any{
		{"outcome": "deferred", "reply": "450 4.1.1 later", "attempt": 2.0},
		{"outcome": "bounced", "reply": "550 5.1.1 no", "attempt": 3.0},
	} {
		check(t, copies[i], want)
		check(t, copies[i], map[string]any{
			"message_id": id,
			"recipient":  "a@Example.NET",
			"session":    "s.1",
			"user":       "u",
			"from":       "bounce@example.com",
			"job":        "spring",
		})
	}

	about := lines.of(t, "dsn")
	if len(about) != 2 {
		t.Fatalf("got %d lines about the DSN, want 2: %v", len(about), about)
	}
	check(t, about[0], map[string]any{"outcome": "queued", "about": id, "recipient": "bounce@example.com"})
	check(t, about[1], map[string]any{"outcome": "accepted", "about": id, "recipient": "bounce@example.com", "attempt": 1.0})
}

func TestExpiredCopyHasALine(t *testing.T) {
	b, lines := newLoggingBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	b.relay.Submit(context.Background(), submission(htmlMessage, "a"))
	lines.out.Reset()

	waiting := b.queue.got[0]
	waiting.Created = waiting.Created.Add(-100 * time.Hour)
	b.relay.GiveUp(context.Background(), waiting, 0, 9, queue.Verdict{Reply: "450 4.1.1 later"})
	copies := lines.of(t, "copy")
	if len(copies) != 1 {
		t.Fatalf("got %d lines, want 1", len(copies))
	}
	check(t, copies[0], map[string]any{
		"outcome": "bounced",
		"attempt": 9.0,
		"reply":   "4.4.7 not delivered in 100h0m0s, last answer: 450 4.1.1 later",
	})
}

// TestRefusalNamesTheAddress in the reply, the log and the event.
func TestRefusalNamesTheAddress(t *testing.T) {
	for _, c := range []struct {
		name   string
		from   string // MAIL FROM's domain
		header string
		reply  string
		author string
	}{
		{
			"From",
			"own.example",
			"From: News <news@other.example>\r\n",
			"550 5.7.1 You may not send as news@other.example (From)",
			"News <news@other.example>",
		},
		{
			"Sender",
			"own.example",
			"From: a@own.example\r\nSender: s@other.example\r\n",
			"550 5.7.1 You may not send as s@other.example (Sender)",
			"a@own.example",
		},
		{
			"MAIL FROM",
			"other.example",
			"From: a@own.example\r\n",
			"550 5.7.1 You may not send as bounce@other.example (MAIL FROM)",
			"a@own.example",
		},
		{
			"not understood",
			"own.example",
			"From: News\r\n",
			"550 5.7.1 You may not send as News (From): its addresses cannot be told for certain; " +
				"write it once, as name <user@domain>",
			"News",
		},
		{
			"X-MSYS-API",
			"own.example",
			"From: a@own.example\r\nX-MSYS-API: {\"cc\": [\"who at other.example\"]}\r\n",
			`550 5.6.0 X-MSYS-API: "who at other.example": bad address: no @`,
			"a@own.example",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, lines := newLoggingBench(t, func(c *Config) { c.Headers.MsysAPI = true })
			s := submission(c.header+"Subject: =?utf-8?q?Fr=C3=BChling?=\r\n\r\nx\r\n", "r", "r2")
			s.User.FromDomains = []string{"own.example"}
			s.Envelope.From.Domain = c.from

			if got := b.relay.Submit(context.Background(), s).String(); got != c.reply {
				t.Errorf("got  %s\nwant %s", got, c.reply)
			}
			refused := lines.of(t, "message refused")
			if len(refused) != 1 {
				t.Fatalf("got %d lines, want 1", len(refused))
			}
			check(t, refused[0], map[string]any{
				"session":     "s.1",
				"user":        "u",
				"remote":      "192.0.2.7:1000",
				"from":        "bounce@" + c.from,
				"header_from": c.author,
				"subject":     "Frühling",
				"reply":       c.reply,
			})

			copies := lines.of(t, "copy")
			if len(copies) != 2 || len(b.rec.events) != 2 {
				t.Fatalf("got %d lines and %d events, want 2 and 2", len(copies), len(b.rec.events))
			}
			for i, e := range b.rec.events {
				want := event.Local{
					Session: "s.1",
					User:    "u",
					From:    "bounce@" + c.from,
					Author:  c.author,
					Subject: "Frühling",
				}
				if e.Type != event.PolicyRejection || e.Local != want {
					t.Errorf("event: got %s %+v, want %+v", e.Type, e.Local, want)
				}
				check(t, copies[i], map[string]any{
					"message_id": e.MessageID,
					"recipient":  e.RcptTo,
					"outcome":    "refused",
					"reply":      c.reply,
				})
			}
		})
	}
}

// TestRefusalIsCleanAndBounded: what a refusal repeats cannot end its line.
func TestRefusalIsCleanAndBounded(t *testing.T) {
	b, _ := newLoggingBench(t, nil)
	s := submission("From: \x01\xff"+strings.Repeat("a", 900)+"\r\n\r\nx\r\n", "r")
	s.User.FromDomains = []string{"own.example"}
	s.Envelope.From = envelope.Address{}

	answer := b.relay.Submit(context.Background(), s).String()
	if len(answer) > 510 || !strings.HasPrefix(answer, "550 5.7.1 You may not send as ??aaaa") {
		t.Errorf("got %d bytes: %s", len(answer), answer)
	}
}

// TestDeferredHereHasLines: what is answered with 4xx has no event.
func TestDeferredHereHasLines(t *testing.T) {
	b, lines := newLoggingBench(t, nil)
	b.rec.full = true
	if answer := b.relay.Submit(context.Background(), submission(htmlMessage, "r")); answer.Code != 452 {
		t.Fatalf("got %v, want 452", answer)
	}
	check(t, lines.of(t, "copy")[0], map[string]any{"outcome": "deferred", "message_id": "", "recipient": "r@Example.NET"})
	if len(b.rec.events) != 0 {
		t.Errorf("got %d events, want none", len(b.rec.events))
	}
}

// TestCopyThatCouldNotBeSentSaysWhy.
func TestCopyThatCouldNotBeSentSaysWhy(t *testing.T) {
	b, lines := newLoggingBench(t, nil)
	out := replied(0, "")
	out.Err = reply.Defer(451, reply.EnhancedCode{4, 4, 1}, "Upstream is not reachable, try again later", errors.New("connection refused"))
	b.up.answers["r"] = out
	b.relay.Submit(context.Background(), submission(htmlMessage, "r"))
	line := lines.of(t, "copy")[0]
	check(t, line, map[string]any{"outcome": "deferred"})
	if got, _ := line["err"].(string); !strings.Contains(got, "connection refused") {
		t.Errorf("err: got %q, want the cause", got)
	}
}
