package smtpd

import (
	"errors"
	"fmt"
	"testing"

	"github.com/emersion/go-smtp"
)

// TestNullIsNoRecipient checks that Rcpt refuses the null address, and others.
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
		ss := newTestSession(setup{Config: Config{Log: quiet}})
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
