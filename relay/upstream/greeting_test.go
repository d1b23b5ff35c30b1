package upstream_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"postern/relay/reply"
	"postern/relay/upstream"
)

// oneByOne is a reply to EHLO without PIPELINING.
const oneByOne = "250-up.example\r\n250 AUTH PLAIN"

// TestLostAfterHELO checks that a connection that is closed then is not used.
func TestLostAfterHELO(t *testing.T) {
	for _, c := range []struct{ helo, want string }{
		{closing, notReachable},
		{"421 4.3.2 closing", takesNone},
		{"550 no", takesNone},
		{"250 hello", "250 taken"},
		{"250-hello\r\n250 PIPELINING", "250 taken"},
	} {
		run(t, c.helo, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, answers(true, map[string]string{"EHLO": "502 5.5.1 what", "HELO": c.helo}))
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
			out := p.Send(context.Background(), transaction())
			if got := sent(out); got != c.want {
				t.Errorf("got %s (%v), want %s", got, out.Err, c.want)
			}
			want := []string{"EHLO gateway.example", "HELO gateway.example"}
			if got := s.commands(); !slices.Equal(got[:2], want) {
				t.Errorf("commands %q, want %q first", got, want)
			}
		})
	}
}

// TestHELOOnlyWhereEHLOIsNotKnown checks that a temporary refusal of EHLO is
// final.
func TestHELOOnlyWhereEHLOIsNotKnown(t *testing.T) {
	for _, ehlo := range []string{"421 4.3.2 busy", "451 4.3.2 busy", "251 what", "354 what"} {
		run(t, ehlo, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, answers(true, map[string]string{"EHLO": ehlo, "HELO": "250 hello"}))
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
			out := p.Send(context.Background(), transaction())
			if got := sent(out); got != takesNone || !strings.Contains(out.Err.Error(), "EHLO: unexpected reply "+ehlo) {
				t.Errorf("got %s, %v", got, out.Err)
			}
			if slices.Contains(s.commands(), "HELO gateway.example") {
				t.Error("HELO was said")
			}
		})
	}
}

// TestGreetings checks that any greeting but 220 is a refusal.
func TestGreetings(t *testing.T) {
	for _, greeting := range []string{"221 bye", "250 hello", "421 4.3.2 busy", "554 5.7.1 no"} {
		run(t, greeting, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, answers(true, map[string]string{"greeting": greeting}))
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
			out := p.Send(context.Background(), transaction())
			if got := sent(out); got != takesNone || !strings.Contains(out.Err.Error(), "greeting: unexpected reply "+greeting) {
				t.Errorf("got %s, %v", got, out.Err)
			}
			if got := s.commands(); len(got) != 0 {
				t.Errorf("commands %q, want none", got)
			}
		})
	}
}

// TestAnswersOfThreeDigits checks replies without text, and other forms that
// RFC 5321 section 4.2 allows.
func TestAnswersOfThreeDigits(t *testing.T) {
	digits := map[string]string{
		"greeting": "220", "EHLO": "250", "AUTH": "235", "MAIL": "250", "RCPT": "250", "DATA": "354", ".": "250", "RSET": "250",
	}
	lines := map[string]string{}
	for command, code := range digits {
		lines[command] = strings.Repeat(code+"-a\r\n", 20) + code + " b"
	}
	for _, c := range []struct {
		name  string
		table map[string]string
		text  string
	}{
		{"three digits", digits, ""},
		{"many lines", lines, reply.CleanText(strings.Repeat("a\n", 20) + "b")},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			n.host(addr, answers(true, c.table))
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
			for range 2 {
				out := p.Send(context.Background(), transaction())
				if !out.Accepted() || out.Reply.Text != c.text {
					t.Errorf("got %+v, want 250 with %q", out, c.text)
				}
			}
		})
	}
}

// TestExtensionsInLowerCase checks that keywords may be in lower case and have
// spaces around them, and that the greeting is not an extension.
func TestExtensionsInLowerCase(t *testing.T) {
	for _, c := range []struct {
		name, ehlo string
		pipelined  bool
		mail       string
	}{
		{"upper", "250-up\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 1000", true, " SIZE=46 BODY=8BITMIME"},
		{"lower", "250-up\r\n250-pipelining\r\n250-8bitmime\r\n250 size 1000", true, " SIZE=46 BODY=8BITMIME"},
		{"spaces", "250-up\r\n250- PIPELINING \r\n250-  8BITMIME\r\n250 SIZE ", true, " SIZE=46 BODY=8BITMIME"},
		{"the first line", "250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE", false, " SIZE=46 BODY=8BITMIME"},
	} {
		run(t, c.name, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, answers(true, map[string]string{"EHLO": c.ehlo}))
			p, wire := n.pool(t, upstream.Config{Addrs: []string{addr}})
			tr := transaction()
			tr.EightBit = true
			if out := p.Send(context.Background(), tr); !out.Accepted() {
				t.Fatalf("%+v", out)
			}
			if !p.TakesEightBit() {
				t.Error("8BITMIME is not seen")
			}
			want := "MAIL FROM:<a@example.com>" + c.mail
			if got := s.commands(); got[1] != want {
				t.Errorf("got %q, want %q", got[1], want)
			}
			flight := want + "\r\nRCPT TO:<\"odd one\"@example.net>\r\nDATA\r\n"
			if got := slices.Contains(wire.written(), flight); got != c.pipelined {
				t.Errorf("pipelined: %v, want %v; written %q", got, c.pipelined, wire.written())
			}
		})
	}
}
