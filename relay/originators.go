package relay

import (
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
	// unknown reports that there is a Sender field that was not understood, so
	// that the sending domain is not known.
	unknown bool
}

// readOriginators reads the values of all From and all Sender fields of a
// message. Several of a kind are not understood, nor is a Sender with several
// mailboxes.
func readOriginators(from, sender []string) originators {
	var o originators

	o.from = readField(from)
	if len(from) > 0 && o.from == nil {
		o.unclear, o.shown = "From", from[0]
	}

	o.sender = readField(sender)
	if len(o.sender) > 1 {
		o.sender = nil
	}
	if len(sender) > 0 && o.sender == nil {
		o.unknown = true
		if o.unclear == "" {
			o.unclear, o.shown = "Sender", sender[0]
		}
	}
	return o
}

// readField returns the mailboxes of a field that a message may have once; none
// where it is not there, there several times, or not understood.
func readField(values []string) []envelope.Address {
	if len(values) != 1 {
		return nil
	}
	mailboxes, err := envelope.ParseMailboxes(values[0])
	if err != nil {
		return nil
	}
	return mailboxes
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
