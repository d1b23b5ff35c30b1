// Package accounting turns PowerMTA's accounting records (User's Guide 5.0, section
// 11.2) into events. Records are CSV (RFC 4180); the header line of a file decides
// its columns.
//
// A Follower reads accounting files as they grow, and the files of pipes. A pipe is
// a process that PowerMTA starts; Pipe writes what comes in to files that it gets
// from the gateway over a socket (HandOver, Receive) or creates in a folder, so that
// PowerMTA never waits for a gateway. Print converts a whole file.
//
// On disk, in Config.Dir:
//
//	offsets.json  how far each file was read, by device and inode. It is replaced
//	              atomically once the events of what was read are durable. After a
//	              crash records are read again, and make events with the same
//	              event_id, which is derived from the record and its place.
//	bad.csv       the quarantine: lines that are not records, each with its file,
//	              its line number and the reason. It is written before the offset.
//
// The end of an incomplete record is waited for while the record is shorter than
// 64 KiB, no other record follows it, and its file may still grow. A malformed
// record is one line; the lines behind it are read.
//
// A Follower belongs to one goroutine.
package accounting

import (
	"errors"
	"strings"
)

// Verifier reports whether a message id was issued by this gateway.
type Verifier func(id string) bool

// Errors of records that make no event.
var (
	ErrNoColumns   = errors.New("record does not fit its header line")
	ErrTime        = errors.New("time cannot be read")
	ErrNoID        = errors.New("record without a message id that verifies")
	ErrNoRecipient = errors.New("feedback record without a recipient") // redacted (RFC 6590)
	ErrIgnored     = errors.New("record of a kind that makes no event")
)

// Settings say how records are understood.
type Settings struct {
	// Classes are bounce classes of the site's own bounceCat names.
	Classes map[string]int

	// Verify checks message ids; with nil, every id counts.
	Verify Verifier

	// MessageIDHeader returns the name of the header field that holds the message id
	// (relay.message_id_header); its column is header_NAME. It is called for each
	// header line. With nil, the name is X-Sp-Message-Id.
	MessageIDHeader func() string
}

// defaultIDHeader is the default of relay.message_id_header.
const defaultIDHeader = "X-Sp-Message-Id"

// idColumn returns the column of the message id, in lower case.
func (s Settings) idColumn() string {
	name := ""
	if s.MessageIDHeader != nil {
		name = s.MessageIDHeader()
	}
	if name == "" {
		name = defaultIDHeader
	}

	return "header_" + strings.ToLower(name)
}
