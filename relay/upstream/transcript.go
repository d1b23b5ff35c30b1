package upstream

import (
	"context"
	"fmt"
	"log/slog"

	"postern/relay/reply"
)

// maxTranscript limits a line of a transcript, in bytes.
const maxTranscript = 500

// transcript logs the dialogue of a connection at level debug, without messages
// and passwords: commands with C: in front, replies with S:.
type transcript struct {
	log        *slog.Logger // nil: none
	upstream   string
	connection string // the local address, which tells connections apart

	session   string // of the client whose copy is being sent
	messageID string
}

func (t *transcript) enabled() bool {
	return t.log != nil && t.log.Enabled(context.Background(), slog.LevelDebug)
}

func (t *transcript) write(prefix, line string) {
	t.log.Debug("upstream dialogue",
		"upstream", t.upstream,
		"connection", t.connection,
		"session", t.session,
		"message_id", t.messageID,
		"line", prefix+reply.CleanLine(line, maxTranscript),
	)
}

// command logs a command, without its secrets.
func (t *transcript) command(shown string) {
	if t.enabled() {
		t.write("C: ", shown)
	}
}

// reply logs a line of a reply.
func (t *transcript) reply(line []byte) {
	if t.enabled() {
		t.write("S: ", string(line))
	}
}

// message logs that a message of size bytes was sent.
func (t *transcript) message(size int) {
	if t.enabled() {
		t.write("C: ", fmt.Sprintf("(message of %d bytes)", size))
	}
}
