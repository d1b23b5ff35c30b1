package smtpd

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"postern/relay"
	"postern/relay/reply"
)

// TestStopLetsTransactionsEnd, whatever listeners a server has.
func TestStopLetsTransactionsEnd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*setup)
		header string
	}{
		{"plain", bySource, ""},
		{"behind a proxy", options["proxy"], "PROXY TCP4 192.0.2.7 192.0.2.1 4321 587\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(conf *setup) { c.change(conf); conf.Timeouts.Grace = time.Minute }, false, func(b *bubble) {
				client := b.dial()
				if c.header != "" {
					client.send(c.header)
				}
				client.expect("220")
				client.say("EHLO x", "250", "MAIL FROM:<a@example.com>", "250", "RCPT TO:<b@example.net>", "250", "DATA", "354")

				// a second listener of the same server, which is drained but once
				ctx, cancel := context.WithCancel(context.Background())
				second := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
				ended := make(chan error, 1)
				go func() { ended <- b.s.Serve(ctx, second) }()
				synctest.Wait()

				begun := time.Now()
				stopped := make(chan struct{})
				go func() { b.stop(); close(stopped) }()
				synctest.Wait()
				cancel()
				time.Sleep(59 * time.Second)
				client.say(shortMessage+".", "250 2.0.0 taken by the test")
				if !client.ended() {
					t.Error("the session goes on after its transaction")
				}
				<-stopped
				if err := <-ended; err != nil {
					t.Errorf("the second listener: %v", err)
				}
				if got := time.Since(begun); got != 59*time.Second {
					t.Errorf("stopped after %s, want 59s: nobody is left", got)
				}
				if n := len(b.logged("sessions cut off at the end of shutdown_grace")); n != 0 {
					t.Errorf("%d lines of sessions cut off", n)
				}
			})
		})
	}
}

// TestBrokenListenersDrain the server, as a stop does.
func TestBrokenListenersDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		raw := &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
		broken := make(chan struct{})
		s := NewSubmission(Config{
			Hostname: "x",
			Timeouts: Timeouts{Grace: time.Second},
			Log:      quiet,
		}, Submission{Submit: &submitter{}})
		served := make(chan error, 1)
		go func() { served <- s.Serve(t.Context(), &breakingListener{raw, broken}) }()
		client, sock := net.Pipe()
		raw.conns <- &pipeConn{Conn: sock, from: net.IPv4(127, 0, 0, 1)}
		c := &caller{b: &bubble{t: t}, c: client}
		c.listen()
		c.expect("220")

		close(broken)
		if err := <-served; !errors.Is(err, syscall.EINVAL) {
			t.Errorf("got %v, want %v", err, syscall.EINVAL)
		}
		c.expect("421 4.3.2 Shutting down, try again later")
		if !c.ended() {
			t.Error("the connection goes on")
		}
		synctest.Wait()
		nothingHeld(t, s)
		client.Close()
	})
}

// breakingListener fails for good once it is broken.
type breakingListener struct {
	*pipeListener
	broken chan struct{}
}

func (l *breakingListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.broken:
		return nil, syscall.EINVAL
	}
}

// panicking is a Submitter with a bug.
type panicking struct{ *submitter }

func (panicking) Submit(context.Context, *relay.Submission) reply.Reply { panic("oh no") }

// TestPanicsEndOneConnection, which hears so, and are logged as errors.
func TestPanicsEndOneConnection(t *testing.T) {
	t.Parallel()
	inBubble(t, func(c *setup) {
		bySource(c)
		c.Submit = panicking{c.Submit.(*submitter)}
	}, false, func(b *bubble) {
		other := b.greeted()
		client := b.inMail()
		client.say("DATA", "354", shortMessage+".", "421 4.0.0 Internal server error")
		if !client.ended() {
			t.Error("the connection goes on")
		}
		lines := b.logged("go-smtp")
		if len(lines) != 1 || lines[0]["level"] != "ERROR" || !strings.Contains(lines[0]["text"].(string), "oh no") {
			t.Errorf("logged %v, want one error", lines)
		}
		other.say("NOOP", "250")
		if got := b.s.cfg.Budget.Used(); got != 0 {
			t.Errorf("%d bytes are reserved", got)
		}
	})
}

// TestInjectedTransactionsAreNotRun: what is sent in plain text behind STARTTLS
// is nobody's, though a client of this address may submit.
func TestInjectedTransactionsAreNotRun(t *testing.T) {
	t.Parallel()
	inBubble(t, bySource, false, func(b *bubble) {
		client := b.greeted()
		client.send("STARTTLS\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n" +
			"BDAT 26 LAST\r\n" + shortMessage)
		client.expect()
		if !client.ended() || len(b.submit.submissions()) != 0 {
			t.Errorf("ended %v, %d messages", client.ended(), len(b.submit.submissions()))
		}
	})
}
