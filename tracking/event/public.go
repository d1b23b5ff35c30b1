package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

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

// publicEvent is an event as commands print it. What stands first here takes
// the place of the event's own field of that name.
type publicEvent struct {
	PublicType string    `json:"type"`
	Time       time.Time `json:"time"`
	Timestamp  *struct{} `json:"timestamp,omitempty"` // time says it
	*Event
	Made       string `json:"class,omitempty"`        // Class.Kind
	MadeReason string `json:"class_reason,omitempty"` // Class.Reason
	Session    string `json:"session,omitempty"`      // Local.Session
	User       string `json:"user,omitempty"`         // Local.User
}

// EncodePublic returns the event as one line of JSON for people and scripts,
// without the newline: flat, with the public name as type, the time by RFC 3339,
// the session and, where no person made it, class and class_reason.
func (e *Event) EncodePublic() ([]byte, error) {
	if schemas[e.Type] == nil {
		return nil, fmt.Errorf("event: unknown type %q", string(e.Type))
	}

	shown := *e
	if e.Type == PolicyRejection {
		shown.MsgFrom, shown.FriendlyFrom = e.Local.From, e.Local.Author
		shown.Subject = e.Local.Subject
	}

	p := publicEvent{
		PublicType: e.Type.PublicName(),
		Time:       e.Timestamp.UTC(),
		Event:      &shown,
		Made:       e.Class.Kind,
		MadeReason: e.Class.Reason,
		Session:    e.Local.Session,
		User:       e.Local.User,
	}

	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}

	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// DecodePublic reads what EncodePublic wrote, or what Encode wrote, and holds
// it to the rules of Decode.
func DecodePublic(line []byte) (*Event, error) {
	var fields map[string]json.RawMessage
	if err := strict(line, &fields); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}

	if _, ok := fields["msys"]; ok {
		return Decode(line)
	}

	var p struct {
		Type        string    `json:"type"`
		Time        time.Time `json:"time"`
		Class       string    `json:"class"`
		ClassReason string    `json:"class_reason"`
		Session     string    `json:"session"`
		User        string    `json:"user"`
	}
	if err := json.Unmarshal(line, &p); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}

	t, ok := ByName(p.Type)
	if !ok {
		return nil, fmt.Errorf("event: no event is named %q", p.Type)
	}

	for _, name := range []string{"type", "time", "class", "class_reason", "session", "user"} {
		delete(fields, name)
	}
	rest, _ := json.Marshal(fields) // of JSON that was just read

	e := &Event{}
	if err := strict(rest, e); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}

	e.Type = t
	e.Timestamp = Timestamp{p.Time}
	e.Class = Class{Kind: p.Class, Reason: p.ClassReason}
	e.Local = Local{Session: p.Session, User: p.User}
	if t == PolicyRejection {
		e.Local.From, e.MsgFrom = e.MsgFrom, ""
		e.Local.Author, e.FriendlyFrom = e.FriendlyFrom, ""
		e.Local.Subject, e.Subject = e.Subject, ""
	}

	stored, err := e.Encode()
	if err == nil {
		_, err = Decode(stored)
	}
	if err != nil {
		return nil, err
	}

	return e, nil
}
