package relay

import (
	"errors"

	"postern/relay/envelope"
)

// originators is the one reading of a message's From and Sender fields (RFC
// 5322 section 3.6.2). Who may send the message, which keys sign it, which
// tracking rule and which filter it falls under, and what its events say all
// go by this reading.
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

// readOriginators reads the values of all From and all Sender fields of a
// message. Several of a kind are not understood, nor is a Sender with several
// mailboxes.
func readOriginators(from, sender []string) originators {
	var o originators

	var err error

	o.from, err = readField(from)
	if err != nil {
		o.unclear, o.shown = "From", from[0]
		o.unquoted = errors.Is(err, envelope.ErrUnquotedName)
	}

	o.sender, err = readField(sender)
	if len(o.sender) > 1 {
		o.sender, err = nil, errSenders
	}
	o.unknown = len(sender) > 0 && o.sender == nil
	if err != nil && o.unclear == "" {
		o.unclear, o.shown = "Sender", sender[0]
		o.unquoted = errors.Is(err, envelope.ErrUnquotedName)
	}
	return o
}

// What keeps a field from being understood, beside its mailboxes.
var (
	errSeveral = errors.New("there are several fields")
	errSenders = errors.New("there are several senders")
)

// readField returns the mailboxes of a field that a message may have once; none
// where it is not there. The error says why it is not understood wholly, and is
// envelope.ErrUnquotedName where the mailboxes are known all the same.
func readField(values []string) ([]envelope.Address, error) {
	switch len(values) {
	case 0:
		return nil, nil
	case 1:
		return envelope.ParseMailboxes(values[0])
	}
	return nil, errSeveral
}

// author returns the first mailbox of From, or the null address.
func (o originators) author() envelope.Address {
	if len(o.from) == 0 {
		return envelope.Address{}
	}
	return o.from[0]
}

// domain returns the sending domain in its ASCII form: that of Sender where
// there is one, else that of the author. It is empty where From or Sender is
// not understood.
func (o originators) domain() string {
	switch {
	case len(o.from) == 0 || o.unknown:
		return ""
	case len(o.sender) > 0:
		return envelope.ASCIIDomain(o.sender[0].Domain)
	}
	return envelope.ASCIIDomain(o.from[0].Domain)
}
