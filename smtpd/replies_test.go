package smtpd

import (
	"testing"

	"github.com/emersion/go-smtp"

	"postern/relay/reply"
)

// TestSMTPErrorKeepsTheReply checks replies with and without an enhanced code.
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
