package event

import (
	"fmt"
)

// PublicName is how the documents and [signals] report call the type.
func (t Type) PublicName() string {
	if s := schemas[t]; s != nil {
		return s.public
	}

	return ""
}

// ByPublicName finds a type.
func ByPublicName(name string) (Type, bool) {
	for t, s := range schemas {
		if s.public == name {
			return t, true
		}
	}

	return "", false
}

// Info describes a type of event, for documents and help.
type Info struct {
	Type    Type
	Public  string // the name that commands, pages, metrics and logs show
	Group   string // of the Ingest API's JSON
	Class   string // the further name by which [signals] report may mean it; empty: none
	Meaning string // one sentence
}

// Classes of events that [signals] report may name as a whole.
const (
	Engagement  = "engagement"
	Unsubscribe = "unsubscribe"
)

// documented is the order of the types in documents.
var documented = []Type{
	Injection, Delivery, Bounce, Delay, OutOfBand, SpamComplaint, PolicyRejection,
	Open, InitialOpen, Click, AmpOpen, AmpInitialOpen, AmpClick,
	LinkUnsubscribe, ListUnsubscribe,
}

// Types returns all types of events, in the order of the documents.
func Types() []Info {
	out := make([]Info, len(documented))
	for i, t := range documented {
		s := schemas[t]
		out[i] = Info{Type: t, Public: s.public, Group: s.group, Class: s.class, Meaning: s.meaning}
	}

	return out
}

// String returns the public name, so that logs show it.
func (t Type) String() string {
	if name := t.PublicName(); name != "" {
		return name
	}

	return string(t)
}

// ByName returns the type with that name: its public name or the Ingest API's.
func ByName(name string) (Type, bool) {
	if t, ok := ByPublicName(name); ok {
		return t, true
	}

	_, ok := schemas[Type(name)]
	return Type(name), ok
}

// Select returns the types that names mean, each a type by either of its names
// or a class. The error is about the first name that is neither.
func Select(names []string) (map[Type]bool, error) {
	out := map[Type]bool{}
	for _, name := range names {
		found := false
		for t, s := range schemas {
			if s.class != "" && s.class == name {
				out[t] = true
				found = true
			}
		}

		if t, ok := ByName(name); ok {
			out[t] = true
			found = true
		}
		if !found {
			return nil, fmt.Errorf("no event is named %q", name)
		}
	}

	return out, nil
}

// Type is the type field of an event (reference, section 6).
type Type string

// The types of the reference's table, by their public names.
const (
	Injection       Type = "reception"
	Delivery        Type = "delivery"
	Bounce          Type = "inband"
	Delay           Type = "tempfail"
	OutOfBand       Type = "outofband"
	SpamComplaint   Type = "feedback"
	PolicyRejection Type = "rejection"
	Open            Type = "open"
	InitialOpen     Type = "initial_open"
	Click           Type = "click"
	AmpOpen         Type = "amp_open"
	AmpInitialOpen  Type = "amp_initial_open"
	AmpClick        Type = "amp_click"
	LinkUnsubscribe Type = "link"
	ListUnsubscribe Type = "list"
)

// DefaultLinkName is target_link_name where a link has no name of its own.
const DefaultLinkName = "Raw URL"
