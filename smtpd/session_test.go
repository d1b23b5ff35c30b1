package smtpd

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern/relay"
	"postern/relay/envelope"
	"postern/relay/reply"
	"postern/smtpd/auth"
)

// TestSubmissionIsWhole checks every field that the relay gets.
func TestSubmissionIsWhole(t *testing.T) {
	t.Parallel()
	inBubble(t, func(c *setup) { bySource(c); c.RequireTLS = true }, false, func(b *bubble) {
		client := b.greeted()
		client.say(
			"MAIL FROM:<a@example.com> SIZE=100 RET=HDRS ENVID=id+2B1", "250",
			"RCPT TO:<b@example.net> NOTIFY=SUCCESS,DELAY ORCPT=RFC822;c@example.org", "250",
			"RCPT TO:<d@example.net>", "250",
			"DATA", "354", shortMessage+".", "250",
		)
		client.say("MAIL FROM:<\xc3\xbc@example.com> SMTPUTF8", "250", "RCPT TO:<\xc3\xbc@example.net>", "250")
		client.send("BDAT 26 LAST\r\n" + shortMessage)
		client.expect("250")

		subs := b.submit.submissions()
		if len(subs) != 2 {
			t.Fatalf("%d messages, want 2", len(subs))
		}
		first, second := subs[0], subs[1]
		id, n, _ := strings.Cut(first.Session, ".")
		if len(id) != 16 || n != "1" || second.Session != id+".2" {
			t.Errorf("sessions %q and %q, want one with a number", first.Session, second.Session)
		}
		if first.User.Name != "alice" || !first.User.Tracking || first.Via != nil {
			t.Errorf("user %+v by %v", first.User, first.Via)
		}
		if first.Remote != netip.MustParseAddrPort("127.0.0.1:1234") || first.Helo != "client.example" || first.TLS != "" {
			t.Errorf("from %s, %s, %q", first.Remote, first.Helo, first.TLS)
		}
		if string(first.Message) != shortMessage || string(second.Message) != shortMessage {
			t.Errorf("messages %q and %q", first.Message, second.Message)
		}
		params := envelope.MailParams{Size: 100, Return: "HDRS", EnvelopeID: "id+1"}
		if got := first.Envelope; got.From.String() != "a@example.com" || got.Params != params || len(got.Recipients) != 2 {
			t.Errorf("envelope %+v", got)
		}
		to := first.Envelope.Recipients[0]
		if to.Address.String() != "b@example.net" || to.Original != "c@example.org" || to.OriginalType != "rfc822" ||
			!slices.Equal(to.Notify, []string{"SUCCESS", "DELAY"}) {
			t.Errorf("first recipient %+v", to)
		}
		if to := first.Envelope.Recipients[1]; to.Original != "" || to.OriginalType != "" || to.Notify != nil {
			t.Errorf("second recipient %+v", to)
		}
		if got := second.Envelope; !got.Params.UTF8 || got.From.String() != "\u00fc@example.com" || len(got.Recipients) != 1 {
			t.Errorf("second envelope %+v", got)
		}
	})
}

// TestProtocols checks the "with" of Received (RFC 3848, RFC 6531).
func TestProtocols(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		bySource   bool
		secure     bool
		smtputf8   bool
		want, over string
	}{
		{"plain, by source", true, false, false, "ESMTP", ""},
		{"plain, by AUTH", false, false, false, "ESMTPA", ""},
		{"TLS, by source", true, true, false, "ESMTPS", "TLS 1.3 TLS_"},
		{"TLS, by AUTH", false, true, false, "ESMTPSA", "TLS 1.3 TLS_"},
		{"international, TLS, by AUTH", false, true, true, "UTF8SMTPSA", "TLS 1.3 TLS_"},
		{"international, by source", true, false, true, "UTF8SMTP", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			change := func(*setup) {}
			if c.bySource {
				change = bySource
			}
			inBubble(t, change, c.secure, func(b *bubble) {
				client := b.connect("127.0.0.1")
				if c.secure {
					client.secure()
				} else {
					client.listen()
				}
				client.expect("220")
				client.say("EHLO x", "250")
				if !c.bySource {
					client.login("235")
				}
				from := "MAIL FROM:<a@example.com>"
				if c.smtputf8 {
					from += " SMTPUTF8"
				}
				client.say(from, "250", "RCPT TO:<b@example.net>", "250", "DATA", "354", shortMessage+".", "250")
				got := b.submit.submissions()[0]
				if got.Protocol != c.want || !strings.HasPrefix(got.TLS, c.over) || (got.TLS == "") != (c.over == "") {
					t.Errorf("%q over %q, want %q over %q", got.Protocol, got.TLS, c.want, c.over)
				}
				client.c.Close()
			})
		})
	}
}

// TestMessagesAreCounted checks the counters of messages, logins and connections.
func TestMessagesAreCounted(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, false, func(b *bubble) {
		client := b.greeted()
		client.say("AUTH PLAIN AGFsaWNlAHdyb25n", "535")
		client.login("235")
		for _, answer := range []reply.Reply{{Code: 250}, {Code: 451}, {Code: 550}, {Code: 554}} {
			b.submit.reply = answer
			client.say("MAIL FROM:<a@example.com>", "250", "RCPT TO:<b@example.net>", "250", "DATA", "354")
			client.say(shortMessage+".", answer.String()[:3])
		}
		client.say("MAIL FROM:<a@example.com>", "250", "RCPT TO:<b@example.net>", "250", "DATA", "354")
		client.say("a\nb\r\n.", "550 5.6.0")
		for _, answer := range []string{"535", "535", "454"} {
			client := b.greeted()
			client.say("AUTH PLAIN AGJvYgB3cm9uZw==", answer)
		}

		for _, c := range []struct {
			name, label string
			want        float64
		}{
			{"postern_smtpd_messages_total", "2xx", 1},
			{"postern_smtpd_messages_total", "4xx", 1},
			{"postern_smtpd_messages_total", "5xx", 3},
			{"postern_smtpd_logins_total", "ok", 1},
			{"postern_smtpd_logins_total", "failed", 3},
			{"postern_smtpd_logins_total", "deferred", 1},
			{"postern_smtpd_connections_total", "accepted", 4},
			{"postern_smtpd_connections_total", "refused", 0},
		} {
			if got := b.counted(c.name, c.label); got != c.want {
				t.Errorf("%s of %s: %v, want %v", c.name, c.label, got, c.want)
			}
		}
		if n := len(b.logged("login refused")); n != 4 {
			t.Errorf("%d lines of refused logins, want 4", n)
		}
		if got := gaugeOf(t, b, "submission"); got != 4 {
			t.Errorf("%v open connections, want 4", got)
		}
	})
	inBubble(t, reporting, false, func(b *bubble) {
		b.dial()
		if got := gaugeOf(t, b, "reports"); got != 1 {
			t.Errorf("%v open connections for reports, want 1", got)
		}
	})
}

// gaugeOf returns how many connections a listener says are open.
func gaugeOf(t *testing.T, b *bubble, listener string) float64 {
	t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
		if f.GetName() != "postern_smtpd_open_connections" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetName() == "listener" && m.GetLabel()[0].GetValue() == listener {
				return m.GetGauge().GetValue()
			}
		}
	}

	return -1
}

// TestStopBetweenCommands: a session that the stop has found idle begins
// nothing more.
func TestStopBetweenCommands(t *testing.T) {
	t.Parallel()
	const goodbye = "421 4.3.2 Shutting down, try again later"
	endAll := func(b *bubble) (idle bool) {
		b.s.mu.Lock()
		defer b.s.mu.Unlock()
		for ss := range b.s.sessions {
			idle = ss.endWhenIdle()
		}
		return idle
	}

	t.Run("MAIL", func(t *testing.T) {
		inBubble(t, bySource, false, func(b *bubble) {
			client := b.greeted()
			if !endAll(b) {
				t.Error("a session without a transaction is busy")
			}
			client.say("MAIL FROM:<a@example.com>", goodbye)
			if !client.ended() {
				t.Error("the session goes on")
			}
		})
	})
	for _, end := range []struct{ name, say, reply string }{
		{"a message", "DATA", "354"},
		{"RSET", "RSET", "250 2.0.0 Session reset"},
	} {
		t.Run(end.name, func(t *testing.T) {
			inBubble(t, bySource, false, func(b *bubble) {
				client := b.inMail()
				if endAll(b) {
					t.Error("a session in a transaction is idle")
				}
				client.say(end.say, end.reply)
				if end.say == "DATA" {
					client.say(shortMessage+".", "250 2.0.0 taken by the test")
				}
				if !client.ended() {
					t.Error("the session goes on after its transaction")
				}
			})
		})
	}
	t.Run("EHLO", func(t *testing.T) {
		inBubble(t, bySource, false, func(b *bubble) {
			client := b.dial()
			client.expect("220")
			b.s.mu.Lock()
			b.s.draining = true
			b.s.mu.Unlock()
			client.say("EHLO x", goodbye)
			if !client.ended() {
				t.Error("a session begins in a server that ends")
			}
			late := b.dial()
			late.expect(goodbye)
			if !late.ended() {
				t.Error("a connection begins in a server that ends")
			}
			b.s.mu.Lock()
			b.s.draining = false
			b.s.mu.Unlock()
		})
	})
}

// TestStopCutsOffAfterGrace checks that sessions are cut off after the grace period.
func TestStopCutsOffAfterGrace(t *testing.T) {
	t.Parallel()
	inBubble(t, func(c *setup) { bySource(c); c.Timeouts.Grace = 20 * time.Second }, false, func(b *bubble) {
		client := b.inMail()
		idle := b.greeted()
		begun := time.Now()
		b.stop()
		if got := time.Since(begun); got != 20*time.Second {
			t.Errorf("stopped after %s, want 20s", got)
		}
		idle.expect("421 4.3.2 Shutting down, try again later")
		if got := idle.endedAt.Sub(begun); got != 0 {
			t.Errorf("the idle client was told after %s, want at once", got)
		}
		if !client.ended() {
			t.Error("the other is still connected")
		}
		lines := b.logged("sessions cut off at the end of shutdown_grace")
		if len(lines) != 1 || lines[0]["level"] != "WARN" || lines[0]["err"] == nil {
			t.Errorf("logged %v, want one warning", lines)
		}
	})
	inBubble(t, nil, false, func(b *bubble) {
		b.greeted()
		b.stop()
		if n := len(b.logged("sessions cut off at the end of shutdown_grace")); n != 0 {
			t.Errorf("%d lines without anybody cut off", n)
		}
	})
}

// TestSessionsEndTheirContext checks that the context ends with the connection.
func TestSessionsEndTheirContext(t *testing.T) {
	t.Parallel()
	asked := make(chan context.Context, 1)
	inBubble(t, func(c *setup) {
		c.Auth = authFunc(func(ctx context.Context, l auth.Credentials) (*auth.Identity, error) {
			asked <- ctx
			return &auth.Identity{User: relay.User{Name: l.Name + " " + l.Password + " " + l.Source.String()}}, nil
		})
	}, false, func(b *bubble) {
		client := b.greeted()
		client.login("235")
		ctx := <-asked
		if ctx.Err() != nil {
			t.Errorf("the context has ended: %v", ctx.Err())
		}
		client.say("QUIT", "221")
		if ctx.Err() == nil {
			t.Error("the context goes on after the session")
		}
		if got := b.logged("session")[0]["user"]; got != "alice secret 127.0.0.1" {
			t.Errorf("logged in as %v", got)
		}
	})
}

// authFunc is an Authenticator that offers PLAIN.
type authFunc func(context.Context, auth.Credentials) (*auth.Identity, error)

func (authFunc) Mechanisms() []string { return []string{"PLAIN", "CRAM-MD5"} }

func (f authFunc) Authenticate(ctx context.Context, l auth.Credentials) (*auth.Identity, error) {
	return f(ctx, l)
}

// TestMechanismsOnOffer checks that unknown mechanisms are not accepted.
func TestMechanismsOnOffer(t *testing.T) {
	t.Parallel()
	inBubble(t, func(c *setup) {
		c.Auth = authFunc(func(context.Context, auth.Credentials) (*auth.Identity, error) { return &auth.Identity{}, nil })
	}, false, func(b *bubble) {
		client := b.greeted()
		client.say("AUTH LOGIN", "504 5.5.4 Unsupported authentication mechanism")
		client.say("AUTH CRAM-MD5", "504 5.5.4 Unsupported authentication mechanism")
		client.login("235")
	})
}

// TestLoginTakesTheSourcesPlace: who logs in has the user's settings, not those
// of the address, and is named so in Received.
func TestLoginTakesTheSourcesPlace(t *testing.T) {
	t.Parallel()
	inBubble(t, func(c *setup) {
		c.Sources = []SourceRule{{Network: netip.MustParsePrefix("127.0.0.0/8"), User: "bob"}}
	}, false, func(b *bubble) {
		client := b.greeted()
		client.login("235 2.0.0 Authentication succeeded")
		client.say("MAIL FROM:<a@example.com>", "250", "RCPT TO:<b@example.net>", "250")
		client.say("DATA", "354", shortMessage+".", "250")
		if got := b.submit.submissions()[0]; got.User.Name != "alice" || got.Protocol != "ESMTPA" {
			t.Errorf("by %s with %s, want alice with ESMTPA", got.User.Name, got.Protocol)
		}
	})
}

func TestSourceRules(t *testing.T) {
	t.Parallel()
	network := netip.MustParsePrefix
	for _, c := range []struct {
		name  string
		rules []SourceRule
		want  string // the user; empty: AUTH is required
		lines int    // of the log
	}{
		{"none", nil, "", 0},
		{"another network", []SourceRule{{Network: network("10.0.0.0/8"), User: "alice"}}, "", 0},
		{"the first that matches", []SourceRule{
			{Network: network("10.0.0.0/8"), User: "nobody"},
			{Network: network("127.0.0.1/32"), User: "alice"},
			{Network: network("127.0.0.0/8"), User: "bob"},
		}, "alice", 0},
		{"AUTH required", []SourceRule{
			{Network: network("127.0.0.1/32"), RequireAuth: true, User: "alice"},
			{Network: network("127.0.0.0/8"), User: "bob"},
		}, "", 0},
		{"a user that is not there", []SourceRule{
			{Network: network("127.0.0.0/8"), User: "nobody"},
			{Network: network("127.0.0.0/8"), User: "bob"},
		}, "", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(conf *setup) { conf.Sources = c.rules }, false, func(b *bubble) {
				client := b.greeted()
				if c.want == "" {
					client.say("MAIL FROM:<a@example.com>", "530 5.7.0 Authentication required")
				} else {
					client.say("MAIL FROM:<a@example.com>", "250", "RCPT TO:<b@example.net>", "250")
					client.say("DATA", "354", shortMessage+".", "250")
					if got := b.submit.submissions()[0].User.Name; got != c.want {
						t.Errorf("submitted by %s, want %s", got, c.want)
					}
				}
				lines := b.logged("source rule names an unknown user")
				if len(lines) != c.lines || c.lines > 0 && (lines[0]["user"] != "nobody" || lines[0]["level"] != "ERROR") {
					t.Errorf("logged %v, want %d lines", lines, c.lines)
				}
			})
		})
	}
	none := &submission{Submission{Sources: []SourceRule{{Network: network("127.0.0.0/8"), User: "alice"}}}}
	if u := none.sourceUser(quiet, netip.MustParseAddr("127.0.0.1")); u != nil {
		t.Errorf("%+v without a directory", u)
	}
}

// TestFailedHandshakesAreCounted checks the counter, the log and the places of handshakes.
func TestFailedHandshakesAreCounted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		implicit bool
		do       func(*caller)
	}{
		{"no TLS at all, implicit", true, func(c *caller) { c.c.Write([]byte("EHLO x\r\n")) }},
		{"no TLS at all, after STARTTLS", false, func(c *caller) {
			c.say("EHLO x", "250", "STARTTLS", "220")
			c.c.Write([]byte("EHLO x\r\n"))
		}},
		{"gone", true, func(c *caller) { c.c.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, nil, c.implicit, func(b *bubble) {
				client := b.dial()
				client.heard()
				c.do(client)
				synctest.Wait()
				if !client.sock.isClosed() {
					t.Error("the connection was left open")
				}
				nothingHeld(t, b.s)
				if got := b.counted("postern_smtpd_connections_total", "tls_failed"); got != 1 {
					t.Errorf("%v failed handshakes counted, want 1", got)
				}
				if n := len(b.logged("TLS handshake failed")); n != 1 {
					t.Errorf("%d lines, want 1", n)
				}
			})
		})
	}
}

// TestProxyHeaders: a proxy that says nothing is gone when its time is over,
// and its place is free again.
func TestProxyHeaders(t *testing.T) {
	t.Parallel()
	behind := func(c *setup) { options["proxy"](c); c.Limits.MaxConnections = 1 }
	inBubble(t, behind, false, func(b *bubble) {
		client := b.dial()
		client.endsAfter(10 * time.Second)
		client.expect()
		lines := b.logged("connection refused")
		if len(lines) != 1 || lines[0]["reason"] != "no PROXY header from a trusted proxy" || lines[0]["remote"] != "127.0.0.1:1234" {
			t.Errorf("logged %v", lines)
		}
		next := b.dial()
		next.send("PROXY TCP4 192.0.2.7 192.0.2.1 4321 587\r\n")
		next.expect("220")
		next.say("EHLO x", "250", "MAIL FROM:<a@example.com>", "250", "QUIT", "221")
		if got := b.logged("session")[0]["remote"]; got != "192.0.2.7:4321" {
			t.Errorf("remote is %v, want 192.0.2.7:4321", got)
		}
	})
	l := &proxied{}
	if l.trusted(&unixAddr) {
		t.Error("an address of no TCP is trusted")
	}
}

// TestTextBehindStartTLSIsNeverRead checks that it ends the connection.
func TestTextBehindStartTLSIsNeverRead(t *testing.T) {
	t.Parallel()
	inBubble(t, bySource, false, func(b *bubble) {
		client := b.greeted()
		client.send("STARTTLS\r\nMAIL FROM:<a@example.com>\r\n")
		client.expect()
		if !client.ended() {
			t.Error("the connection goes on")
		}
	})
}
