package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern/relay/reply"
	"postern/relay/upstream"
)

const addr = "127.0.0.1:25"

// answers returns a function that replies to commands by a table, and to EHLO
// without PIPELINING if pipelining is false.
func answers(pipelining bool, table map[string]string) func(int, string) string {
	return func(_ int, command string) string {
		if a := table[command]; a != "" || command != "EHLO" || pipelining {
			return a
		}
		return oneByOne
	}
}

// sent returns what a client would be told of an outcome.
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

// TestSilentUpstream checks that the client waits for a silent upstream as long
// as RFC 5321 section 4.5.3.2 says, and that the outcome is doubtful only if
// the whole message was sent.
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

// TestSlowUpstream checks that an upstream that replies to each command just in
// time is not given up.
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

// TestLostConnection closes the connection in each phase, before the reply.
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
		{"MAIL", notReachable, "connection closed before the reply to MAIL", false},
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

// TestUpstreamThatTalksTooEarly checks that early replies are not taken for
// replies to later commands.
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

// TestUpstreamThatWaitsForARefusedMessage checks that the connection is closed
// after 354 to DATA if the recipient was refused, so that no command becomes
// the message.
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

// TestAfterARefusal checks that the connection is reset with RSET, and kept
// only if the reply is 250.
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
			var refuse atomic.Bool
			refuse.Store(true)
			n := newNetwork()
			s := n.host(addr, func(_ int, command string) string {
				switch {
				case command == "EHLO" && !c.pipelining:
					return oneByOne
				case command == c.refused && refuse.Load():
					return c.answer
				case command == "DATA" && refuse.Load() && c.refused != "." && c.pipelining:
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
			refuse.Store(false)
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

// TestNonsense checks that the connection is closed after a malformed reply,
// and that the outcome is temporary.
func TestNonsense(t *testing.T) {
	for _, c := range []struct {
		phase, answer, says string
		doubtful            bool
	}{
		{"MAIL", "354 go", "MAIL: unexpected reply 354 go", false},
		{"RCPT", "354 go", "RCPT: unexpected reply 354 go", false},
		{"DATA", "250 ok", "DATA: unexpected reply 250 ok", false},
		{"DATA", "355 ok", "DATA: unexpected reply 355 ok", false},
		{".", "354 go", "final dot: unexpected reply 354 go", true},
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

// TestOtherSuccesses checks that 251 and 252 to RCPT mean success.
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

// TestDeafUpstream checks that an upstream that does not read has three minutes
// for each block.
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
		{"EHLO", oneByOne + deaf, 5 * time.Minute, notReachable, "connection closed before the reply to MAIL"},
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

// TestRefusedConnection checks that the error has its cause.
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

// TestEndOfAFlight checks that no further reply is awaited after 421.
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
