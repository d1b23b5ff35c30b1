package smtpd

import (
	"github.com/emersion/go-smtp"

	"postern/relay/reply"
)

// smtpError gives a reply to the library, which knows no other kind.
func smtpError(r reply.Reply) *smtp.SMTPError {
	e := &smtp.SMTPError{Code: r.Code, EnhancedCode: smtp.EnhancedCode(r.Enhanced), Message: r.Text}
	if r.Enhanced == (reply.EnhancedCode{}) {
		e.EnhancedCode = smtp.NoEnhancedCode
	}

	return e
}

func refuse(code int, a, b, c int, text string) error {
	return smtpError(reply.Reply{Code: code, Enhanced: reply.EnhancedCode{a, b, c}, Text: text})
}
