package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/relay/reply"
	"postern/relay/upstream"
)

const addr = "127.0.0.1:25"

// oneByOne is an EHLO answer without PIPELINING.
const oneByOne = "250-up.example\r\n250 AUTH PLAIN"

// answers answers commands by a table, but for EHLO where pipelining is off.
func answers(pipelining bool, table map[string]string) func(int, string) string {
	return func(_ int, command string) string {
		if a := table[command]; a != "" || command != "EHLO" || pipelining {
			return a
		}
		return oneByOne
	}
}

// sent is what a client would be told of an outcome.
func sent(out upstream.Outcome) string {
	if out.Err != nil {
		return reply.For(out.Err).String()
	}
	return out.Reply.String()
}

const (
	notReachable = "451 4.4.1 Upstream is not reachable, try again later"
	takesNone    = "451 4.4.1 Upstream does not take mail now, try again later"
	wasLost      = "451 4.4.2 Connection to the upstream was lost, try again later"
)

// TestSilentUpstream says nothing more from a phase on: the client waits as long as
// RFC 5321 section 4.5.3.2 says, and only where the whole message went out it may
// have been taken.
func TestSilentUpstream(t *testing.T) {
	for _, c := range []struct {
		phase    string
		after    time.Duration
		want     string
		says     string // the error
		doubtful bool
	}{
		{"greeting", 5 * time.Minute, notReachable, "i/o timeout", false},
		{"EHLO", 5 * time.Minute, notReachable, "i/o timeout", false},
		{"AUTH", 5 * time.Minute, notReachable, "i/o timeout", false},
		{"MAIL", 5 * time.Minute, wasLost, "MAIL: ", false},
		{"RCPT", 5 * time.Minute, wasLost, "RCPT: ", false},
		{"DATA", 5 * time.Minute, wasLost, "DATA: ", false},
		{".", 10 * time.Minute, wasLost, "final dot: ", true},
	} {
		for _, pipelining := range []bool{true, false} {
			run(t, fmt.Sprintf("%s, pipelining %v", c.phase, pipelining), func(t *testing.T) {
				n := newNetwork()
				n.host(addr, answers(pipelining, map[string]string{c.phase: silent}))
				p, open := n.pool(t, upstream.Config{Addrs: []string{addr}, Username: "u", Password: "p"})
				start := time.Now()
				out := p.Send(context.Background(), transaction())
				if took := time.Since(start); took != c.after {
					t.Errorf("waited %v, want %v", took, c.after)
				}
				if got := sent(out); got != c.want || out.Doubtful != c.doubtful {
					t.Errorf("got %s, doubtful %v; want %s, %v", got, out.Doubtful, c.want, c.doubtful)
				}
				if out.Err == nil || !strings.Contains(out.Err.Error(), c.says) {
					t.Errorf("error %v, want one with %q", out.Err, c.says)
				}
				if out.Accepted() || out.Permanent() {
					t.Errorf("accepted %v, permanent %v", out.Accepted(), out.Permanent())
				}
				if n := open.now(); n != 0 || p.Idle() != 0 {
					t.Errorf("%d connections are open and %d idle, want none", n, p.Idle())
				}
			})
		}
	}
}

// TestSlowUpstream answers each command just in time: that is no reason to give up.
func TestSlowUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.host(addr, func(_ int, command string) string {
			switch command {
			case ".":
				time.Sleep(10*time.Minute - time.Nanosecond)
			case "QUIT":
			default:
				time.Sleep(5*time.Minute - time.Nanosecond)
			}
			if command == "EHLO" {
				return oneByOne
			}
			return ""
		})
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}, Username: "u", Password: "p"})
		if out := p.Send(context.Background(), transaction()); !out.Accepted() {
			t.Errorf("got %+v, want 250", out)
		}
	})
}

// TestLostConnection is closed at a phase, before an answer.
func TestLostConnection(t *testing.T) {
	for _, c := range []struct {
		phase    string
		want     string
		says     string
		doubtful bool
	}{
		{"greeting", notReachable, "EOF", false},
		{"EHLO", notReachable, "EOF", false},
		{"AUTH", notReachable, "EOF", false},
		{"MAIL", notReachable, "closed before it answered MAIL", false},
		{"RCPT", wasLost, "RCPT: EOF", false},
		{"DATA", wasLost, "DATA: EOF", false},
		{".", wasLost, "final dot: EOF", true},
	} {
		for _, pipelining := range []bool{true, false} {
			run(t, fmt.Sprintf("%s, pipelining %v", c.phase, pipelining), func(t *testing.T) {
				n := newNetwork()
				s := n.host(addr, answers(pipelining, map[string]string{c.phase: closing}))
				p, open := n.pool(t, upstream.Config{Addrs: []string{addr}, Username: "u", Password: "p"})
				out := p.Send(context.Background(), transaction())
				if got := sent(out); got != c.want || out.Doubtful != c.doubtful {
					t.Errorf("got %s, doubtful %v; want %s, %v", got, out.Doubtful, c.want, c.doubtful)
				}
				if out.Err == nil || !strings.Contains(out.Err.Error(), c.says) {
					t.Errorf("error %v, want one with %q", out.Err, c.says)
				}
				if s.connections() != 1 {
					t.Errorf("%d connections, want 1", s.connections())
				}
				if n := open.now(); n != 0 {
					t.Errorf("%d connections are open, want none", n)
				}
			})
		}
	}
}

// TestLostAfterHELO is not taken for greeted.
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

// TestHELOOnlyWhereEHLOIsNotKnown: a temporary refusal is one.
func TestHELOOnlyWhereEHLOIsNotKnown(t *testing.T) {
	for _, ehlo := range []string{"421 4.3.2 busy", "451 4.3.2 busy", "251 what", "354 what"} {
		run(t, ehlo, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, answers(true, map[string]string{"EHLO": ehlo, "HELO": "250 hello"}))
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
			out := p.Send(context.Background(), transaction())
			if got := sent(out); got != takesNone || !strings.Contains(out.Err.Error(), "EHLO answered "+ehlo) {
				t.Errorf("got %s, %v", got, out.Err)
			}
			if slices.Contains(s.commands(), "HELO gateway.example") {
				t.Error("HELO was said")
			}
		})
	}
}

// TestGreetings that are not 220 are refusals.
func TestGreetings(t *testing.T) {
	for _, greeting := range []string{"221 bye", "250 hello", "421 4.3.2 busy", "554 5.7.1 no"} {
		run(t, greeting, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, answers(true, map[string]string{"greeting": greeting}))
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
			out := p.Send(context.Background(), transaction())
			if got := sent(out); got != takesNone || !strings.Contains(out.Err.Error(), "greeting answered "+greeting) {
				t.Errorf("got %s, %v", got, out.Err)
			}
			if got := s.commands(); len(got) != 0 {
				t.Errorf("commands %q, want none", got)
			}
		})
	}
}

// TestAnswersOfThreeDigits and in other forms that RFC 5321 section 4.2 allows.
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

// TestExtensionsInLowerCase, with spaces, are extensions all the same; the line
// that greets is none.
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

// TestUpstreamThatTalksTooEarly: its early words are no answers to later commands.
func TestUpstreamThatTalksTooEarly(t *testing.T) {
	t.Run("it ends an idle connection", func(t *testing.T) {
		for _, early := range []string{"421 4.4.2 idle for too long", "421 4.4.2 idle" + closing} {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				s := n.host(addr, func(conn int, command string) string {
					if conn == 1 && command == "." {
						return "250 taken\r\n" + early
					}
					return ""
				})
				p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
				for range 2 {
					if out := p.Send(context.Background(), transaction()); !out.Accepted() {
						t.Errorf("%+v", out)
					}
				}
				if s.connections() != 2 || len(s.messages()) != 2 {
					t.Errorf("%d messages over %d connections, want 2 over 2", len(s.messages()), s.connections())
				}
			})
		}
	})
	t.Run("a greeting twice", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, answers(true, map[string]string{"greeting": "220 up\r\n220 up"}))
			p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
			if got := sent(p.Send(context.Background(), transaction())); got != takesNone {
				t.Errorf("got %s, want %s", got, takesNone)
			}
			if len(s.messages()) != 0 {
				t.Error("a message went out")
			}
		})
	})
}

// TestUpstreamThatWaitsForARefusedMessage: it refused the recipient, and says 354
// all the same. Nobody's commands may become that message.
func TestUpstreamThatWaitsForARefusedMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		refuse := true
		s := n.host(addr, func(conn int, command string) string {
			if command == "RCPT" && refuse {
				return "550 5.1.1 unknown"
			}
			return ""
		})
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
		if got := sent(p.Send(context.Background(), transaction())); got != "550 5.1.1 unknown" {
			t.Errorf("got %s", got)
		}
		refuse = false
		if out := p.Send(context.Background(), transaction()); !out.Accepted() {
			t.Errorf("%+v", out)
		}
		if s.connections() != 2 || slices.Contains(s.commands(), "RSET") {
			t.Errorf("%d connections, commands %q; want 2 and no RSET", s.connections(), s.commands())
		}
		synctest.Wait()
		if got := s.messages(); len(got) != 1 || !strings.Contains(got[0], "last line") {
			t.Errorf("messages %q, want ours", got)
		}
	})
}

// TestAfterARefusal the connection is brought back with RSET, and kept only where
// that was answered with 250.
func TestAfterARefusal(t *testing.T) {
	for _, c := range []struct {
		name        string
		pipelining  bool
		refused     string // the phase
		answer      string
		rset        string
		connections int
	}{
		{"MAIL", true, "MAIL", "550 no", "", 1},
		{"RCPT", false, "RCPT", "550 no", "", 1},
		{"DATA", true, "DATA", "554 no", "", 1},
		{"RSET answered with three digits", true, "MAIL", "550 no", "250", 1},
		{"RSET refused", true, "MAIL", "550 no", "500 no", 2},
		{"RSET answered with 354", true, "MAIL", "550 no", "354 go", 2},
		{"RSET not answered", true, "MAIL", "550 no", silent, 2},
		{"RSET and closed", true, "MAIL", "550 no", closing, 2},
		{"the end", true, "RCPT", "421 4.3.2 bye", "", 2},
		{"the end, one by one", false, "RCPT", "421 4.3.2 bye", "", 2},
		{"final dot", true, ".", "550 spam", "", 1},
		{"the end at the final dot", true, ".", "421 4.3.2 bye", "", 2},
		{"the end though taken", true, ".", "250 taken" + closing, "", 2},
	} {
		run(t, c.name, func(t *testing.T) {
			refuse := true
			n := newNetwork()
			s := n.host(addr, func(_ int, command string) string {
				switch {
				case command == "EHLO" && !c.pipelining:
					return oneByOne
				case command == c.refused && refuse:
					return c.answer
				case command == "DATA" && refuse && c.refused != "." && c.pipelining:
					return "503 5.5.1 no recipient"
				case command == "RSET":
					return c.rset
				}
				return ""
			})
			p, open := n.pool(t, upstream.Config{Addrs: []string{addr}})
			want, _ := strings.CutSuffix(c.answer, closing)
			if got := sent(p.Send(context.Background(), transaction())); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			if kept := open.now(); kept > 1 || c.connections == 1 && kept != 1 {
				t.Errorf("%d connections are open", kept)
			}
			refuse = false
			if out := p.Send(context.Background(), transaction()); !out.Accepted() || s.connections() != c.connections {
				t.Errorf("%+v over %d connections, want 250 over %d", out, s.connections(), c.connections)
			}
			rset := slices.Contains(s.commands(), "RSET")
			if want := c.refused != "." && !strings.HasPrefix(c.answer, "421"); rset != want {
				t.Errorf("RSET was said: %v, want %v", rset, want)
			}
		})
	}
}

// TestNonsense is no answer to the command: the connection ends, and the mail is
// tried again.
func TestNonsense(t *testing.T) {
	for _, c := range []struct {
		phase, answer, says string
		doubtful            bool
	}{
		{"MAIL", "354 go", "MAIL: unexpected answer 354 go", false},
		{"RCPT", "354 go", "RCPT: unexpected answer 354 go", false},
		{"DATA", "250 ok", "DATA: unexpected answer 250 ok", false},
		{"DATA", "355 ok", "DATA: unexpected answer 355 ok", false},
		{".", "354 go", "final dot: unexpected answer 354 go", true},
		{"MAIL", "what", "MAIL: ", false},
		{"RCPT", "what", "RCPT: ", false},
		{".", "what", "final dot: ", true},
	} {
		run(t, c.phase+" "+c.answer, func(t *testing.T) {
			n := newNetwork()
			n.host(addr, answers(false, map[string]string{c.phase: c.answer}))
			p, open := n.pool(t, upstream.Config{Addrs: []string{addr}})
			out := p.Send(context.Background(), transaction())
			if got := sent(out); got != wasLost || out.Doubtful != c.doubtful || out.Permanent() || out.Accepted() {
				t.Errorf("got %s, %+v; want %s", got, out, wasLost)
			}
			if out.Err == nil || !strings.Contains(out.Err.Error(), "upstream: "+c.says) {
				t.Errorf("error %v, want one with %q", out.Err, c.says)
			}
			if open.now() != 0 {
				t.Errorf("%d connections are open, want none", open.now())
			}
		})
	}
}

// TestOtherSuccesses: 251 and 252 are good answers to RCPT.
func TestOtherSuccesses(t *testing.T) {
	for _, pipelining := range []bool{true, false} {
		for _, answer := range []string{"251 forwarded", "252 cannot tell", "200 ok", "299 ok"} {
			run(t, fmt.Sprintf("%s, pipelining %v", answer, pipelining), func(t *testing.T) {
				n := newNetwork()
				n.host(addr, answers(pipelining, map[string]string{"RCPT": answer}))
				p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
				if out := p.Send(context.Background(), transaction()); !out.Accepted() {
					t.Errorf("got %+v, want 250", out)
				}
			})
		}
	}
}

// TestDeafUpstream does not read: each block has three minutes.
func TestDeafUpstream(t *testing.T) {
	for _, c := range []struct {
		phase, answer string
		after         time.Duration
		want          string
		says          string
	}{
		{"DATA", "354 go" + deaf, 3 * time.Minute, wasLost, "message: "},
		{"MAIL", "250 ok" + deaf, 5 * time.Minute, wasLost, "RCPT: "},
		{"RCPT", "250 ok" + deaf, 5 * time.Minute, wasLost, "DATA: "},
		{"EHLO", oneByOne + deaf, 5 * time.Minute, notReachable, "closed before it answered MAIL"},
		{"greeting", "220 up" + deaf, 5 * time.Minute, notReachable, "timeout"},
	} {
		run(t, c.phase, func(t *testing.T) {
			n := newNetwork()
			s := n.host(addr, answers(false, map[string]string{c.phase: c.answer}))
			defer s.hangUp()
			p, open := n.pool(t, upstream.Config{Addrs: []string{addr}})
			start := time.Now()
			out := p.Send(context.Background(), transaction())
			if took := time.Since(start); took != c.after {
				t.Errorf("waited %v, want %v", took, c.after)
			}
			if got := sent(out); got != c.want || out.Doubtful || out.Err == nil || !strings.Contains(out.Err.Error(), c.says) {
				t.Errorf("got %s, doubtful %v, %v; want %s", got, out.Doubtful, out.Err, c.want)
			}
			if open.now() != 0 {
				t.Errorf("%d connections are open, want none", open.now())
			}
		})
	}
}

// TestContextEndsInAPhase: the caller does not wait for a silent upstream, and the
// connection is not used again.
func TestContextEndsInAPhase(t *testing.T) {
	for _, phase := range []string{"greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "."} {
		run(t, phase, func(t *testing.T) {
			n := newNetwork()
			n.host(addr, answers(true, map[string]string{phase: silent}))
			p, open := n.pool(t, upstream.Config{Addrs: []string{addr}, Username: "u", Password: "p"})
			ctx, cancel := context.WithTimeout(context.Background(), 7*time.Second)
			defer cancel()
			start := time.Now()
			out := p.Send(ctx, transaction())
			if took := time.Since(start); took != 7*time.Second {
				t.Errorf("waited %v, want 7s", took)
			}
			if out.Err == nil || out.Permanent() || out.Doubtful != (phase == ".") {
				t.Errorf("got %+v", out)
			}
			if open.now() != 0 {
				t.Errorf("%d connections are open, want none", open.now())
			}
		})
	}
}

// TestContextThatEndsAfterwards leaves the connection alone.
func TestContextThatEndsAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		s := n.host(addr, answers(true, nil))
		p, _ := n.pool(t, upstream.Config{Addrs: []string{addr}})
		for range 3 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if out := p.Send(ctx, transaction()); !out.Accepted() {
				t.Errorf("%+v", out)
			}
			cancel()
			time.Sleep(2 * time.Second)
		}
		if s.connections() != 1 {
			t.Errorf("%d connections, want 1", s.connections())
		}
	})
}

// TestRefusedConnection is told of with its cause.
func TestRefusedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newNetwork().pool(t, upstream.Config{Addrs: []string{addr}})
		out := p.Send(context.Background(), transaction())
		if got := sent(out); got != notReachable || !strings.Contains(out.Err.Error(), addr) ||
			!strings.Contains(out.Err.Error(), "upstream: connection refused") {
			t.Errorf("got %s, %v", got, out.Err)
		}
		none, _ := newNetwork().pool(t, upstream.Config{})
		out = none.Send(context.Background(), transaction())
		if got := sent(out); got != notReachable || !strings.Contains(out.Err.Error(), "no upstream") {
			t.Errorf("without upstreams: got %s, %v", got, out.Err)
		}
		if errors.Is(out.Err, upstream.ErrSession) {
			t.Error("nobody refused the session")
		}
	})
}

// TestEndOfAFlight: after 421 no further answer is waited for.
func TestEndOfAFlight(t *testing.T) {
	for _, phase := range []string{"MAIL", "RCPT"} {
		run(t, phase, func(t *testing.T) {
			table := map[string]string{"MAIL": "", "RCPT": silent, "DATA": silent}
			table[phase] = "421 4.3.2 bye"
			n := newNetwork()
			n.host(addr, answers(true, table))
			p, open := n.pool(t, upstream.Config{Addrs: []string{addr}})
			start := time.Now()
			if got := sent(p.Send(context.Background(), transaction())); got != "421 4.3.2 bye" {
				t.Errorf("got %s", got)
			}
			if took := time.Since(start); took > time.Second || open.now() != 0 {
				t.Errorf("took %v, %d connections are open; want no wait and none", took, open.now())
			}
		})
	}
}

// TestContextThatEndsWithTheAnswer: whichever comes first, the connection is not
// used again, for its deadline may be set any time.
func TestContextThatEndsWithTheAnswer(t *testing.T) {
	for range 30 {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			n := newNetwork()
			n.host(addr, func(_ int, command string) string {
				if command == "." {
					cancel()
				}
				return ""
			})
			p, open := n.pool(t, upstream.Config{Addrs: []string{addr}})
			p.Send(ctx, transaction())
			if p.Idle() != 0 || open.now() != 0 {
				t.Errorf("%d connections are kept and %d open, want none", p.Idle(), open.now())
			}
		})
	}
}
