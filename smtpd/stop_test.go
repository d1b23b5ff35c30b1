package smtpd

import (
	"context"
	"strings"
	"testing"

	"postern/relay"
	"postern/relay/reply"
)

// panicking is a Submitter with a bug.
type panicking struct{ *submitter }

func (panicking) Submit(context.Context, *relay.Submission) reply.Reply { panic("oh no") }

// TestPanicsEndOneConnection checks that the server survives, and logs an error.
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
