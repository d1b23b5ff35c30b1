package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

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
