package smtpd

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/relay/reply"
)

// TestSessionsAreLoggedOnce checks for one line of log, however a session ends.
func TestSessionsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(*bubble, *caller)
	}{
		{"QUIT", func(_ *bubble, c *caller) { c.say("QUIT", "221 2.0.0 Bye") }},
		{"a closed connection", func(_ *bubble, c *caller) { c.c.Close() }},
		{"being idle", func(_ *bubble, c *caller) { c.endsAfter(5*time.Minute - 1500*time.Millisecond) }},
		{"a request of HTTP", func(_ *bubble, c *caller) { c.say("GET /", "500") }},
		{"a stop", func(b *bubble, c *caller) {
			b.stop()
			c.expect("421 4.3.2 Shutting down, try again later")
		}},
		{"a reply that could not be written", func(_ *bubble, c *caller) {
			c.sock.breakWrites(errors.New("broken"))
			c.send("NOOP\r\n")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, bySource, false, func(b *bubble) {
				client := b.greeted()
				client.say("MAIL FROM:<a@example.com>", "250", "RCPT TO:<b@example.net>", "250")
				client.say("DATA", "354", shortMessage+".", "250")
				time.Sleep(1500 * time.Millisecond)
				c.end(b, client)
				synctest.Wait()
				if !client.sock.isClosed() {
					t.Error("the connection was left open")
				}
				lines := b.logged("session")
				if len(lines) != 1 {
					t.Fatalf("%d lines, want 1", len(lines))
				}
				line := lines[0]
				took := 1.5
				if c.name == "being idle" {
					took = 300
				}
				for key, want := range map[string]any{
					"user":         "alice",
					"remote":       "127.0.0.1:1234",
					"helo":         "client.example",
					"tls":          "",
					"messages":     1.0,
					"took_seconds": took,
				} {
					if line[key] != want {
						t.Errorf("%s is %v, want %v", key, line[key], want)
					}
				}
				if id, _ := line["session"].(string); len(id) != 16 {
					t.Errorf("session is %q, want 16 letters", id)
				}
			})
		})
	}
}

// TestLoginLine: what a client sends as its name does not fill the
// log.
func TestLoginLine(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, false, func(b *bubble) {
		b.greeted().say("AUTH LOGIN", "334", strings.Repeat("YWFh", 200), "334", "eA==", "535")
		lines := b.logged("login refused")
		if len(lines) != 1 {
			t.Fatalf("%d lines, want 1", len(lines))
		}
		line := lines[0]
		if line["user"] != strings.Repeat("a", 320) || line["remote"] != "127.0.0.1:1234" || line["session"] == "" ||
			line["err"] == nil || line["level"] != "WARN" {
			t.Errorf("got %v", line)
		}
	})
}

// TestStrangersAddressesAreLoggedRarely checks that port 25 cannot fill the log.
func TestStrangersAddressesAreLoggedRarely(t *testing.T) {
	t.Parallel()
	inBubble(t, reporting, false, func(b *bubble) {
		client := b.greeted()
		client.say("MAIL FROM:<a@example.com>", "250")
		for range 3 {
			client.say("RCPT TO:<x@example.net>", "550 5.7.1 relaying denied")
		}
		client.say("RCPT TO:<a@b@c.example>", "553 5.1.3 Bad recipient address: <a@b@c.example>")
		time.Sleep(time.Minute)
		client.say("RCPT TO:<y@example.net>", "550 5.7.1 relaying denied")

		lines := b.logged("address refused")
		if len(lines) != 2 {
			t.Fatalf("%d lines, want 2", len(lines))
		}
		first := lines[0]
		if first["level"] != "INFO" || first["recipient"] != "x@example.net" || first["user"] != "" || first["remote"] != "127.0.0.1:1234" ||
			first["reply"] != `550 5.7.1 relaying denied for recipient in "RCPT TO:<x@example.net>"` || len(first["session"].(string)) != 16 {
			t.Errorf("first line %v", first)
		}
		if lines[1]["more_since_last_line"] != 3.0 {
			t.Errorf("second line %v, want 3 more", lines[1])
		}
	})
}

// TestReportLine checks what is logged of a report.
func TestReportLine(t *testing.T) {
	t.Parallel()
	inBubble(t, reporting, false, func(b *bubble) {
		client := b.greeted()
		client.say("MAIL FROM:<a@example.com>", "250",
			"RCPT TO:<x@bounces.example.com>", "250", "RCPT TO:<y@a.fbl.example.com>", "250",
			"DATA", "354", shortMessage+".", "250 2.0.0 Ok")
		lines := b.logged("mail for reports")
		if len(lines) != 1 {
			t.Fatalf("%d lines, want 1", len(lines))
		}
		for key, want := range map[string]any{
			"remote": "127.0.0.1:1234", "helo": "client.example", "tls": "", "from": "a@example.com", "recipients": 2.0,
			"recipient": "x@bounces.example.com", "size": 26.0, "reply": "250 2.0.0 Ok", "took_seconds": 0.0,
		} {
			if got := lines[0][key]; got != want {
				t.Errorf("%s is %v, want %v", key, got, want)
			}
		}
	})
}

// TestLongAddressesAreCut checks that refusals repeat a part of long addresses.
func TestLongAddressesAreCut(t *testing.T) {
	t.Parallel()
	inBubble(t, bySource, false, func(b *bubble) {
		client := b.greeted()
		long := strings.Repeat("a", 400) + "@b@c.example"
		client.send("MAIL FROM:<" + long + ">\r\n")
		got := client.heard()
		want := "553 5.1.7 Bad sender address: <" + long[:maxRefusedAddress] + ">"
		cut := "553 5.1.7 Bad sender address: <" + reply.CleanLine(long, 318) + ">"
		if len(got) != 1 || got[0] != cut || len(cut) > len(want)+3 {
			t.Errorf("heard %q, want %q", got, cut)
		}
	})
}

// TestUnreadMessagesAreLogged checks the log of messages that were cut or refused.
func TestUnreadMessagesAreLogged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(*caller)
		cut  bool
		ends bool
	}{
		{"cut off", func(c *caller) { c.send("From: a@exam"); c.c.Close() }, true, true},
		{"timed out", func(c *caller) { c.endsAfter(5 * time.Minute); c.expect(timedOut) }, true, true},
		{"bare LF", func(c *caller) { c.say("a\nb\r\n.", "550 5.6.0 Message contains a bare LF") }, false, false},
		{"bare CR", func(c *caller) { c.say("a\rb\r\n.", "550 5.6.0 Message contains a bare CR") }, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, bySource, false, func(b *bubble) {
				client := b.inMail()
				client.say("DATA", "354")
				c.do(client)
				synctest.Wait()
				lines := b.logged("message not read")
				if len(lines) != 1 || lines[0]["cut"] != c.cut || lines[0]["user"] != "alice" || lines[0]["remote"] != "127.0.0.1:1234" ||
					lines[0]["err"] == nil || lines[0]["level"] != "WARN" {
					t.Errorf("logged %v, want one line, cut %v", lines, c.cut)
				}
				if got := client.sock.isClosed(); got != c.ends {
					t.Errorf("closed %v, want %v", got, c.ends)
				}
				if n := len(b.submit.submissions()); n != 0 {
					t.Errorf("%d messages were submitted", n)
				}
			})
		})
	}
}

// TestSessionLine: what a postmaster asks for of a session, and no secret; what
// the client sends cannot make a line of its own.
func TestSessionLine(t *testing.T) {
	t.Parallel()
	out := &lockedBuffer{}
	r := startServer(t, func(c *setup) { c.Log = slog.New(slog.NewTextHandler(out, nil)) }, false)
	p := &player{t: t, at: "session", serv: r}
	p.dial()
	p.check("login")
	p.send("MAIL FROM:<a@example.com>\r\n")
	p.reply()
	p.send("RCPT TO:<b@example.net>\r\n")
	p.reply()
	p.send("DATA\r\n")
	p.reply()
	p.send("From: a@example.com\r\n\r\nx\r\n.\r\n")
	p.reply()
	p.send("EHLO evil\" level=ERROR msg=forged\r\n")
	p.reply()
	p.send("QUIT\r\n")
	p.reply()
	p.raw.Close()
	r.stop()
	line := regexp.MustCompile(`(?m)^.*msg=session .*$`).FindString(out.String())
	for _, want := range []string{
		"time=", "session=", "user=alice", "remote=127.0.0.1:", `tls="TLS 1.3`, "messages=1", "took_seconds=0.",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %q", want, line)
		}
	}
	for _, secret := range []string{"secret", "AGFsaWNlAHNlY3JldA"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
	log := out.String()
	quoted := strings.Contains(log, `level=ERROR msg=forged\"`) || strings.Contains(log, `\" level=ERROR msg=forged`)
	if strings.Contains(log, "level=ERROR msg=forged") && !quoted {
		t.Errorf("a client wrote into the log: %s", out.String())
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
