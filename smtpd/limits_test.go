package smtpd

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-smtp"

	"postern/relay/reply"
	"postern/smtpd/wire"
)

// TestDefaultLimits are as documented.
func TestDefaultLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		got, want any
	}{
		{"commands without a message", maxCommands, 200},
		{"recipients of a report", reportRecipients, 100},
		{"handshakes of a source", minHandshakes, 16},
		{"header section", maxHeaderBytes, 1048576},
		{"header line", maxHeaderLine, 998},
		{"hops", maxReceived, 100},
		{"cost of a submission", submissionCost, 2},
		{"cost of a report", reportCost, 1},
		{"sources of the budget", sourceShare, 4},
		{"address in a refusal", maxRefusedAddress, 318},
		{"PROXY header", proxyHeaderTimeout, 10 * time.Second},
		{"refusal of a connection", refusalTimeout, time.Second},
		{"the same in the log", rareEvery, time.Minute},
		{"first pause of accept", minAcceptPause, 5 * time.Millisecond},
		{"longest pause of accept", maxAcceptPause, time.Second},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
}

// TestConfigDefaults: what is not configured.
func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	type limits struct {
		connections, perSource, recipients int
		idle                               time.Duration
		handshakes                         int
		cost, share                        int64
	}
	for _, c := range []struct {
		name   string
		config setup
		want   limits
	}{
		{"submission", setup{Config: Config{Limits: Limits{MaxRecipients: 1000}}}, limits{10000, 200, 1000, 5 * time.Minute, 50, 2, 0}},
		{"as configured", setup{
			Config: Config{
				Budget:   NewBudget(1000),
				Limits:   Limits{MaxConnections: 500, MaxConnectionsPerSource: 400, MaxRecipients: 7},
				Timeouts: Timeouts{Idle: time.Second},
			},
		}, limits{500, 400, 7, time.Second, 100, 2, 0}},
		{"more for a source than there are", setup{Config: Config{Limits: Limits{MaxConnections: 8, MaxConnectionsPerSource: 400}}},
			limits{8, 7, 0, 5 * time.Minute, 16, 2, 0}},
		{"reports", setup{Config: Config{Budget: NewBudget(1000), Limits: Limits{MaxRecipients: 7}}, Reports: &submitter{}},
			limits{10000, 200, 100, 5 * time.Minute, 50, 1, 250}},
		{"reports without a budget", setup{Reports: &submitter{}}, limits{10000, 200, 100, 5 * time.Minute, 50, 1, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.Log = quiet
			s := newTestServer(c.config)
			l := s.cfg.Limits
			got := limits{l.MaxConnections, l.MaxConnectionsPerSource, l.MaxRecipients, s.cfg.Timeouts.Idle,
				s.slots.most, s.traits.byteCost, s.sourceShare()}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestCommandLineLength: 12290 bytes with the line end, and not one more.
func TestCommandLineLength(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, send, want string
		ends             bool
	}{
		{"longest", "NOOP " + strings.Repeat("x", 12290-7) + "\r\n", "250 2.0.0 Ok", false},
		{"longer", "NOOP " + strings.Repeat("x", 12290-6) + "\r\n", "500 5.5.2 Line too long", true},
		{"without an end", strings.Repeat("x", 12290), "500 5.5.2 Line too long", true},
		{"without an end yet", strings.Repeat("x", 12289), "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, bySource, false, func(b *bubble) {
				client := b.greeted()
				client.send(c.send[:5])
				client.send(c.send[5:])
				if c.want == "" {
					client.expect()
				} else {
					client.expect(c.want)
				}
				if got := client.ended(); got != c.ends {
					t.Errorf("ended %v, want %v", got, c.ends)
				}
			})
		})
	}
}

// TestLineThatGrewIsReadOn: what follows a line that came in pieces, and
// was longer than a read, is the next command.
func TestLineThatGrewIsReadOn(t *testing.T) {
	t.Parallel()
	inBubble(t, bySource, false, func(b *bubble) {
		client := b.greeted()
		client.send(strings.Repeat("NOOP "+strings.Repeat("x", 9000)+"\r\n", 5))
		client.expect(slicesOf("250 2.0.0 Ok", 5)...)
		client.send("RSET\r\nNO")
		client.send("OP\r\n")
		client.expect("250 2.0.0 Session reset", "250 2.0.0 Ok")
	})
}

func slicesOf(s string, n int) (all []string) {
	for range n {
		all = append(all, s)
	}

	return all
}

const tooMany = "421 4.7.0 Too many errors, closing connection"

// TestErrorsEndTheConnection at the bound, and not before.
func TestErrorsEndTheConnection(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*setup)
		line   string
		reply  string
		before int // refusals that are answered, and no more
	}{
		{"unknown commands", bySource, "FOO", "500 5.5.1 Unknown command", 9},
		{"refusals", bySource, "EXPN x", "502 5.5.1 Command not implemented", 19},
		{"refusals of a stranger", reporting, "EXPN x", "502 5.5.1 Command not implemented", 19},
		{"recipients of a stranger", reporting, "RCPT TO:<x@example.net>", "550 5.7.1", 19},
		{"refusals of the library", reporting, "RCPT TO:<x@example.net", "501 5.5.2", 19},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, c.change, false, func(b *bubble) {
				client := b.greeted()
				client.say("MAIL FROM:<a@example.com>", "250")
				for range c.before {
					client.say(c.line, c.reply)
				}
				client.say("NOOP", "250")
				client.send(c.line + "\r\nRCPT TO:<b@bounces.example.com>\r\nBDAT 26 LAST\r\n" + shortMessage)
				client.expect(c.reply, tooMany)
				if !client.ended() || len(b.submit.submissions()) != 0 {
					t.Errorf("ended %v, %d messages; want the end, and nothing that follows",
						client.ended(), len(b.submit.submissions()))
				}
			})
		})
	}
}

// TestCommandsEndTheConnection of a client that nobody vouches for.
func TestCommandsEndTheConnection(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*setup)
		most   int
		before func(*caller) // of which no command counts
	}{
		{"submission", nil, 203, func(*caller) {}},
		{"port 25", reporting, 300, func(*caller) {}},
		{"port 25, after a message", reporting, 300, func(c *caller) {
			c.say("EHLO x", "250", "MAIL FROM:<>", "250", "RCPT TO:<b@bounces.example.com>", "250", "DATA", "354")
			c.say(shortMessage+".", "250 2.0.0 Ok")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, c.change, false, func(b *bubble) {
				client := b.dial()
				client.expect("220")
				c.before(client)
				for range c.most {
					client.say("NOOP", "250 2.0.0 Ok")
				}
				client.send("NOOP\r\nNOOP\r\n")
				client.expect("421 4.7.0 Too many commands without a message, closing connection")
				if !client.ended() {
					t.Error("the connection goes on")
				}
			})
		})
	}
}

// TestCommandsBetweenChunksCount, too.
func TestCommandsBetweenChunksCount(t *testing.T) {
	t.Parallel()
	inBubble(t, reporting, false, func(b *bubble) {
		client := b.inMail() // with EHLO three commands
		for range 297 {
			client.send("BDAT 0\r\n")
			client.expect("250 2.0.0 Continue")
		}
		client.send("BDAT 0\r\n")
		client.expect("421 4.7.0 Too many commands without a message, closing connection")
		if !client.ended() {
			t.Error("the connection goes on")
		}
	})
}

// TestReportsHaveAHundredRecipients as every server has to take, and not more.
func TestReportsHaveAHundredRecipients(t *testing.T) {
	t.Parallel()
	inBubble(t, reporting, false, func(b *bubble) {
		client := b.greeted()
		client.say("MAIL FROM:<>", "250")
		for i := range 100 {
			client.say(fmt.Sprintf("RCPT TO:<b%d@bounces.example.com>", i), "250")
		}
		client.say("RCPT TO:<b@bounces.example.com>", "452 4.5.3 Maximum limit of 100 recipients reached")
		client.say("DATA", "354", shortMessage+".", "250 2.0.0 Ok")
		if n := len(b.submit.submissions()[0].Envelope.Recipients); n != 100 {
			t.Errorf("%d recipients, want 100", n)
		}
	})
}

// TestConnectionsOfASource: as many as may be, and as many again once those
// have gone, however they went.
func TestConnectionsOfASource(t *testing.T) {
	t.Parallel()
	inBubble(t, func(c *setup) { c.Limits.MaxConnectionsPerSource = 2 }, false, func(b *bubble) {
		for _, leave := range []func(*caller){
			func(c *caller) { c.say("QUIT", "221 2.0.0 Bye") },
			func(c *caller) { c.c.Close() },
			func(c *caller) { time.Sleep(3 * time.Minute) },
			func(c *caller) { c.say("GET /", "500") },
		} {
			first, second := b.dial(), b.dial()
			first.expect("220")
			second.expect("220")
			refused := b.dial()
			refused.expect("421 4.7.0 Too many connections from your address, try again later")
			if !refused.ended() {
				t.Error("a refused connection is left open")
			}
			leave(first)
			leave(second)
			synctest.Wait()
			nothingHeld(t, b.s)
		}
		if got := b.counted("postern_smtpd_connections_total", "refused"); got != 4 {
			t.Errorf("%v refused connections counted, want 4", got)
		}
		if got := b.counted("postern_smtpd_connections_total", "accepted"); got != 8 {
			t.Errorf("%v accepted connections counted, want 8", got)
		}
		if lines := b.logged("connection refused"); len(lines) != 2 || lines[0]["reply"] == nil || lines[0]["remote"] != "127.0.0.1:1234" {
			t.Errorf("logged %v, want two lines: the third refusal was a minute after the first", lines)
		}
	})
}

// TestRefusalsOverTLSAreMute: a reply in plain text would only be taken for a
// broken handshake. Without TLS the refusal does not wait for its reader.
func TestRefusalsOverTLSAreMute(t *testing.T) {
	t.Parallel()
	few := func(c *setup) { c.Limits.MaxConnectionsPerSource = 1 }
	inBubble(t, few, true, func(b *bubble) {
		first := b.connect("127.0.0.1")
		first.secure()
		first.expect("220")
		refused := b.dial()
		refused.expect()
		if !refused.ended() {
			t.Error("a refused connection is left open")
		}
	})
	inBubble(t, few, false, func(b *bubble) {
		b.dial().expect("220")
		deaf := b.connect("127.0.0.1")
		time.Sleep(time.Second - 1)
		synctest.Wait()
		if deaf.sock.isClosed() {
			t.Error("closed within a second")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !deaf.sock.isClosed() {
			t.Error("a client that does not read its refusal is waited for")
		}
	})
}

func TestSourceAddr(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"192.0.2.1":               "192.0.2.1",
		"::ffff:192.0.2.1":        "192.0.2.1",
		"2001:db8:1:2:3:4:5:6":    "2001:db8:1:2::",
		"2001:db8:1:3::":          "2001:db8:1:3::",
		"fe80::1%eth0":            "fe80::",
		"2001:db8:1:2:8000::":     "2001:db8:1:2::",
		"2001:db8:1:8002:8000::1": "2001:db8:1:8002::",
	} {
		if got := sourceAddr(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
	if got := sourceOf(&unixAddr); got.IsValid() {
		t.Errorf("a client of no TCP counts as %s, want none", got)
	}
}

// TestPassingErrors names what accept(2) may say and be asked again.
func TestPassingErrors(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EINTR, syscall.EAGAIN,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPERM, syscall.EPROTO, syscall.ENOPROTOOPT,
		syscall.EOPNOTSUPP, syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH,
		syscall.ETIMEDOUT,
	} {
		if !passes(fmt.Errorf("accept: %w", err)) {
			t.Errorf("%v ends the listener", err)
		}
	}
	for _, err := range []error{
		syscall.EINVAL, syscall.EBADF, errors.New("other"), closedTemporarily{}, temporary(false),
	} {
		if passes(err) {
			t.Errorf("%v does not end the listener", err)
		}
	}
	if !passes(temporary(true)) {
		t.Error("a temporary error ends the listener")
	}
}

// TestSMTPErrorKeepsTheReply, with its enhanced code or without.
func TestSMTPErrorKeepsTheReply(t *testing.T) {
	t.Parallel()
	got := smtpError(reply.Reply{Code: 550, Enhanced: reply.EnhancedCode{5, 1, 2}, Text: "no"})
	if got.Code != 550 || got.EnhancedCode != (smtp.EnhancedCode{5, 1, 2}) || got.Message != "no" {
		t.Errorf("got %+v", got)
	}
	if got := smtpError(reply.Reply{Code: 550, Text: "no"}); got.EnhancedCode != smtp.NoEnhancedCode {
		t.Errorf("got %+v, want no enhanced code", got)
	}
}

// TestErrorsBetweenChunksEndTheConnection as they do elsewhere.
func TestErrorsBetweenChunksEndTheConnection(t *testing.T) {
	t.Parallel()
	inBubble(t, bySource, false, func(b *bubble) {
		client := b.inMail()
		client.send("BDAT 21\r\nFrom: a@example.com\r\n")
		client.expect("250 2.0.0 Continue")
		for range 19 {
			client.say("DATA", "503 5.5.1 Not allowed during a message transfer")
		}
		client.send("DATA\r\nBDAT 2 LAST\r\n\r\n")
		client.expect("503 5.5.1 Not allowed during a message transfer", tooMany)
		if !client.ended() || len(b.submit.submissions()) != 0 {
			t.Errorf("ended %v, %d messages", client.ended(), len(b.submit.submissions()))
		}
	})
}

// TestLinesOfEveryLength are one command each, however the library takes them:
// it has room for 4096 bytes at once.
func TestLinesOfEveryLength(t *testing.T) {
	t.Parallel()
	inBubble(t, bySource, false, func(b *bubble) {
		client := b.greeted()
		for _, around := range []int{4096, 8192, 12288} {
			for n := around - 3; n <= min(around+3, wire.MaxLine); n++ {
				client.send("NOOP " + strings.Repeat("x", n-7) + "\r\nRSET\r\n")
				client.expect("250 2.0.0 Ok", "250 2.0.0 Session reset")
			}
		}
	})
}

// TestBoundsAreToldOnce: a connection that ends for two reasons says the first.
func TestBoundsAreToldOnce(t *testing.T) {
	t.Parallel()
	t.Run("unknown commands and refusals", func(t *testing.T) {
		inBubble(t, bySource, false, func(b *bubble) {
			client := b.greeted()
			for range 10 {
				client.say("EXPN x", "502")
			}
			for range 9 {
				client.say("FOO", "500")
			}
			client.send("FOO\r\n")
			client.expect("500 5.5.1 Unknown command", tooMany)
		})
	})
	t.Run("a last refusal, the twentieth", func(t *testing.T) {
		inBubble(t, bySource, false, func(b *bubble) {
			client := b.inMail()
			for range 19 {
				client.say("EXPN x", "502")
			}
			client.say("DATA", "354")
			client.say("a\rb\r\n.", "550 5.6.0 Message contains a bare CR")
			client.expect()
			if !client.ended() {
				t.Error("the connection goes on")
			}
		})
	})
	t.Run("a library's refusal, the twentieth", func(t *testing.T) {
		inBubble(t, bySource, false, func(b *bubble) {
			client := b.greeted()
			for range 19 {
				client.say("EXPN x", "502")
			}
			client.send("MAIL\r\n")
			client.expect("501 5.5.2", tooMany)
		})
	})
}

// TestNullIsNoRecipient, whoever lets it through.
func TestNullIsNoRecipient(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		to   string
		utf8 bool
		want string // empty: taken
	}{
		{"", false, "553 Bad recipient address: <>"},
		{"b@c..example", false, "553 Bad recipient address: <b@c..example>"},
		{"\u00fc@example.com", false, "553 International recipient address without SMTPUTF8: <??@example.com>"},
		{"\u00fc@example.com", true, ""},
		{"b@example.com", false, ""},
	} {
		ss := &session{srv: newTestServer(setup{Config: Config{Log: quiet}})}
		ss.mail.envelope.Params.UTF8 = c.utf8
		err := ss.Rcpt(c.to, &smtp.RcptOptions{})
		got := ""
		var answer *smtp.SMTPError
		if errors.As(err, &answer) {
			got = fmt.Sprint(answer.Code, " ", answer.Message)
		}
		if got != c.want || len(ss.mail.envelope.Recipients) != map[bool]int{true: 1, false: 0}[c.want == ""] {
			t.Errorf("%q: %q, %d recipients; want %q", c.to, got, len(ss.mail.envelope.Recipients), c.want)
		}
	}
}
