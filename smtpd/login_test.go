package smtpd

import (
	"strings"
	"testing"

	"postern/relay"
	"postern/relay/reply"
)

// TestPassthroughSession: the session's mail goes its own way, which ends with
// the session.
func TestPassthroughSession(t *testing.T) {
	t.Parallel()
	f := &fakeUpstream{reply: reply.Reply{Code: 235, Text: "welcome"}}
	r := startServer(t, func(c *Config) { c.Auth = NewPassthrough(f.config()) }, false)
	p := &player{t: t, at: "session", serv: r}
	p.dial()
	p.check("login")
	for _, step := range []struct{ say, want string }{{"MAIL FROM:<a@example.com>", "250"}, {"RCPT TO:<b@example.net>", "250"}, {"DATA", "354"}, {"From: a@example.com\r\n\r\nx\r\n.", "250"}, {"QUIT", "221"}} {
		p.send(step.say + "\r\n")
		if got := p.reply(); !strings.HasPrefix(got, step.want) {
			t.Fatalf("%s: %s", step.say, got)
		}
	}
	p.raw.Close()
	r.stop()
	if subs := r.submit.submissions(); len(subs) != 1 || subs[0].Via != relay.Sender(f.way) {
		t.Errorf("%+v", subs)
	}
	if !f.way.closed {
		t.Error("the connection was not closed")
	}
}
