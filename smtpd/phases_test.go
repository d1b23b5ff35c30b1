package smtpd

import (
	"context"
	"strings"
	"testing"
	"time"

	"postern/relay"

	"postern/relay/reply"
	"postern/smtpd/wire"
)

// crawl says a line every so often until the connection is closed, and returns
// after how long that was.
func (c *caller) crawl(line string, every time.Duration) time.Duration {
	c.b.t.Helper()
	begun := time.Now()
	for !c.ended() {
		if time.Since(begun) > 24*time.Hour {
			c.b.t.Fatalf("%q every %s: still there after a day", line, every)
		}
		c.c.Write([]byte(line))
		time.Sleep(every)
	}

	return c.endedAt.Sub(begun)
}

const timedOut = "421 4.4.2 Timeout, closing connection"

// TestSilentClientsAreGone: who says nothing more, in whatever phase, hears so
// and is gone at the bound of the phase or of being idle, whichever is first.
func TestSilentClientsAreGone(t *testing.T) {
	t.Parallel()
	reports := func(c *setup) { reporting(c) }
	idle := func(d time.Duration) func(*setup) {
		return func(c *setup) { bySource(c); c.Timeouts.Idle = d }
	}
	for _, c := range []struct {
		name   string
		change func(*setup)
		do     func(*caller)
		want   time.Duration // after what do has done
	}{
		{"since the beginning", nil, func(c *caller) { c.heard() }, 2 * time.Minute},
		{"after EHLO", nil, func(c *caller) {
			time.Sleep(90 * time.Second)
			c.say("EHLO x", "250")
		}, 30 * time.Second},
		{"in half a line", nil, func(c *caller) { c.send("EHLO clie") }, 2 * time.Minute},
		{"in an answer of AUTH", nil, func(c *caller) { c.say("EHLO x", "250", "AUTH LOGIN", "334") }, 2 * time.Minute},
		{"after AUTH", nil, func(c *caller) { c.say("EHLO x", "250"); c.login("235") }, 5 * time.Minute},
		{"after the EHLO of a source", bySource, func(c *caller) { c.say("EHLO x", "250") }, 5 * time.Minute},
		{"after MAIL", bySource, func(c *caller) { c.say("EHLO x", "250", "MAIL FROM:<>", "250") }, 5 * time.Minute},
		{"after MAIL, for longer than idle", idle(time.Hour), func(c *caller) {
			c.say("EHLO x", "250", "MAIL FROM:<>", "250")
		}, 10 * time.Minute},
		{"after RSET, for longer than idle", idle(time.Hour), func(c *caller) {
			c.say("EHLO x", "250", "MAIL FROM:<>", "250", "RSET", "250")
		}, time.Hour},
		{"after AUTH and RSET, for longer than idle", func(c *setup) { c.Timeouts.Idle = time.Hour }, func(c *caller) {
			c.say("EHLO x", "250")
			c.login("235")
			c.say("MAIL FROM:<>", "250", "RSET", "250")
		}, time.Hour},
		{"after DATA", bySource, func(c *caller) {
			c.say("EHLO x", "250", "MAIL FROM:<>", "250", "RCPT TO:<b@example.net>", "250", "DATA", "354")
		}, 5 * time.Minute},
		{"after DATA, for longer than idle", idle(time.Hour), func(c *caller) {
			c.say("EHLO x", "250", "MAIL FROM:<>", "250", "RCPT TO:<b@example.net>", "250", "DATA", "354")
		}, 10 * time.Minute},
		{"in a message", bySource, func(c *caller) {
			c.say("EHLO x", "250", "MAIL FROM:<>", "250", "RCPT TO:<b@example.net>", "250", "DATA", "354")
			c.send("From: a@exam")
		}, 5 * time.Minute},
		{"between chunks", bySource, func(c *caller) {
			c.say("EHLO x", "250", "MAIL FROM:<>", "250", "RCPT TO:<b@example.net>", "250")
			c.send("BDAT 21\r\nFrom: a@example.com\r\n")
			c.expect("250 2.0.0 Continue")
			time.Sleep(4 * time.Minute)
			c.say("NOOP", "250 2.0.0 Ok")
		}, 5 * time.Minute},
		{"within a chunk", bySource, func(c *caller) {
			c.say("EHLO x", "250", "MAIL FROM:<>", "250", "RCPT TO:<b@example.net>", "250")
			c.send("BDAT 22\r\nFrom: a@example.com\r\n")
		}, 5 * time.Minute},
		{"within a chunk that was refused", bySource, func(c *caller) {
			c.say("EHLO x", "250", "MAIL FROM:<>", "250")
			c.send("BDAT 22\r\nFrom")
			c.expect("503")
			time.Sleep(4 * time.Minute)
			c.send(": a")
		}, 5 * time.Minute},
		{"in the rest of a message that was refused", bySource, func(c *caller) {
			c.say("EHLO x", "250", "MAIL FROM:<>", "250", "RCPT TO:<b@example.net>", "250", "DATA", "354")
			c.send("a\nb")
		}, 5 * time.Minute},
		{"port 25, since the beginning", reports, func(c *caller) { c.heard() }, 2 * time.Minute},
		{"port 25, after EHLO", reports, func(c *caller) { c.say("EHLO x", "250") }, 5 * time.Minute},
		{"port 25, after MAIL", reports, func(c *caller) {
			c.say("EHLO x", "250")
			time.Sleep(4 * time.Minute)
			c.say("RSET", "250")
			time.Sleep(4 * time.Minute)
			c.say("MAIL FROM:<>", "250")
		}, 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, c.change, false, func(b *bubble) {
				client := b.dial()
				client.expect("220")
				c.do(client)
				client.endsAfter(c.want)
				heard := client.heard()
				if n := len(heard); n == 0 || heard[n-1] != timedOut {
					t.Errorf("heard %q at the end, want %q", heard, timedOut)
				}
				if n := len(b.submit.submissions()); n != 0 {
					t.Errorf("%d messages were submitted", n)
				}
			})
		})
	}
}

// TestCrawlingClientsAreGone at the bound of the phase as a whole, however
// little each line takes; nothing cut off is relayed.
func TestCrawlingClientsAreGone(t *testing.T) {
	t.Parallel()
	begin := func(c *caller, lines ...string) {
		c.say("EHLO x", "250")
		for _, line := range lines {
			c.say(line, "250")
		}
		c.say("DATA", "354")
	}
	to, report := "RCPT TO:<b@example.net>", "RCPT TO:<b@bounces.example.com>"
	large := func(c *setup) { bySource(c); c.Limits.MaxMessageSize = 10 << 20 }
	for _, c := range []struct {
		name   string
		change func(*setup)
		do     func(*caller)
		line   string
		want   time.Duration
	}{
		{"before AUTH", nil, func(c *caller) { c.say("EHLO x", "250") }, "NOOP\r\n", 2 * time.Minute},
		{"byte by byte", nil, func(c *caller) {}, "N", 2 * time.Minute},
		{"through an envelope", bySource, func(c *caller) { c.say("EHLO x", "250", "MAIL FROM:<>", "250") }, "NOOP\r\n", 10 * time.Minute},
		{"through a message", bySource, func(c *caller) { begin(c, "MAIL FROM:<>", to) }, "x", 10 * time.Minute},
		{"through a message that is too large", bySource, func(c *caller) {
			begin(c, "MAIL FROM:<>", to)
			c.send(strings.Repeat("x", 32<<10))
		}, "x", 10*time.Minute + time.Second}, // 20000 bytes at 16384
		{"through a large message", large, func(c *caller) {
			begin(c, "MAIL FROM:<>", to)
			c.send(strings.Repeat("0123456789abcd\r\n", 100<<10)) // 1600 KiB
		}, "x", 10*time.Minute + 100*time.Second},
		{"through a message, with a bound of its own", func(c *setup) { bySource(c); c.Timeouts.Message = 7 * time.Minute }, func(c *caller) {
			begin(c, "MAIL FROM:<>", to)
		}, "x", 7 * time.Minute},
		{"through chunks", bySource, func(c *caller) {
			c.say("EHLO x", "250", "MAIL FROM:<>", "250", to, "250")
		}, "BDAT 1\r\nx", 10 * time.Minute},
		{"on port 25", reporting, func(c *caller) { c.say("EHLO x", "250", "MAIL FROM:<>", "250") }, "RSET\r\n", 10 * time.Minute},
		{"on port 25, from the network of a rule", func(c *setup) { bySource(c); reporting(c) }, func(c *caller) {
			c.say("EHLO x", "250", "MAIL FROM:<>", "250")
		}, "RSET\r\n", 10 * time.Minute},
		{"on port 25, after a message", reporting, func(c *caller) {
			begin(c, "MAIL FROM:<>", report)
			time.Sleep(3 * time.Minute)
			c.send("From: a@example.com\r\n\r\n.\r\n")
			c.expect("250 2.0.0 Ok")
		}, "RSET\r\n", 10 * time.Minute},
		{"through a large message on port 25", func(c *setup) { large(c); reporting(c) }, func(c *caller) {
			begin(c, "MAIL FROM:<>", report)
			c.send(strings.Repeat("0123456789abcd\r\n", 100<<10))
		}, "x", 10 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, c.change, false, func(b *bubble) {
				client := b.dial()
				client.expect("220")
				c.do(client)
				taken := len(b.submit.submissions())
				if got := client.crawl(c.line, 11*time.Second); got != c.want {
					t.Errorf("gone after %s, want %s", got, c.want)
				}
				if n := len(b.submit.submissions()); n != taken {
					t.Errorf("%d messages were submitted, want %d", n, taken)
				}
			})
		})
	}
}

// TestTrustedClientsMayStay: authenticated clients are bound by the idle timeout alone, and
// the time of a transaction begins anew with each.
func TestTrustedClientsMayStay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*setup)
		login  bool
	}{"by AUTH": {nil, true}, "by source": {bySource, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, c.change, false, func(b *bubble) {
				client := b.greeted()
				if c.login {
					client.login("235")
				}
				for range 300 { // more commands than a stranger may give
					time.Sleep(5*time.Minute - 1)
					client.say("NOOP", "250")
				}
				for range 3 {
					client.say("MAIL FROM:<a@example.com>", "250")
					time.Sleep(4 * time.Minute)
					client.say("RCPT TO:<b@example.net>", "250")
					time.Sleep(4 * time.Minute)
					client.say("DATA", "354", shortMessage+".", "250 2.0.0 taken by the test")
				}
			})
		})
	}
}

// slowSubmitter takes its time.
type slowSubmitter struct {
	*submitter
	takes time.Duration
}

func (s slowSubmitter) Submit(ctx context.Context, sub *relay.Submission) reply.Reply {
	time.Sleep(s.takes)
	return s.submitter.Submit(ctx, sub)
}

// TestUpstreamTimeIsNotTheClients: however long the answer to a message takes,
// the client is still there afterwards.
func TestUpstreamTimeIsNotTheClients(t *testing.T) {
	t.Parallel()
	inBubble(t, func(c *setup) {
		bySource(c)
		c.Submit = slowSubmitter{c.Submit.(*submitter), time.Hour}
	}, false, func(b *bubble) {
		client := b.inMail()
		client.say("DATA", "354")
		client.send(shortMessage + ".\r\n")
		client.expect()
		time.Sleep(time.Hour)
		client.expect("250 2.0.0 taken by the test")
		time.Sleep(5*time.Minute - 1)
		client.say("NOOP", "250")
	})
}

// TestSilentHandshakesAreGone after the bound of a handshake; they are counted
// and logged.
func TestSilentHandshakesAreGone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		implicit bool
		do       func(*caller)
	}{
		{"since the beginning", true, func(c *caller) {}},
		{"in the first message", true, func(c *caller) { c.send("\x16\x03\x01\x01") }},
		{"after STARTTLS", false, func(c *caller) { c.say("EHLO x", "250", "STARTTLS", "220 2.0.0 Ready to start TLS") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, c.implicit, func(b *bubble) {
				client := b.dial()
				client.heard()
				c.do(client)
				client.endsAfter(30 * time.Second)
				client.expect() // nothing
				if got := b.counted("postern_smtpd_connections_total", "tls_failed"); got != 1 {
					t.Errorf("%v failed handshakes counted, want 1", got)
				}
				lines := b.logged("TLS handshake failed")
				if len(lines) != 1 || lines[0]["remote"] != "127.0.0.1:1234" || lines[0]["err"] == nil {
					t.Errorf("logged %v, want one line with remote and err", lines)
				}
			})
		})
	}
}

// TestHandshakesOfASourceTakeTurns: the seventeenth client of a source waits
// until one of sixteen handshakes is done.
func TestHandshakesOfASourceTakeTurns(t *testing.T) {
	t.Parallel()
	inBubble(t, func(c *setup) { c.Limits.MaxConnectionsPerSource = 40 }, true, func(b *bubble) {
		for range minHandshakes {
			b.dial().send("\x16\x03\x01\x01")
		}
		time.Sleep(time.Second)
		waiting := b.connect("127.0.0.1")
		other := b.connect("127.0.0.2")
		other.secure()
		other.expect("220")

		begun := time.Now()
		waiting.secure()
		if got, want := time.Since(begun), wire.HandshakeTimeout-time.Second; got != want {
			t.Errorf("the seventeenth waited %s, want %s", got, want)
		}
		waiting.expect("220")
		if got := b.counted("postern_smtpd_connections_total", "tls_failed"); got != minHandshakes {
			t.Errorf("%v failed handshakes counted, want %d", got, minHandshakes)
		}

		late := b.dial()
		time.Sleep(time.Second)
		for range minHandshakes {
			b.dial().send("\x16\x03\x01\x01")
		}
		late.send("\x16\x03\x01\x01")
		late.endsAfter(wire.HandshakeTimeout - time.Second)
		if got := b.counted("postern_smtpd_connections_total", "tls_failed"); got != 2*minHandshakes+1 {
			t.Errorf("%v failed handshakes counted, want %d", got, 2*minHandshakes+1)
		}
	})
}
