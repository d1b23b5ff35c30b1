// Package event holds the public events of the Ingest API: one struct, its
// JSON to the letter, the check that a receiver makes of it, and event ids.
//
// Events are plain values. IDs is safe for concurrent use.
package event

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

// Type is the type field of an event (reference, section 6).
type Type string

// The types that the gateway knows.
const (
	Injection       Type = "reception"
	Open            Type = "open"
	InitialOpen     Type = "initial_open"
	Click           Type = "click"
	LinkUnsubscribe Type = "link"
)

// groups gives each type the group that its JSON stands in.
var groups = map[Type]string{
	Injection: "message_event", Open: "track_event", InitialOpen: "track_event",
	Click: "track_event", LinkUnsubscribe: "unsubscribe_event",
}

// DefaultLinkName is target_link_name where a link has no name of its own.
const DefaultLinkName = "Raw URL"

// Event is one event. Fields that a type does not have, or that are empty, do
// not go out. What the API wants as strings is a string here too.
type Event struct {
	Type      Type      `json:"type"`
	ID        string    `json:"event_id"`
	MessageID string    `json:"message_id"`
	Timestamp Timestamp `json:"timestamp"`

	RecvMethod string `json:"recv_method,omitempty"`
	DelvMethod string `json:"delv_method,omitempty"`

	Binding       string `json:"binding,omitempty"`
	CampaignID    string `json:"campaign_id,omitempty"`
	FriendlyFrom  string `json:"friendly_from,omitempty"`
	MsgFrom       string `json:"msg_from,omitempty"`
	MsgSize       string `json:"msg_size,omitempty"` // bytes
	OpenTracking  *bool  `json:"open_tracking,omitempty"`
	ClickTracking *bool  `json:"click_tracking,omitempty"`
	InitialPixel  *bool  `json:"initial_pixel,omitempty"`
	RcptTo        string `json:"rcpt_to,omitempty"`
	RoutingDomain string `json:"routing_domain,omitempty"`
	SubaccountID  uint32 `json:"subaccount_id,omitempty"`
	Subject       string `json:"subject,omitempty"`

	IPAddress      string `json:"ip_address,omitempty"`
	UserAgent      string `json:"user_agent,omitempty"`
	TargetLinkURL  string `json:"target_link_url,omitempty"`
	TargetLinkName string `json:"target_link_name,omitempty"`
}

// Timestamp is when the thing happened, as Unix seconds in a string.
type Timestamp struct{ time.Time }

// MarshalJSON writes Unix seconds as a string.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatInt(t.Unix(), 10) + `"`), nil
}

// UnmarshalJSON reads Unix seconds from a string.
func (t *Timestamp) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return fmt.Errorf("event: timestamp %q is not Unix seconds", s)
	}
	t.Time = time.Unix(n, 0)
	return nil
}

// Encode writes the event as one line of the Ingest API's NDJSON, without the
// newline: {"msys":{"<group>":{...}}}.
func (e *Event) Encode() ([]byte, error) {
	group, ok := groups[e.Type]
	if !ok {
		return nil, fmt.Errorf("event: unknown type %q", e.Type)
	}
	var b bytes.Buffer
	b.WriteString(`{"msys":{"` + group + `":`)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	b.Truncate(b.Len() - 1) // the encoder's newline
	b.WriteString(`}}`)
	return b.Bytes(), nil
}

// Decode reads what Encode wrote and holds it to the API's rules: group,
// type, id, the fields that a type must have, and no field that is not known.
func Decode(line []byte) (*Event, error) {
	var outer struct {
		Msys map[string]json.RawMessage `json:"msys"`
	}
	if err := strict(line, &outer); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if len(outer.Msys) != 1 {
		return nil, fmt.Errorf("event: %d groups, want one", len(outer.Msys))
	}
	for group, raw := range outer.Msys {
		var e Event
		if err := strict(raw, &e); err != nil {
			return nil, fmt.Errorf("event: %w", err)
		}
		if want, ok := groups[e.Type]; !ok || want != group {
			return nil, fmt.Errorf("event: type %q in group %q", e.Type, group)
		}
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("event: %s: %w", e.Type, err)
		}
		return &e, nil
	}
	return nil, errors.New("event: no group")
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

func (e *Event) check() error {
	if n, err := strconv.ParseUint(e.ID, 10, 63); err != nil || strconv.FormatUint(n, 10) != e.ID {
		return fmt.Errorf("event_id %q is not a decimal below 2^63", e.ID)
	}
	need := []struct {
		name  string
		value string
	}{{"message_id", e.MessageID}, {"rcpt_to", e.RcptTo}}
	switch e.Type {
	case Injection:
		need = append(need, struct{ name, value string }{"recv_method", e.RecvMethod},
			struct{ name, value string }{"friendly_from", e.FriendlyFrom})
	case Click, LinkUnsubscribe:
		need = append(need, struct{ name, value string }{"target_link_url", e.TargetLinkURL})
		fallthrough
	default:
		need = append(need, struct{ name, value string }{"delv_method", e.DelvMethod})
	}
	for _, n := range need {
		if n.value == "" {
			return fmt.Errorf("%s is missing", n.name)
		}
	}
	if e.Timestamp.IsZero() {
		return errors.New("timestamp is missing")
	}
	if e.MsgSize != "" {
		if _, err := strconv.ParseUint(e.MsgSize, 10, 63); err != nil {
			return fmt.Errorf("msg_size %q is not a number", e.MsgSize)
		}
	}
	return nil
}

// IDs gives out event ids: decimal strings below 2^63. Each process counts up
// from a random start, which keeps the ids of many processes apart better than
// drawing each at random would.
type IDs struct{ next atomic.Uint64 }

// NewIDs draws a start.
func NewIDs() *IDs {
	var b [8]byte
	rand.Read(b[:])
	ids := &IDs{}
	ids.next.Store(binary.BigEndian.Uint64(b[:]))
	return ids
}

// Next is the next id.
func (i *IDs) Next() string { return strconv.FormatUint(i.next.Add(1)&(1<<63-1), 10) }
