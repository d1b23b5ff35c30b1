package smtpd

import (
	"strings"
	"testing"

	"postern/relay/envelope"
)

func TestCheckMessage(t *testing.T) {
	t.Parallel()
	const from = "From: a@example.com\r\n"
	hops := func(n int) string { return strings.Repeat("Received: from a by b\r\n", n) }
	for _, c := range []struct{ name, msg, want string }{
		{"plain", from + "\r\nx\r\n", ""},
		{"a hundred hops", hops(100) + from + "\r\nx\r\n", ""},
		{"a loop", hops(101) + from + "\r\nx\r\n", "554 5.4.6"},
		{"no From", "Subject: x\r\n\r\nx\r\n", "550 5.6.0"},
		{"long line", from + "X: " + strings.Repeat("x", 996) + "\r\n\r\n", "550 5.6.0"},
		{"longest line", from + "X: " + strings.Repeat("x", 995) + "\r\n\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := checkMessage([]byte(c.msg))
			got := ""
			if err != nil {
				got = envelope.ReplyFor(err).String()
			}
			if !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
