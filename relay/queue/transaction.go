package queue

import (
	"bytes"
	"encoding/json"
	"time"

	"postern/relay/envelope"
)

// Transaction is a message and the copies of it that are to be sent. The parts of
// the message that all copies share are stored once.
type Transaction struct {
	ID string `json:"id"`

	// Session is the id in the reply to the client.
	Session string    `json:"session,omitempty"`
	Created time.Time `json:"created"`

	// From is the sender, who is told of failures.
	From   envelope.Address    `json:"from"`
	Params envelope.MailParams `json:"params"`

	// EightBit says that the message has bytes above 0x7f.
	EightBit bool `json:"eight_bit,omitempty"`

	// Info is stored for the caller.
	Info   json.RawMessage `json:"info,omitempty"`
	Copies []Copy          `json:"copies"`

	// SharedLengths are the lengths of Shared; Put sets them.
	SharedLengths []int `json:"shared"`

	// Recovered says that the transaction was queued by a previous run, which
	// may have ended before it recorded anything else about it.
	Recovered bool `json:"-"`

	// Shared are the parts of the message that all copies share. A copy is
	// Own[0], Shared[0], Own[1], Shared[1] ... Own[n].
	Shared [][]byte `json:"-"`
}

// Copy is the copy of one recipient.
type Copy struct {
	// From is the return path of the copy, which may differ from the sender.
	From       envelope.Address   `json:"from"`
	Recipient  envelope.Recipient `json:"recipient"`
	MessageID  string             `json:"message_id"`
	EnvelopeID string             `json:"envid,omitempty"`

	// OwnLengths are the lengths of Own; Put sets them.
	OwnLengths []int `json:"own"`

	// Tried is the result of an attempt before the copy was queued; nil: none.
	Tried *Verdict `json:"-"`

	// Own are the parts that only this copy has, one more than Shared.
	Own [][]byte `json:"-"`
}

// find returns the index of the copy with a message id, or -1.
func (t *Transaction) find(messageID string) int {
	for i := range t.Copies {
		if t.Copies[i].MessageID == messageID {
			return i
		}
	}

	return -1
}

// Parts returns the bytes of a copy in parts, which share memory with the
// transaction.
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

// Message returns the bytes of a copy.
func (t *Transaction) Message(index int) []byte { return bytes.Join(t.Parts(index), nil) }

// size returns the number of bytes that all copies share.
func (t *Transaction) size() int { return total(t.SharedLengths) }
