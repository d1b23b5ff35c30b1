package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// publicEvent is an event in the form for people. Its own fields hide those of
// Event with the same JSON name.
type publicEvent struct {
	PublicType string    `json:"type"`
	Time       time.Time `json:"time"`
	Timestamp  *struct{} `json:"timestamp,omitempty"` // always nil: Time replaces it
	*Event
	Made       string `json:"class,omitempty"`        // Class.Kind
	MadeReason string `json:"class_reason,omitempty"` // Class.Reason
	Session    string `json:"session,omitempty"`      // Local.Session
	User       string `json:"user,omitempty"`         // Local.User
}

// EncodePublic returns the event as a line of JSON for people and scripts, without
// the newline. The object is flat; the type is the public name and the time is in
// the form of RFC 3339. It includes the session, and the class if a machine caused
// the event.
func (e *Event) EncodePublic() ([]byte, error) {
	if schemas[e.Type] == nil {
		return nil, fmt.Errorf("event: unknown type %q", string(e.Type))
	}

	shown := *e
	if e.Type == PolicyRejection {
		shown.MsgFrom = e.Local.From
		shown.FriendlyFrom = e.Local.Author
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

// DecodePublic parses a line that EncodePublic or Encode returned, and checks it as
// Decode does.
func DecodePublic(line []byte) (*Event, error) {
	var members fields
	if err := strict(line, &members); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}

	if _, ok := members["msys"]; ok {
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
		delete(members, name)
	}
	rest, _ := json.Marshal(members) // cannot fail: it was just parsed

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
