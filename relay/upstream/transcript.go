package upstream

import (
	"context"
	"fmt"
	"log/slog"

	"postern/relay/reply"
)

// maxTranscript bounds a line of a transcript, in bytes.
const maxTranscript = 500

// transcript writes a connection's dialogue to the log, at level debug: what we
// send as C:, what the upstream answers as S:, without messages and passwords.
type transcript struct {
	log        *slog.Logger // nil: none
	upstream   string
	connection string // our end of it, which tells connections apart

	session   string // of the client whose copy is being sent
	messageID string
}

func (t *transcript) on() bool {
	return t.log != nil && t.log.Enabled(context.Background(), slog.LevelDebug)
}

func (t *transcript) write(who, line string) {
	t.log.Debug("upstream dialogue",
		"upstream", t.upstream,
		"connection", t.connection,
		"session", t.session,
		"message_id", t.messageID,
		"line", who+reply.CleanLine(line, maxTranscript),
	)
}

// command writes a command as it may be shown.
func (t *transcript) command(shown string) {
	if t.on() {
		t.write("C: ", shown)
	}
}

// reply writes a line of a reply.
func (t *transcript) reply(line []byte) {
	if t.on() {
		t.write("S: ", string(line))
	}
}

// message writes that a message was sent.
func (t *transcript) message(size int) {
	if t.on() {
		t.write("C: ", fmt.Sprintf("(message of %d bytes)", size))
	}
}
