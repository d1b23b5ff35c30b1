package event

import "fmt"

// Type is the type of an event. Its values are the names of the Ingest API; for
// people, types are shown by their public names.
type Type string

// The types of events, by their public names.
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

// Classes of event types, by which [signals] report may name several at once.
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

// Info describes a type of event, for documents and help.
type Info struct {
	Type    Type
	Public  string // the name in commands, pages, metrics and logs
	Group   string // of the Ingest API's JSON
	Class   string // Engagement, Unsubscribe, or empty
	Meaning string // one sentence
}

// Types returns all types of events in the order of the documents.
func Types() []Info {
	out := make([]Info, len(documented))
	for i, t := range documented {
		s := schemas[t]
		out[i] = Info{
			Type:    t,
			Public:  s.public,
			Group:   s.group,
			Class:   s.class,
			Meaning: s.meaning,
		}
	}

	return out
}

// PublicName returns the public name of the type, or "" if it is unknown.
func (t Type) PublicName() string {
	if s := schemas[t]; s != nil {
		return s.public
	}

	return ""
}

// String returns the public name, for logs. An unknown type is returned as it is.
func (t Type) String() string {
	if name := t.PublicName(); name != "" {
		return name
	}

	return string(t)
}

// ByPublicName returns the type with a public name.
func ByPublicName(name string) (Type, bool) {
	for t, s := range schemas {
		if s.public == name {
			return t, true
		}
	}

	return "", false
}

// ByName returns the type with a name, the public one or the Ingest API's.
func ByName(name string) (Type, bool) {
	if t, ok := ByPublicName(name); ok {
		return t, true
	}

	_, ok := schemas[Type(name)]

	return Type(name), ok
}

// Select returns the types that names stand for: each is a name of a type or a
// class. The error is about the first name that is neither.
func Select(names []string) (map[Type]bool, error) {
	selected := map[Type]bool{}
	for _, name := range names {
		types := byNameOrClass(name)
		if len(types) == 0 {
			return nil, fmt.Errorf("no event is named %q", name)
		}

		for _, t := range types {
			selected[t] = true
		}
	}

	return selected, nil
}

// byNameOrClass returns the type with a name and the types of the class with it.
func byNameOrClass(name string) []Type {
	var types []Type
	if t, ok := ByName(name); ok {
		types = append(types, t)
	}

	for t, s := range schemas {
		if s.class != "" && s.class == name {
			types = append(types, t)
		}
	}

	return types
}
