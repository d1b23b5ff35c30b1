// Package accounting turns PowerMTA's accounting records into events: CSV
// (RFC 4180) whose header line decides the columns.
//
// What is remembered on disk is one file, offsets.json in Config.Dir: for each
// accounting file, by device and inode, how far it was read. It is replaced in
// one step after the events of what was read are durable, so that a crash reads
// records again; they then make events with the same event_id, which is derived
// from the record and its place in the file. Lines that are not records go to
// bad.csv beside it, with file, line number and reason, before that.
//
// A record that is not whole is waited for while it is shorter than 64 KiB, no
// record follows it, and its file may still grow. A bad record is one line:
// what is behind it is read.
//
// A Follower belongs to one goroutine.
package accounting

import (
	"errors"
	"strings"
)

// Verifier reports whether a message id is one of ours; *token.Keys is one, by
// an adapter of its user.
type Verifier func(id string) bool

// Errors of a record, each for a metric.
var (
	ErrNoColumns   = errors.New("record does not fit its header line")
	ErrTime        = errors.New("time cannot be read")
	ErrNoID        = errors.New("record without a message id that verifies")
	ErrNoRecipient = errors.New("feedback record without a recipient")
	ErrIgnored     = errors.New("record of a kind that makes no event")
)

// Settings say how records are understood. They are read anew for each file.
type Settings struct {
	// Classes are the site's own bounceCat names.
	Classes map[string]int

	// Verify may be nil: every id counts.
	Verify Verifier

	// MessageIDHeader returns the field that holds the message id
	// (relay.message_id_header); the column is header_NAME. Where it is nil,
	// that is X-Sp-Message-Id.
	MessageIDHeader func() string
}

const defaultIDHeader = "X-Sp-Message-Id"

// idColumn is the column of the message id, in lower case.
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
