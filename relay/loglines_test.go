package relay

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/relay/dsn"
	"postern/relay/envelope"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/relay/upstream"
)

// checkLine compares a log line with all that it should say, but for its time.
func checkLine(t *testing.T, got, want map[string]any) {
	t.Helper()
	got = maps.Clone(got)
	delete(got, "time")
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			t.Errorf("%s: got %v, want %v", key, got[key], want[key])
		}
		delete(got, key)
	}
	if len(got) > 0 {
		t.Errorf("the line says more: %v", got)
	}
}

// steppingClock goes on by a second each time it is looked at.
func steppingClock() func() time.Time {
	now := time.Unix(1_800_000_000, 0)
	return func() time.Time {
		now = now.Add(time.Second)
		return now
	}
}

// TestLinesOfAMessage, each with all that it says.
func TestLinesOfAMessage(t *testing.T) {
	b, lines := newLoggingBench(t, func(c *Config) { c.Now = steppingClock() })
	lost := upstream.Outcome{Upstream: "b:25", Err: reply.Defer(451, reply.EnhancedCode{4, 4, 2}, "lost", errors.New("cut"))}
	b.up.answers["a"] = lost
	b.submit(submission("X-Job: spring\r\n"+htmlMessage, "a"))

	copies := lines.of(t, "copy")
	if len(copies) != 1 {
		t.Fatalf("%d lines, want 1", len(copies))
	}
	checkLine(t, copies[0], map[string]any{
		"level":        "INFO",
		"msg":          "copy",
		"message_id":   b.up.got[0].MessageID,
		"recipient":    "a@Example.NET",
		"outcome":      "deferred",
		"reply":        "451 4.4.2 lost",
		"upstream":     "b:25",
		"session":      "s.1",
		"user":         "u",
		"from":         "bounce@example.com",
		"job":          "spring",
		"took_seconds": 1.0,
		"err":          "451 4.4.2 lost (cut)",
	})

	sums := lines.of(t, "message")
	if len(sums) != 1 {
		t.Fatalf("%d lines, want 1", len(sums))
	}
	checkLine(t, sums[0], map[string]any{
		"level":        "WARN",
		"msg":          "message",
		"session":      "s.1",
		"user":         "u",
		"remote":       "192.0.2.7:1000",
		"tls":          "TLS 1.3 X",
		"from":         "bounce@example.com",
		"job":          "spring",
		"size":         float64(len("X-Job: spring\r\n" + htmlMessage)),
		"recipients":   1.0,
		"accepted":     0.0,
		"queued":       0.0,
		"bounced":      0.0,
		"refused":      0.0,
		"deferred":     1.0,
		"reply":        "451 4.4.2 lost",
		"took_seconds": sums[0]["took_seconds"],
	})
	if took, _ := sums[0]["took_seconds"].(float64); took < 2 || took > 5 {
		t.Errorf("the message took %v s, want a step or more of the clock", sums[0]["took_seconds"])
	}
}

// TestLevelsOfOutcomes: somebody hears of what is refused and what bounces.
func TestLevelsOfOutcomes(t *testing.T) {
	for outcome, want := range map[string]string{
		outcomeAccepted: "INFO", outcomeBounced: "WARN", outcomeQueued: "INFO", outcomeRefused: "WARN", outcomeDeferred: "INFO",
	} {
		if got := (&copyLine{outcome: outcome}).level().String(); got != want {
			t.Errorf("%s: %s, want %s", outcome, got, want)
		}
	}

	for _, c := range []struct {
		out  upstream.Outcome
		want string
	}{{replied(250, "ok"), "INFO"}, {replied(450, "later"), "WARN"}, {replied(550, "no"), "WARN"}} {
		b, lines := newLoggingBench(t, nil)
		b.up.answers["a"] = c.out
		b.submit(submission(htmlMessage, "a"))
		check(t, lines.of(t, "message")[0], map[string]any{"level": c.want})
	}
}

// TestLineOfAQueuedCopy says no answer where nobody was asked, and how long the
// message took.
func TestLineOfAQueuedCopy(t *testing.T) {
	b, lines := newLoggingBench(t, func(c *Config) { c.Sending.QueueAlways, c.Now = true, steppingClock() })
	b.submit(submission(htmlMessage, "a"))
	line, sum := lines.of(t, "copy")[0], lines.of(t, "message")[0]
	check(t, line, map[string]any{"reply": "", "upstream": "", "took_seconds": sum["took_seconds"]})
	check(t, sum, map[string]any{"queued": 1.0, "level": "INFO"})
	if took, _ := line["took_seconds"].(float64); took <= 0 {
		t.Errorf("took %v", line["took_seconds"])
	}
}

// TestLinesOfARefusedMessage, each with all that it says.
func TestLinesOfARefusedMessage(t *testing.T) {
	b, lines := newLoggingBench(t, nil)
	s := submission("From: =?utf-8?q?J=C3=B6?= <a@example.com>\r\nSubject: hello\r\n\r\nx\r\n", "a")
	s.User.FromDomains = []string{"own.example"}
	s.Envelope.From.Domain = "own.example"
	answer := b.submit(s)

	checkLine(t, lines.of(t, "message refused")[0], map[string]any{
		"level":       "WARN",
		"msg":         "message refused",
		"session":     "s.1",
		"user":        "u",
		"remote":      "192.0.2.7:1000",
		"from":        "bounce@own.example",
		"header_from": "J\u00f6 <a@example.com>",
		"subject":     "hello",
		"size":        float64(len(s.Message)),
		"recipients":  1.0,
		"reply":       answer,
	})
	checkLine(t, lines.of(t, "copy")[0], map[string]any{
		"level":        "WARN",
		"msg":          "copy",
		"message_id":   b.rec.events[0].MessageID,
		"recipient":    "a@Example.NET",
		"outcome":      "refused",
		"reply":        answer,
		"upstream":     "",
		"session":      "s.1",
		"user":         "u",
		"from":         "bounce@own.example",
		"job":          "",
		"took_seconds": 0.0,
	})

	b.rec.full = true
	b.submit(submission(htmlMessage, "a"))
	check(t, lines.of(t, "message refused")[1], map[string]any{"err": "no space"})
	check(t, lines.of(t, "copy")[1], map[string]any{"level": "INFO", "outcome": "deferred", "message_id": ""})
}

// TestLineOfARetry, with all that it says.
func TestLineOfARetry(t *testing.T) {
	b, lines := newLoggingBench(t, func(c *Config) { c.Sending.QueueAlways, c.Now = true, steppingClock() })
	b.submit(submission("X-Job: spring\r\n"+htmlMessage, "a"))
	lines.out.Reset()
	b.up.answers["a"] = upstream.Outcome{Upstream: "b:25", Err: reply.Defer(451, reply.EnhancedCode{4, 4, 2}, "lost", errors.New("cut"))}
	b.relay.Deliver(context.Background(), b.queue.got[0], 0, 4)

	checkLine(t, lines.of(t, "copy")[0], map[string]any{
		"level":        "INFO",
		"msg":          "copy",
		"message_id":   b.queue.got[0].Copies[0].MessageID,
		"recipient":    "a@Example.NET",
		"outcome":      "deferred",
		"reply":        "451 4.4.2 lost",
		"upstream":     "b:25",
		"session":      "s.1",
		"user":         "u",
		"from":         "bounce@example.com",
		"job":          "spring",
		"attempt":      5.0,
		"took_seconds": 1.0,
		"err":          "451 4.4.2 lost (cut)",
	})

	b.up.answers["a"] = replied(250, "ok")
	b.relay.Deliver(context.Background(), b.queue.got[0], 0, 5)
	line := lines.of(t, "copy")[1]
	check(t, line, map[string]any{"outcome": "accepted", "level": "INFO"})
	if _, there := line["err"]; there {
		t.Errorf("an error is told of: %v", line)
	}
}

// TestLineOfADSN that cannot be sent, with all that it says.
func TestLineOfADSN(t *testing.T) {
	b, lines := newLoggingBench(t, func(c *Config) { c.Now = steppingClock() })
	tr := b.relay.dsnFor("s.1", "u", &dsn.Report{
		To:     envelope.Address{Local: "s", Domain: "example.com"},
		Failed: []dsn.Recipient{{MessageID: "m1", Recipient: recipient("a"), Reply: "550 no"}},
	})
	b.relay.logQueuedDSN(tr)
	b.up.answers["s"] = upstream.Outcome{Upstream: "b:25", Err: reply.Defer(451, reply.EnhancedCode{4, 4, 2}, "lost", errors.New("cut"))}
	b.relay.Deliver(context.Background(), tr, 0, 0)

	got := lines.of(t, "dsn")
	if len(got) != 2 {
		t.Fatalf("%d lines, want 2", len(got))
	}
	common := map[string]any{
		"level":      "INFO",
		"msg":        "dsn",
		"message_id": tr.ID,
		"about":      "m1",
		"recipient":  "s@example.com",
		"outcome":    "queued",
		"session":    "s.1",
		"user":       "u",
	}
	checkLine(t, got[0], common)
	maps.Copy(common, map[string]any{
		"outcome":      "deferred",
		"attempt":      1.0,
		"reply":        "451 4.4.2 lost",
		"upstream":     "b:25",
		"took_seconds": 1.0,
		"err":          "451 4.4.2 lost (cut)",
	})
	checkLine(t, got[1], common)
}

// TestLinesAreBounded: no attribute of a line is longer than 1000 bytes, whatever
// a message or an upstream says.
func TestLinesAreBounded(t *testing.T) {
	long := strings.Repeat("x", 3000)
	b, lines := newLoggingBench(t, nil)
	far := envelope.Address{Local: long, Domain: "example.com"}

	b.relay.logCopy(&copyLine{recipient: long, reply: long, from: long})
	b.relay.logDSN(&dsnLine{recipient: far, reply: long, attempt: 1})
	b.up.answers["a"] = replied(550, long+"\n"+long+"\n"+long)
	s := submission(htmlMessage, "a")
	s.Envelope.From = far
	b.submit(s)
	b.relay.cfg.Headers.MsysAPI = true
	s = submission("From: "+long+"\r\nSubject: "+long+"\r\nX-MSYS-API: x\r\n\r\n", "a")
	s.Envelope.From = far
	b.submit(s)
	b.relay.logRefused(s, localFacts(s), nil, reply.Reply{Code: 550, Text: long}, errors.New("x"))

	for _, msg := range []string{"copy", "dsn", "message", "message refused"} {
		found := lines.of(t, msg)
		if len(found) == 0 {
			t.Errorf("no line %q", msg)
		}
		for _, line := range found {
			for key, v := range line {
				if text, _ := v.(string); len(text) > 1000 {
					t.Errorf("%s: %s has %d bytes", msg, key, len(text))
				}
			}
		}
	}
}

// TestExpiredCopySaysHowLong: how long they waited is told.
func TestExpiredCopySaysHowLong(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	b, lines := newLoggingBench(t, func(c *Config) {
		c.Sending.QueueAlways = true
		c.Now = func() time.Time { return now }
	})
	b.submit(submission(htmlMessage, "a"))
	lines.out.Reset()
	now = now.Add(90*time.Minute + 20*time.Second)
	b.relay.GiveUp(context.Background(), b.queue.got[0], 0, 3, queue.Verdict{Reply: "450 later", Upstream: "b:25"})

	check(t, lines.of(t, "copy")[0], map[string]any{
		"level":        "WARN",
		"outcome":      "bounced",
		"took_seconds": 5420.0,
		"reply":        "4.4.7 not delivered in 1h30m0s, last answer: 450 later",
		"upstream":     "b:25",
		"attempt":      3.0,
	})
}

// TestTookSeconds is in microseconds.
func TestTookSeconds(t *testing.T) {
	if got := tookSeconds(1_500_000_400 * time.Nanosecond).Value.Float64(); got != 1.5 {
		t.Errorf("got %v, want 1.5", got)
	}
}
