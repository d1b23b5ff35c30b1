package smtpd

import (
	"fmt"
	"strings"
	"testing"

	"postern/smtpd/wire"
)

// TestCommandLineLength checks that a line has 12290 bytes at most, CRLF included.
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

// TestErrorsEndTheConnection checks the limit of errors.
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

// TestCommandsEndTheConnection checks the limit of commands without a message.
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

// TestCommandsBetweenChunksCount checks that commands between chunks count as well.
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

// TestReportsHaveAHundredRecipients checks the minimum of RFC 5321 section 4.5.3.1.8.
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

// TestErrorsBetweenChunksEndTheConnection checks that refusals between chunks count.
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

// TestBoundsAreToldOnce checks that a connection that ends for two reasons gives the first.
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
