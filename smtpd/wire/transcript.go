package wire

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"

	"postern/relay/reply"
)

// maxTranscript bounds a line of a transcript, in bytes.
const maxTranscript = 500

// transcript writes a session's dialogue to the log at level debug: C: what the
// client sends, S: the replies. Messages, passwords and what might be a password
// are left out. It is safe for concurrent use.
type transcript struct {
	log     *slog.Logger // nil: none
	session string
}

func (t transcript) on() bool {
	return t.log != nil && t.log.Enabled(context.Background(), slog.LevelDebug)
}

func (t transcript) write(line string) {
	t.log.Debug("dialogue", "session", t.session, "line", reply.CleanLine(line, maxTranscript))
}

// command writes a client's command line.
func (t transcript) command(line []byte) {
	if t.on() {
		t.write("C: " + shownCommand(line))
	}
}

// response writes that the client answered a challenge of AUTH.
func (t transcript) response() {
	if t.on() {
		t.write("C: ***")
	}
}

// message writes that a message of so many bytes has arrived.
func (t transcript) message(size int) {
	if t.on() {
		t.write(fmt.Sprintf("C: (message of %d bytes)", size))
	}
}

// LogMessage notes in the transcript that a message of so many bytes has arrived.
func (c *Conn) LogMessage(size int) { c.said.message(size) }

// replies writes the replies that are sent to the client.
func (t transcript) replies(out []byte) {
	if !t.on() {
		return
	}

	for line := range bytes.Lines(out) {
		t.write("S: " + string(bytes.TrimRight(line, "\r\n")))
	}
}

// shownMechanisms are arguments of AUTH that are certainly not passwords.
var shownMechanisms = map[string]bool{
	"PLAIN":         true,
	"LOGIN":         true,
	"CRAM-MD5":      true,
	"DIGEST-MD5":    true,
	"NTLM":          true,
	"OAUTHBEARER":   true,
	"SCRAM-SHA-1":   true,
	"SCRAM-SHA-256": true,
	"XOAUTH2":       true,
}

// shownCommand returns what a transcript shows of a command line. Unknown
// commands are left out: a client whose AUTH was refused may go on with its
// password, which is then a command.
func shownCommand(line []byte) string {
	cmd := parseCommand(line)
	switch cmd.verb {
	case "EHLO", "HELO", "MAIL", "RCPT", "BDAT":
		return cmd.verb + " " + cmd.arg
	case "AUTH":
		return shownAuth(cmd.arg)
	case "DATA", "EXPN", "HELP", "NOOP", "QUIT", "RSET", "STARTTLS", "VRFY":
		if cmd.arg != "" {
			return cmd.verb + " ***"
		}
		return cmd.verb
	}

	return fmt.Sprintf("(unknown command of %d bytes)", len(line))
}

// shownAuth returns what a transcript shows of an AUTH command.
func shownAuth(arg string) string {
	mechanism, secret, _ := strings.Cut(arg, " ")
	if !shownMechanisms[upper(mechanism)] {
		return "AUTH ***"
	}
	if secret != "" {
		return "AUTH " + mechanism + " ***"
	}

	return "AUTH " + mechanism
}
