package relay

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"postern/relay/reply"
	"postern/relay/upstream"
)

// TestCopiesAtOnceOfTransaction: 16 MiB of what copies do not share.
func TestCopiesAtOnceOfTransaction(t *testing.T) {
	b := newBench(t, nil)
	for links, want := range map[int]int{0: 16 << 20 / 1024, 1000: 16 << 20 / (1024 + 1000*320)} {
		m := &outgoing{s: submission(""), route: route{tracking: Tracking{Click: true, URL: "https://t.example"}}}
		m.body, m.hasSeparator = []byte(strings.Repeat("<a href='https://e.example'>", links)), true
		m.content = b.relay.rewrite(m, []byte("Content-Type: text/html\r\n"), false)

		if got := m.copiesPerTransaction(); links == 0 && got != want || got > want || got < want/2 {
			t.Errorf("%d links: %d copies, want about %d", links, got, want)
		}
	}
}

// TestManyAnswersOneTransaction: copies that were refused in as many ways wait
// in one transaction, each with its own answer.
func TestManyAnswersOneTransaction(t *testing.T) {
	b := newBench(t, nil)
	to := []string{"taken"}
	for i := range 50 {
		name := fmt.Sprint("r", i)
		to = append(to, name)
		b.up.answers[name] = upstream.Outcome{Upstream: "up", Reply: reply.Reply{Code: 450, Text: "later, " + name}}
	}

	if answer := b.relay.Submit(context.Background(), submission(htmlMessage, to...)); answer.Code != 250 {
		t.Fatal(answer)
	}
	if len(b.queue.got) != 1 || len(b.queue.got[0].Copies) != 50 {
		t.Fatalf("%d transactions, want 1 with 50 copies", len(b.queue.got))
	}
	for _, c := range b.queue.got[0].Copies {
		if want := "450 later, " + c.Recipient.Address.Local; c.Tried == nil || c.Tried.Reply != want {
			t.Errorf("%s waits with %+v, want %q", c.Recipient.Address, c.Tried, want)
		}
	}
}

// TestQueuedInParts: what is put together in memory for the retry spool is
// bounded, however many recipients there are.
func TestQueuedInParts(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	var body strings.Builder
	for i := range 300 {
		fmt.Fprintf(&body, "<a href=\"https://example.com/%d/%s\">x</a>\r\n", i, strings.Repeat("y", 1500))
	}
	msg := "From: a@example.com\r\nContent-Type: text/html\r\n\r\n<body>" + body.String() + "</body>\r\n"
	to := make([]string, 20)
	for i := range to {
		to[i] = fmt.Sprint("r", i)
	}

	if answer := b.relay.Submit(context.Background(), submission(msg, to...)); answer.Code != 250 {
		t.Fatal(answer)
	}
	copies := 0
	for _, tr := range b.queue.got {
		own := 0
		for i := range tr.Copies {
			for _, o := range tr.Copies[i].Own {
				own += len(o)
			}
		}
		copies += len(tr.Copies)
		if own > maxQueued {
			t.Errorf("a transaction has %d bytes of its copies' own, want at most %d", own, maxQueued)
		}
	}
	if copies != len(to) || len(b.queue.got) < 2 || len(b.rec.events) != len(to) {
		t.Errorf("%d copies in %d transactions, %d events", copies, len(b.queue.got), len(b.rec.events))
	}
}
