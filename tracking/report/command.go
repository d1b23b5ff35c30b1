package report

import "regexp"

// command is the SMTP command that a refusal answered, as far as a notice says.
type command int

const (
	commandUnknown command = iota
	commandMail            // MAIL, or anything before it
	commandRcpt
	commandData
)

var (
	// atRcpt is how notices say that the recipient was refused.
	atRcpt = regexp.MustCompile(`(?i)in reply to RCPT|after RCPT TO|>>> RCPT To:\S+\s+<<< [45]`)

	// afterData is how notices say that a message was refused after it was sent.
	afterData = regexp.MustCompile(`(?i)` + anyOf(
		"in reply to end of DATA",
		`>>> DATA\s+<<< 5`,
		"after I sent the message",
		"after end of data",
		"TEXT command",
	))

	// beforeRcpt is how notices say that the server refused before a recipient was
	// named, so that its reply is about the sender or its host.
	beforeRcpt = regexp.MustCompile(`(?i)` + anyOf(
		"in reply to (?:MAIL FROM|EHLO|HELO)",
		"after (?:MAIL FROM|EHLO|HELO|initial connection)",
		`\[MAIL_FROM\]`,
		`did not like our (?:MAIL|EHLO|HELO)`,
		`>>> (?:MAIL From|EHLO|HELO)[^\n]*\s+<<< [45]`,
		"while sending (?:MAIL FROM|EHLO|HELO)",
		"but (?:my name|sender) was rejected",
	))

	// rcptNamed is how notices mention RCPT beside a refusal.
	rcptNamed = regexp.MustCompile(`(?i)\bRCPT[ _](?:TO\b|command)|\bSMTP:RCPT\b`)
)

// refusedAt returns the command that was refused, as far as a text says.
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
