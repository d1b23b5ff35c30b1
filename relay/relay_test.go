package relay

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/relay/envelope"
	"postern/relay/message"
	"postern/relay/queue"
	"postern/relay/reply"
	"postern/relay/upstream"
	"postern/tracking/event"
	"postern/tracking/token"
)

func TestSubmitOne(t *testing.T) {
	b := newBench(t, nil)
	answer := b.relay.Submit(context.Background(), submission(htmlMessage, "rcpt"))
	if answer.Code != 250 || answer.Text != "taken" {
		t.Fatalf("%v", answer)
	}
	msg := string(b.up.got[0].Message[0])
	id := regexp.MustCompile(`\r\nX-Sp-Message-Id: ([a-z2-7]{26})\r\n`).FindStringSubmatch(msg)
	if id == nil {
		t.Fatalf("no message id in %s", msg)
	}
	if _, err := b.keys.ParseID(id[1]); err != nil {
		t.Error(err)
	}
	if got := b.up.got[0].Params.EnvelopeID; got != id[1] {
		t.Errorf("ENVID %q", got)
	}
	if !strings.HasPrefix(msg, "DKIM-Signature: ") || !strings.Contains(msg, "Received: from app.example ([192.0.2.7])\r\n\tby gw.example with ESMTPSA (TLS 1.3 X) id s.1;") {
		t.Errorf("header of\n%s", msg)
	}
	if strings.Contains(msg, "quoted-printable") {
		t.Error("a part whose lines stay short was re-encoded")
	}
	targets := map[token.Kind]string{}
	for _, m := range regexp.MustCompile(`https://t\.example/t/([\w-]+)`).FindAllStringSubmatch(msg, -1) {
		tok, err := b.keys.Open(m[1], "t.example")
		if err != nil {
			t.Fatal(err)
		}
		if tok.MessageID.String() != id[1] || tok.Recipient != "rcpt@Example.NET" {
			t.Errorf("token %+v", tok)
		}
		targets[tok.Kind] = tok.Target
	}
	if len(targets) != 3 || targets[token.Click] != "https://example.com/?a=1&b=2" {
		t.Errorf("tokens %v", targets)
	}
	if len(b.rec.events) != 1 {
		t.Fatalf("%d events", len(b.rec.events))
	}
	e := b.rec.events[0]
	if line, err := e.Encode(); err != nil {
		t.Error(err)
	} else if _, err := event.Decode(line); err != nil {
		t.Error(err)
	}
	if e.MessageID != id[1] || e.FriendlyFrom != "news@example.com" || e.MsgFrom != "bounce@example.com" || e.Subject != "Frühling" ||
		e.RoutingDomain != "example.net" || e.MsgSize != fmt.Sprint(len(msg)) || !*e.ClickTracking {
		t.Errorf("event %+v", e)
	}
}

// TestAnswers: many recipients, one answer.
func TestAnswers(t *testing.T) {
	no, later, login := replied(550, "no"), replied(450, "later"), replied(530, "login")
	gone := upstream.Outcome{Err: reply.Defer(451, reply.EnhancedCode{4, 4, 2}, "lost", nil)}
	type answers = map[string]upstream.Outcome
	for _, c := range []struct {
		name        string
		answers     answers
		quiet       bool // NOTIFY=NEVER
		queueBroken bool
		code        int
		injections  int
		bounces     int
		queued      string // recipients in the retry spool
		dsn         string // recipients in a DSN
	}{
		{name: "all accepted", code: 250, injections: 3},
		{name: "all refused", answers: answers{"a": no, "b": replied(554, "never"), "c": no}, code: 550},
		{name: "none accepted, some temporary", answers: answers{"a": no, "b": later, "c": no}, code: 451},
		{name: "none reachable", answers: answers{"a": gone, "b": gone, "c": gone}, code: 451},
		{name: "some refused", answers: answers{"b": no}, code: 250, injections: 3, bounces: 1, dsn: "b"},
		{name: "some refused, nobody wants to know", answers: answers{"b": no}, quiet: true, code: 250, injections: 3, bounces: 1},
		{name: "some temporary", answers: answers{"b": later, "c": gone}, code: 250, injections: 3, queued: "bc"},
		{name: "one of each", answers: answers{"b": later, "c": no}, code: 250, injections: 3, bounces: 1, queued: "b", dsn: "c"},
		{name: "all of our login", answers: answers{"a": login, "b": login, "c": login}, code: 451},
		{name: "some of our login", answers: answers{"b": login}, code: 250, injections: 3, queued: "b"},
		{name: "some temporary, and the spool fails", answers: answers{"b": later}, queueBroken: true, code: 452, injections: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			b.up.answers, b.queue.broken = c.answers, c.queueBroken
			s := submission(htmlMessage, "a", "b", "c")
			if c.quiet {
				for i := range s.Envelope.Recipients {
					s.Envelope.Recipients[i].Notify = []string{"NEVER"}
				}
			}
			answer := b.relay.Submit(context.Background(), s)
			count := map[event.Type]int{}
			for _, e := range b.rec.events {
				count[e.Type]++
				if line, err := e.Encode(); err != nil {
					t.Error(err)
				} else if _, err := event.Decode(line); err != nil {
					t.Error(err)
				}
			}
			var queued, dsn []string
			for _, tr := range b.queue.got {
				if tr.From.IsNull() {
					msg := string(tr.Message(0))
					for _, m := range regexp.MustCompile(`Final-Recipient: rfc822;(\w+)@`).FindAllStringSubmatch(msg, -1) {
						dsn = append(dsn, m[1])
					}
					continue
				}
				for i, q := range tr.Copies {
					queued = append(queued, q.Recipient.Address.Local)
					for _, sent := range b.up.got {
						if sent.Recipient.Address == q.Recipient.Address && string(sent.Message[0]) != string(tr.Message(i)) {
							t.Errorf("what is sent again differs from what was sent:\n%s\n%s", sent.Message[0], tr.Message(i))
						}
					}
				}
			}
			slices.Sort(queued)
			if answer.Code != c.code || count[event.Injection] != c.injections || count[event.Bounce] != c.bounces ||
				strings.Join(queued, "") != c.queued || strings.Join(dsn, "") != c.dsn {
				t.Errorf("%v, events %v, queued %v, DSN about %v", answer, count, queued, dsn)
			}
		})
	}
}

// slowUpstream answers nothing before the caller's patience is over.
type slowUpstream struct{ *fakeUpstream }

func (s *slowUpstream) Send(ctx context.Context, t *upstream.Transaction) upstream.Outcome {
	if t.Recipient.Address.Local == "slow" {
		<-ctx.Done()
		return upstream.Outcome{Err: reply.Defer(451, reply.EnhancedCode{4, 4, 2}, "lost", ctx.Err())}
	}
	return s.fakeUpstream.Send(ctx, t)
}

// TestAnswerWithin: what has no answer when the client's patience is over goes
// to the retry spool, and the client gets its 250.
func TestAnswerWithin(t *testing.T) {
	for _, to := range [][]string{{"slow"}, {"a", "slow"}} {
		b := newBench(t, nil)
		b.relay.cfg.Upstream, b.relay.cfg.Sending.AnswerWithin = &slowUpstream{b.up}, 20*time.Millisecond
		if answer := b.relay.Submit(context.Background(), submission(htmlMessage, to...)); answer.Code != 250 {
			t.Errorf("%v: %v", to, answer)
		}
		if len(b.queue.got) != 1 || len(b.rec.events) != len(to) {
			t.Errorf("%v: %d queued, %d events", to, len(b.queue.got), len(b.rec.events))
		}
	}
}

func TestStoreAndForward(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	answer := b.relay.Submit(context.Background(), submission(htmlMessage, "a", "b"))
	if answer.Code != 250 || len(b.up.got) != 0 || len(b.queue.got) != 1 || len(b.rec.events) != 2 {
		t.Fatalf("%v, %d sent, %d queued, %d events", answer, len(b.up.got), len(b.queue.got), len(b.rec.events))
	}
	tr := b.queue.got[0]
	for i := range tr.Copies {
		if v := b.relay.Deliver(context.Background(), tr, i, 0); !v.Done {
			t.Errorf("%+v", v)
		}
	}
	if len(b.up.got) != 2 || string(b.up.got[0].Message[0]) == string(b.up.got[1].Message[0]) {
		t.Error("two recipients got the same bytes")
	}
	b.queue.broken = true
	if answer := b.relay.Submit(context.Background(), submission(htmlMessage, "a")); answer.Code != 452 {
		t.Errorf("no disk: %v", answer)
	}
}

// TestGiveUp: the retry spool's last word makes a bounce event and a DSN.
func TestGiveUp(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sending.QueueAlways = true })
	s := submission(htmlMessage, "a")
	s.Envelope.Params = envelope.MailParams{Return: "FULL", EnvelopeID: "their id"}
	b.relay.Submit(context.Background(), s)
	tr := b.queue.got[0]
	b.up.answers["a"] = replied(450, "full")
	v := b.relay.Deliver(context.Background(), tr, 0, 0)
	if v.Done || v.Failed {
		t.Fatalf("%+v", v)
	}
	about := b.relay.GiveUp(context.Background(), tr, 0, 2, v)
	if len(about) != 1 || !about[0].From.IsNull() || about[0].Copies[0].Recipient.Address != s.Envelope.From {
		t.Fatalf("DSN %+v", about)
	}
	text := string(about[0].Message(0))
	for _, want := range []string{"Content-Type: multipart/report;", "report-type=delivery-status", "Reporting-Mta: dns; gw.example", "Original-Envelope-Id: their id",
		"Final-Recipient: rfc822;a@Example.NET", "Action: failed", "Status: 4.4.7", "message/rfc822", "Subject: =?utf-8?q?Fr=C3=BChling?="} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if err := message.Check([]byte(text)); err != nil {
		t.Error(err)
	}
	var types []string
	for _, e := range b.rec.events {
		types = append(types, e.Type.PublicName())
	}
	if strings.Join(types, " ") != "injection delay bounce" {
		t.Errorf("events %v", types)
	}
	if again := b.relay.GiveUp(context.Background(), about[0], 0, 1, queue.Verdict{Failed: true, Reply: "550 5.1.1 no"}); again != nil {
		t.Error("a DSN about a DSN")
	}
}

func TestOneAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		out  upstream.Outcome
		want string
	}{
		{"upstream's words", replied(550, "no such user\nreally"), "550 5.1.1 no such user\nreally"},
		{"cleaned", replied(550, "a\x1b[2Jb\rc"), "550 5.1.1 a?[2Jb?c"},
		{"421 is the upstream's session, not the client's", upstream.Outcome{Reply: reply.Reply{Code: 421, Text: "bye"}}, "451 bye"},
		{"530 is about our login, not the mail", replied(530, "login"), "451 4.4.1 Upstream does not take mail now, try again later"},
		{"502 is about our session, not the mail", upstream.Outcome{Reply: reply.Reply{Code: 502, Text: "what"}}, "451 4.4.1 Upstream does not take mail now, try again later"},
		{"unclassified", upstream.Outcome{Err: errors.New("x")}, "451 4.3.0 Internal error, try again later"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			b.up.answers["a"] = c.out
			if got := b.relay.Submit(context.Background(), submission(htmlMessage, "a")).String(); got != c.want {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestDuplicateRecipients(t *testing.T) {
	b := newBench(t, nil)
	s := submission(htmlMessage, "a", "a", "b")
	s.Envelope.Recipients[1].Address.Domain = "example.net" // domains fold case, local parts do not
	b.relay.Submit(context.Background(), s)
	if len(b.up.got) != 2 {
		t.Errorf("%d copies", len(b.up.got))
	}
	if string(b.up.got[0].Message[0]) == string(b.up.got[1].Message[0]) {
		t.Error("two recipients got the same copy")
	}
}

func TestDiskFull(t *testing.T) {
	b := newBench(t, nil)
	b.rec.full = true
	if r := b.relay.Submit(context.Background(), submission(htmlMessage, "a")); r.Code != 452 || r.Enhanced != (reply.EnhancedCode{4, 3, 1}) || len(b.up.got) != 0 {
		t.Errorf("%v after %d copies", r, len(b.up.got))
	}
	b.rec.full, b.rec.broken = false, true
	if r := b.relay.Submit(context.Background(), submission(htmlMessage, "a")); r.Code != 250 {
		t.Errorf("the upstream took the copy, the client hears %v", r)
	}
}

func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		name, in, want string // header blocks
		user           User
		other          bool // upstream_kind
	}{
		{name: "untouched", in: "from: a@b\r\nX-Odd:  two  spaces\r\n\tfolded\r\nX-Odd: again\r\n", want: "from: a@b\r\nX-Odd:  two  spaces\r\n\tfolded\r\nX-Odd: again\r\n"},
		{name: "X-Job made safe", in: "X-Job:  Spring sale \r\nFrom: a@b\r\n", want: "X-Job: Spring_sale\r\nFrom: a@b\r\n"},
		{name: "safe X-Job keeps its bytes", in: "x-JOB:a\r\n", want: "x-JOB:a\r\n"},
		{name: "several X-Job: the first counts", in: "X-Job: a\r\nX-Job: b\r\n", want: "X-Job: a\r\n"},
		{name: "X-Job with white space before the colon", in: "X-Job : a b\r\n", want: "X-Job: a_b\r\n"},
		{name: "folded X-Job", in: "X-Job: a\r\n b\r\n", want: "X-Job: a_b\r\n"},
		{name: "empty X-Job goes", in: "X-Job: \r\n", want: ""},
		{name: "the user's job", in: "From: a@b\r\n", user: User{Job: "tx"}, want: "From: a@b\r\nX-Job: tx\r\n"},
		{name: "prefix", in: "X-Job: a\r\n", user: User{Job: "tx", JobPrefix: "p-"}, want: "X-Job: p-a\r\n"},
		{name: "the user's VirtualMTA", in: "From: a@b\r\n", user: User{VirtualMTA: "v"}, want: "From: a@b\r\nX-Virtual-MTA: v\r\n"},
		{name: "the message's VirtualMTA", in: "X-Virtual-MTA: w\r\n", user: User{VirtualMTA: "v"}, want: "X-Virtual-MTA: w\r\n"},
		{name: "what never leaves", in: "Bcc: x@y\r\nX-MSYS-API: {}\r\nX-DKIM-Key: k\r\nX-DKIM-Options : o\r\nResent-Bcc: z\r\nReturn-Path: <p>\r\nTo: c@d\r\n", want: "To: c@d\r\n"},
		{name: "the client's message id header goes", in: "X-Sp-Message-ID: mine\r\nTo: c@d\r\n", want: "To: c@d\r\n"},
		{name: "no PowerMTA", other: true, in: "X-Job: a\r\nX-Virtual-MTA: v\r\nX-Envid: e\r\nX-Sp-Subaccount-Id: 1\r\nTo: c@d\r\n", user: User{Job: "tx"}, want: "To: c@d\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(conf *Config) { conf.Headers.PowerMTA = !c.other })
			p, err := b.relay.applyPolicy([]byte(c.in), c.user)
			if got := string(p.block); got != c.want || err != nil {
				t.Errorf("got  %q, %v\nwant %q", got, err, c.want)
			}
		})
	}
}

func TestComplete(t *testing.T) {
	b := newBench(t, nil)
	b.relay.Submit(context.Background(), submission("From: a@example.com\r\n\r\nx\r\n", "r"))
	msg := string(b.up.got[0].Message[0])
	for _, want := range []string{"\r\nDate: ", "\r\nMessage-ID: <"} {
		if !strings.Contains(msg, want) {
			t.Errorf("no %q in %s", want, msg)
		}
	}
}

func BenchmarkPolicy(b *testing.B) {
	r := newBench(b, nil).relay
	header := []byte(strings.SplitAfter(htmlMessage, "\r\n\r\n")[0])
	b.ReportAllocs()
	for b.Loop() {
		r.applyPolicy(header, User{Job: "tx"})
	}
}
