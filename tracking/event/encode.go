package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// beside is what a line of the event log holds beside the Ingest API's object.
type beside struct {
	Class  string `json:"class,omitempty"`
	Reason string `json:"reason,omitempty"`
	Local
}

// Encode returns the event as a line of the event log, without the newline. It
// is the Ingest API's NDJSON, {"msys":{"<group>":{...}}}, with a member "postern"
// if Class or Local is set.
func (e *Event) Encode() ([]byte, error) {
	schema, ok := schemas[e.Type]
	if !ok {
		return nil, fmt.Errorf("event: unknown type %q", e.Type)
	}

	var b bytes.Buffer
	b.WriteString(`{"msys":{"` + schema.group + `":`)

	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	b.Truncate(b.Len() - 1) // the encoder's newline
	b.WriteString(`}`)

	if e.Class != (Class{}) || e.Local != (Local{}) {
		own, _ := json.Marshal(beside{ // cannot fail: all fields are strings
			Class:  e.Class.Kind,
			Reason: e.Class.Reason,
			Local:  e.Local,
		})
		b.WriteString(`,"postern":` + string(own))
	}
	b.WriteString(`}`)

	return b.Bytes(), nil
}

// Decode parses a line that Encode returned, and checks it as the Ingest API
// would: the group, the type, the id, and the fields that the type must and may
// have.
func Decode(line []byte) (*Event, error) {
	var outer struct {
		Msys    map[string]fields `json:"msys"`
		Postern beside            `json:"postern"`
	}
	if err := strict(line, &outer); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if len(outer.Msys) != 1 {
		return nil, fmt.Errorf("event: %d groups, want one", len(outer.Msys))
	}

	group := slices.Collect(maps.Keys(outer.Msys))[0]
	inner := outer.Msys[group]
	raw, _ := json.Marshal(inner) // cannot fail: it was just parsed

	var e Event
	if err := strict(raw, &e); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}

	s := schemas[e.Type]
	if s == nil || s.group != group {
		return nil, fmt.Errorf("event: type %q in group %q", e.Type, group)
	}

	err := checkID(e.ID)
	if err == nil {
		err = inner.check(s)
	}
	if err != nil {
		return nil, fmt.Errorf("event: %s: %w", e.Type, err)
	}

	e.Class = Class{Kind: outer.Postern.Class, Reason: outer.Postern.Reason}
	e.Local = outer.Postern.Local

	return &e, nil
}

// strict parses one JSON value, without members that v does not have.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("more than one value")
	}

	return nil
}

// onlySession is how the member "postern" begins if it holds a session only.
const onlySession = `}},"postern":{"session":"`

// CutSession removes the member "postern" from a line that Encode returned if it
// holds a session only, so that the rest can be uploaded. Other lines are
// returned as they are. line itself is not changed.
func CutSession(line []byte) (rest []byte, session string) {
	inner, ok := bytes.CutSuffix(line, []byte(`"}}`))
	if !ok {
		return line, ""
	}

	at := bytes.LastIndexByte(inner, '"') + 1
	api, ok := bytes.CutSuffix(inner[:at], []byte(onlySession))
	if !ok || bytes.IndexByte(inner[at:], '\\') >= 0 {
		return line, ""
	}

	rest = make([]byte, 0, len(api)+len(`}}}`))
	rest = append(rest, api...)
	rest = append(rest, `}}}`...)

	return rest, string(inner[at:])
}
