package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// beside is the object beside the API's.
type beside struct {
	Class  string `json:"class,omitempty"`
	Reason string `json:"reason,omitempty"`
	Local
}

// Encode writes the event as one line of the Ingest API's NDJSON, without the
// newline: {"msys":{"<group>":{...}}}.
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
		own, _ := json.Marshal(beside{ // strings alone, which cannot fail
			Class:  e.Class.Kind,
			Reason: e.Class.Reason,
			Local:  e.Local,
		})
		b.WriteString(`,"postern":` + string(own))
	}
	b.WriteString(`}`)
	return b.Bytes(), nil
}

// onlySession begins the object beside the API's where it holds a session alone.
const onlySession = `}},"postern":{"session":"`

// CutSession takes the session off a line that Encode wrote, where nothing else
// is beside the API's object: what is left is to be uploaded. Other lines are
// returned as they are. The line is not changed.
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
	return append(rest, `}}}`...), string(inner[at:])
}

// Decode reads what Encode wrote and holds it to the API's rules: group, type,
// id, the fields that a type must and may have.
func Decode(line []byte) (*Event, error) {
	var outer struct {
		Msys    map[string]map[string]json.RawMessage `json:"msys"`
		Postern beside                                `json:"postern"`
	}
	if err := strict(line, &outer); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if len(outer.Msys) != 1 {
		return nil, fmt.Errorf("event: %d groups, want one", len(outer.Msys))
	}

	group := slices.Collect(maps.Keys(outer.Msys))[0]
	fields := outer.Msys[group]
	raw, _ := json.Marshal(fields) // of JSON that was just read
	var e Event
	if err := strict(raw, &e); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}

	s := schemas[e.Type]
	if s == nil || s.group != group {
		return nil, fmt.Errorf("event: type %q in group %q", e.Type, group)
	}

	if err := e.check(s, fields); err != nil {
		return nil, fmt.Errorf("event: %s: %w", e.Type, err)
	}
	e.Class = Class{Kind: outer.Postern.Class, Reason: outer.Postern.Reason}
	e.Local = outer.Postern.Local
	return &e, nil
}

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
