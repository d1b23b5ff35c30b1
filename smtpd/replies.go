package smtpd

import (
	"github.com/emersion/go-smtp"

	"postern/relay/reply"
)

// Replies to connections.
var (
	tooManyConnections = reply.Reply{
		Code:     421,
		Enhanced: reply.EnhancedCode{4, 3, 2},
		Text:     "Too many connections, try again later",
	}
	tooManyOfSource = reply.Reply{
		Code:     421,
		Enhanced: reply.EnhancedCode{4, 7, 0},
		Text:     "Too many connections from your address, try again later",
	}
	shuttingDown = reply.Reply{
		Code:     421,
		Enhanced: reply.EnhancedCode{4, 3, 2},
		Text:     "Shutting down, try again later",
	}
)

// Replies to AUTH.
var (
	errNoAuth = smtpError(reply.Reply{
		Code:     502,
		Enhanced: reply.EnhancedCode{5, 5, 1},
		Text:     "Authentication not supported here",
	})
	errAuthInMail = smtpError(reply.Reply{
		Code:     503,
		Enhanced: reply.EnhancedCode{5, 5, 1},
		Text:     "AUTH not allowed during a mail transaction",
	})
	errMechanism = smtpError(reply.Reply{
		Code:     504,
		Enhanced: reply.EnhancedCode{5, 5, 4},
		Text:     "Unsupported authentication mechanism",
	})
)

// Replies to MAIL.
var (
	errTLSRequired = smtpError(reply.Reply{
		Code:     530,
		Enhanced: reply.EnhancedCode{5, 7, 0},
		Text:     "Must issue a STARTTLS command first",
	})
	errAuthRequired = smtpError(reply.Reply{
		Code:     530,
		Enhanced: reply.EnhancedCode{5, 7, 0},
		Text:     "Authentication required",
	})
	errSenderGiven = smtpError(reply.Reply{
		Code:     503,
		Enhanced: reply.EnhancedCode{5, 5, 1},
		Text:     "Sender already given",
	})
	badSender = reply.Reply{
		Code:     553,
		Enhanced: reply.EnhancedCode{5, 1, 7},
		Text:     "Bad sender address",
	}
	badSenderUTF8 = reply.Reply{
		Code:     553,
		Enhanced: reply.EnhancedCode{5, 6, 7},
		Text:     "International sender address without SMTPUTF8",
	}
)

// Replies to RCPT.
var (
	badRecipient = reply.Reply{
		Code:     553,
		Enhanced: reply.EnhancedCode{5, 1, 3},
		Text:     "Bad recipient address",
	}
	badRecipientUTF8 = reply.Reply{
		Code:     553,
		Enhanced: reply.EnhancedCode{5, 6, 7},
		Text:     "International recipient address without SMTPUTF8",
	}
)

// Replies to messages.
var (
	dataTimeout = reply.Reply{
		Code:     421,
		Enhanced: reply.EnhancedCode{4, 4, 2},
		Text:     "Timeout, closing connection",
	}
	reportAccepted = reply.Reply{
		Code:     250,
		Enhanced: reply.EnhancedCode{2, 0, 0},
		Text:     "Ok",
	}
	reportDeferred = reply.Reply{
		Code:     452,
		Enhanced: reply.EnhancedCode{4, 3, 1},
		Text:     "Cannot take mail now, try again later",
	}
)

// smtpError returns a reply as the error that go-smtp answers with.
func smtpError(r reply.Reply) *smtp.SMTPError {
	e := &smtp.SMTPError{
		Code:         r.Code,
		EnhancedCode: smtp.EnhancedCode(r.Enhanced),
		Message:      r.Text,
	}
	if r.Enhanced == (reply.EnhancedCode{}) {
		e.EnhancedCode = smtp.NoEnhancedCode
	}

	return e
}
