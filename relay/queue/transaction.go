package queue

import (
	"bytes"
	"encoding/json"
	"time"

	"postern/relay/envelope"
)

// Transaction is a message that waits, with the copies that are to be sent.
type Transaction struct {
	ID string `json:"id"`
	// Session is what the client was told that its message is queued as.
	Session string              `json:"session,omitempty"`
	Created time.Time           `json:"created"`
	From    envelope.Address    `json:"from"`
	Params  envelope.MailParams `json:"params"`
	// EightBit says that the message has bytes above 0x7f.
	EightBit bool `json:"eight_bit,omitempty"`
	// Info is the owner's, for the events of the copies.
	Info   json.RawMessage `json:"info,omitempty"`
	Copies []Copy          `json:"copies"`
	// SharedLengths are those of Shared.
	SharedLengths []int `json:"shared"`

	// Recovered says that a previous run put the transaction here. It may have
	// ended before it wrote what else there was to be written.
	Recovered bool `json:"-"`
	// Shared are the parts of the message that all copies have. A copy is
	// Own[0], Shared[0], Own[1], Shared[1] ... Own[n].
	Shared [][]byte `json:"-"`
}

// Copy is one recipient's copy.
type Copy struct {
	// From is the copy's return path; that of the transaction is the sender's
	// own, who hears of failures.
	From       envelope.Address   `json:"from"`
	Recipient  envelope.Recipient `json:"recipient"`
	MessageID  string             `json:"message_id"`
	EnvelopeID string             `json:"envid,omitempty"`
	OwnLengths []int              `json:"own"`
	// Tried, where set, is what came of the first attempt, before the copy was
	// put here.
	Tried *Verdict `json:"-"`
	Own   [][]byte `json:"-"`
}

// find returns the index of a copy, or -1.
func (t *Transaction) find(messageID string) int {
	for i := range t.Copies {
		if t.Copies[i].MessageID == messageID {
			return i
		}
	}

	return -1
}

// Parts are a copy's bytes, in pieces that belong to the transaction.
func (t *Transaction) Parts(index int) [][]byte {
	own := t.Copies[index].Own
	parts := make([][]byte, 0, len(own)+len(t.Shared))
	for i, b := range own {
		parts = append(parts, b)
		if i < len(t.Shared) {
			parts = append(parts, t.Shared[i])
		}
	}

	return parts
}

// Message puts a copy's bytes together.
func (t *Transaction) Message(index int) []byte { return bytes.Join(t.Parts(index), nil) }

// size is how many bytes the message has that all copies share.
func (t *Transaction) size() int { return total(t.SharedLengths) }
