package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"postern/relay/reply"
	"postern/relay/upstream"
)

// TestOutcomes checks Accepted and Permanent.
func TestOutcomes(t *testing.T) {
	answer := func(code int, enhanced ...int) reply.Reply {
		r := reply.Reply{Code: code}
		copy(r.Enhanced[:], enhanced)
		return r
	}
	for _, c := range []struct {
		name                string
		out                 upstream.Outcome
		accepted, permanent bool
	}{
		{"250", upstream.Outcome{Reply: answer(250)}, true, false},
		{"299", upstream.Outcome{Reply: answer(299)}, true, false},
		{"354", upstream.Outcome{Reply: answer(354)}, false, false},
		{"450", upstream.Outcome{Reply: answer(450)}, false, false},
		{"550", upstream.Outcome{Reply: answer(550)}, false, true},
		{"503 is about us", upstream.Outcome{Reply: answer(503, 5, 5, 1)}, false, false},
		{"503 about a mailbox", upstream.Outcome{Reply: answer(503, 5, 2, 1)}, false, true},
		{"an error", upstream.Outcome{Err: errors.New("what")}, false, false},
		{"an error beside 550", upstream.Outcome{Reply: answer(550), Err: errors.New("what")}, false, false},
		{"an error beside 250", upstream.Outcome{Reply: answer(250), Err: errors.New("what")}, false, false},
		{"a permanent fault", upstream.Outcome{Err: reply.Refuse(550, reply.EnhancedCode{5, 6, 7}, "no")}, false, true},
		{"a temporary fault", upstream.Outcome{Err: reply.Defer(451, reply.EnhancedCode{4, 4, 1}, "no", nil)}, false, false},
	} {
		if c.out.Accepted() != c.accepted || c.out.Permanent() != c.permanent {
			t.Errorf("%s: accepted %v, permanent %v; want %v, %v", c.name, c.out.Accepted(), c.out.Permanent(), c.accepted,
				c.permanent)
		}
	}
}

// TestUnusableUpstreamIsLogged checks that the log has its address and the
// error.
func TestUnusableUpstreamIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		n := newNetwork()
		p := upstream.New(upstream.Config{
			Addrs: []string{addr},
			Log:   slog.New(slog.NewTextHandler(&log, nil)),
		})
		p.WrapDial(func(upstream.Dial) upstream.Dial { return n.dial })
		watch(t, p)
		p.Send(context.Background(), transaction())
		if got := log.String(); !strings.Contains(got, "upstream="+addr) || !strings.Contains(got, "connection refused") {
			t.Errorf("the log: %s", got)
		}
	})
}

// TestNextUpstream checks that the next upstream is tried, and that the outcome
// is that of the last, but that of one that lacks an extension before that of
// one that cannot be reached.
func TestNextUpstream(t *testing.T) {
	seven := "250-up.example\r\n250 PIPELINING"
	for _, c := range []struct {
		name   string
		first  map[string]string
		second map[string]string // nil: away
		want   string
	}{
		{"away, well", map[string]string{"greeting": closing}, map[string]string{}, "250 taken"},
		{"lost at MAIL, well", map[string]string{"MAIL": closing}, map[string]string{}, "250 taken"},
		{"lost at RCPT", map[string]string{"RCPT": closing}, map[string]string{}, wasLost},
		{"refuses us, well", map[string]string{"MAIL": "530 log in"}, map[string]string{}, "250 taken"},
		{"refuses us twice", map[string]string{"MAIL": "530 log in"}, map[string]string{"MAIL": "530 log in"}, takesNone},
		{"refuses us, away", map[string]string{"MAIL": "530 log in"}, nil, notReachable},
		{"away, refuses us", map[string]string{"greeting": closing}, map[string]string{"MAIL": "530 no"}, takesNone},
		{"refuses the message", map[string]string{"MAIL": "550 no"}, map[string]string{}, "550 no"},
		{
			"lacks an extension, away",
			map[string]string{"EHLO": seven},
			nil,
			"550 5.6.3 Message has 8-bit content and the upstream does not offer 8BITMIME",
		},
		{"lacks an extension, well", map[string]string{"EHLO": seven}, map[string]string{}, "250 taken"},
	} {
		run(t, c.name, func(t *testing.T) {
			full := func(table map[string]string) func(int, string) string {
				return func(_ int, command string) string {
					if a := table[command]; a != "" || command != "EHLO" {
						return a
					}
					return "250-up.example\r\n250-8BITMIME\r\n250 SMTPUTF8"
				}
			}
			n := newNetwork()
			n.host(addr, full(c.first))
			if c.second != nil {
				n.host(second, full(c.second))
			}
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr, second}})
			tr := transaction()
			tr.EightBit = true
			if out := p.Send(context.Background(), tr); sent(out) != c.want {
				t.Errorf("got %s (%v), want %s", sent(out), out.Err, c.want)
			}
		})
	}
}

// TestEightBitOfSeveralUpstreams checks that every upstream that was reached
// must offer 8BITMIME.
func TestEightBitOfSeveralUpstreams(t *testing.T) {
	const with, without = "250-up\r\n250 8BITMIME", "250 up"
	for _, c := range []struct {
		first, second string
		want          bool
	}{{with, with, true}, {with, without, false}, {without, with, false}, {with, "", true}, {"", with, true}, {"", "", false}} {
		run(t, fmt.Sprintf("%q %q", c.first, c.second), func(t *testing.T) {
			n := newNetwork()
			if c.first != "" {
				n.host(addr, answers(true, map[string]string{"EHLO": c.first, ".": silent}))
			}
			if c.second != "" {
				n.host(second, answers(true, map[string]string{"EHLO": c.second, ".": silent}))
			}
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr, second}})
			outcomes := busy(t, p, 2)
			if got := p.TakesEightBit(); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			<-outcomes
			<-outcomes
		})
	}
}
