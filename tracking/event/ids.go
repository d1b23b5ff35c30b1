package event

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"sync/atomic"
)

// IDs generates event ids: decimal numbers below 2^63. It counts up from a random
// start, which makes collisions between many processes less likely than drawing
// each id at random would. It is safe for concurrent use.
type IDs struct{ next atomic.Uint64 }

// NewIDs returns a generator with a random start.
func NewIDs() *IDs {
	var b [8]byte
	rand.Read(b[:])

	ids := &IDs{}
	ids.next.Store(binary.BigEndian.Uint64(b[:]))

	return ids
}

// Next returns the next id.
func (i *IDs) Next() string { return formatID(i.next.Add(1)) }

// StableID returns an event id that depends on parts only, so that what is read
// or received twice is the same event: an accounting record, a report, a step
// that is repeated after a crash.
func StableID(parts ...string) string {
	text := make([]byte, 0, 512)
	for _, p := range parts {
		text = append(text, p...)
		text = append(text, 0)
	}
	sum := sha256.Sum256(text)

	return formatID(binary.BigEndian.Uint64(sum[:]))
}

// formatID returns the lower 63 bits of n in decimal.
func formatID(n uint64) string { return strconv.FormatUint(n&(1<<63-1), 10) }
