package event

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"sync/atomic"
)

// IDs gives out event ids: decimal strings below 2^63. Each process counts up
// from a random start, which keeps the ids of many processes apart better than
// drawing each at random would.
type IDs struct{ next atomic.Uint64 }

// StableID is an event id that depends on nothing but its parts: what happens
// again (a record read twice, a report that comes in twice, a step that a crash
// repeats) is the same event.
func StableID(parts ...string) string {
	text := make([]byte, 0, 512)
	for _, p := range parts {
		text = append(append(text, p...), 0)
	}
	sum := sha256.Sum256(text)

	return strconv.FormatUint(binary.BigEndian.Uint64(sum[:])&(1<<63-1), 10)
}

// NewIDs draws a start.
func NewIDs() *IDs {
	var b [8]byte
	rand.Read(b[:])
	ids := &IDs{}
	ids.next.Store(binary.BigEndian.Uint64(b[:]))
	return ids
}

// Next is the next id.
func (i *IDs) Next() string { return strconv.FormatUint(i.next.Add(1)&(1<<63-1), 10) }
