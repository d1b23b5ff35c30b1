package relay

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"postern/relay/reply"
	"postern/relay/upstream"
)

// outcomes are what may become of a copy, by a letter each.
var outcomes = map[rune]upstream.Outcome{
	'a': replied(250, "taken"),
	'A': replied(251, "taken, too"),
	'r': replied(550, "no"),
	'R': replied(554, "never"),
	'd': replied(450, "later"),
	'D': replied(421, "bye"),
	'l': replied(530, "login"),
	'x': {Err: reply.Defer(451, reply.EnhancedCode{4, 4, 2}, "lost", errors.New("cut"))},
}

// TestDecide: one answer for many copies, and what becomes of the copies that
// were not taken.
func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name    string
		copies  string // letters of outcomes
		overdue bool
		reply   string
		queue   string
		bounce  string
	}{
		{name: "one, accepted", copies: "A", reply: "251 2.1.1 taken, too"},
		{name: "one, refused", copies: "R", reply: "554 5.1.1 never"},
		{name: "one, deferred", copies: "d", reply: "450 4.1.1 later"},
		{name: "one, lost", copies: "x", reply: "451 4.4.2 lost"},
		{name: "all accepted", copies: "Aa", reply: "250 2.0.0 Ok: queued as s.1"},
		{name: "all refused", copies: "Rr", reply: "554 5.1.1 never"},
		{name: "all deferred", copies: "dx", reply: "451 4.1.1 later"},
		{name: "all lost", copies: "xx", reply: "451 4.4.2 lost"},
		{name: "refused and deferred", copies: "rdx", reply: "451 4.1.1 later"},
		{name: "session closed", copies: "rD", reply: "451 4.1.1 bye"},
		{name: "accepted and refused", copies: "arR", reply: "250 2.0.0 Ok: queued as s.1", bounce: "rR"},
		{name: "accepted and deferred", copies: "dax", reply: "250 2.0.0 Ok: queued as s.1", queue: "dx"},
		{name: "accepted and our login refused", copies: "al", reply: "250 2.0.0 Ok: queued as s.1", queue: "l"},
		{name: "one of each", copies: "xrad", reply: "250 2.0.0 Ok: queued as s.1", queue: "xd", bounce: "r"},
		{name: "overdue, one without an answer", copies: "x", overdue: true, reply: "250 2.0.0 Ok: queued as s.1", queue: "x"},
		{name: "overdue, and one refused", copies: "xr", overdue: true, reply: "250 2.0.0 Ok: queued as s.1", queue: "x", bounce: "r"},
		{name: "overdue, and one deferred", copies: "dx", overdue: true, reply: "250 2.0.0 Ok: queued as s.1", queue: "dx"},
		{name: "overdue, all answered", copies: "rd", overdue: true, reply: "451 4.1.1 later"},
		{name: "overdue, one answered", copies: "d", overdue: true, reply: "450 4.1.1 later"},
		{name: "overdue, one accepted", copies: "a", overdue: true, reply: "250 2.1.1 taken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var copies []*recipientCopy
			letters := map[*recipientCopy]rune{}
			for _, l := range c.copies {
				cp := &recipientCopy{attempt: attempt{out: outcomes[l]}}
				letters[cp] = l
				copies = append(copies, cp)
			}
			spell := func(copies []*recipientCopy) (s string) {
				for _, cp := range copies {
					s += string(letters[cp])
				}
				return s
			}

			d := decide(copies, c.overdue, "s.1")
			if d.reply.String() != c.reply || spell(d.queue) != c.queue || spell(d.bounce) != c.bounce {
				t.Errorf("got %q, queued %q, bounced %q, want %q, %q, %q",
					d.reply, spell(d.queue), spell(d.bounce), c.reply, c.queue, c.bounce)
			}
		})
	}
}

// TestCleanReply: what is passed on of an upstream's answer.
func TestCleanReply(t *testing.T) {
	for _, c := range []struct {
		name string
		out  upstream.Outcome
		want string
	}{
		{"accepted", replied(250, "ok"), "250 2.1.1 ok"},
		{"refused", replied(550, "no"), "550 5.1.1 no"},
		{"deferred", replied(450, "later"), "450 4.1.1 later"},
		{"420 is not 421", replied(420, "x"), "420 4.1.1 x"},
		{"422 is not 421", replied(422, "x"), "422 4.1.1 x"},
		{"session closed", replied(421, "bye"), "451 4.1.1 bye"},
		{"our login", replied(535, "no"), "451 4.4.1 Upstream does not take mail now, try again later"},
		{"error", upstream.Outcome{Err: reply.Defer(451, reply.EnhancedCode{4, 4, 2}, "lo\rst", nil)}, "451 4.4.2 lo?st"},
		{"error in the place of a reply", upstream.Outcome{Err: errors.New("x"), Reply: reply.Reply{Code: 250}}, "451 4.3.0 Internal error, try again later"},
		{"line ends and controls", replied(550, "a\nb\x00"), "550 5.1.1 a\nb?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := cleanReply(c.out).String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestCopiesAreCounted by what became of them, each under its own name.
func TestCopiesAreCounted(t *testing.T) {
	metrics := prometheus.NewPedanticRegistry()
	b := newBench(t, func(c *Config) {
		c.Metrics, c.Headers.MsysAPI, c.Tracking.Default.URL = metrics, true, "https://t.example"
	})
	b.up.answers["no"], b.up.answers["later"] = replied(550, "no"), replied(450, "later")
	plain := "From: a@other.example\r\n\r\nx\r\n"

	b.submit(submission(plain, "a", "later", "later2"))
	b.submit(submission(plain, "no"))
	b.submit(submission(plain, "later"))
	b.submit(submission("X-MSYS-API: x\r\n"+plain, "a"))
	b.submit(submission("From: a@example.com\r\nContent-Type: text/html\r\nContent-Disposition: attachment\r\n\r\n<body></body>", "a"))
	b.submit(submission("X-Virtual-MTA: v\r\n"+plain, "a"))
	b.rec.broken = true
	b.submit(submission(plain, "a"))

	got := map[string]float64{}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"postern_relay_copies_total result=accepted":         5,
		"postern_relay_copies_total result=queued":           1,
		"postern_relay_copies_total result=refused":          1,
		"postern_relay_copies_total result=deferred":         1,
		"postern_relay_copies_total result=refused_here":     1,
		"postern_dkim_unsigned_total":                        5,
		"postern_relay_events_lost_total":                    1,
		"postern_relay_unknown_names_total kind=x_msys_api":  0,
		"postern_relay_unknown_names_total kind=ip_pool":     0,
		"postern_relay_unknown_names_total kind=virtual_mta": 1,
		"postern_rewrite_skipped_total reason=attachment":    1,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v (there: %v), want %v", name, value, ok, want)
		}
	}
	if t.Failed() {
		t.Logf("%v", got)
	}
}

// TestDefaults of a configuration that leaves things out.
func TestDefaults(t *testing.T) {
	r := New(Config{})
	if got := r.cfg.Sending.AnswerWithin.String(); got != "4m0s" {
		t.Errorf("AnswerWithin %s, want 4 minutes", got)
	}
	if r.cfg.Sending.CopiesAtOnce != 8 {
		t.Errorf("CopiesAtOnce %d, want 8", r.cfg.Sending.CopiesAtOnce)
	}
	if r.cfg.Now == nil || r.cfg.Now().IsZero() {
		t.Error("there is no clock")
	}

	r = New(Config{Sending: Sending{AnswerWithin: 1, CopiesAtOnce: 2}})
	if r.cfg.Sending.AnswerWithin != 1 || r.cfg.Sending.CopiesAtOnce != 2 {
		t.Errorf("got %v and %d, want what is configured", r.cfg.Sending.AnswerWithin, r.cfg.Sending.CopiesAtOnce)
	}
}

// TestReject answers for a listener that refuses a message itself.
func TestReject(t *testing.T) {
	b, lines := newLoggingBench(t, nil)
	answer := b.relay.Reject(context.Background(), submission(htmlMessage, "a"), reply.Refuse(552, reply.EnhancedCode{5, 3, 4}, "too large"))
	if answer.String() != "552 5.3.4 too large" || len(b.rec.events) != 1 {
		t.Errorf("got %v and %d events", answer, len(b.rec.events))
	}
	if got := len(lines.of(t, "message refused")); got != 1 {
		t.Errorf("%d lines, want 1", got)
	}

	answer = b.relay.Reject(context.Background(), submission(htmlMessage, "a"), &reply.Fault{Class: reply.Overloaded, Err: errors.New("memory")})
	if answer.Code != 452 || len(b.rec.events) != 1 {
		t.Errorf("for now: got %v and %d events, want no event more", answer, len(b.rec.events))
	}
	if line := lines.of(t, "message refused")[1]; line["err"] != "memory" {
		t.Errorf("err is %v, want the cause", line["err"])
	}
}

// TestReachable asks the upstream.
func TestReachable(t *testing.T) {
	b := newBench(t, nil)
	if err := b.relay.Reachable(context.Background()); err != nil {
		t.Errorf("got %v, want none", err)
	}
	b.up.ping = errors.New("refused")
	if err := b.relay.Reachable(context.Background()); !errors.Is(err, b.up.ping) {
		t.Errorf("got %v, want %v", err, b.up.ping)
	}
}

// TestVerdict: what ends a waiting copy, and what leaves it waiting.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name         string
		out          upstream.Outcome
		done, failed bool
	}{
		{"taken", upstream.Outcome{Reply: reply.Reply{Code: 250}}, true, false},
		{"later", upstream.Outcome{Reply: reply.Reply{Code: 451}}, false, false},
		{"refused", upstream.Outcome{Reply: reply.Reply{Code: 550}}, false, true},
		{"no login of ours", upstream.Outcome{Reply: reply.Reply{Code: 530, Enhanced: reply.EnhancedCode{5, 7, 0}}}, false, false},
		{"8-bit", upstream.Outcome{Err: &reply.Fault{Class: reply.Permanent, Err: upstream.ErrEightBit}}, false, false},
		{"lost", upstream.Outcome{Upstream: "a:25", Err: errors.New("lost")}, false, false},
	} {
		if v := verdict(c.out); v.Done != c.done || v.Failed != c.failed {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

// TestVerdictAway: copies wait for an upstream that cannot be reached, and for
// their time where it answers and does not want us.
func TestVerdictAway(t *testing.T) {
	away := reply.Defer(451, reply.EnhancedCode{4, 4, 1}, "later", nil)

	for _, c := range []struct {
		name string
		out  upstream.Outcome
		away bool
	}{
		{"not reachable", upstream.Outcome{Upstream: "a:25", Err: away}, true},
		{"no session for us", upstream.Outcome{Upstream: "a:25", Err: fmt.Errorf("%w: %w", upstream.ErrSession, away)}, false},
		{"lost", upstream.Outcome{Upstream: "a:25", Err: errors.New("lost")}, false},
		{"later", upstream.Outcome{Upstream: "a:25", Reply: reply.Reply{Code: 450}}, false},
	} {
		if v := verdict(c.out); v.Away != c.away || v.Failed {
			t.Errorf("%s: %+v, want away %v and not failed", c.name, v, c.away)
		}
	}
}

// TestVerdictIsClean: the retry spool keeps nothing of an upstream's bytes that
// could end a line.
func TestVerdictIsClean(t *testing.T) {
	v := verdict(upstream.Outcome{Reply: reply.Reply{Code: 550, Enhanced: reply.EnhancedCode{5, 1, 1}, Text: "no \rsuch\x00 \u00fcser"}})
	if want := "550 5.1.1 no ?such? ??ser"; v.Reply != want {
		t.Errorf("got %q, want %q", v.Reply, want)
	}
}
