package relay

import (
	"errors"

	"postern/relay/envelope"
	"postern/relay/message"
)

// originators is the one reading of a message's From and Sender fields (RFC 5322
// section 3.6.2). The permission to send, the choice of keys, of the tracking
// rule and of the filter, and the events all use it.
type originators struct {
	from   []envelope.Address // none: the field is missing or not understood
	sender []envelope.Address // none: the field is missing or not understood
	// unclear names the field that was not understood wholly; empty: none.
	unclear string
	// shown is how that field came, or its first where there are several.
	shown string
	// unquoted reports that unclear is a display name that has to be quoted. Its
	// mailboxes are known, for users that are not held to domains.
	unquoted bool
	// unknown reports that there is a Sender field that was not understood, so
	// that the sending domain is not known.
	unknown bool
}

// occurrence is a field that a message may have once.
type occurrence struct {
	value string // of the first
	n     int    // how often the field is present
}

func (o *occurrence) add(f message.Field) {
	if o.n == 0 {
		o.value = f.Value()
	}
	o.n++
}

// readOriginators reads the From and Sender fields of a message. Several of a
// kind are not understood, nor is a Sender with several mailboxes.
func readOriginators(from, sender occurrence) originators {
	var o originators
	var err error

	o.from, err = from.mailboxes()
	if err != nil {
		o.unclear = "From"
		o.shown = from.value
		o.unquoted = errors.Is(err, envelope.ErrUnquotedName)
	}

	o.sender, err = sender.mailboxes()
	if len(o.sender) > 1 {
		o.sender = nil
		err = errSenders
	}
	o.unknown = sender.n > 0 && o.sender == nil
	if err != nil && o.unclear == "" {
		o.unclear = "Sender"
		o.shown = sender.value
		o.unquoted = errors.Is(err, envelope.ErrUnquotedName)
	}

	return o
}

// What keeps a field from being understood, besides its syntax.
var (
	errSeveral = errors.New("there are several fields")
	errSenders = errors.New("there are several senders")
)

// mailboxes returns the mailboxes of a field; none if it is not present. The
// error is envelope.ErrUnquotedName if the mailboxes are known nevertheless.
func (o occurrence) mailboxes() ([]envelope.Address, error) {
	switch o.n {
	case 0:
		return nil, nil
	case 1:
		return envelope.ParseMailboxes(o.value)
	}
	return nil, errSeveral
}

// author returns the first mailbox of From, or the null address.
func (o *originators) author() envelope.Address {
	if len(o.from) == 0 {
		return envelope.Address{}
	}
	return o.from[0]
}

// domain returns the sending domain in its ASCII form: that of Sender if there
// is one, else that of the author. It is empty if From or Sender is not
// understood.
func (o *originators) domain() string {
	switch {
	case len(o.from) == 0 || o.unknown:
		return ""
	case len(o.sender) > 0:
		return envelope.ASCIIDomain(o.sender[0].Domain)
	}
	return envelope.ASCIIDomain(o.from[0].Domain)
}
