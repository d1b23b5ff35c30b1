package report

import (
	"regexp"
)

// afterData is how notices say that a message was refused once it had been
// sent, and atRcpt that the recipient was.
var (
	afterData = regexp.MustCompile(`(?i)` + anyOf(
		"in reply to end of DATA", `>>> DATA\s+<<< 5`, "after I sent the message", "after end of data", "TEXT command",
	))
	atRcpt = regexp.MustCompile(`(?i)in reply to RCPT|after RCPT TO|>>> RCPT To:\S+\s+<<< [45]`)
)

// beforeRcpt is how notices say that no recipient was named yet when the server
// refused: whatever it says is about the sender or its host.
var beforeRcpt = regexp.MustCompile(`(?i)` + anyOf(
	"in reply to (?:MAIL FROM|EHLO|HELO)", "after (?:MAIL FROM|EHLO|HELO|initial connection)", `\[MAIL_FROM\]`,
	`did not like our (?:MAIL|EHLO|HELO)`, `>>> (?:MAIL From|EHLO|HELO)[^\n]*\s+<<< [45]`,
	"while sending (?:MAIL FROM|EHLO|HELO)", "but (?:my name|sender) was rejected",
))

// command is the SMTP command that a refusal answered, as far as a notice tells.
type command int

const (
	commandUnknown command = iota
	commandMail            // or what comes before it
	commandRcpt
	commandData
)

// rcptNamed is how notices mention RCPT beside a refusal.
var rcptNamed = regexp.MustCompile(`(?i)\bRCPT[ _](?:TO\b|command)|\bSMTP:RCPT\b`)

// refusedAt returns the command that was refused, as far as a text tells.
func refusedAt(text string) command {
	switch {
	case atRcpt.MatchString(text):
		return commandRcpt
	case afterData.MatchString(text):
		return commandData
	case beforeRcpt.MatchString(text):
		return commandMail
	case rcptNamed.MatchString(text):
		return commandRcpt
	}

	return commandUnknown
}
