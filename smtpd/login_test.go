package smtpd

import (
	"context"
	"strings"
	"testing"
	"time"

	"postern/relay"
	"postern/relay/reply"
	"postern/relay/upstream"
	"postern/smtpd/auth"
)

// TestPassthroughSession: the session's mail goes its own way, which ends with
// the session.
func TestPassthroughSession(t *testing.T) {
	t.Parallel()
	var via relay.Sender = &upstreamLogin{}
	ended := false
	r := startServer(t, func(c *setup) {
		c.Auth = auth.NewPassthrough(auth.PassthroughConfig{
			Login: func(context.Context, string, string) (relay.Sender, func(), reply.Reply, error) {
				return via, func() { ended = true }, reply.Reply{Code: 235, Text: "welcome"}, nil
			},
			Offered: func() ([]string, bool) { return []string{"PLAIN"}, true },
			Rate:    auth.Rate{N: 3, Per: time.Minute},
		})
	}, false)
	p := &player{t: t, at: "session", serv: r}
	p.dial()
	p.check("login")
	for _, step := range []struct{ say, want string }{
		{"MAIL FROM:<a@example.com>", "250"},
		{"RCPT TO:<b@example.net>", "250"},
		{"DATA", "354"},
		{"From: a@example.com\r\n\r\nx\r\n.", "250"},
		{"QUIT", "221"},
	} {
		p.send(step.say + "\r\n")
		if got := p.reply(); !strings.HasPrefix(got, step.want) {
			t.Fatalf("%s: %s", step.say, got)
		}
	}
	p.raw.Close()
	r.stop()
	if subs := r.submit.submissions(); len(subs) != 1 || subs[0].Via != via {
		t.Errorf("%+v", subs)
	}
	if !ended {
		t.Error("the connection was not closed")
	}
}

// upstreamLogin is a session's own way upstream.
type upstreamLogin struct{}

func (*upstreamLogin) Send(context.Context, *upstream.Transaction) upstream.Outcome {
	return upstream.Outcome{}
}
