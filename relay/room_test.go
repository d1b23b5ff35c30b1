package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/relay/queue"
	"postern/relay/upstream"
	"postern/tracking/event"
)

// TestRoomIsGivenBack: whatever becomes of a message, the room that it had in
// both spools is free for the next one. The fakes look at the end of each test.
func TestRoomIsGivenBack(t *testing.T) {
	for _, c := range []struct {
		name    string
		config  func(*Config)
		prepare func(*bench)
		to      []string
		want    string
		rooms   int // reservations in each spool
	}{
		{name: "accepted", to: []string{"a"}, want: "250 2.1.1 taken", rooms: 1},
		{name: "refused", to: []string{"no"}, want: "550 5.1.1 no", rooms: 1},
		{name: "mixed", to: []string{"a", "no", "later"}, want: "250 2.0.0 Ok: queued as s.1", rooms: 1},
		{
			name:   "stored and forwarded",
			config: func(c *Config) { c.Sending.QueueAlways = true },
			to:     []string{"a", "b"},
			want:   "250 2.0.0 Ok: queued as s.1",
			rooms:  1,
		},
		{
			name:    "retry spool broken",
			prepare: func(b *bench) { b.queue.broken = true },
			to:      []string{"a", "later"},
			want:    "452 4.3.1 Insufficient system storage, try again later",
			rooms:   1,
		},
		{
			name:    "stored and forwarded, retry spool broken",
			config:  func(c *Config) { c.Sending.QueueAlways = true },
			prepare: func(b *bench) { b.queue.broken = true },
			to:      []string{"a"},
			want:    "452 4.3.1 Insufficient system storage, try again later",
			rooms:   1,
		},
		{
			name:    "events broken",
			prepare: func(b *bench) { b.rec.broken = true },
			to:      []string{"a"},
			want:    "250 2.1.1 taken",
			rooms:   1,
		},
		{
			name:    "no room in the retry spool",
			prepare: func(b *bench) { b.queue.full = true },
			to:      []string{"a"},
			want:    "452 4.3.1 Insufficient system storage, try again later",
			rooms:   1, // of events
		},
		{
			name:    "no room for events",
			prepare: func(b *bench) { b.rec.full = true },
			to:      []string{"a"},
			want:    "452 4.3.1 Insufficient system storage, try again later",
		},
		{name: "refused here", want: "554 5.5.1 No valid recipients"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.config)
			b.up.answers["no"], b.up.answers["later"] = replied(550, "no"), replied(450, "later")
			if c.prepare != nil {
				c.prepare(b)
			}

			if got := b.submit(submission(htmlMessage, c.to...)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if len(b.rec.asked) != c.rooms {
				t.Errorf("%d reservations of room for events, want %d", len(b.rec.asked), c.rooms)
			}
			sent := len(b.up.got)
			if (b.queue.full || b.rec.full) && (sent != 0 || len(b.rec.events) != 0) {
				t.Errorf("%d copies and %d events, want none without room", sent, len(b.rec.events))
			}
		})
	}
}

// TestRoomIsHeldWhileNeeded: nothing goes upstream or to disk without room for
// what is to be written of it.
func TestRoomIsHeldWhileNeeded(t *testing.T) {
	for _, always := range []bool{false, true} {
		t.Run(fmt.Sprint("store and forward: ", always), func(t *testing.T) {
			b := newBench(t, func(c *Config) { c.Sending.QueueAlways, c.Sending.CopiesAtOnce = always, 1 })
			b.up.answers["no"], b.up.answers["later"] = replied(550, "no"), replied(450, "later")
			looked := 0
			look := func() {
				looked++
				if b.rec.holds() != 1 || b.queue.holds() != 1 {
					t.Errorf("held: %d for events, %d in the retry spool, want 1 of each", b.rec.holds(), b.queue.holds())
				}
			}
			b.up.during, b.rec.during, b.queue.during = look, look, look

			b.submit(submission(htmlMessage, "a", "no", "later"))
			if looked < 2 {
				t.Errorf("looked %d times", looked)
			}
		})
	}
}

// TestRoomIsEnough: what a message puts into both spools fits into what it
// reserved, and not many times over.
func TestRoomIsEnough(t *testing.T) {
	links := "<body>" + strings.Repeat("<a href=\"https://example.com/\">x</a>\r\n", 300) + "</body>\r\n"
	long := strings.Repeat("<a href=\"https://example.com/"+strings.Repeat("y", 1500)+"\">x</a>\r\n", 270)
	head := "From: a@example.com\r\nContent-Type: text/html\r\n"
	meta := "X-MSYS-API: {\"metadata\":{\"k\":\"" + strings.Repeat("\\u0001", 1600) + "\"}}\r\n"

	for _, c := range []struct {
		name, message string
		recipients    int
	}{
		{"small", head + "\r\nx\r\n", 1},
		{"many recipients", head + "\r\nx\r\n", 200},
		{"many lines", head + "\r\n" + strings.Repeat("\\\r\n", 20_000), 2},
		{"many links", head + "\r\n" + links, 20},
		{"metadata", head + meta + "\r\nx\r\n", 3},
		{"metadata, in parts", head + meta + "\r\n" + long, 20},
	} {
		for _, always := range []bool{false, true} {
			if !always && c.name == "metadata, in parts" {
				continue // too few copies wait to be divided
			}
			t.Run(fmt.Sprint(c.name, ", store and forward: ", always), func(t *testing.T) {
				b := newBench(t, func(conf *Config) {
					conf.Headers.MsysAPI, conf.Sending.QueueAlways, conf.Signing.Signer = true, always, nil
				})
				b.up.forget = true
				s := submission(c.message)
				s.Envelope.Params.Return = "FULL"
				for i := range c.recipients {
					name := fmt.Sprintf("r%060d", i)
					s.Envelope.Recipients = append(s.Envelope.Recipients, recipient(name))
					switch i % 3 {
					case 1:
						b.up.answers[name] = replied(550, strings.Repeat("n", 400))
					case 2:
						b.up.answers[name] = replied(450, strings.Repeat("l", 400))
					}
				}
				if got := b.submit(s); !strings.HasPrefix(got, "250") {
					t.Fatal(got)
				}

				need := int64(0)
				for _, tr := range b.queue.got {
					need += stored(t, tr)
				}
				if room := b.queue.asked[0]; need > room || room > 40*need+200_000 {
					t.Errorf("%d bytes for the retry spool, and %d reserved", need, room)
				}
				if b.rec.encoded > b.rec.asked[0] || b.rec.asked[0] > 40*b.rec.encoded+40_000 {
					t.Errorf("%d bytes of events, and %d reserved", b.rec.encoded, b.rec.asked[0])
				}
			})
		}
	}
}

// stored returns about how many bytes a transaction takes in the retry spool.
func stored(t *testing.T, tr *queue.Transaction) int64 {
	t.Helper()
	head, err := json.Marshal(tr)
	if err != nil {
		t.Fatal(err)
	}
	n := queue.Escaped(head)
	for _, b := range tr.Shared {
		n += queue.Escaped(b)
	}
	for i := range tr.Copies {
		for _, b := range tr.Copies[i].Own {
			n += queue.Escaped(b)
		}
	}
	return int64(n)
}

// TestRoomReserved says what is reserved, so that a change of it is meant.
func TestRoomReserved(t *testing.T) {
	// Six bytes more when it is escaped: five line ends and a backslash.
	message := "From: a@example.com\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\n\\\r\n"

	for _, c := range []struct {
		name   string
		config func(*Config)
		to     []string
		queue  int64 // beside a margin of the queue's
		events bool
	}{
		// Twice the message, and for each recipient 4096 bytes and its return path.
		{"one copy", nil, []string{"a"}, queue.Room(2*(len(message)+6), 4096+18), true},
		{"three copies", nil, []string{"a", "b", "c"}, queue.Room(2*(len(message)+6), 3*(4096+18)), true},
		{"not reported", func(c *Config) { c.Signals.Enable = EnableFalse }, []string{"a"}, queue.Room(2*(len(message)+6), 4096+18), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.config)
			b.submit(submission(message, c.to...))
			if got := b.queue.asked[0]; got != c.queue {
				t.Errorf("retry spool: %d bytes, want %d", got, c.queue)
			}
			if got := b.rec.asked[0]; (got > 0) != c.events {
				t.Errorf("events: %d bytes, want any: %v", got, c.events)
			}
		})
	}
}

// TestMetadataHasRoom: metadata is in each transaction of the retry spool, up to
// seven times as long there as it is.
func TestMetadataHasRoom(t *testing.T) {
	message := func(fields string) string { return "From: a@example.com\r\n" + fields + "\r\nx\r\n" }
	room := func(fields string) int64 {
		b := newBench(t, func(c *Config) { c.Headers.MsysAPI = true })
		b.submit(submission(message(fields), "a"))
		return b.queue.asked[0]
	}

	without := room("X-MSYS-API: {\"metadata\":null   }\r\n")
	with := room("X-MSYS-API: {\"metadata\":{\"a\":1}}\r\n")
	if got, want := with-without, int64(7*len(`{"a":1}`)); got != want {
		t.Errorf("%d bytes more, want %d", got, want)
	}
}

// TestEventsThatCannotBeEncoded: a message whose events could not be written
// goes nowhere.
func TestEventsThatCannotBeEncoded(t *testing.T) {
	b := newBench(t, nil)
	m := &outgoing{template: event.Event{Type: event.Injection, RcptMeta: json.RawMessage("{")}}
	if _, _, err := b.relay.eventSizes(m); err == nil {
		t.Error("eventSizes: no error")
	}
	reserved, err := b.relay.reserve(m)
	if err == nil || reserved.release != nil || len(b.rec.asked) != 0 {
		t.Errorf("reserve: %v, %d reservations, want none", err, len(b.rec.asked))
	}
}

// TestEventSizes: an event has room for what its copy adds to the template.
func TestEventSizes(t *testing.T) {
	b := newBench(t, nil)
	size := func(to ...string) (injection, bounce int) {
		m, err := b.relay.prepare(submission(htmlMessage, to...), b.relay.cfg.Now())
		if err != nil {
			t.Fatal(err)
		}
		if injection, bounce, err = b.relay.eventSizes(m); err != nil {
			t.Fatal(err)
		}
		return injection, bounce
	}

	short, shortBounce := size("a")
	long, _ := size("a", "abcdefghijk", "b")
	if long-short != 40 {
		t.Errorf("ten bytes more of an address: %d bytes more, want 40", long-short)
	}
	if got, want := shortBounce-short, 2*(2*1000+64); got != want {
		t.Errorf("a bounce has room for %d bytes of a reply, want %d", got, want)
	}

	m, _ := b.relay.prepare(submission(htmlMessage, "a"), b.relay.cfg.Now())
	template := m.template
	template.ID, template.MessageID, template.Timestamp = "0", "0", event.Timestamp{Time: m.at}
	line, err := template.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := short-len(line), 4*len("a@Example.NET")+512; got != want {
		t.Errorf("%d bytes more than the template, want %d", got, want)
	}
}

// TestEventsAreWrittenInPieces of a bounded size, and all of them.
func TestEventsAreWrittenInPieces(t *testing.T) {
	b := newBench(t, nil)
	m := &outgoing{s: submission(""), route: route{report: true}, template: event.Event{Type: event.Injection}}
	for i := range 7 {
		out := replied(250, "ok")
		if i == 2 {
			out = replied(450, "later") // has no event
		}
		m.copies = append(m.copies, &recipientCopy{attempt: attempt{out: out}})
	}
	m.copies[4].out, m.copies[4].bounced = replied(550, "no"), true // has two
	b.relay.recordInjections(context.Background(), m, batchSize/3)

	if got, want := fmt.Sprint(b.rec.calls), "[3 3 1]"; got != want {
		t.Errorf("events of each call: %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(b.rec.types()), "[injection injection injection injection bounce injection injection]"; got != want {
		t.Errorf("events: %s, want %s", got, want)
	}

	b.rec.calls = nil
	b.relay.recordInjections(context.Background(), m, 2*batchSize)
	if got, want := fmt.Sprint(b.rec.calls), "[1 1 1 2 1 1]"; got != want {
		t.Errorf("large events of each call: %s, want %s", got, want)
	}
	if batchSize != 1<<20 {
		t.Errorf("pieces of %d bytes, want 1 MiB", batchSize)
	}
}

// TestMixedAnswerSpoolFailsLater: where the second thing to be queued fails, the
// client sends again, and nothing is said to have bounced.
func TestMixedAnswerSpoolFailsLater(t *testing.T) {
	b, lines := newLoggingBench(t, nil)
	b.up.answers["no"], b.up.answers["later"] = replied(550, "no"), replied(450, "later")
	b.queue.broken, b.queue.good = true, 1

	got := b.submit(submission(htmlMessage, "ok", "no", "later"))
	if want := "452 4.3.1 Insufficient system storage, try again later"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := fmt.Sprint(b.rec.types()), "[injection injection]"; got != want {
		t.Errorf("events: %s, want %s: of the one that was taken and the one that waits", got, want)
	}
	failed := lines.of(t, "copies of a mixed answer could not be queued, the client sends again")
	if len(failed) != 1 {
		t.Fatalf("%d lines about it, want 1", len(failed))
	}
	check(t, failed[0], map[string]any{"level": "ERROR", "session": "s.1", "err": "disk on fire"})
	if dsns := lines.of(t, "dsn"); len(dsns) != 0 {
		t.Errorf("lines about DSNs that were not queued: %v", dsns)
	}
}

// TestLostEventsAreCounted: the operator hears of each event that is lost, and
// the client of none.
func TestLostEventsAreCounted(t *testing.T) {
	b, lines := newLoggingBench(t, nil)
	b.rec.broken = true
	b.submit(submission(htmlMessage, "a", "b"))
	if got := metric(t, b.relay.unsaved); got != 2 {
		t.Errorf("%v injection events counted as lost, want 2", got)
	}
	lost := lines.of(t, "injection events lost")
	if len(lost) != 1 {
		t.Fatalf("%d lines, want 1", len(lost))
	}
	check(t, lost[0], map[string]any{"level": "ERROR", "session": "s.1", "events": 2.0, "err": "disk on fire"})

	s := submission(htmlMessage, "a", "b", "c")
	s.Message = []byte("X-MSYS-API: x\r\n\r\n")
	b.relay.cfg.Headers.MsysAPI = true
	b.submit(s)
	if got := metric(t, b.relay.unsaved); got != 5 {
		t.Errorf("%v events counted as lost, want 3 rejections more than 2", got)
	}
	lost = lines.of(t, "rejection events lost")
	if len(lost) != 1 {
		t.Fatalf("%d lines, want 1", len(lost))
	}
	check(t, lost[0], map[string]any{"level": "ERROR", "session": "s.1", "events": 3.0, "err": "disk on fire"})

	b.rec.broken = false
	b.relay.cfg.Sending.QueueAlways, b.relay.cfg.Headers.MsysAPI = true, false
	b.submit(submission(htmlMessage, "a"))
	b.rec.broken = true
	b.relay.GiveUp(context.Background(), b.queue.got[0], 0, 1, queue.Verdict{Failed: true, Reply: "550 no"})
	if got := metric(t, b.relay.unsaved); got != 6 {
		t.Errorf("%v events counted as lost, want a bounce more than 5", got)
	}
	lost = lines.of(t, "event lost")
	if len(lost) != 1 {
		t.Fatalf("%d lines, want 1", len(lost))
	}
	check(t, lost[0], map[string]any{
		"level":      "ERROR",
		"type":       "bounce",
		"message_id": b.queue.got[0].Copies[0].MessageID,
		"err":        "disk on fire",
	})
}

// TestClientThatGoesIsNoReason: what is owed is written, though nobody waits for
// the answer any more.
func TestClientThatGoesIsNoReason(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	b := newBench(t, nil)
	b.up.answers["no"], b.up.answers["later"] = replied(550, "no"), replied(450, "later")
	gone := 0
	b.up.during = func() { // with the last copy
		if gone++; gone == 3 {
			cancel()
		}
	}
	b.relay.cfg.Sending.CopiesAtOnce = 1

	b.relay.Submit(ctx, submission(htmlMessage, "a", "no", "later"))
	if len(b.queue.got) != 2 || len(b.rec.events) != 4 {
		t.Errorf("%d transactions and %d events, want 2 (the copy that waits, a DSN) and 4", len(b.queue.got), len(b.rec.events))
	}

	b = newBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	reply := b.relay.Submit(ctx, submission(htmlMessage, "a"))
	if reply.Code != 250 || len(b.queue.got) != 1 || len(b.rec.events) != 1 {
		t.Errorf("%v, %d transactions, %d events", reply, len(b.queue.got), len(b.rec.events))
	}

	tr := b.queue.got[0]
	b.relay.GiveUp(ctx, tr, 0, 1, queue.Verdict{Failed: true, Reply: "550 no"})
	if got, want := fmt.Sprint(b.rec.types()), "[injection bounce]"; got != want {
		t.Errorf("events: %s, want %s", got, want)
	}
	tr.Recovered = true
	b.relay.Deliver(ctx, tr, 0, 0)
	if got, want := fmt.Sprint(b.rec.types()), "[injection bounce injection]"; got != want {
		t.Errorf("events: %s, want %s", got, want)
	}

	b = newBench(t, func(c *Config) { c.Headers.MsysAPI = true })
	b.relay.Submit(ctx, submission("X-MSYS-API: x\r\n\r\n", "a"))
	if got, want := fmt.Sprint(b.rec.types()), "[policy_rejection]"; got != want {
		t.Errorf("events: %s, want %s", got, want)
	}
}

// TestClientThatGoesBeforeItsCopies: nothing goes upstream for who has gone
// already, and nothing waits for the upstream's answer.
func TestClientThatGoesBeforeItsCopies(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b := newBench(t, nil)

	reply := b.relay.Submit(ctx, submission(htmlMessage, "a", "b"))
	if want := "451 4.4.1 Upstream did not answer in time, try again later"; reply.String() != want {
		t.Errorf("got %q, want %q", reply, want)
	}
	if len(b.up.got) != 0 || len(b.queue.got) != 0 || len(b.rec.events) != 0 {
		t.Errorf("%d copies, %d transactions and %d events, want none", len(b.up.got), len(b.queue.got), len(b.rec.events))
	}
}

// TestRoomForEachTransaction: where the copies are divided among several
// transactions of the retry spool, each may hold the message again.
func TestRoomForEachTransaction(t *testing.T) {
	link := "<a href=\"https://example.com/" + strings.Repeat("y", 1500) + "\">x</a>\r\n"
	message := "From: a@example.com\r\nDate: x\r\nMessage-ID: <1@x>\r\nContent-Type: text/html\r\n\r\n<body>" +
		strings.Repeat(link, 800) + "</body>\r\n"
	recipients := func(n int) *Submission {
		s := submission(message)
		for i := range n {
			s.Envelope.Recipients = append(s.Envelope.Recipients, recipient(fmt.Sprint("r", i)))
		}
		return s
	}
	room := func(n int) int64 {
		b := newBench(t, func(c *Config) { c.Signing.Signer = nil })
		m, err := b.relay.prepare(recipients(n), b.relay.cfg.Now())
		if err != nil {
			t.Fatal(err)
		}
		reserved, err := b.relay.reserve(m)
		if err != nil {
			t.Fatal(err)
		}
		reserved.release()
		return b.queue.asked[0]
	}

	b := newBench(t, nil)
	m, err := b.relay.prepare(recipients(1), b.relay.cfg.Now())
	if err != nil {
		t.Fatal(err)
	}
	one := m.copiesPerTransaction()
	if one < 2 || one > 20 {
		t.Fatalf("%d copies in a transaction: the test wants another message", one)
	}
	own := 4096 + m.content.plan.OwnSize() + len("bounce@example.com")
	for n, transactions := range map[int]int{1: 1, one - 1: 1, one: 2, 2*one - 1: 2, 2 * one: 3} {
		want := queue.Room(queue.Escaped([]byte(message))*(1+transactions), n*own)
		if got := room(n); got != want {
			t.Errorf("%d copies: %d bytes, want %d for %d transactions", n, got, want, transactions)
		}
	}
}

// TestNothingIsLeftBehind: when a message is answered, the time that its copies
// had is no longer counted, and its buffers are there for the next one.
func TestNothingIsLeftBehind(t *testing.T) {
	b := newBench(t, nil)
	up := &contextUpstream{fakeUpstream: b.up}
	b.relay.cfg.Upstream = up
	b.submit(submission(htmlMessage, "a"))
	if err := up.last.Err(); err != context.Canceled {
		t.Errorf("context of the copy: %v, want %v", err, context.Canceled)
	}
	if limit, ok := up.last.Deadline(); !ok || time.Until(limit) > 4*time.Minute {
		t.Errorf("the copy had time until %v, want 4 minutes", limit)
	}

	kept := false
	for range 50 { // a pool may drop what it is given
		b.submit(submission(htmlMessage, "a"))
		kept = kept || cap(b.relay.buffers.get().b) > 0
	}
	if !kept {
		t.Error("no buffer is used again")
	}
}

// contextUpstream keeps the context of the last copy.
type contextUpstream struct {
	*fakeUpstream
	last context.Context
}

func (c *contextUpstream) Send(ctx context.Context, t *upstream.Transaction) upstream.Outcome {
	c.last = ctx
	return c.fakeUpstream.Send(ctx, t)
}
